"""Arms that differ in their warm-up or in their VLM's positions too, as those of an ablation may."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.places import WARMUP
from studies.comparison import Comparison
from studies.trainable import Pause

if TYPE_CHECKING:
    from grip_core.rl.inputs import Inputs
    from grip_core.vlm.frozen import FrozenVLM

POSITIONS = "vlm.positions"
OWN = "warmup"
"""Folder of an arm's own warm-up, beside its runs: a run folder, which an attempt carries over as it does the runs."""


class Ablation(Comparison):
    """A Comparison whose arms may also set keys of `warmup`, and `vlm.positions`.

    An arm with another warm-up than params.yaml's trains it first, once for all of its seeds; its weights and its
    budgets do not depend on them, as the pipeline's do not. The VLM of other positions is the same model. Cached
    features are those of whole prompts, whose positions are the same in both; only what the VLM answers without the
    image depends on them.
    """

    def __init__(self, params: Params, socket: Path | None = None) -> None:
        super().__init__(params, socket)
        self.base, self.opened = params, self.inputs

    @classmethod
    def check_keys(cls, keys: list[str]) -> None:
        """See Trainable."""
        super().check_keys([key for key in keys if key != POSITIONS and not key.startswith("warmup.")])

    @classmethod
    def check_trial(cls, params: Params, base: Params, source: str) -> None:
        """See Trainable."""
        super().check_trial(params, base, source)
        own, cached = params.vlm.positions, base.vlm.positions
        if own != cached and (blind := blind_keys(params)):
            raise UserError(
                f"{source}: {POSITIONS} must be {cached} with {' or '.join(blind)}, but got {own}: what the VLM "
                f"answers without the image is cached for {cached} alone; leave one of them out, or set {POSITIONS} to "
                f"{own} in params.yaml and run `make repro`"
            )

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        """See Trainable. The first of an arm's seeds trains its warm-up."""
        self.inputs = at_positions(self.opened, params.vlm.positions)
        self.warmup = WARMUP
        if has_own_warmup(params, self.base):
            self.warmup = folder.parent / OWN
            if not self.warm_up(params, pause):
                return None
        return super().advance(params, seed, step, folder, pause)

    def follow(self, params: Params, seed: int, folder: Path, start: Path) -> None:
        """See Trainable."""
        self.inputs = at_positions(self.opened, params.vlm.positions)
        super().follow(params, seed, folder, start)

    def warm_up(self, params: Params, pause: Pause) -> bool:
        """Train the arm's own warm-up in `self.warmup`, from its last checkpoint on; False if it was paused."""
        from grip_core.rl.warmup import build_scorer, warm_up
        from grip_core.runs import RunFolder
        from grip_core.vlm.frozen import FrozenVLM

        low, high = self.base.budgets.low, self.base.budgets.high
        config = {
            "warmup": params.warmup.model_dump(),
            "budgets": {"low": low, "high": high},
            "scorer": params.scorer.model_dump(),
            "positions": params.vlm.positions,
            **self.data,
        }
        inputs, run = self.inputs, RunFolder(self.warmup, config)
        assert isinstance(inputs.vlm, FrozenVLM)  # `server` shares none
        scorer = build_scorer(params.scorer, inputs.train.width, params.warmup.seed)
        try:
            warm_up(
                params.warmup, low, high, scorer, inputs.vlm, inputs.train, inputs.validation, run, _stopping_at(pause)
            )
        except _Paused:
            return False
        return True

    def run_config(self, params: Params, seed: int) -> dict[str, Any]:
        """See Training."""
        return {**super().run_config(params, seed), "positions": params.vlm.positions}


def blind_keys(params: Params) -> list[str]:
    """The keys by which a run reads what the VLM answers without the image."""
    if params.supervised.method != "none":
        read = {"supervised.filter.answered_without_image": params.supervised.filter.answered_without_image}
    else:
        filtered, gain = params.grpo.filter.answered_without_image, params.grpo.reward.gain > 0
        read = {"grpo.filter.answered_without_image": filtered, "grpo.reward.gain": gain}
    return [key for key, does in read.items() if does]


class _Paused(Exception):
    """Thrown through the warm-up, which has no other way to be put down: some steps since its checkpoint are lost."""


def _stopping_at(pause: Pause) -> Callable[[int, dict[str, float]], None]:
    def on_step(step: int, row: dict[str, float]) -> None:
        if pause():
            raise _Paused

    return on_step


def has_own_warmup(params: Params, base: Params) -> bool:
    """Whether a run starts from another warm-up than that of `base`.

    Of the teachers only leave_group_out drops tokens, so that positions matter to it.
    """
    if params.grpo.start == "untrained":
        return False  # of the warm-up it takes the shape alone
    moved = params.warmup.teacher == "leave_group_out" and params.vlm.positions != base.vlm.positions
    return moved or params.warmup != base.warmup


def at_positions(inputs: Inputs, positions: str) -> Inputs:
    """The inputs for the same model at those positions of pruned prompts."""
    vlm: FrozenVLM = inputs.vlm
    if vlm.positions == positions:
        return inputs
    moved = type(vlm)(vlm.model, vlm.processor, vlm.template, positions)  # type: ignore[arg-type]
    validation = copy.copy(inputs.validation)  # its prompts are whole
    validation.vlm = moved
    return replace(inputs, vlm=moved, validation=validation)
