"""Tokens dropped between decoder layers, against the stock model that keeps them all and hides the dropped ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch

from grip_core.vlm.context import Context, Cut, Selection
from grip_core.vlm.inside import Observed, Stage, choose_cuts, tokens_per_layer
from grip_core.vlm.wire import tensors_of
from tests.deeper import deeper
from tests.families import Family
from tests.vlm.test_contract import close, some_tokens, stock

LAYERS = 4


@pytest.fixture(scope="module")
def deep(family) -> Family:
    return deeper(family, LAYERS)


def cut(layer: int, kept: Sequence[Sequence[int]]) -> Cut:
    width = max(map(len, kept))
    rows = [[*row, *[0] * (width - len(row))] for row in kept]
    return Cut(layer, torch.tensor(rows), torch.arange(width) < torch.tensor([[len(row)] for row in kept]))


def two_cuts() -> tuple[Cut, Cut]:
    """Of 64, 64, 64 or of 12, 4, 15 tokens: as many rows of the second cut differ in length as can."""
    return cut(1, [[0, 2, 3, 7, 9], [0, 1, 2, 3], [1, 4, 5, 8, 9, 10, 13]]), cut(3, [[2, 9], [0, 1, 2, 3], [8]])


def masked_run(deep: Family, context: Context, selection: Selection, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The stock model over one whole prompt and its answer: logits that predict the answer, (A, V), and what each
    layer reads at the visual tokens, (layers, N, D). From a cut's layer on, nothing may look at what it drops.
    """
    inputs, answer_A = stock(deep, context, row)
    ids_T = inputs["input_ids"][0]
    slots_N = (ids_T == deep.vlm.image_token_id).nonzero()[:, 0]
    if "mm_token_type_ids" in inputs:
        grid = {key: inputs[key] for key in ("mm_token_type_ids", "image_grid_thw")}
        inputs["position_ids"], _ = deep.vlm.model.model.get_rope_index(inputs["input_ids"], **grid)
    reads_TT = torch.ones(len(ids_T), len(ids_T), dtype=torch.bool).tril()
    if "token_type_ids" in inputs:
        image_T = inputs["token_type_ids"][0].bool()
        reads_TT |= image_T[:, None] & image_T
    allowed = {}
    current = selection
    for layer in range(LAYERS):
        current = next((cut for cut in selection.cuts if cut.layer == layer), current)
        visible_T = torch.ones_like(ids_T, dtype=torch.bool)
        visible_T[slots_N] = False
        visible_T[slots_N[current.kept_RK[row][current.mask_RK[row]]]] = True
        allowed[layer] = (reads_TT & visible_T)[None, None]
    read = []

    def hide(layer, module, args, kwargs):
        read.append(args[0][0, slots_N])
        return args, kwargs | {"attention_mask": allowed[layer]}

    layers = deep.vlm.language_model.layers
    handles = [
        layer.register_forward_pre_hook(partial(hide, number), with_kwargs=True) for number, layer in enumerate(layers)
    ]
    logits_AV = deep.vlm.model(**inputs).logits[0, -len(answer_A) :]
    for handle in handles:
        handle.remove()
    return logits_AV, torch.stack(read)


@torch.no_grad()
def check(deep: Family, context: Context, selection: Selection) -> None:
    logits_RAV = deep.vlm.logits(context, selection)
    for row in range(context.batch_size):
        expected_AV, _ = masked_run(deep, context, selection, row)
        close(logits_RAV[row, : len(expected_AV)], expected_AV)


def test_dropping_at_a_layer_is_hiding_from_that_layer_on(deep):
    context = deep.context()
    selection = replace(Selection.all(context), cuts=two_cuts())
    check(deep, context, selection)
    logits_RAV = deep.vlm.logits(context, selection)
    for other in (Selection.all(context), replace(selection, cuts=selection.cuts[:1])):
        assert (logits_RAV - deep.vlm.logits(context, other)).abs().max() > 1e-2


def test_cuts_go_on_from_what_was_kept_before_the_model(deep):
    context = deep.context()
    selection = some_tokens(context, 4)
    first = Cut(2, selection.kept_RK[:, 1:], selection.mask_RK[:, 1:])
    last = Cut(3, selection.kept_RK[:, 2:3], selection.mask_RK[:, 2:3])
    check(deep, context, replace(selection, cuts=(first, last)))


def test_the_eager_attention_drops_the_same(deep):
    """Its mask is added to the logits, where that of the fused attention says which keys are seen."""
    context = deep.context()
    selection = replace(Selection.all(context), cuts=two_cuts())
    expected = deep.vlm.logits(context, selection)
    deep.vlm.language_model.set_attn_implementation("eager")
    try:
        close(deep.vlm.logits(context, selection), expected)
    finally:
        deep.vlm.language_model.set_attn_implementation("sdpa")


