"""Rewards: pure functions from how the model takes to the gold answer to one number per selection, (R,).

| name     | range     | what it is                                                        |
|----------|-----------|-------------------------------------------------------------------|
| log_prob | (-inf, 0] | mean log-probability of the gold answer's tokens, nats; dense     |
| correct  | {0, 1}    | 1 where greedy decoding begins with the answer; sparse            |
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from grip_core.vlm.frozen import AnswerScores


def log_prob(scores: AnswerScores) -> torch.Tensor:
    """Mean log-probability of the gold answer, in nats."""
    return scores.log_prob_R


def correct(scores: AnswerScores) -> torch.Tensor:
    """1.0 where the greedy answer is the gold answer, else 0.0."""
    return scores.correct_R.float()


REWARDS: dict[str, Callable[[AnswerScores], torch.Tensor]] = {"log_prob": log_prob, "correct": correct}
