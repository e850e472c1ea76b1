"""Rewards: pure functions from how the model takes to the gold answer to one number per selection, (R,).

| name     | range     | what it is                                                        |
|----------|-----------|-------------------------------------------------------------------|
| log_prob | (-inf, 0] | mean log-probability of the gold answer's tokens, nats; dense     |
| correct  | {0, 1}    | 1 where greedy decoding begins with the answer; sparse            |
| fidelity | (-inf, 0] | -KL(every token kept || selection) of the answer's tokens, nats   |
| gain     | real      | log_prob less that of the model without the image, nats           |

Within a group `gain` is `log_prob` less a constant, which its advantages do not see: it differs only where the reward
is clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from grip_core.config import RewardConfig
from grip_core.vlm.frozen import AnswerScores


@dataclass(frozen=True)
class Scored:
    """What a reward may look at, one value per selection."""

    answers: AnswerScores
    blind_log_prob_R: torch.Tensor
    """Mean log-probability of the gold answer without the image, nats."""


def log_prob(scored: Scored) -> torch.Tensor:
    """Mean log-probability of the gold answer, in nats."""
    return scored.answers.log_prob_R


def correct(scored: Scored) -> torch.Tensor:
    """1.0 where the greedy answer is the gold answer, else 0.0."""
    return scored.answers.correct_R.float()


def fidelity(scored: Scored) -> torch.Tensor:
    """-KL to the full model's answer, in nats; needs no label and copies the full model's mistakes."""
    assert scored.answers.kl_R is not None, "scored without the KL"
    return -scored.answers.kl_R


def gain(scored: Scored) -> torch.Tensor:
    """How much more probable the kept tokens make the gold answer than no image does, in nats."""
    return scored.answers.log_prob_R - scored.blind_log_prob_R


REWARDS: Mapping[str, Callable[[Scored], torch.Tensor]] = {
    "log_prob": log_prob,
    "correct": correct,
    "fidelity": fidelity,
    "gain": gain,
}


def needs_kl(config: RewardConfig) -> bool:
    """Whether the reward looks at the full model's answer."""
    return config.fidelity > 0


def reward(config: RewardConfig, scored: Scored) -> torch.Tensor:
    """The weighted sum of the rewards that count, clipped, (R,)."""
    total_R = sum(weight * REWARDS[name](scored) for name, weight in config.weights.items())
    return torch.as_tensor(total_R).clamp(config.clip_low, config.clip_high)


def budget_overrun(kept_R: torch.Tensor, k_R: torch.Tensor) -> torch.Tensor:
    """How far a selection misses its budget, |kept - k| / k, (R,): what the budget penalty is paid on."""
    return (kept_R - k_R).abs() / k_R
