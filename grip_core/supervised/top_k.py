"""Masks of the k best tokens, hard and soft, (B, N). Padding scores -inf and gets 0; all real tokens if k is more."""

from __future__ import annotations

import torch

from grip_core.vlm import context

BISECTIONS = 60  # a float64 has no more bits to find


def hard_top_k(scores_BN: torch.Tensor, k_B: torch.Tensor) -> torch.Tensor:
    """1 for each prompt's k best tokens, ties by the lower index, and 0 for the others; no gradient."""
    kept = context.top_k(scores_BN.detach(), k_B)
    return torch.zeros_like(scores_BN).scatter_add(1, kept.kept_RK, kept.mask_RK.to(scores_BN.dtype))


def soft_top_k(scores_BN: torch.Tensor, k_B: torch.Tensor, temperature: float) -> torch.Tensor:
    """sigmoid(score / temperature + t), with the t at which a prompt's mask sums to k (VisionSelector, Zhu et al.).

    t is found by bisection. Its gradient is that of the implicit function sum_i m_i(x, t) = k: with m' = m (1 - m),
    dt / dx_j = -m'_j / sum_i m'_i. One step of Newton's method from the t that was found carries it.
    """
    real_BN = scores_BN > float("-inf")
    x_BN = scores_BN.masked_fill(~real_BN, 0.0).double() / temperature
    n_B = real_BN.sum(1)
    k_B1 = torch.minimum(k_B, n_B).double()[:, None]
    # Where all are kept, t is infinite; any finite one will do, for the mask is set below.
    share_B1 = (k_B1 / n_B[:, None]).clamp(max=1 - 1e-9)

    def mask(t_B1: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x_BN + t_B1) * real_BN

    with torch.no_grad():
        # The largest (the smallest) score alone would at these have its share of k, so the root lies between them.
        low_B1 = share_B1.logit() - x_BN.masked_fill(~real_BN, float("-inf")).amax(1, keepdim=True)
        high_B1 = share_B1.logit() - x_BN.masked_fill(~real_BN, float("inf")).amin(1, keepdim=True)
        for _ in range(BISECTIONS):
            middle_B1 = (low_B1 + high_B1) / 2
            below_B1 = mask(middle_B1).sum(1, keepdim=True) < k_B1
            low_B1, high_B1 = torch.where(below_B1, middle_B1, low_B1), torch.where(below_B1, high_B1, middle_B1)
        root_B1 = (low_B1 + high_B1) / 2
        found_BN = mask(root_B1)
        slope_B1 = (found_BN * (1 - found_BN)).sum(1, keepdim=True).clamp_min(1e-12)
    t_B1 = root_B1 - (mask(root_B1).sum(1, keepdim=True) - k_B1) / slope_B1
    return torch.where(k_B[:, None] < n_B[:, None], mask(t_B1), real_BN.double()).to(scores_BN.dtype)
