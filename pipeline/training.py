"""What the two training stages share: the VLM, the training questions, the validation prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grip_core.config import Params, check_budgets
from grip_core.errors import UserError
from grip_core.policy.budgets import headline_budgets
from grip_core.policy.scorer import Scorer
from grip_core.rl.validation import Validation, validation_subset
from grip_core.runs import code_fingerprint
from grip_core.vlm.features import COMPLETE, FeatureStore, load_store
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import load_vlm
from pipeline.stage import FEATURES


@dataclass(frozen=True)
class Inputs:
    """What a training run reads."""

    vlm: FrozenVLM
    train: FeatureStore
    validation: Validation
    fingerprint: dict[str, Any]
    """For the run's config: a folder with another fingerprint holds another run."""


def load_scorer(run: Path) -> Scorer:
    """The scorer of a finished run. Raises UserError if the run is not finished."""
    if not (run / "scorer").is_dir():
        raise UserError(f"{run} holds no trained scorer; run `make repro`, or the stage that makes it, first")
    return Scorer.from_pretrained(run / "scorer")


def load_inputs(params: Params) -> Inputs:
    """Open the VLM and the caches; budgets are checked against the number of visual tokens."""
    vlm = load_vlm(params.vlm.path, params.vlm.positions)
    names = params.data.benchmarks
    train, held_out = (load_store(FEATURES, names, split) for split in ("train", "validation"))
    check_budgets(params, train.n_visual)
    folders = [FEATURES / name / split for name in names for split in ("train", "validation")]
    caches = {str(folder): (folder / COMPLETE).read_text() for folder in folders}
    budgets = headline_budgets(params.evaluate.budgets, params.evaluate.headline_share, train.n_visual)
    validation = Validation(vlm, validation_subset(held_out, params.grpo.validation_questions), budgets)
    fingerprint = {
        "features": caches,
        "validation": {"budgets": budgets, "questions": params.grpo.validation_questions},
        "code": code_fingerprint(),
    }
    return Inputs(vlm, train, validation, fingerprint)
