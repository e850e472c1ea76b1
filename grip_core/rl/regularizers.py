"""What is added to the policy loss: the KL to the reference, and the entropy bonus.

Both are means over the picks of a selection, then over selections, whatever the loss type: so their weights mean the
same in every arm of an ablation. Shape legend: B prompts, G selections per prompt, K picks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from grip_core.policy.distribution import Picks, SelectionDistribution, path_expectation


def k1(log_ratio: torch.Tensor) -> torch.Tensor:
    """log(p / p_ref): unbiased. As a loss on-policy its expected gradient is zero; taken off the reward it is the only
    one of the three whose policy gradient is that of KL(p || p_ref)."""
    return log_ratio


def k2(log_ratio: torch.Tensor) -> torch.Tensor:
    """log(p / p_ref)^2 / 2: biased, its gradient is that of KL(p || p_ref)."""
    return log_ratio.square() / 2


def k3(log_ratio: torch.Tensor) -> torch.Tensor:
    """p_ref / p - 1 - log(p_ref / p): unbiased and never negative; its gradient is that of KL(p_ref || p)."""
    return torch.expm1(-log_ratio) + log_ratio


ESTIMATORS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
"""Schulman's estimators of KL(p || p_ref) from samples of p (joschu.net/blog/kl-approx.html)."""


def selection_mean(values_BGK: torch.Tensor, picks: Picks) -> torch.Tensor:
    """Mean over the picks of each selection, (B, G)."""
    return (values_BGK * picks.mask_BGK).sum(-1) / picks.mask_BGK.sum(-1)


def sampled_kl(
    estimator: str, ordered: bool, log_prob_BGK: torch.Tensor, reference_BGK: torch.Tensor, picks: Picks
) -> torch.Tensor:
    """An estimate of the KL to the reference per pick, nats, (B, G).

    Of an `ordered` selection every pick is a sample. A set is one sample as a whole: its picks' shares of the
    log-ratio are no samples of anything, and squared they would make its KL k times too small.
    """
    log_ratio_BGK = log_prob_BGK - reference_BGK
    if ordered:
        return selection_mean(ESTIMATORS[estimator](log_ratio_BGK), picks)
    return ESTIMATORS[estimator](log_ratio_BGK.sum(-1)) / picks.mask_BGK.sum(-1)


def exact_kl(
    policy: SelectionDistribution,
    reference: SelectionDistribution,
    picks: Picks,
    log_prob_BGK: torch.Tensor,
    old_BGK: torch.Tensor,
) -> torch.Tensor:
    """KL(policy || reference) per pick, nats, (B, G), with its whole gradient: in closed form, or along the path."""
    kl_BGK = policy.kl(reference, picks)
    return selection_mean(_whole(policy, kl_BGK, log_prob_BGK, old_BGK), picks)


def exact_entropy(
    policy: SelectionDistribution, picks: Picks, log_prob_BGK: torch.Tensor, old_BGK: torch.Tensor
) -> torch.Tensor:
    """Entropy per pick, nats, (B, G), with its whole gradient: in closed form, or along the path."""
    return selection_mean(_whole(policy, policy.entropy(picks), log_prob_BGK, old_BGK), picks)


def _whole(
    policy: SelectionDistribution, values_BGK: torch.Tensor, log_prob_BGK: torch.Tensor, old_BGK: torch.Tensor
) -> torch.Tensor:
    """A path estimate with its score-function term, less a baseline: the mean over the other selections of the group.

    Without it that term is almost all noise, for the values hardly differ between paths. The baseline does not depend
    on the path, and the weights of path_expectation average to 1, so nothing else changes.
    """
    if policy.closed_form:
        return values_BGK
    fixed_BGK = values_BGK.detach()
    others_BGK = (fixed_BGK.sum(1, keepdim=True) - fixed_BGK) / (fixed_BGK.shape[1] - 1)
    return path_expectation(values_BGK - others_BGK, log_prob_BGK, old_BGK) + others_BGK
