"""What a training step costs the VLM, in token-forwards: a token once through the VLM, forward.

A backward counts as one forward: the VLM is frozen, so gradients are taken of what flows through it and not of its
weights (of both it would be two, Kaplan et al. 2020). Attention's own growth with the length is left out; at a few
hundred tokens it is small beside the matrices.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from grip_core.config import BudgetConfig, GrpoConfig, SupervisedConfig
from grip_core.policy.budgets import make_schedule
from grip_core.seeds import torch_generator
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.protocol import AnsweringVLM

BACKWARD = 1  # forwards
SAMPLE = 500


def token_forwards(
    grpo: GrpoConfig, supervised: SupervisedConfig, budgets: BudgetConfig, visual: int, text: float
) -> float:
    """Token-forwards of an average optimizer step of a run, by `supervised.method` or, where that is "none", by GRPO.

    `visual` and `text` are a full prompt's visual tokens and its others.
    """
    if supervised.method != "none":
        return supervised_token_forwards(supervised, visual, text)
    return grpo_token_forwards(grpo, mean_budget(budgets, grpo), text)


def grpo_token_forwards(config: GrpoConfig, budget: float, text: float) -> float:
    """Token-forwards of one optimizer step of GRPO, on `budget` visual and `text` other tokens a selection."""
    return config.prompts_per_step * config.group_size * (budget + text) / config.num_iterations


def supervised_token_forwards(config: SupervisedConfig, visual: int, text: float) -> float:
    """Token-forwards of one step on all `visual` and `text` other tokens a prompt; distillation has no backward."""
    passes = 1 if config.method == "distill" else 1 + BACKWARD
    return config.prompts_per_step * (visual + text) * passes


def mean_budget(config: BudgetConfig, grpo: GrpoConfig) -> float:
    """Mean of the budgets that a run of the first seed draws; of an adaptive schedule, before it has seen a signal."""
    schedule, rollouts = make_schedule(config), grpo.steps // grpo.num_iterations
    seed, count = grpo.seeds[0], grpo.prompts_per_step
    drawn = [
        schedule.sample(schedule.initial(), rollout, rollouts, count, torch_generator(seed, "budget", rollout))
        for rollout in range(rollouts)
    ]
    return torch.cat(drawn).double().mean().item()


def mean_text(vlm: AnsweringVLM, store: FeatureStore) -> float:
    """Mean number of tokens of the store's prompts and answers that are not visual, without an answer's last: nothing
    follows it, so the VLM never reads it. At most SAMPLE examples, evenly over the store, are looked at.
    """
    context = store.context(vlm, np.arange(0, len(store), math.ceil(len(store) / SAMPLE)))
    prompts_B = context.attention_mask_BT.sum(1) - context.visual_mask_BN.sum(1)
    return (prompts_B + context.answer_mask_BA.sum(1) - 1).double().mean().item()
