"""Ranks and masks of tokens, for methods that choose in more than one step."""

from __future__ import annotations

import torch

from grip_core.vlm.context import Selection


def ranks(scores_BN: torch.Tensor) -> torch.Tensor:
    """Place of every token from the best score, 0, to the worst; ties by the lower index."""
    return scores_BN.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def best(scores_BN: torch.Tensor, among_BN: torch.Tensor, k: int) -> torch.Tensor:
    """Mask (B, N) of the k best-scored tokens of `among_BN`, or of all of them where it has fewer."""
    return (ranks(scores_BN.masked_fill(~among_BN, float("-inf"))) < k) & among_BN


def at(values_BND: torch.Tensor, index_BK: torch.Tensor) -> torch.Tensor:
    """The vectors (B, K, D) of the tokens that the indices name."""
    return values_BND.gather(1, index_BK[..., None].expand(-1, -1, values_BND.shape[-1]))


def selection(kept_BN: torch.Tensor, visual_BND: torch.Tensor | None = None) -> Selection:
    """One row per prompt of the tokens where the mask is True, with their merged values if all tokens' are given."""
    order_BK = (~kept_BN).long().argsort(dim=1, stable=True)[:, : int(kept_BN.sum(1).max())]
    return Selection.of(order_BK, kept_BN.gather(1, order_BK), None if visual_BND is None else at(visual_BND, order_BK))
