"""dvc.yaml tells the truth about what each stage depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.deps import ROOT, all_code_deps, closure, code_deps, data_deps, stage_params

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
HINT = "dvc.yaml is out of date with the code; run: python -m pipeline.deps"


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies(name):
    stage = STAGES[name]
    listed = [dep for dep in stage["deps"] if dep not in data_deps(stage)]
    assert listed == all_code_deps(ROOT, stage), HINT


@pytest.mark.parametrize("name", STAGES)
def test_params(name):
    assert STAGES[name]["params"] == stage_params(ROOT, STAGES[name]), HINT


def test_data_dependencies_are_in_git_or_outputs_of_earlier_stages():
    made = ["claims.yaml", "artifacts/exports/training_principles", "artifacts/exports/ablations"]
    for name, stage in STAGES.items():
        for dep in data_deps(stage):
            assert any(out == dep or out.startswith(f"{dep}/") for out in made), (
                f"{name} reads {dep}, which nothing makes"
            )
        made += [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"]]


@pytest.mark.parametrize("package", ["grip_core.baselines", "grip_core.evaluation", "grip_core.figures"])
def test_training_does_not_depend_on_what_comes_after(package):
    assert not [name for name in closure(ROOT, "pipeline.train") if name.startswith(package)]


@pytest.fixture
def tree(tmp_path: Path):
    """Writes a source tree from {path: text} and returns its root."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_closure_follows_every_form_of_import(tree):
    root = tree(
        {
            "pipeline/stage.py": "import numpy\nfrom grip_core import a\nfrom grip_core.b.c import thing\n",
            "grip_core/__init__.py": "",
            "grip_core/a.py": "def f():\n    from . import late\n",
            "grip_core/late.py": "from .a import f\n",
            "grip_core/b/__init__.py": "from .beside import x\n",
            "grip_core/b/beside.py": "x = 1\n",
            "grip_core/b/c.py": "import grip_core.d\nthing = 1\n",
            "grip_core/d.py": "",
            "grip_core/unused.py": "import grip_core.a\n",
        }
    )
    used = {"__init__.py", "a.py", "late.py", "b/__init__.py", "b/beside.py", "b/c.py", "d.py"}
    assert code_deps(root, "pipeline.stage") == sorted(["pipeline/stage.py", *(f"grip_core/{name}" for name in used)])


def test_files_that_a_module_names_count(tree):
    root = tree({"pipeline/stage.py": "TEMPLATE = 'page.html.j2'\n", "pipeline/page.html.j2": "", "pipeline/x.txt": ""})
    assert code_deps(root, "pipeline.stage") == ["pipeline/page.html.j2", "pipeline/stage.py"]


def test_discovered_modules_count_as_their_folder(tree):
    root = tree(
        {
            "pipeline/stage.py": "from grip_core.methods.registry import METHODS\n",
            "grip_core/methods/registry.py": "import pkgutil\n",
            "grip_core/methods/one.py": "import grip_core.needed\n",
            "grip_core/needed.py": "",
        }
    )
    assert code_deps(root, "pipeline.stage") == ["grip_core/methods", "grip_core/needed.py", "pipeline/stage.py"]


def test_what_an_export_was_made_from_counts(tree):
    manifest = json.dumps({"hashes": {"vlm": "1", "grip_core/used.py": "2", "grip_core/gone.py": "3"}})
    root = tree({"pipeline/stage.py": "", "grip_core/used.py": "", "artifacts/exports/some/manifest.json": manifest})
    for dep in ("artifacts/exports/some", "artifacts/exports"):
        stage = {"cmd": "python -m pipeline.stage", "deps": [dep, "data", "pipeline/stage.py"]}
        assert all_code_deps(root, stage) == ["grip_core/used.py", "pipeline/stage.py"]
    assert all_code_deps(root, stage | {"deps": ["data"]}) == ["pipeline/stage.py"]


def test_params_are_those_read(tree):
    root = tree(
        {
            "pipeline/stage.py": "def main(params):\n    f(params.data)\n    g(params.vlm.path, params.grpo.seeds)\n",
            "pipeline/other.py": "def f(settings: Params):\n    return settings.scorer.model_dump()\n",
            "pipeline/all.py": "def f(params):\n    return params.model_dump()\n",
        }
    )
    assert stage_params(root, {"cmd": "python -m pipeline.stage"}) == ["data", "vlm.path", "grpo.seeds"]
    assert stage_params(root, {"cmd": "python -m pipeline.other"}) == ["scorer"]
    assert "report" in stage_params(root, {"cmd": "python -m pipeline.all"})


def test_values_of_the_matrix_are_not_params(tree):
    root = tree({"pipeline/stage.py": "def main(params):\n    train(params.grpo, params.vlm)\n"})
    keys = stage_params(root, {"cmd": "python -m pipeline.stage", "matrix": {"seed": "${grpo.seeds}"}})
    assert "vlm" in keys
    assert "grpo.steps" in keys
    assert not {"grpo", "grpo.seeds"} & set(keys)
