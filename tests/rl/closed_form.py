"""GRPO's losses written out in float64, selection by selection and pick by pick, from the papers' formulas.

Independent of the code under test: probabilities from their definitions, losses from double loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from grip_core.config import GrpoConfig
from grip_core.policy.distribution import Picks


def pick_log_probs(distribution: str, scores_N: torch.Tensor, picks: list[int], k: int) -> list[torch.Tensor]:
    """Each pick's log-probability, or its equal share of the set's."""
    if distribution == "plackett_luce":
        left = list(range(len(scores_N)))
        found = []
        for pick in picks:
            found.append(scores_N[pick] - scores_N[left].logsumexp(0))
            left.remove(pick)
        return found
    if distribution == "conditional_bernoulli":
        # Elementary symmetric polynomials by their definition as coefficients of prod (1 + x e^s).
        coefficients = [torch.ones((), dtype=torch.float64)]
        for weight in scores_N.exp():
            longer = [*coefficients, torch.zeros((), dtype=torch.float64)]
            coefficients = [longer[0], *(longer[j] + longer[j - 1] * weight for j in range(1, len(longer)))][: k + 1]
        total = scores_N[picks].sum() - coefficients[k].log()
    else:
        odds_N = k * scores_N.softmax(0)
        kept_N = odds_N / (1 + odds_N)
        chosen = torch.zeros(len(scores_N), dtype=torch.bool)
        chosen[picks] = True
        total = torch.where(chosen, kept_N, 1 - kept_N).log().sum() - (1 - (1 - kept_N).prod()).log()
    return [total / len(picks)] * len(picks)


def divergence(estimator: str, log_prob: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """k1, k2 and k3 with r = p_ref / p."""
    log_r = reference - log_prob
    return {"k1": -log_r, "k2": log_r**2 / 2, "k3": log_r.exp() - 1 - log_r}[estimator]


def surrogate(config: GrpoConfig, ratio: torch.Tensor, advantage: float) -> torch.Tensor:
    """What is maximised for one ratio, of a pick or of a selection: clipped (PPO), or soft (SAPO)."""
    if config.loss_type == "sapo":
        temperature = 1.0 if advantage > 0 else 1.05
        return torch.sigmoid(temperature * (ratio - 1)) * 4 / temperature * advantage
    clipped = ratio.clamp(1 - config.epsilon, 1 + config.epsilon_high)
    return torch.minimum(ratio * advantage, clipped * advantage)


def gamma_weight(log_w: float, advantage: float) -> float:
    """VESPO's weight of a selection: e^l w^k e^(-l w)."""
    k, rate = (2.0, 3.0) if advantage >= 0 else (3.0, 2.0)
    return math.exp(rate + k * log_w - rate * math.exp(log_w))


def policy_terms(
    config: GrpoConfig, log_probs: list[torch.Tensor], old: list[float], advantage: float
) -> list[torch.Tensor]:
    """What is maximised at each pick of one selection."""
    if config.loss_type == "cispo":
        return [
            min(math.exp(new.item() - was), config.epsilon_high) * advantage * new for new, was in zip(log_probs, old)
        ]
    if config.loss_type == "vespo":
        weight = gamma_weight(sum(new.item() - was for new, was in zip(log_probs, old)), advantage)
        return [weight * advantage * new for new in log_probs]
    log_ratios = [new - was for new, was in zip(log_probs, old)]
    if config.importance_level == "sequence":
        mean = torch.stack(log_ratios).mean()
        log_ratios = [mean] * len(log_ratios)
    return [surrogate(config, log_ratio.exp(), advantage) for log_ratio in log_ratios]


def total(loss_type: str, terms: list[list[torch.Tensor]], high: int) -> torch.Tensor:
    """The loss over all selections, from what is maximised at each of their picks."""
    sums = torch.stack([torch.stack(row).sum() for row in terms])
    counts = torch.tensor([len(row) for row in terms], dtype=torch.float64)
    if loss_type in ("grpo", "sapo"):
        return -(sums / counts).mean()
    if loss_type == "dr_grpo":
        return -sums.sum() / (len(terms) * high)
    if loss_type == "luspo":
        return -sums.mean()
    return -sums.sum() / counts.sum()


def loss(
    config: GrpoConfig,
    high: int,
    scores_BN: torch.Tensor,
    reference_BN: torch.Tensor,
    old_BN: torch.Tensor,
    k_B: torch.Tensor,
    picks: Picks,
    advantages_BG: torch.Tensor,
    entropy: Callable[[torch.Tensor, list[int], int], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The whole loss; all scores in float64. `entropy` is that of one selection, for the bonus."""
    terms, regularizers = [], []
    for b, g in torch.cartesian_prod(*(torch.arange(size) for size in advantages_BG.shape)).tolist():
        index = picks.index_BGK[b, g][picks.mask_BGK[b, g]].tolist()
        new, was, reference = (
            pick_log_probs(config.distribution, scores_N, index, int(k_B[b]))
            for scores_N in (scores_BN[b], old_BN[b].detach(), reference_BN[b].detach())
        )
        terms.append(policy_terms(config, new, [value.item() for value in was], float(advantages_BG[b, g])))
        added = torch.zeros((), dtype=torch.float64)
        if config.beta and config.kl_placement == "loss":
            if config.distribution == "plackett_luce":
                kls = [divergence(config.kl_estimator, one, other) for one, other in zip(new, reference)]
                added = added + config.beta * torch.stack(kls).mean()
            else:  # a set is one draw, of so many picks
                of_set = divergence(config.kl_estimator, sum(new), sum(reference))
                added = added + config.beta * of_set / len(index)
        if entropy is not None:
            added = added - config.entropy_coef * entropy(scores_BN[b], index, int(k_B[b])) / len(index)
        regularizers.append(added)
    return total(config.loss_type, terms, high) + torch.stack(regularizers).mean()
