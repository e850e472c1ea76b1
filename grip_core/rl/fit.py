"""The loop of a training by gradient descent on a loss: the warm-up's and the supervised baselines'."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from grip_core.files import atomic_file
from grip_core.policy.scorer import Scorer
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder

Losses = Callable[[int], dict[str, torch.Tensor]]
"""Given a step, counted from 1: the summands of its loss, by name."""
OnStep = Callable[[int, dict[str, float]], None]
Pause = Callable[[int], bool]
"""Given a step that is done, whether to stop there for now."""


@dataclass(frozen=True)
class Pace:
    """How long and how a scorer is trained, in steps."""

    steps: int
    evaluate_every: int
    checkpoint_every: int
    max_grad_norm: float


def fit(
    name: str,
    scorer: Scorer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    losses: Losses,
    pace: Pace,
    validation: Validation,
    run: RunFolder,
    on_step: OnStep = lambda step, row: None,
    pause: Pause = lambda step: False,
) -> bool:
    """Train `scorer` in place with the schedule's optimizer; a row of metrics a step goes to the run folder.

    Goes on from the folder's checkpoint `<name>.pt`, and drops what was written after it. Once `pause(step)` is true
    the run is checkpointed there, and False is returned; True at the end.

    Raises FloatingPointError where a metric is not a finite number.
    """
    state: dict[str, Any] = {"scorer": scorer, "optimizer": schedule.optimizer, "schedule": schedule}
    path = run.checkpoints / f"{name}.pt"
    start = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        start = saved["step"]
        for key, item in state.items():
            item.load_state_dict(saved[key])
    run.drop_metrics_after(start)
    for step in tqdm(range(start + 1, pace.steps + 1), initial=start, total=pace.steps, desc=name):
        row = {"step": step, **_update(scorer, schedule, losses(step), pace.max_grad_norm)}
        if step % pace.evaluate_every == 0 or step == pace.steps:
            row |= validation(scorer)
        if not all(math.isfinite(value) for value in row.values()):
            raise FloatingPointError(f"step {step}: a metric is not finite: {row}")
        run.append_metrics(row)
        on_step(step, row)
        paused = step < pace.steps and pause(step)
        if paused or step % pace.checkpoint_every == 0:
            run.sync_metrics()
            with atomic_file(path) as file:
                torch.save({"step": step, **{key: item.state_dict() for key, item in state.items()}}, file)
            run.set_status("running", step)
        if paused:
            return False
    return True


def _update(scorer, schedule, summands: dict[str, torch.Tensor], max_grad_norm: float) -> dict[str, float]:
    """One step of the optimizer. Returns what TRL logs of one, and the summands where there are several."""
    loss = torch.stack(list(summands.values())).sum()
    rate = schedule.get_last_lr()[0]
    schedule.optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(scorer.parameters(), max_grad_norm)
    schedule.optimizer.step()
    schedule.step()
    parts = {key: value.item() for key, value in summands.items()} if len(summands) > 1 else {}
    return {"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": rate, **parts}
