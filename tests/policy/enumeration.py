"""Every selection of a small prompt, and its log-probability by the distribution's definition."""

from __future__ import annotations

import itertools
import math

import torch

from grip_core.policy.distribution import Picks

SCORES = torch.tensor([0.3, -1.2, 2.0, 0.0, -0.5], dtype=torch.float64)
OTHER = torch.tensor([-0.7, 0.4, 0.9, 1.5, 0.0], dtype=torch.float64)


def picks_from(selections: list[tuple[int, ...]]) -> Picks:
    """One prompt's selections, padded, (1, G, K)."""
    most = max(map(len, selections))
    index = torch.tensor([[*selection, *[0] * (most - len(selection))] for selection in selections])
    length = torch.tensor([len(selection) for selection in selections])
    return Picks(index[None], (torch.arange(most) < length[:, None])[None])


def outcomes(name: str, n: int, k: int) -> list[tuple[int, ...]]:
    """Whatever the distribution called `name` can draw: orders, sets of k, or all sets but the empty one."""
    if name == "plackett_luce":
        return list(itertools.permutations(range(n), k))
    sizes = [k] if name == "conditional_bernoulli" else range(1, n + 1)
    return [kept for size in sizes for kept in itertools.combinations(range(n), size)]


def log_probs(name: str, scores_N: torch.Tensor, k: int) -> torch.Tensor:
    """Log-probabilities of `outcomes`, in their order, (G,)."""
    selections = outcomes(name, len(scores_N), k)
    if name == "plackett_luce":
        return torch.stack([order_log_probs(scores_N, order).sum() for order in selections])
    if name == "bernoulli":
        scores_N = scores_N.log_softmax(0) + math.log(k)
    return torch.stack([scores_N[list(kept)].sum() for kept in selections]).log_softmax(0)


def order_log_probs(scores_N: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Plackett-Luce: at each pick, log-softmax over the tokens that are left, (K,)."""
    left = [[token for token in range(len(scores_N)) if token not in order[:j]] for j in range(len(order))]
    return torch.stack([scores_N[token] - scores_N[rest].logsumexp(0) for token, rest in zip(order, left, strict=True)])
