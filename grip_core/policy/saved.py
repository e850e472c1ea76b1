"""A scorer on the disk or on the Hub: `config.json`, `model.safetensors`, and for which VLM it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from grip_core.errors import UserError
from grip_core.policy.scorer import Scorer
from grip_core.vlm.protocol import AnsweringVLM

TRAINED_WITH = "vlm"
"""In a scorer's config.json: AnsweringVLM.setup of the VLM that it was trained with."""


def save_scorer(scorer: Scorer, vlm: AnsweringVLM, folder: Path) -> None:
    """Write a scorer that was trained with that VLM."""
    setattr(scorer.config, TRAINED_WITH, vlm.setup)
    scorer.save_pretrained(folder)


def read_scorer(place: str | Path) -> Scorer:
    """From a folder or a hub id. Raises UserError if none can be read, or some of its weights are missing."""
    try:
        scorer, loaded = Scorer.from_pretrained(str(place), output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"no scorer can be read from {place}: {' '.join(str(error).split())}") from None
    if missing := sorted(loaded["missing_keys"]):
        raise UserError(
            f"no scorer can be read from {place}: it must hold all weights, but lacks {missing[0]}; take a whole copy"
        )
    return scorer


def trained_with(scorer: Scorer) -> Mapping[str, Any]:
    """AnsweringVLM.setup of its VLM; empty where nobody has said."""
    return getattr(scorer.config, TRAINED_WITH, {})