def test_rows_that_were_of_one_length_may_part(deep):
    """Without padding the model has no mask at all; the rows of a cut that differ in length need one."""
    context = deep.context([2])
    kept = [[0, 3, 5, 11], [7], [2, 12]]
    alone = [replace(Selection.all(context), cuts=(cut(1, [row]),)) for row in kept]
    prompt_R = torch.zeros(3, dtype=torch.long)
    whole = Selection.all(context)
    together = Selection(whole.kept_RK[prompt_R], whole.mask_RK[prompt_R], prompt_R, cuts=(cut(1, kept),))
    close(deep.vlm.logits(context, together), torch.cat([deep.vlm.logits(context, one) for one in alone]))


def test_cuts_that_keep_everything_are_the_full_model(deep):
    context = deep.context()
    everything = Selection.all(context)
    cuts = tuple(Cut(layer, everything.kept_RK, everything.mask_RK) for layer in range(LAYERS))
    close(deep.vlm.logits(context, replace(everything, cuts=cuts)), deep.vlm.logits(context))


def test_a_cut_at_layer_0_is_pruning_before_the_model(deep):
    context = deep.context()
    before = some_tokens(context)
    inside = replace(Selection.all(context), cuts=(Cut(0, before.kept_RK, before.mask_RK),))
    close(deep.vlm.logits(context, inside), deep.vlm.logits(context, before))
    assert all(torch.equal(*pair) for pair in zip(inside.final, before.final, strict=True))


def test_a_batch_is_its_single_prompts(deep):
    context = deep.context()
    whole = replace(Selection.all(context), cuts=two_cuts())
    logits_RAV = deep.vlm.logits(context, whole)
    for row in range(3):
        single = deep.context([row])
        cuts = tuple(Cut(one.layer, one.kept_RK[[row]], one.mask_RK[[row]]) for one in whole.cuts)
        expected = deep.vlm.logits(single, replace(Selection.all(single), cuts=cuts))
        close(logits_RAV[row, : expected.shape[1]], expected[0])


def test_gradients_reach_what_was_read_before_the_cut(deep):
    context = deep.context([0])
    for layer, reached in ((0, False), (2, True)):
        visual_BND = context.visual_BND.clone().requires_grad_(True)
        part = replace(context, visual_BND=visual_BND)
        deep.vlm.forward_logits(part, replace(Selection.all(part), cuts=(cut(layer, [[1, 3]]),))).sum().backward()
        gradient_N = visual_BND.grad[0].abs().sum(-1)
        assert gradient_N[[1, 3]].min() > 0
        assert (gradient_N[[0, 2]] > 0).tolist() == [reached, reached]


# Choosing ---------------------------------------------------------------------------------------------------------


def stages(context: Context, counts: dict[int, int]) -> list[Stage]:
    return [Stage(layer, torch.full((context.batch_size,), count)) for layer, count in counts.items()]


def attention_rule(observed: Observed) -> torch.Tensor:
    return observed.of_visual(observed.attention(2)).sum(1)


@torch.no_grad()
def test_a_stage_sees_what_the_stages_before_have_done(deep):
    """The hidden states that the second stage sees are those of a run in which the first stage's drops are hidden."""
    context = deep.context()
    seen = []

    def rule(observed: Observed) -> torch.Tensor:
        seen.append(observed)
        return attention_rule(observed)

    selection = choose_cuts(deep.vlm, context, stages(context, {1: 6, 3: 2}), rule)
    first, last = selection.cuts
    assert [one.layer for one in selection.cuts] == [1, 3]
    assert first.mask_RK.sum(1).tolist() == [min(6, n) for n in context.visual_mask_BN.sum(1).tolist()]
    assert last.mask_RK.sum(1).tolist() == [2, 2, 2]
    moved = []
    for row in range(3):
        kept = first.kept_RK[row][first.mask_RK[row]]
        assert set(last.kept_RK[row].tolist()) <= set(kept.tolist())
        assert seen[1].present_BN[row].nonzero()[:, 0].tolist() == kept.tolist()
        _, read_LND = masked_run(deep, context, replace(selection, cuts=(first,)), row)
        hidden_DN = seen[1].of_visual(seen[1].hidden_BSD.transpose(1, 2))[row]
        close(hidden_DN[:, kept].T, read_LND[3, kept])
        _, undisturbed_LND = masked_run(deep, context, replace(selection, cuts=()), row)
        moved.append(float((read_LND[3, kept] - undisturbed_LND[3, kept]).abs().max()))
    assert max(moved) > 1e-3


