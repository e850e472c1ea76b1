"""From a YAML file to checked settings, and the words for what is wrong with it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from grip_core.config.section import Section
from grip_core.errors import UserError

AnySection = TypeVar("AnySection", bound=Section)


def read_yaml(path: Path) -> Any:
    """A file's content, unchecked. Raises UserError if it is not there or not YAML."""
    try:
        return yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the repository's root") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def parse(schema: type[AnySection], raw: Any, source: str) -> AnySection:
    """Check settings that are already read; `source` names them in messages. Raises UserError, one line a mistake."""
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise UserError("\n".join(_line(schema, source, item) for item in error.errors())) from None


def _line(schema: type[Section], source: str, item: Any) -> str:
    location, value = item["loc"], item["input"]
    if item["type"] == "extra_forbidden":
        known = _known_keys(schema, location[:-1])
        close = get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        listed = f"known here: {', '.join(known)}"
        return f"{source}: {_key(location)} is not a known key, but got {value!r} for it; {hint}{listed}"
    if item["type"] == "missing":
        return f"{source}: {_key(location)} is missing; every key must be given"
    if item["type"] == "model_type":
        known = _known_keys(schema, location)
        return f"{source}: {_key(location)} must hold the keys {', '.join(known)}, but got {value!r}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "value_error":  # the schema's own rules name the values themselves
        return ": ".join([source, *([_key(location)] if location else []), message])
    return f"{source}: {_key(location)}: {message}, but got {value!r}{_hint(item['type'], value)}"


def _hint(kind: str, value: Any) -> str:
    """YAML 1.1 takes 1e-3 for text, which nobody expects."""
    if kind == "float_type" and isinstance(value, str):
        try:
            return f"; YAML takes it for text, write {float(value)!r}"
        except ValueError:
            return ""
    return ""


def _key(location: tuple[Any, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".") or "(top level)"


def _known_keys(schema: type[Section], location: tuple[Any, ...]) -> list[str]:
    section: Any = schema
    for part in location:
        # A number is a place in a list of sections.
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return sorted(section.model_fields)
