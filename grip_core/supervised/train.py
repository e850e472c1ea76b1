"""One supervised run in one folder: as train() of grip_core/rl/train.py, with another principle.

The scorer, its start, the questions, the budgets, the optimizer and the clock are GRPO's; only the loss is not.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from transformers import get_scheduler

from grip_core.config import BudgetConfig, SupervisedConfig
from grip_core.errors import UserError
from grip_core.policy.budgets import make_schedule
from grip_core.policy.saved import save_scorer
from grip_core.policy.scorer import Scorer
from grip_core.rl.fit import Losses, OnStep, Pace, Pause, fit
from grip_core.rl.task import Task, carries_signal
from grip_core.rl.validation import Validation
from grip_core.rl.warmup import example_order
from grip_core.runs import RunFolder
from grip_core.seeds import torch_generator
from grip_core.supervised import diffprune, distill, gumbel, soft_topk
from grip_core.supervised.relaxation import Batch, Relaxation
from grip_core.vlm.frozen import FrozenVLM

RELAXATIONS: dict[str, Relaxation] = {
    "gumbel": gumbel.loss,
    "soft_topk": soft_topk.loss,
    "diffprune": diffprune.loss,
    "distill": distill.loss,
}


def train_supervised(
    config: SupervisedConfig,
    budgets: BudgetConfig,
    seed: int,
    task: Task,
    validation: Validation,
    run: RunFolder,
    on_step: OnStep = lambda step, row: None,
    pause: Pause = lambda step: False,
) -> Scorer | None:
    """Train a copy of the task's warm-up by `config.method` and save it in the run folder.

    Resumes from the folder's checkpoint, bit-equal on a CPU; a finished run is read back. Once `pause(step)` is true
    the run is checkpointed there, and None is returned; the next call goes on from there.

    Raises UserError if there is no method, the VLM is in another process or has not its original positions, the
    schedule learns from rewards, or no example passes the filter; FloatingPointError where a metric is not finite.
    """
    if run.finished:
        return Scorer.from_pretrained(run.scorer)
    scorer = copy.deepcopy(task.warmup).train().requires_grad_(True)
    kept = carries_signal(task.store, config.filter)
    losses = make_losses(config, budgets, seed, task, np.flatnonzero(kept), scorer)
    if not (run.checkpoints / f"{config.method}.pt").exists():
        run.drop_metrics_after(-1)
        first = {"step": 0, "kept_share": float(kept.mean()), **validation(task.warmup)}
        run.append_metrics(first)
        on_step(0, first)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate, weight_decay=0.0)
    decay = {"constant": "constant_with_warmup"}.get(config.lr_schedule, config.lr_schedule)
    schedule = get_scheduler(decay, optimizer, config.lr_warmup_steps, config.steps)
    pace = Pace(config.steps, config.evaluate_every, config.checkpoint_every, config.max_grad_norm)
    began = time.perf_counter()
    if not fit(config.method, scorer, schedule, losses, pace, validation, run, on_step, pause):
        return None
    save_scorer(scorer, task.vlm, run.scorer)
    run.finish(config.steps, {"total": time.perf_counter() - began})
    return scorer


def make_losses(
    config: SupervisedConfig, budgets: BudgetConfig, seed: int, task: Task, kept: np.ndarray, scorer: Scorer
) -> Losses:
    """The loss of every step of a run on the examples `kept`. Raises UserError where `train_supervised` does."""
    vlm = task.vlm
    if config.method == "none":
        raise UserError(f"supervised.method must be one of {', '.join(RELAXATIONS)} to train by it, but got none")
    if not isinstance(vlm, FrozenVLM):
        raise UserError("supervised training needs the VLM in its own process; do not share one between runs")
    if vlm.positions != "original":
        raise UserError(f"vlm.positions must be original for supervised training, but got {vlm.positions}")
    if budgets.schedule == "adaptive":
        raise UserError("budgets.schedule must not be adaptive for supervised training: it learns from rewards")
    if not len(kept):
        raise UserError(f"supervised.filter leaves none of the {len(task.store)} examples; switch one of its rules off")
    relaxation, schedule = RELAXATIONS[config.method], make_schedule(budgets)
    prompts = config.prompts_per_step
    order = kept[example_order(len(kept), config.steps * prompts, seed, "order")].reshape(config.steps, prompts)

    def losses(step: int) -> dict[str, torch.Tensor]:
        number = step - 1
        context = task.store.context(vlm, order[number])
        generator = torch_generator(seed, "budget", number)
        k_B = context.at_most(schedule.sample(schedule.initial(), number, config.steps, prompts, generator))
        done = number / max(1, config.steps - 1)
        noise = torch_generator(seed, "relaxation noise", number)
        return relaxation(config, Batch(vlm, context, scorer(context, k_B), k_B, done, noise))

    return losses
