"""Ablations of the toy study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from grip_core.config import Params
from studies.ablation import AblationConfig, plan
from tests.studies.conftest import TOY

STUDY = {key: value for key, value in TOY.items() if key not in ("space", "sampler", "pruner", "budget", "promote")}
COMPARED = "studies.ablated:Ablation"
GROUP, BETA, RATE = "grpo.group_size", "grpo.beta", "grpo.learning_rate"


def arms(params: Params, factors: dict[str, Any], design: str, own: Any = None, **more: Any) -> dict[str, Any]:
    """Settings of every arm, by its name."""
    config = AblationConfig(factors=factors, design=design, **more)  # type: ignore[arg-type]
    return {arm.name: arm.settings for arm in plan(config, own or {}, params, "x").arms}


def written(path: Path, ablation: dict[str, Any], **changes: Any) -> Path:
    """The toy study of an ablation, as a file."""
    path.write_text(yaml.safe_dump(STUDY | {"params": {}, "ablation": ablation} | changes, sort_keys=False))
    return path
