from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from grip_core.errors import UserError
from pipeline import stage


@pytest.fixture
def arguments(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    return lambda *given: monkeypatch.setattr("sys.argv", ["stage", *map(str, given)])


def test_main_gets_the_params_and_options(arguments, tmp_path):
    shutil.copy("params.yaml", tmp_path / "other.yaml")
    arguments("--params", tmp_path / "other.yaml", "--seed", 3)
    seen = {}

    def main(params, seed):
        seen.update(benchmarks=params.data.benchmarks, seed=seed)

    stage.run(main, seed=int)
    assert seen["seed"] == 3
    assert seen["benchmarks"]


def test_a_mistake_is_one_line_and_code_2(arguments, capsys, tmp_path):
    def main(params):
        raise UserError("k must be at most 144, but got 200; lower it")

    for given in ([], ["--params", tmp_path / "missing.yaml"]):
        arguments(*given)
        with pytest.raises(SystemExit) as ended:
            stage.run(main)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1


def test_other_errors_are_not_hidden(arguments):
    def main(params):
        raise KeyError("a bug")

    arguments()
    with pytest.raises(KeyError):
        stage.run(main)
