"""Supervised warm-up of the scorer: the control arm, and the reference policy of GRPO."""

from __future__ import annotations

from grip_core.config import Params
from grip_core.places import WARMUP
from grip_core.rl.warmup import build_scorer, warm_up
from grip_core.runs import RunFolder
from pipeline.stage import run
from pipeline.training import load_inputs


def main(params: Params) -> None:
    """Run the stage."""
    inputs = load_inputs(params)
    low, high = params.budgets.low, params.budgets.high
    config = {
        "warmup": params.warmup.model_dump(),
        "budgets": {"low": low, "high": high},
        "scorer": params.scorer.model_dump(),
        **inputs.fingerprint,
    }
    folder = RunFolder(WARMUP, config)
    scorer = build_scorer(params.scorer, inputs.train.width, params.warmup.seed)
    warm_up(params.warmup, low, high, scorer, inputs.vlm, inputs.train, inputs.validation, folder)


if __name__ == "__main__":
    run(main)
