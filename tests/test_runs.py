"""Run folders: what they keep, what they give up, and to whom they are refused."""

from __future__ import annotations

import json

import pytest

from grip_core.errors import UserError
from grip_core.runs import RunFolder, environment


def finished(path, config) -> RunFolder:
    run = RunFolder(path, config)
    run.append_metrics({"step": 1})
    run.finish(1, {"total": 2.0})
    return run


def test_a_finished_run_is_left_as_it_is(tmp_path):
    path = tmp_path / "run"
    finished(path, {"seed": 0})
    (path / "environment.json").write_text("{}")  # as another machine wrote it
    again = RunFolder(path, {"seed": 0})
    assert again.finished
    assert again.metrics() == [{"step": 1}]
    assert (path / "environment.json").read_text() == "{}"


def test_another_config_empties_the_folder(tmp_path):
    finished(tmp_path / "run", {"seed": 0})
    other = RunFolder(tmp_path / "run", {"seed": 1})
    assert not other.finished
    assert other.metrics() == []
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 1}


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds files but no run"):
        RunFolder(tmp_path, {"seed": 0})
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_rows_after_a_checkpoint_and_a_row_cut_off_are_forgotten(tmp_path):
    run = RunFolder(tmp_path / "run", {})
    for step in (1, 2, 3):
        run.append_metrics({"step": step})
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 4, "lo')
    run.drop_metrics_after(2)
    assert run.metrics() == [{"step": 1}, {"step": 2}]


def test_the_row_of_a_step_is_the_last_one_where_the_run_ended_before(tmp_path):
    run = RunFolder(tmp_path / "run", {})
    for step in (1, 2):
        run.append_metrics({"step": step, "loss": -step})
    assert run.metrics_at(1) == {"step": 1, "loss": -1}
    assert run.metrics_at(5) is None
    run.finish(2, {})
    assert run.metrics_at(5) == {"step": 2, "loss": -2}
    assert run.metrics_at(1) == {"step": 1, "loss": -1}


def test_without_git_the_environment_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = environment()
    assert found["git_commit"] is None
    assert found["git_dirty"] is False
