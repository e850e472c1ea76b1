"""The direction of imports, read from the sources alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "grip_core": {"pipeline", "studies", "slurm", "tests", "optuna", "submitit", "dvc"},
    "pipeline": {"studies", "tests"},
    "studies": {"pipeline", "tests"},
}


def _sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _imported(path: Path) -> set[str]:
    """Top-level names of a file's absolute imports, those inside functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder):
    wrong = {str(path.relative_to(ROOT)): _imported(path) & FORBIDDEN[folder] for path in _sources(folder)}
    assert not {path: names for path, names in wrong.items() if names}


def test_only_rl_imports_trl():
    users = {path.relative_to(ROOT) for folder in FORBIDDEN for path in _sources(folder) if "trl" in _imported(path)}
    assert all(path.parts[:2] == ("grip_core", "rl") for path in users), users


def test_library_functions_take_sections():
    """What a stage depends on is read off its script, so the library must not reach into other sections by itself."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in _sources("grip_core")
        if any(isinstance(node, ast.alias) and node.name == "Params" for node in ast.walk(ast.parse(path.read_text())))
    }
    assert not users
