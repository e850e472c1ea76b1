"""What a trial runs, behind one small contract, and the stages in which it runs it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from grip_core.config import Params
from grip_core.errors import UserError
from studies.definition import Definition

Pause = Callable[[], bool]
"""Whether to checkpoint and return at the next safe boundary."""


class Trainable(Protocol):
    """Made once a worker, with the study's base params, so that heavy things are imported and loaded once.

    A class that derives from it has nothing to check, and nothing that workers could share, unless it says so.
    """

    fingerprint: dict[str, Any]
    """What the numbers depend on beside params and code: data, model."""

    def __init__(self, params: Params, socket: Path | None = None) -> None:
        """`socket` is given, and only then, where several workers share what `server` holds."""

    @staticmethod
    def check_keys(keys: list[str]) -> None:
        """Raise UserError if a study cannot have those keys of its own."""

    @classmethod
    def check_trial(cls, params: Params, base: Params, source: str) -> None:
        """Raise UserError, with `source` before it, if an arm with these params cannot be run in a study of `base`."""

    @staticmethod
    def check_inputs(params: Params) -> None:
        """Before anything is sent: raise UserError if what a worker would open is not there."""

    @classmethod
    def memory(cls, params: Params) -> str | None:
        """What a worker takes of a device's memory, in words, where that can be told before it runs.

        Needs what `check_inputs` checks.
        """
        return None

    @classmethod
    def token_forwards(cls, trials: Sequence[Params]) -> list[float] | None:
        """What an average optimizer step of each trial asks of the VLM, where that can be told before it runs.

        Needs what `check_inputs` checks.
        """
        return None

    @staticmethod
    def server(params: Params, socket: Path) -> list[str]:
        """The command of a process that holds what the workers of a job can share, and listens at `socket`.

        It ends by SIGTERM, and with the process that starts it, which is this one. Raises UserError if there is
        nothing to share.
        """
        raise UserError("this study's trainable has nothing that runs could share; set runs_per_vlm: 1 in the profile")

    def follow(self, params: Params, seed: int, folder: Path, start: Path) -> None:
        """In the other processes of a worker that is several: train along the run in that folder; see crew.py."""
        raise NotImplementedError(f"{type(self).__name__} cannot train in several processes")

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        """Bring the run of one seed to that step, from whatever checkpoint the folder holds; give the metrics there.

        None if it was paused before; the next call goes on. What a run writes is the same however often it was paused
        or killed. A metric that is not finite raises FloatingPointError.
        """


def load_trainable(path: str) -> type[Trainable]:
    """The class that `package.module:Class` names. Raises UserError if there is none."""
    module, name = path.split(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"trainable must name a class that can be imported, but got {path!r}: {error}") from None
    if not inspect.isclass(found):
        raise UserError(f"trainable must name a class, but got {path!r}, which is a {type(found).__name__}")
    return found  # type: ignore[return-value]  # whether it keeps the contract shows in its use


@dataclass(frozen=True)
class Stage:
    """A part of a trial, after which it is reported: these seeds are brought to that step."""

    seeds: tuple[int, ...]
    step: int
    """Optimizer step."""
    reported_at: int
    """Where on the pruner's axis: scored selections a seed, or for Wilcoxon's test the seed's place."""


def stages(definition: Definition, params: Params) -> list[Stage]:
    """A trial's stages. All seeds advance rung by rung, or, for Wilcoxon's test, one after the other to the end.

    The pruner's axis is scored selections: at equal optimizer steps, trials with different group sizes have seen
    different amounts of data.
    """
    seeds, compute, steps = tuple(definition.seeds), definition.compute, params.grpo.steps
    if definition.pruner.name == "wilcoxon":
        return [Stage((seed,), steps, place) for place, seed in enumerate(seeds)]
    return [
        Stage(seeds, steps * rung // compute.rungs, compute.selections * rung // compute.rungs)
        for rung in range(1, compute.rungs + 1)
    ]
