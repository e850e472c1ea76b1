"""One run in several processes, each with the frozen VLM on a device of its own (`accelerate launch`, `torchrun`).

The VLM's answers are what a step waits for. So every process draws the whole rollout and trains the scorer on it, with
the same numbers, and only the VLM's forwards are shared out: each process makes its share of them, and all get to know
the results. As long as there are enough of them they are the forwards that one process would make, so that a run has
the same metrics. What depends on a comparison of numbers the first process decides for all, and it writes the run
folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from grip_core.errors import ProcessLost, UserError
from grip_core.vlm.frozen import AnswerScores

PATIENCE = timedelta(days=30)
Part = TypeVar("Part")
Made = TypeVar("Made")
_together = ContextVar("together", default=False)


class FirstFailed(Exception):
    """What `by_first` raises in the others."""


@contextmanager
def _talking() -> Iterator[None]:
    """Raises ProcessLost where backends raise what each calls it if another process does not answer any more."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(f"a process of this run has gone ({str(error).splitlines()[0]}); see its log") from error


def world_size() -> int:
    """Of this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def check_devices(processes: int) -> None:
    """Raise UserError if there are GPUs, but not one for each of so many processes."""
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise UserError(
            f"vlm.processes={processes} must have a GPU each, but there are {torch.cuda.device_count()}; lower it"
        )


def join() -> None:
    """Meet the others, if this process was launched as one of several."""
    from accelerate import PartialState  # which whoever only scores selections need not have

    # The first may be busy with other things for long, while the others wait for its next word.
    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def by_first(make: Callable[[], Made]) -> Made:
    """What the first process makes, for all; the others wait for it.

    If it raises something there, the others raise FirstFailed, so that all are at the same place again. This and all
    else that waits for another process raises ProcessLost if that has gone.
    """
    if world_size() == 1:
        return make()
    said: list[Any] = [None, True]
    if rank() == 0:
        try:
            said = [make(), False]
        finally:
            with _talking():
                distributed.broadcast_object_list(said, src=0)
    else:
        with _talking():
            distributed.broadcast_object_list(said, src=0)
        if said[1]:
            raise FirstFailed("the first process has given up what all were at; see its log")
    return cast(Made, said[0])


def meet() -> None:
    """Wait until all are here."""
    if world_size() > 1:
        with _talking():
            distributed.barrier()


@contextmanager
def together() -> Iterator[None]:
    """While the block runs, which all processes are in, the VLM's forwards are shared out."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


def n_sharing() -> int:
    """Processes among which forwards are shared out now."""
    return world_size() if _together.get() else 1


def shared_out(
    parts: Sequence[Part], answer: Callable[[Part], AnswerScores], device: torch.device, turn: int = 0
) -> list[AnswerScores]:
    """The answers to all parts, on `device`, of which each process asks for its share; the first part is that of
    process `turn`."""
    if n_sharing() == 1:
        return [answer(part) for part in parts]
    first = (rank() - turn) % world_size()
    own = {index: answer(parts[index]) for index in range(first, len(parts), world_size())}
    gathered: list[dict[int, AnswerScores]] = [{} for _ in range(world_size())]
    with _talking():
        distributed.all_gather_object(gathered, {index: _on(item, "cpu") for index, item in own.items()})
    together = {index: item for one in gathered for index, item in one.items()}
    return [_on(together[index], device) for index in range(len(parts))]


def _on(item: AnswerScores, device: torch.device | str) -> AnswerScores:
    kl_R = None if item.kl_R is None else item.kl_R.to(device)
    return AnswerScores(item.log_prob_R.to(device), item.correct_R.to(device), kl_R)
