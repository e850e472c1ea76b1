"""Which of today's settings are others than those that an export was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grip_core.config import Params
from grip_core.evaluation.exports import PACE

ELSEWHERE = {
    "vlm.path",
    "vlm.device",
    "vlm.rows_per_forward",
    "vlm.processes",
    "features.batch_size",
    "features.max_gigabytes",
    "grpo.seeds",
    *(f"supervised.{key}" for key in PACE),
}
"""Keys that decide no number of an export, or whose effect it hashes or has in its own definition."""


def changed_settings(exported: Mapping[str, Any], params: Params) -> list[str]:
    """Keys that were others when the arms were trained: they would not be held against equals.

    Those of the warm-up are among them, for its weights are not hashed: another kind of processor rounds otherwise, so
    that they are others on every user's machine.
    """
    now = {
        "vlm": params.vlm.model_dump(),
        "features": params.features.model_dump(),
        "scorer": params.scorer.model_dump(),
        "budgets": params.budgets.model_dump(),
        "warmup": params.warmup.model_dump(),
        "grpo": params.grpo.model_dump(),
        "supervised": params.supervised.model_dump(),
    }
    return [
        f"{section}.{key}"
        for section, values in now.items()
        for key, value in values.items()
        if f"{section}.{key}" not in ELSEWHERE and _trained_on(exported[section].get(key)) != _trained_on(value)
    ]


def _trained_on(value: Any) -> Any:
    """A setting without what it says of the test split, of which an export may cover more."""
    return {key: part for key, part in value.items() if key != "test"} if isinstance(value, dict) else value
