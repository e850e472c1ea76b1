"""Formulas against torch's own counter on transformers' models, and against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen3Config

from grip_core.baselines.registry import create, known
from grip_core.config import load
from grip_core.cost import counted, flops, selection
from grip_core.cost.dimensions import Decoder, Tower, decoder_dimensions, model_dimensions
from grip_core.cost.layers import visual_per_layer
from grip_core.cost.shapes import EMBEDDED, LLAVA_7B, STAND_IN, random_model, shape_config
from grip_core.cost.timing import prompt_lengths
from grip_core.errors import UserError
from grip_core.policy.scorer import Scorer, ScorerConfiguration
from grip_core.vlm.inside import tokens_per_layer
from tests.conftest import synthetic_context

ROOT = Path(__file__).resolve().parents[2]
SCORER = load(ROOT / "params.yaml").scorer
TEXT = 40
TOLERANCE = 0.02


@pytest.fixture(scope="module", params=[EMBEDDED, LLAVA_7B, STAND_IN])
def shape(request):
    """A shape's model without memory, and its dimensions."""
    config = shape_config(request.param)
    return random_model(config, "meta"), model_dimensions(config, SCORER)


def test_encode(shape):
    model, dimensions = shape
    assert flops.encode(dimensions.tower) == pytest.approx(counted.encode(model), rel=TOLERANCE)


@pytest.mark.parametrize("visual", [0, 7, None])
def test_prefill_decode_and_cache(shape, visual):
    model, dimensions = shape
    decoder = dimensions.decoder
    visual_L = [dimensions.tower.visual if visual is None else visual] * decoder.layers
    prefill, cache = counted.prefill(model, TEXT + visual_L[0])
    assert flops.prefill(decoder, TEXT, visual_L) == pytest.approx(prefill, rel=TOLERANCE)
    assert flops.kv_bytes(decoder, TEXT, visual_L, bytes_per_number=4) == counted.cache_bytes(cache)
    assert flops.decode(decoder, TEXT, visual_L) == pytest.approx(counted.decode(model, cache), rel=TOLERANCE)


def test_published_size():
    """LLaVA-1.5-7B: 24 + 32 layers, 576 visual tokens, 7.06 billion parameters."""
    model = random_model(shape_config(LLAVA_7B), "meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(7.063e9, rel=1e-3)
    tower = model_dimensions(model.config, SCORER).tower
    assert (tower.positions, tower.visual) == (577, 576)


def test_by_hand():
    """One layer of width 2 with one head, one key head, mlp 3: 4 projections, 2 products of attention, 3 of the mlp."""
    decoder = Decoder(layers=1, width=2, heads=1, kv_heads=1, head=2, mlp=3, vocabulary=5)
    layer = 4 * (2 * 4 * 2 * 2) + 2 * (2 * 4 * 2 * 4) + 3 * (2 * 4 * 2 * 3)
    assert flops.prefill(decoder, 3, [1]) == layer + 2 * 2 * 5
    step = 4 * (2 * 2 * 2) + 2 * (2 * 2 * 5) + 3 * (2 * 2 * 3)
    assert flops.decode(decoder, 3, [1]) == step + 2 * 2 * 5
    assert flops.kv_bytes(decoder, 3, [1], bytes_per_number=2) == 2 * 4 * 2 * 2


def test_shared_key_heads():
    """With half as many key heads, keys, values and the cache cost half; attention itself costs the same."""
    full, half = (Decoder(1, 8, 4, kv, 2, 16, 10) for kv in (4, 2))
    assert flops.prefill(full, 6, [4]) - flops.prefill(half, 6, [4]) == 2 * (2 * 10 * 8 * 4)
    assert flops.kv_bytes(half, 6, [4], 4) * 2 == flops.kv_bytes(full, 6, [4], 4)


def test_layers_count_by_their_own_tokens():
    decoder = Decoder(3, 8, 2, 2, 4, 16, 10)
    uniform = [flops.prefill(decoder, 5, [k] * 3) - flops.head(decoder) for k in (12, 3)]
    mixed = flops.prefill(decoder, 5, [12, 3, 3]) - flops.head(decoder)
    assert 3 * mixed == uniform[0] + 2 * uniform[1]


def test_tower_by_hand():
    tower = Tower(layers=1, width=2, head=2, mlp=3, patch=1, channels=1, visual=3, projected=5)
    layer = 4 * (2 * 4 * 2 * 2) + 2 * (2 * 4 * 2 * 4) + 2 * (2 * 4 * 2 * 3)
    assert flops.encode(tower) == 2 * 3 * 1 * 2 + layer + 2 * 3 * 2 * 5 + 2 * 3 * 5 * 5


@pytest.mark.parametrize("n", [9, 144])
def test_scorer(n):
    config = ScorerConfiguration(input_width=32, **SCORER.model_dump())
    context = synthetic_context(torch.randn(1, n, 32))
    scorer = Scorer(config).eval()
    measured = counted.count(lambda: scorer(context, torch.tensor([3])))
    assert flops.scorer(config, n, question=1) == pytest.approx(measured, rel=TOLERANCE)


@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize("name", [name for name, kind in known().items() if not kind.inside])
def test_selection(llava, name, k):
    context = llava.context([0])
    dimensions = model_dimensions(llava.vlm.model.config, SCORER)
    prompt = prompt_lengths(context)
    measured = counted.count(lambda: create(name, llava.vlm, 0).select(context, k))
    assert selection.BASELINES[name](dimensions, prompt, k) == pytest.approx(measured, rel=TOLERANCE)


@pytest.mark.parametrize("k", [1, 30])
@pytest.mark.parametrize("name", [name for name, kind in known().items() if kind.inside])
def test_pass_that_reads_and_drops(deep, name, k):
    """Eight layers deep: in a model of two, all stages fall together."""
    context = deep.context([0])
    dimensions = model_dimensions(deep.vlm.model.config, SCORER)
    prompt = prompt_lengths(context)
    selections = []
    measured = counted.count(lambda: selections.append(create(name, deep.vlm, 0).select(context, k)))
    layers = dimensions.decoder.layers
    visual_L = visual_per_layer(name, k, context.n_visual, layers)
    assert visual_L == tokens_per_layer(selections[0], layers)[0].tolist()
    expected = flops.prefill(dimensions.decoder, prompt.text, visual_L) - flops.head(dimensions.decoder)
    expected += selection.BASELINES[name](dimensions, prompt, k)
    assert expected == pytest.approx(measured, rel=TOLERANCE)


def test_our_selection_is_below_a_hundredth_of_the_prefill():
    """At the 7B shape, of the prefill with every token."""
    config = shape_config(LLAVA_7B)
    model = model_dimensions(config, SCORER)
    select = flops.scorer(model.scorer, model.tower.visual, question=TEXT)
    layers = model.decoder.layers
    assert select <= 0.01 * flops.prefill(model.decoder, TEXT, [model.tower.visual] * layers)


def test_heads_of_a_decoder_that_does_not_name_their_width():
    assert not hasattr(Qwen2Config(), "head_dim")
    assert decoder_dimensions(Qwen2Config(hidden_size=96, num_attention_heads=4)).head == 24
    assert decoder_dimensions(Qwen3Config(hidden_size=96, num_attention_heads=4, head_dim=32)).head == 32


def test_unknown_shape():
    with pytest.raises(UserError, match=r"^llava-2 is not a known shape; known are: embedded, "):
        shape_config("llava-2")
