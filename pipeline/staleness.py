"""Which of today's settings are others than those that an export was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grip_core.config import BudgetConfig, GrpoConfig, SupervisedConfig, VlmConfig
from grip_core.evaluation.exports import PACE


def changed_settings(
    exported: Mapping[str, Any],
    vlm: VlmConfig,
    grpo: GrpoConfig,
    supervised: SupervisedConfig,
    budgets: BudgetConfig,
) -> list[str]:
    """Keys that were others when the arms were trained: they would not be held against equals."""
    now = {
        "vlm": vlm.model_dump(exclude={"path"}),
        "grpo": grpo.model_dump(exclude={"seeds"}),
        "supervised": supervised.model_dump(exclude=set(PACE)),
        "budgets": budgets.model_dump(),
    }
    return [
        f"{section}.{key}"
        for section, values in now.items()
        for key, value in values.items()
        if exported[section].get(key) != value
    ]
