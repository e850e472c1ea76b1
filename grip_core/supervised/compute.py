"""What a training step costs the VLM, in token-forwards: a token once through the VLM, forward.

A backward counts as one forward: the VLM is frozen, so gradients are taken of what flows through it and not of its
weights (of both it would be two, Kaplan et al. 2020). Attention's own growth with the length is left out; at a few
hundred tokens it is small beside the matrices.
"""

from __future__ import annotations

from grip_core.config import GrpoConfig, SupervisedConfig

BACKWARD = 1  # forwards


def grpo_token_forwards(config: GrpoConfig, mean_budget: float, text: float) -> float:
    """Token-forwards of one optimizer step of GRPO, on `mean_budget` visual and `text` other tokens a selection."""
    return config.prompts_per_step * config.group_size * (mean_budget + text) / config.num_iterations


def supervised_token_forwards(config: SupervisedConfig, visual: int, text: float) -> float:
    """Token-forwards of one step on all `visual` and `text` other tokens a prompt; distillation has no backward."""
    passes = 1 if config.method == "distill" else 1 + BACKWARD
    return config.prompts_per_step * (visual + text) * passes
