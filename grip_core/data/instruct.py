"""Training data in the format of LLaVA's instructions (Liu et al. 2024)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from grip_core.data.decode import BadImage
from grip_core.data.encoded import Asked, Found, identity
from grip_core.data.public import LETTER, VALIDATION_SHARE, WORD
from grip_core.errors import UserError
from grip_core.seeds import numpy_random

INSTRUCT = "instruct"
"""Their name among the benchmarks."""


def read_instruct(path: Path, folder: Path, split: str, seed: int | None = None) -> Iterator[Found]:
    """Single questions from a file of LLaVA's format: a list of `id`, `image` and `conversations`, whose turns are
    `from` human or gpt; others are passed over. 5 % of the images are for validation, with all that is asked about
    them. With a seed questions come in a random order.

    Raises UserError if the file is no such list.
    """
    try:
        whole = json.loads(path.read_text())
        if not isinstance(whole, list):
            raise TypeError(f"it is a {type(whole).__name__}")
        items = [item for item in whole if "image" in item]
        names = sorted({item["image"] for item in items}, key=lambda name: identity(name.encode()))
        held_out = set(names[: -(-len(names) * VALIDATION_SHARE // 100)])
        own = [item for item in items if (item["image"] in held_out) == (split == "validation")]
        order = range(len(own)) if seed is None else numpy_random(seed, f"{INSTRUCT}/{split}").permutation(len(own))
        for number in order:
            yield from _turns(own[number], folder)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"data.instruct.json_file: {path} cannot be read: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"data.instruct.json_file: {path} must be a list of image and conversations with from and value, but "
            f"{error!r}"
        ) from None


def _turns(item: Mapping[str, Any], folder: Path) -> Iterator[Found]:
    read = partial(_bytes, folder / item["image"])
    turns = [(turn["from"], turn["value"].replace("<image>", "").strip()) for turn in item["conversations"]]
    asked = [text for who, text in turns if who == "human"]
    # Said once, it holds for the whole conversation, of which each question is asked alone here.
    wanted = next((f"\n{how}" for how in (WORD, LETTER) if asked and asked[0].endswith(how)), "")
    for (who, question), (next_one, said) in zip(turns, [*turns[1:], ("", "")], strict=True):
        if who == "human":
            answers = (said,) if said and next_one == "gpt" else ()
            yield Found(read, item["image"], Asked(question.removesuffix(wanted) + wanted, answers, "any"))


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise BadImage("there is no such file in data.instruct.images")
    return path.read_bytes()
