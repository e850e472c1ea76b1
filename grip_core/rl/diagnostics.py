"""What a rollout and an update say about training: pure functions to named numbers.

A name with "@" is the same number over the prompts whose budget lies in that octave: few tokens and many are
different tasks, and an average can hide that one of them has collapsed.

Shape legend: B prompts, G selections per prompt, R = B * G rows, K picks, N visual tokens, O octaves. Each selection
has at least one pick; a mask says which picks are real, and what stands at the others is not looked at.
"""

from __future__ import annotations

from typing import Literal

import torch

from grip_core.policy.distribution import Picks


def budget_range(k: int) -> str:
    """The octave in which a budget k >= 1 lies: "1", "2-3", "4-7", "8-15", ..."""
    low = 1 << (k.bit_length() - 1)
    return "1" if low == 1 else f"{low}-{2 * low - 1}"


@torch.no_grad()
def rollout_diagnostics(
    rewards_BG: torch.Tensor,
    dead_B: torch.Tensor,
    k_B: torch.Tensor,
    picks: Picks,
    reference_BK: torch.Tensor,
) -> dict[str, float]:
    """What was drawn and what it earned; `reference_BK` is the reference policy's mode, real in its first k entries.

    `reward` and `reward_std` (within a group, n - 1), both in units of the reward; `dead_share` of the groups;
    `overlap`, the mean Jaccard index of two selections of a group; each of these by budget range as well.
    `overlap_reference`, the mean Jaccard index of a selection and the reference's; `k_mean` and `kept_mean`, the tokens
    asked for and kept: they differ only for a distribution that chooses how many it keeps.
    """
    group = picks.index_BGK.shape[1]
    reference_B1K = reference_BK[:, None]
    real_B1K = (torch.arange(reference_BK.shape[1], device=k_B.device) < k_B[:, None])[:, None]
    n = 1 + int(torch.stack([picks.index_BGK.max(), reference_BK.max()]).max())
    kept_BGN = _members(picks.index_BGK, picks.mask_BGK, n)
    overlap_BGG = _jaccard(kept_BGN, kept_BGN)
    by_prompt = {
        "reward": rewards_BG.mean(1),
        "reward_std": rewards_BG.std(1),
        "dead_share": dead_B,
        "overlap": (overlap_BGG.sum((1, 2)) - group) / (group * (group - 1)),  # each is 1 with itself
    }
    row: dict[str, float] = {}
    for name, values_B in by_prompt.items():
        row |= _means(name, values_B, torch.ones_like(k_B), k_B)
    return row | {
        "overlap_reference": _jaccard(kept_BGN, _members(reference_B1K, real_B1K, n)).mean().item(),
        "k_mean": k_B.double().mean().item(),
        "kept_mean": picks.mask_BGK.sum(-1).double().mean().item(),
    }


@torch.no_grad()
def update_diagnostics(
    log_probs_RK: torch.Tensor,
    old_RK: torch.Tensor,
    mask_RK: torch.Tensor,
    advantages_R: torch.Tensor,
    epsilon: float,
    epsilon_high: float,
    level: Literal["token", "sequence"],
) -> dict[str, float]:
    """How far the policy has moved from the one that drew the selections.

    The ratio is that of each pick ("token") or exp(mean log-ratio) of each selection ("sequence", GSPO, Zheng et al.
    2025). `ratio_max` is the largest; `clip_low` and `clip_high` are the shares whose ratio is clipped at
    1 - `epsilon` or 1 + `epsilon_high` with an advantage that wanted it further, as TRL has them; `clip_share` is their
    sum. `ess` is Kish's effective sample size (sum w)^2 / sum w^2, w the whole selection's ratio at either level, as a
    share of the selections' number.
    """
    log_ratio_RK = (log_probs_RK - old_RK).double().masked_fill(~mask_RK, 0.0)
    mean_R = log_ratio_RK.sum(1) / mask_RK.sum(1)
    total_R = log_ratio_RK.sum(1)
    weight_R = (total_R - total_R.max()).exp()
    if level == "token":
        ratio, advantage = log_ratio_RK[mask_RK].exp(), advantages_R[:, None].expand_as(mask_RK)[mask_RK]
    else:
        ratio, advantage = mean_R.exp(), advantages_R
    low = ((ratio < 1 - epsilon) & (advantage < 0)).double().mean().item()
    high = ((ratio > 1 + epsilon_high) & (advantage > 0)).double().mean().item()
    return {
        "ratio_max": ratio.max().item(),
        "ess": (weight_R.sum().square() / (len(weight_R) * weight_R.square().sum())).item(),
        "clip_low": low,
        "clip_high": high,
        "clip_share": low + high,
    }


