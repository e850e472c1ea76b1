"""The frozen VLM over all visual tokens, each let in by a weight that gradients reach.

In every layer a key's exp(logit) is multiplied by its weight before the softmax is normalised (DynamicViT, Rao et al.
2021). A weight of 0 is then the token's removal exactly, with the original positions, and the gradient there says what
letting the token in would do. Scaling embeddings would not do: the language model's norms undo most of it.

Shape legend: B prompts, N visual tokens, S assembled tokens, H heads, Q queries, C channels of a head.
"""

from __future__ import annotations

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from grip_core.vlm.assemble import assemble
from grip_core.vlm.attention import swap_attention
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import FrozenVLM

NAME = "grip_weighted"
_active: list[torch.Tensor] = []
"""Weights (B, S) of the keys of the model that is running."""


def masked_logits(vlm: FrozenVLM, context: Context, weight_BN: torch.Tensor) -> torch.Tensor:
    """Logits (B, A, V) that predict the gold answer's tokens, where visual token n is let in with weight_BN[:, n].

    Raises ValueError unless the VLM's positions are the original ones: others depend on which tokens are kept.
    """
    if vlm.positions != "original":
        raise ValueError(f"weights need a VLM with original positions, but got {vlm.positions}")
    everything = Selection.all(context)
    answers_BA = context.answer_ids_BA
    inputs = assemble(context, everything, vlm.embed, vlm.positions, answers_BA[:, :-1])
    length = inputs.embeds_RSD.shape[1]
    # Padding that all prompts share is cut off by the assembly.
    shift = context.input_ids_BT.shape[1] + answers_BA.shape[1] - 1 - length
    slot_BN = (context.visual_slot_BN - shift).masked_fill(~context.visual_mask_BN, length)
    key_weight_BS = weight_BN.new_ones(len(weight_BN), length + 1).scatter(1, slot_BN, weight_BN)[:, :length]
    with swap_attention(vlm.language_model, NAME, _active, key_weight_BS):
        hidden_BSD = vlm.hidden_states(inputs)
    return vlm.read_out(hidden_BSD[:, -answers_BA.shape[1] :])


def _weighted_attention(module, query_BHQC, key_BHSC, value_BHSC, attention_mask, scaling=None, **kwargs):
    groups = query_BHQC.shape[1] // key_BHSC.shape[1]
    key_BHSC, value_BHSC = (item.repeat_interleave(groups, dim=1) for item in (key_BHSC, value_BHSC))
    scaling = query_BHQC.shape[-1] ** -0.5 if scaling is None else scaling
    logits_BHQS = (query_BHQC @ key_BHSC.transpose(-1, -2)) * scaling + attention_mask
    mass_BHQS = (logits_BHQS - logits_BHQS.detach().amax(-1, keepdim=True)).exp()
    mass_BHQS = mass_BHQS * _active[-1][:, None, None, :].to(mass_BHQS)
    # A prompt that begins with a dropped token has a query that sees nothing; nothing sees that one either.
    total_BHQ1 = mass_BHQS.sum(-1, keepdim=True).clamp_min(torch.finfo(mass_BHQS.dtype).tiny)
    weights_BHQS = mass_BHQS / total_BHQ1
    return (weights_BHQS @ value_BHSC).transpose(1, 2).contiguous(), weights_BHQS


AttentionInterface.register(NAME, _weighted_attention)
AttentionMaskInterface.register(NAME, eager_mask)
