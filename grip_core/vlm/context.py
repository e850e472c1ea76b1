"""The two data structures every method speaks: a batch of prompts (`Context`) and what is kept of it (`Selection`).

Shape legend: B prompts, R rows (a prompt may have several), G selections per prompt, N visual tokens, K kept tokens,
L question tokens, T prompt tokens, A answer tokens, S assembled tokens, D hidden size, E width of an encoder's head,
V vocabulary, P position axes, M layers that add to the visual tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch


@dataclass
class Context:
    """A batch of prompts whose visual tokens are already computed.

    Prompts are padded on the left, answers on the right. `memo` holds what methods derive from a context (attention
    rows, an order of the tokens), so that asking for several budgets costs it once.
    """

    visual_BND: torch.Tensor
    visual_mask_BN: torch.Tensor
    """True where a visual token is real, False where it pads."""
    grid_BN2: torch.Tensor
    """Row and column of every visual token on its image's grid, int64."""
    encoder_attention_BN: torch.Tensor
    """Attention each token receives in the vision encoder: from the CLS token where there is one, else on average."""
    encoder_key_BNE: torch.Tensor
    """Attention key of each token in the encoder's layer that gives the attention, mean over heads."""
    question_BLD: torch.Tensor
    """Embeddings of the question's own tokens; the template is excluded."""
    question_mask_BL: torch.Tensor
    input_ids_BT: torch.Tensor
    """Prompt with one placeholder for every visual token."""
    attention_mask_BT: torch.Tensor
    positions_PBT: torch.Tensor
    """Position ids of the full prompt; P = 1, or 3 for multimodal rotary positions."""
    visual_slot_BN: torch.Tensor
    """Index into T of every visual token (0 where padded)."""
    answer_ids_BA: torch.Tensor
    answer_mask_BA: torch.Tensor
    deep_BNMD: torch.Tensor | None = None
    """What the first M decoder layers add to every visual token after them (DeepStack); None where they do not."""
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        return self.visual_BND.shape[0]

    @property
    def n_visual(self) -> int:
        """N, padding included."""
        return self.visual_BND.shape[1]

    def at_most(self, k_B: torch.Tensor | int) -> torch.Tensor:
        """Budgets (B,), each no more than its image has visual tokens."""
        n_B = self.visual_mask_BN.sum(1)
        return torch.as_tensor(k_B, device=n_B.device).expand_as(n_B).minimum(n_B)

    def rows(self, index: torch.Tensor) -> Context:
        """The prompts `index` names, in that order, without the memo."""
        chosen = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "positions_PBT":
                chosen[item.name] = value[:, index]
            elif item.name != "memo":
                chosen[item.name] = None if value is None else value[index]
        return Context(**chosen)


@dataclass(frozen=True)
class Cut:
    """Visual tokens dropped inside the language model: only `kept_RK` go on into decoder layer `layer`, from 0.

    As in a selection, the indices are into N, sorted, and pad at the right; all of them were still there before.
    """

    layer: int
    kept_RK: torch.Tensor
    mask_RK: torch.Tensor


@dataclass(frozen=True)
class Selection:
    """What is kept of a context: R rows of at most K visual tokens each.

    `kept_RK` holds indices into N, sorted in ascending order; where `mask_RK` is False the entry pads (at the right).
    `prompt_R` names the context's prompt of each row. Methods that merge tokens give their values in `merged_RKD`; each
    then takes the position of the visual token in `kept_RK`. `cuts`, at ascending layers, drop more of them inside the
    language model; text tokens are never dropped.
    """

    kept_RK: torch.Tensor
    mask_RK: torch.Tensor
    prompt_R: torch.Tensor
    merged_RKD: torch.Tensor | None = None
    cuts: tuple[Cut, ...] = ()

    @property
    def final(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`kept_RK` and `mask_RK` that the last decoder layer sees."""
        last = self.cuts[-1] if self.cuts else self
        return last.kept_RK, last.mask_RK

    @classmethod
    def of(cls, kept_BK: torch.Tensor, mask_BK: torch.Tensor | None = None, merged_BKD: torch.Tensor | None = None):
        """One row per prompt; sorts the indices (and the merged tokens with them)."""
        mask = torch.ones_like(kept_BK, dtype=torch.bool) if mask_BK is None else mask_BK
        key = kept_BK.masked_fill(~mask, torch.iinfo(kept_BK.dtype).max)
        order = key.argsort(dim=1, stable=True)
        kept = kept_BK.gather(1, order).masked_fill(~mask.gather(1, order), 0)
        merged = None if merged_BKD is None else merged_BKD.gather(1, order[..., None].expand_as(merged_BKD))
        rows = torch.arange(kept.shape[0], device=kept.device)
        return cls(kept, mask.gather(1, order), rows, merged)

    def rows(self, index: torch.Tensor) -> Selection:
        """The rows that `index` names."""
        return replace(
            self,
            kept_RK=self.kept_RK[index],
            mask_RK=self.mask_RK[index],
            prompt_R=self.prompt_R[index],
            merged_RKD=None if self.merged_RKD is None else self.merged_RKD[index],
            cuts=tuple(replace(cut, kept_RK=cut.kept_RK[index], mask_RK=cut.mask_RK[index]) for cut in self.cuts),
        )

    @classmethod
    def all(cls, context: Context):
        """Every visual token of every prompt."""
        index = torch.arange(context.n_visual, device=context.visual_BND.device)
        return cls.of(index.expand(context.batch_size, -1), context.visual_mask_BN)

    @classmethod
    def none(cls, context: Context):
        """No visual token: the model answers from the question alone."""
        kept = context.visual_slot_BN[:, :0]
        return cls.of(kept)


def top_k(scores_BN: torch.Tensor, k_B: torch.Tensor | int) -> Selection:
    """Keep each prompt's k best-scored tokens, ties by the lower index; padding scores -inf and is never kept.

    A prompt with fewer than k real tokens keeps them all.
    """
    n = scores_BN.shape[1]
    budget = torch.as_tensor(k_B, device=scores_BN.device).expand(scores_BN.shape[0])
    width = min(int(budget.max()), n)
    order = scores_BN.argsort(dim=1, descending=True, stable=True)[:, :width]
    real = scores_BN.gather(1, order) > float("-inf")
    mask = (torch.arange(width, device=scores_BN.device) < budget[:, None]) & real
    return Selection.of(order, mask)