@torch.no_grad()
def policy_diagnostics(
    entropy_RK: torch.Tensor,
    kl_RK: torch.Tensor,
    mask_RK: torch.Tensor,
    k_R: torch.Tensor,
    maximum_R: torch.Tensor,
) -> dict[str, float]:
    """`entropy`, a selection's as a share of `maximum_R` (see `maximum_entropy`), mean over selections; `kl` to the
    reference, nats, mean over picks; both by budget range as well.

    Selections that leave no choice, whose maximum is 0, do not count; if all are such there is no `entropy`.
    """
    free_R = maximum_R > ROUNDING
    entropy_R = entropy_RK.double().masked_fill(~mask_RK, 0.0).sum(1)[free_R] / maximum_R[free_R]
    row = _means("entropy", entropy_R, torch.ones_like(entropy_R), k_R[free_R])
    picks_R = mask_RK.sum(1)
    return row | _means("kl", kl_RK.double().masked_fill(~mask_RK, 0.0).sum(1) / picks_R, picks_R, k_R)


ROUNDING = 1e-9  # nats


def maximum_entropy(
    distribution: Literal["plackett_luce", "conditional_bernoulli", "bernoulli"], k_B: torch.Tensor, n_B: torch.Tensor
) -> torch.Tensor:
    """Entropy of the distribution at flat scores, its largest, nats, (B,), float64: the unit that makes budgets alike.

    plackett_luce: that of a uniform ordered selection, sum_{j < k} log(n - j). conditional_bernoulli: that of a uniform
    set, log C(n, k). bernoulli: independent tokens of odds o = k / n, given that not none is kept. A set of m tokens
    then has probability o^m / Z with Z = (1 + o)^n - 1, so that the entropy is log Z - E[m] log o with
    E[m] = n o (1 + o)^(n - 1) / Z; at k = n it is log(2^n - 1), that of any set but the empty one.
    """
    k_B, n_B = k_B.double(), n_B.double()
    if distribution == "bernoulli":
        odds_B = k_B / n_B
        log_all_B = n_B * odds_B.log1p()
        some_B = -torch.expm1(-log_all_B)  # probability that any is kept
        mean_B = n_B * odds_B / (1 + odds_B) / some_B
        return log_all_B + some_B.log() - mean_B * odds_B.log()
    ordered_B = torch.lgamma(n_B + 1) - torch.lgamma(n_B - k_B + 1)
    orders_B = {"plackett_luce": torch.zeros_like(k_B), "conditional_bernoulli": torch.lgamma(k_B + 1)}
    return ordered_B - orders_B[distribution]


def _members(index_BGK: torch.Tensor, mask_BGK: torch.Tensor, n: int) -> torch.Tensor:
    """1 where a token is kept, else 0, (B, G, N)."""
    members = torch.zeros(*index_BGK.shape[:2], n + 1, device=index_BGK.device)
    return members.scatter(2, index_BGK.masked_fill(~mask_BGK, n), 1.0)[..., :n]


def _jaccard(kept_BGN: torch.Tensor, other_BHN: torch.Tensor) -> torch.Tensor:
    """Tokens in both over tokens in either, of every two sets, (B, G, H)."""
    both_BGH = (kept_BGN @ other_BHN.mT).double()
    return both_BGH / (kept_BGN.sum(-1)[..., None] + other_BHN.sum(-1)[:, None] - both_BGH)


def _means(name: str, values_R: torch.Tensor, weights_R: torch.Tensor, k_R: torch.Tensor) -> dict[str, float]:
    """The weighted mean of all values, and that of each budget range there is."""
    _, octave_R = torch.frexp(k_R.double())  # k = mantissa * 2^octave, the mantissa in [1/2, 1)
    octaves = octave_R.unique()
    weights_OR = (octave_R == octaves[:, None]) * weights_R.double()
    sums_O, totals_O = (weights_OR * values_R).sum(1), weights_OR.sum(1)
    if not len(octaves):
        return {}
    row = {name: (sums_O.sum() / totals_O.sum()).item()}
    for octave, mean in zip(octaves.tolist(), (sums_O / totals_O).tolist(), strict=True):
        row[f"{name}@{budget_range(2 ** (octave - 1))}"] = mean
    return row
