"""The supervised warm-up: the scorer learns where a teacher looks.

The loss is the cross-entropy between the teacher's distribution over tokens and the scorer's first pick,
-sum_i t_i log softmax(s)_i, at budgets drawn log-uniformly, whatever the schedule of GRPO, so that schedules start from
one policy. Its checkpoint is the reference policy of GRPO and the control arm "warm-up only". The teacher is as
frozen as the VLM, so it is asked once for every question, beforehand.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from grip_core.config import ScorerConfig, WarmupConfig
from grip_core.files import atomic_file
from grip_core.policy.budgets import log_uniform
from grip_core.policy.saved import save_scorer
from grip_core.policy.scorer import Scorer, ScorerConfiguration
from grip_core.rl.fit import OnStep, Pace, fit
from grip_core.rl.teachers import TEACHERS, sharpened
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder
from grip_core.seeds import derive, numpy_random, torch_generator
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.frozen import FrozenVLM

CHECKPOINT_EVERY = 200  # steps, some ten seconds
TEACHER_BATCH = 64  # prompts
MAX_GRAD_NORM = 1.0


def build_scorer(config: ScorerConfig, input_width: int, seed: int) -> Scorer:
    """A new scorer for visual tokens of `input_width`; its weights depend on `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "scorer"))
        return Scorer(
            ScorerConfiguration(input_width=input_width, width=config.width, layers=config.layers, heads=config.heads)
        )


def warm_up(
    config: WarmupConfig,
    low: int,
    high: int,
    scorer: Scorer,
    vlm: FrozenVLM,
    store: FeatureStore,
    validation: Validation,
    run: RunFolder,
    on_step: OnStep = lambda step, row: None,
) -> Scorer:
    """Train `scorer` in place at budgets between `low` and `high`, both included, and save it in the run folder.

    It moves to where the VLM lies. Resumes from the folder's checkpoint; a finished run is read back.
    """
    if run.finished:
        return Scorer.from_pretrained(run.scorer)
    scorer.to(vlm.device)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    target_EN = _targets(run.checkpoints / "targets.pt", config, vlm, store)
    order = example_order(len(store), config.steps * config.prompts_per_step, config.seed, "warm-up order")

    def losses(step: int) -> dict[str, torch.Tensor]:
        index = order[(step - 1) * config.prompts_per_step : step * config.prompts_per_step]
        context = store.context(vlm, index)
        drawn_B = log_uniform(low, high, len(index), torch_generator(config.seed, "warm-up budget", step))
        k_B = context.at_most(drawn_B)
        target_BN = target_EN[index, : context.n_visual].to(vlm.device)
        return {"cross_entropy": first_pick_cross_entropy(scorer(context, k_B), target_BN)}

    began = time.perf_counter()
    pace = Pace(config.steps, config.steps, CHECKPOINT_EVERY, MAX_GRAD_NORM)
    fit("warm-up", scorer, schedule, losses, pace, validation, run, on_step)
    save_scorer(scorer, vlm, run.scorer)
    run.finish(config.steps, {"warm-up": time.perf_counter() - began})
    return scorer


def first_pick_cross_entropy(scores_BN: torch.Tensor, target_BN: torch.Tensor) -> torch.Tensor:
    """Between a distribution over tokens and that of the policy's first pick, mean over prompts, nats."""
    real_BN = scores_BN > float("-inf")
    log_probs_BN = scores_BN.log_softmax(-1).masked_fill(~real_BN, 0.0)
    return -(target_BN * log_probs_BN).sum(1).mean()


def _targets(path: Path, config: WarmupConfig, vlm: FrozenVLM, store: FeatureStore) -> torch.Tensor:
    """The teacher's distribution over the tokens of every example, (E, N), on the CPU; read from `path` if there."""
    if path.exists():
        return torch.load(path, weights_only=True)
    parts = []
    batch = min(TEACHER_BATCH, vlm.rows_per_forward)
    for start in tqdm(range(0, len(store), batch), desc="teacher"):
        context = store.context(vlm, np.arange(start, min(start + batch, len(store))))
        target_BN = sharpened(TEACHERS[config.teacher](vlm, context), config.sharpness).cpu()
        parts.append(F.pad(target_BN, (0, store.n_visual - context.n_visual)))
    targets_EN = torch.cat(parts)
    with atomic_file(path) as file:
        torch.save(targets_EN, file)
    return targets_EN


def example_order(n_examples: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """`count` example indices: every example once in a random order, then all again in another, and so on."""
    epochs = -(-count // n_examples)
    orders = [numpy_random(seed, purpose, epoch).permutation(n_examples) for epoch in range(epochs)]
    return np.concatenate(orders)[:count]
