"""Recorded rows against attention computed in full."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from grip_core.vlm import attention
from grip_core.vlm.assemble import assemble
from grip_core.vlm.attention import attention_logits, record_attention
from grip_core.vlm.context import Selection
from grip_core.vlm.deepstack import stacked


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_last_row_of_the_language_model(family):
    context = family.context()
    inputs = assemble(context, Selection.all(context), family.vlm.embed, "original")
    model = family.vlm.language_model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with stacked(model, inputs.deep):
        output = model(
            inputs_embeds=inputs.embeds_RSD,
            attention_mask=family.vlm.prompt_mask(inputs, inputs.embeds_RSD.shape[1]),
            position_ids=inputs.positions_PRS if inputs.positions_PRS.shape[0] > 1 else inputs.positions_PRS[0],
            output_attentions=True,
        )
    model.set_attn_implementation(before)
    rows_BMN = family.vlm.answer_attention(context)
    assert rows_BMN.shape[1] == model.config.num_hidden_layers
    for layer, weights in enumerate(output.attentions):
        row_BT = weights[:, :, -1].mean(1)
        expected = row_BT.gather(1, context.visual_slot_BN) * context.visual_mask_BN
        close(rows_BMN[:, layer], expected)
    assert model.config._attn_implementation == before


@torch.no_grad()
def test_cls_row_of_a_clip_tower(llava):
    context = llava.context()
    pixels = llava.vlm.processor.image_processor(images=llava.images, return_tensors="pt")["pixel_values"]
    tower = llava.vlm.model.model.vision_tower
    tower.set_attn_implementation("eager")
    weights = tower(pixels, output_attentions=True).attentions
    tower.set_attn_implementation("sdpa")
    close(context.encoder_attention_BN, weights[-1][:, :, 0, 1:].mean(1))


@torch.no_grad()
def test_keys_of_a_clip_tower_are_its_key_projection(llava):
    """Of the last layer, without the CLS token, mean over its heads of equal width."""
    tower = llava.vlm.model.model.vision_tower
    seen = []
    projections = [module for name, module in tower.named_modules() if name.endswith("k_proj")]
    handle = projections[-1].register_forward_hook(lambda module, args, output: seen.append(output))
    context = llava.context()
    handle.remove()
    heads = tower.config.num_attention_heads
    close(context.encoder_key_BNE, seen[0][:, 1:].unflatten(-1, (heads, -1)).mean(2))


@torch.no_grad()
def test_mean_received_in_the_last_full_block_of_qwen(qwen):
    """Only block 1 of 3 attends over the whole image. Its weights, image by image, from its own projections."""
    tower = qwen.vlm.model.model.visual
    seen = {}
    block = tower.blocks[1].attn
    handle = block.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs, x=args[0]), with_kwargs=True)
    context = qwen.context([2])
    handle.remove()
    query, key, _ = block.qkv(seen["x"]).view(60, 3, 2, 16).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *seen["position_embeddings"])
    weights = (torch.einsum("qhd,khd->hqk", query, key) * 16**-0.5).softmax(-1)
    by_window = weights.mean(dim=(0, 1)).view(15, 4).sum(1)
    # Windows of 2 x 2 tokens over a 5 x 3 image, row by row.
    order = [0, 1, 3, 4, 2, 5, 6, 7, 9, 10, 8, 11, 12, 13, 14]
    close(context.encoder_attention_BN[0, order], by_window)
    close(context.encoder_attention_BN.sum(1), torch.ones(1))
    close(context.encoder_key_BNE[0, order], key.mean(1).view(15, 4, 16).mean(1))


@torch.no_grad()
def test_qwen_attention_does_not_depend_on_the_windows_when_none_is_used(qwen, monkeypatch):
    tower = qwen.vlm.model.model.visual
    monkeypatch.setattr(tower, "fullatt_block_indexes", [0, 1, 2])
    small = qwen.context().encoder_attention_BN
    monkeypatch.setattr(tower, "window_size", 28 * 8)
    close(qwen.context().encoder_attention_BN, small)


@torch.no_grad()
def test_a_mean_in_chunks_is_the_mean(qwen, monkeypatch):
    whole = qwen.context().encoder_attention_BN
    monkeypatch.setattr(attention, "CHUNK", 7)
    close(qwen.context().encoder_attention_BN, whole)


def test_logits_of_bfloat16_are_not_rounded_to_it():
    """1 + 2^-7 is a bfloat16, its square is not: it would fall on 1 + 2^-6, of which there is another."""
    query = torch.tensor([1 + 2**-7, 1.0], dtype=torch.bfloat16).view(1, 1, 1, 2)
    key = torch.tensor([[1 + 2**-7, 0.0], [0.0, 1 + 2**-6]], dtype=torch.bfloat16).view(1, 1, 2, 2)
    logits = attention_logits(query, key, None, 0.5)
    assert logits.flatten().tolist() == [(1 + 2**-7) ** 2 / 2, (1 + 2**-6) / 2]


def test_recording_changes_nothing_and_ends(llava):
    tower = llava.vlm.model.model.vision_tower
    pixels = llava.vlm.processor.image_processor(images=llava.images, return_tensors="pt")["pixel_values"]
    plain = tower(pixels).last_hidden_state
    with record_attention(tower, "first") as recorder:
        torch.testing.assert_close(tower(pixels).last_hidden_state, plain)
    assert len(recorder.rows_BT) == 2
    tower(pixels)
    assert len(recorder.rows_BT) == 2
    with pytest.raises(RuntimeError, match="stop"), record_attention(tower, "first"):
        raise RuntimeError("stop")
    assert tower.config._attn_implementation == "sdpa"
    assert not attention._active
