"""The code that a study's workers run: a copy made when it is launched, so that editing does not change queued jobs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from grip_core.errors import UserError
from grip_core.files import write_text
from grip_core.runs import git
from studies.folder import StudyFolder

LEFT_OUT = ("__pycache__",)
DIFF = "working-tree.diff"


def take_snapshot(folder: StudyFolder, trainable: str) -> str:
    """Copy the packages that workers import; the name of the copy is a hash of its content. Safe to do twice."""
    files = dict(_files(trainable))
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode() + b"\0" + path.read_bytes())
    code = digest.hexdigest()[:16]
    target = folder.code(code)
    if target.exists():
        return code
    # Renamed into place when it is whole.
    temporary = folder.code(f".{code}.{os.getpid()}")
    for name, path in files.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, temporary / name)
    write_text(temporary / DIFF, git("diff", "HEAD"))
    temporary.rename(target)
    return code


def environment(folder: StudyFolder, code: str) -> dict[str, str]:
    """What makes a python run the snapshot: its packages come first, and the working directory is not searched."""
    return {"PYTHONPATH": str(folder.code(code)), "PYTHONSAFEPATH": "1"}


def _files(trainable: str) -> Iterator[tuple[str, Path]]:
    """Every file of grip_core, of studies and of the package that the trainable comes from, by its name in the copy."""
    for package in sorted({"grip_core", "studies", trainable.split(":")[0].split(".")[0]}):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise UserError(
                f"{package} must be a package with an __init__.py, or a module, for workers get a copy of it"
            )
        if spec.submodule_search_locations is None:
            yield Path(spec.origin).name, Path(spec.origin)
            continue
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and not set(LEFT_OUT) & set(path.relative_to(root).parts):
                yield f"{package}/{path.relative_to(root)}", path
