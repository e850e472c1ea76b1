"""What each stage of dvc.yaml depends on: the code its script imports and the keys of params.yaml that it reads.

`python -m pipeline.deps` writes both into dvc.yaml and leaves data dependencies, outputs and comments alone. A test
checks that they are true, for a dependency that is not named reruns nothing when it changes.

Code is found by following imports of first-party modules, packages' `__init__` included. A module that uses `pkgutil`
imports whatever lies beside it, so it counts as its whole folder; a file beside a module that the module names, such as
a template, counts as well. Keys are the attributes read from the variable `params` in the stage's modules under
pipeline/: `params.data` is a section, `params.data.seed` one key. What a stage's matrix iterates over is not a
parameter of its single runs, so that another seed does not rerun those that exist.

A stage that reads an export of a study, or a folder of them, also depends on the modules that the manifests name: when
one changes, the export is stale, and the stage has to say so.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from grip_core.config import Params
from grip_core.evaluation.exports import MANIFEST
from grip_core.files import atomic_file
from grip_core.places import EXPORTS

ROOT = Path(__file__).resolve().parent.parent
FIRST_PARTY = ("grip_core", "pipeline")


def main() -> None:
    """Rewrite dvc.yaml in place."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    path = ROOT / "dvc.yaml"
    document = yaml.load(path.read_text())
    for name, stage in document["stages"].items():
        script = stage_module(stage)
        if _source(ROOT, script) is None:
            print(f"{name}: {script} does not exist yet; left alone")
            continue
        # Slices, so that the lists keep their place and style.
        stage["deps"][:] = [*data_deps(stage), *all_code_deps(ROOT, stage)]
        stage["params"][:] = stage_params(ROOT, stage)
    with atomic_file(path) as file:
        yaml.dump(document, file)


def stage_module(stage: Mapping[str, Any]) -> str:
    """The module a stage runs. Raises ValueError if its command is not `python -m MODULE ...`."""
    match = re.match(r"python -m ([\w.]+)", stage["cmd"])
    if match is None:
        raise ValueError(f"a stage's command must be `python -m MODULE ...`, but got {stage['cmd']!r}")
    return match[1]


def data_deps(stage: Mapping[str, Any]) -> list[str]:
    """The dependencies of a stage that are not code."""
    return [dep for dep in stage["deps"] if dep.split("/")[0] not in FIRST_PARTY]


def all_code_deps(root: Path, stage: Mapping[str, Any]) -> list[str]:
    """The code that a stage runs, and that of the exports it reads; relative to `root`, sorted."""
    folders = [root / dep for dep in data_deps(stage) if Path(dep).is_relative_to(EXPORTS)]
    manifests = [path for folder in folders for path in sorted(folder.rglob(MANIFEST))]
    hashes = [json.loads(path.read_text())["hashes"] for path in manifests]
    exported = {name for named in hashes for name in named if name.endswith(".py") and (root / name).is_file()}
    run = code_deps(root, stage_module(stage))
    return sorted({*run, *(name for name in exported if str(Path(name).parent) not in run)})


def code_deps(root: Path, module: str) -> list[str]:
    """Files, and folders of modules that are discovered, that running `module` imports; relative to `root`, sorted."""
    sources = closure(root, module)
    folders = {path.parent for path in sources.values() if _discovers(path)}
    named = {beside for path in sources.values() for beside in _named_beside(path)}
    files = {path for path in {*sources.values(), *named} if not any(folder in path.parents for folder in folders)}
    return sorted(path.relative_to(root).as_posix() for path in files | folders)


def stage_params(root: Path, stage: Mapping[str, Any]) -> list[str]:
    """Sections and keys of params.yaml that a stage reads, sorted as the schema has them."""
    sources = closure(root, stage_module(stage))
    reads = set().union(*(_reads(path) for name, path in sources.items() if name.split(".")[0] == "pipeline"))
    loops = set(re.findall(r"\$\{([\w.]+)\}", str(stage.get("matrix", ""))))
    keys = []
    for section, item in Params.model_fields.items():
        known: list[str] = list(item.annotation.model_fields)  # type: ignore[union-attr]
        whole = (section, None) in reads
        wanted = [f"{section}.{key}" for key in known if whole or (section, key) in reads]
        if whole and not loops & set(wanted):
            keys.append(section)
        else:
            keys.extend(key for key in wanted if key not in loops)
    return keys


def closure(root: Path, module: str) -> dict[str, Path]:
    """First-party modules that `module` imports, itself included, directly or not: name -> source file.

    Raises FileNotFoundError if `module` has no source.
    """
    if _source(root, module) is None:
        raise FileNotFoundError(f"{module} has no source under {root}")
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(root, name)
        if name in found or name.split(".")[0] not in FIRST_PARTY:
            continue
        if path is not None:
            found[name] = path
            waiting.extend(_imports(path, name))
            if _discovers(path):
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                waiting.extend(f"{package}.{beside.stem}" for beside in path.parent.glob("*.py"))
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return found


def _source(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base / "__init__.py", base.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def _imports(path: Path, module: str) -> Iterable[str]:
    """Names that may be modules: of `from a import b` both a and a.b, for b may be one."""
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _discovers(path: Path) -> bool:
    return "pkgutil" in _imports(path, path.stem)


def _named_beside(path: Path) -> set[Path]:
    text = path.read_text()
    others = (beside for beside in path.parent.iterdir() if beside.is_file() and beside.suffix not in (".py", ".pyc"))
    return {beside for beside in others if beside.name in text}


def _reads(path: Path) -> set[tuple[str, str | None]]:
    """(section, key) of every `params.section.key`, (section, None) of every `params.section` that is read whole."""
    nodes = _nodes(path)
    names = {"params"} | {
        node.arg for node in nodes if isinstance(node, ast.arg) and node.annotation and _is_params(node.annotation)
    }
    outer = {id(node.value): node for node in nodes if isinstance(node, ast.Attribute)}
    reads: set[tuple[str, str | None]] = set()
    for node in nodes:
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names):
            continue
        if node.attr in Params.model_fields:
            section: Any = Params.model_fields[node.attr].annotation
            key = outer[id(node)].attr if id(node) in outer else None
            reads.add((node.attr, key if key in section.model_fields else None))
        else:  # a method of the whole, such as model_dump
            reads |= {(name, None) for name in Params.model_fields}
    return reads


def _is_params(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).strip("'\"").split(".")[-1] == "Params"


if __name__ == "__main__":
    main()
