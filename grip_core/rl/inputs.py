"""What a training run reads: the VLM, the training questions, the validation prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from grip_core.config import BudgetConfig, GrpoConfig, ScorerConfig
from grip_core.errors import UserError
from grip_core.policy.budgets import headline_budgets
from grip_core.policy.saved import read_scorer
from grip_core.policy.scorer import Scorer
from grip_core.rl.task import Task
from grip_core.rl.validation import Validation, validation_subset
from grip_core.rl.warmup import build_scorer
from grip_core.runs import code_fingerprint, hash_files
from grip_core.vlm.features import COMPLETE, FeatureStore, load_store
from grip_core.vlm.protocol import AnsweringVLM

VLM = TypeVar("VLM", bound=AnsweringVLM)


@dataclass(frozen=True)
class Inputs(Generic[VLM]):
    """What a training run reads."""

    vlm: VLM
    train: FeatureStore
    validation: Validation
    fingerprint: dict[str, Any]
    """For the run's config: a folder with another fingerprint holds another run."""


def open_inputs(
    vlm: VLM, features: Path, benchmarks: Sequence[str], budgets: Sequence[int], share: float, questions: int
) -> Inputs[VLM]:
    """Open the caches under `features`, for a VLM of this process or of another one: the numbers are the same.

    Validation is on the `budgets` of at most this `share` of the visual tokens, with so many `questions` a benchmark.
    """
    train, held_out = (load_store(features, benchmarks, split) for split in ("train", "validation"))
    folders = [features / name / split for name in benchmarks for split in ("train", "validation")]
    caches = {str(folder): (folder / COMPLETE).read_text() for folder in folders}
    validated = headline_budgets(budgets, share, train.n_visual)
    validation = Validation(vlm, validation_subset(held_out, questions), validated)
    fingerprint = {
        "features": caches,
        "validation": {"budgets": validated, "questions": questions},
        "code": code_fingerprint(),
    }
    return Inputs(vlm, train, validation, fingerprint)


def load_scorer(run: Path) -> Scorer:
    """The scorer of a finished run. Raises UserError if the run is not finished, or its files are damaged."""
    if not (run / "scorer").is_dir():
        raise UserError(f"{run} holds no trained scorer; run `make repro`, or the stage that makes it, first")
    return read_scorer(run / "scorer")


def open_task(inputs: Inputs, warmup: Path, start: Literal["warmup", "untrained"], seed: int) -> Task:
    """Training from the finished warm-up in that folder on, or from an untrained scorer of the same shape.

    `seed` decides the weights of the untrained one. Raises UserError if there is no finished warm-up.
    """
    scorer = load_scorer(warmup)
    if start == "untrained":
        shape = scorer.config
        config = ScorerConfig(width=shape.width, layers=shape.layers, heads=shape.heads)
        scorer = build_scorer(config, shape.input_width, seed).eval()
    return Task(inputs.vlm, inputs.train, scorer)


def run_config(
    grpo: GrpoConfig, budgets: BudgetConfig, seed: int, warmup: Path, fingerprint: dict[str, Any]
) -> dict[str, Any]:
    """All that decides a GRPO run's numbers, for its run folder."""
    return {
        "grpo": grpo.model_dump(exclude={"seeds"}),
        "budgets": budgets.model_dump(),
        "seed": seed,
        "warmup": hash_files((warmup / "scorer").iterdir()),
        **fingerprint,
    }