def test_a_rule_sees_the_attention_of_the_layer_before(deep):
    context = deep.context()
    scores = []

    def rule(observed: Observed) -> torch.Tensor:
        scores.append(observed.of_visual(observed.attention(1))[:, 0].masked_fill(~observed.present_BN, 0.0))
        return scores[-1]

    everything = context.n_visual  # a stage that drops nothing lets the next see the full model
    choose_cuts(deep.vlm, context, stages(context, {1: everything, 2: everything, 3: 3}), rule)
    expected_BLN = deep.vlm.answer_attention(context)
    for layer, scores_BN in enumerate(scores):
        close(scores_BN, expected_BLN[:, layer])


def test_earlier_queries_see_only_what_is_before_them(deep):
    """A single prompt has no mask, a batch of different lengths has one: the same attention of the last tokens."""
    rows = {}

    def rule_of(name: str):
        def rule(observed: Observed) -> torch.Tensor:
            rows[name] = observed.attention(4), observed.logits(4)
            return attention_rule(observed)

        return rule

    context, single = deep.context(), deep.context([1])
    choose_cuts(deep.vlm, context, stages(context, {2: 3}), rule_of("batch"))
    choose_cuts(deep.vlm, single, stages(single, {2: 3}), rule_of("single"))
    (batch, _), (alone, logits) = rows["batch"], rows["single"]
    total = alone.shape[2]
    close(batch[1, :, -total:], alone[0])
    close(alone.sum(-1), torch.ones(1, 4))
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)
    assert torch.equal(logits[0, 0, :, -4:] == float("-inf"), future)


def test_choosing_in_a_batch_is_choosing_for_each(deep):
    context = deep.context()
    batch = choose_cuts(deep.vlm, context, stages(context, {1: 5, 2: 3, 3: 1}), attention_rule)
    for row in range(3):
        part = deep.context([row])
        single = choose_cuts(deep.vlm, part, stages(part, {1: 5, 2: 3, 3: 1}), attention_rule)
        for one, other in zip(batch.cuts, single.cuts, strict=True):
            assert one.kept_RK[row][one.mask_RK[row]].tolist() == other.kept_RK[0][other.mask_RK[0]].tolist()


def test_the_answer_does_not_change_what_is_cut(deep):
    """Nor does a later token of it reach an earlier one's logits."""
    context = deep.context()
    other = replace(context, answer_ids_BA=context.answer_ids_BA.roll(1, dims=0), memo={})
    one, two = (choose_cuts(deep.vlm, item, stages(item, {1: 5, 3: 2}), attention_rule) for item in (context, other))
    for first, second in zip(one.cuts, two.cuts, strict=True):
        assert torch.equal(first.kept_RK, second.kept_RK)
    close(deep.vlm.logits(context, one)[:, 0], deep.vlm.logits(other, two)[:, 0])


# Counting and refusing --------------------------------------------------------------------------------------------


def test_tokens_per_layer_by_hand():
    selection = replace(
        Selection.of(torch.arange(9).expand(2, -1)), cuts=(cut(1, [[0, 2, 3], [4]]), cut(3, [[2], [4]]))
    )
    assert tokens_per_layer(selection, 5).tolist() == [[9, 3, 3, 1, 1], [9, 1, 1, 1, 1]]
    assert tokens_per_layer(replace(selection, cuts=()), 2).tolist() == [[9, 9], [9, 9]]
    assert tokens_per_layer(replace(selection, cuts=(cut(0, [[1], [2]]),)), 2).tolist() == [[1, 1], [1, 1]]


def test_layers_that_are_not_there_are_refused(deep):
    context = deep.context([0])
    with pytest.raises(ValueError, match="before layers 0 to 3, but got 4"):
        deep.vlm.logits(context, replace(Selection.all(context), cuts=(cut(4, [[0]]),)))
    for layer in (0, 4):
        with pytest.raises(ValueError, match=f"before layers 1 to 3, but got {layer}"):
            choose_cuts(deep.vlm, context, stages(context, {layer: 2}), attention_rule)


def test_cuts_neither_generate_nor_travel(deep):
    context = deep.context([0])
    selection = replace(Selection.all(context), cuts=(cut(1, [[0]]),))
    with pytest.raises(ValueError, match="generate cannot drop tokens inside"):
        deep.vlm.generate(context, selection)
    with pytest.raises(ValueError, match="cuts inside the language model cannot be sent"):
        tensors_of(selection)


def test_nothing_is_left_behind_after_an_error(deep):
    context = deep.context([0])
    expected = deep.vlm.logits(context)

    def broken(observed: Observed) -> torch.Tensor:
        raise ArithmeticError("no score")

    with pytest.raises(ArithmeticError):
        choose_cuts(deep.vlm, context, stages(context, {1: 2}), broken)
    assert torch.equal(deep.vlm.logits(context), expected)
    assert not any(layer._forward_pre_hooks for layer in deep.vlm.language_model.layers)
