"""What every family must satisfy, against the stock model of transformers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grip_core.errors import BadSample
from grip_core.vlm.assemble import assemble
from grip_core.vlm.context import Context, Selection, top_k
from grip_core.vlm.frozen import answer_scores
from grip_core.vlm.wire import tensors_of
from tests import families
from tests.families import ANSWERS, QUESTIONS

BOTH = pytest.mark.parametrize("positions", ["original", "compact"], indirect=True)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def some_tokens(context: Context, n_kept: int = 3) -> Selection:
    """A fixed scattered choice of tokens, another one for each prompt."""
    noise = torch.rand(context.visual_mask_BN.shape, generator=torch.Generator().manual_seed(1))
    order = noise.masked_fill(~context.visual_mask_BN, 2.0).argsort(1)
    return Selection.of(order[:, :n_kept])


def with_answer(inputs: dict[str, torch.Tensor], answer_A: torch.Tensor) -> dict[str, torch.Tensor]:
    """Stock inputs followed by all answer tokens but the last."""
    extra = answer_A[None, :-1]
    longer = {
        "input_ids": extra,
        "attention_mask": torch.ones_like(extra),
        "mm_token_type_ids": torch.zeros_like(extra),
        "token_type_ids": torch.zeros_like(extra),
    }
    return {
        key: torch.cat([value, longer[key].to(value.dtype)], dim=1) if key in longer else value
        for key, value in inputs.items()
    }


def gold(context: Context, row: int) -> torch.Tensor:
    return context.answer_ids_BA[row][context.answer_mask_BA[row]]


def stock(family, context: Context, row: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    answer_A = gold(context, row)
    return with_answer(family.stock_inputs(family.images[row], QUESTIONS[row]), answer_A), answer_A


@BOTH
@torch.no_grad()
def test_every_token_kept_is_the_stock_model(family, positions):
    context = family.context()
    logits_RAV = family.vlm.logits(context)
    for row in range(3):
        inputs, answer_A = stock(family, context, row)
        expected = family.vlm.model(**inputs).logits[0, -len(answer_A) :]
        close(logits_RAV[row, : len(answer_A)], expected)
        assert expected.std() > 0.1  # a model that says the same everywhere would pass any comparison


@torch.no_grad()
def test_an_answer_ends_where_the_context_does(family, monkeypatch):
    """Beside one that goes on, and with the tokens that it has alone."""
    context, vlm = family.context(), family.vlm
    whole_RS = vlm.generate(context, max_new_tokens=6)
    lengths_R = context.attention_mask_BT.sum(1)
    longest = int(lengths_R.argmax())
    monkeypatch.setattr(type(vlm), "max_length", int(lengths_R.max()) + 2)
    found_RS = vlm.generate(context, max_new_tokens=6)
    for row in range(3):
        written = min(6, int(lengths_R.max() + 2 - lengths_R[row]))
        assert found_RS[row, :written].tolist() == whole_RS[row, :written].tolist()
    ended = set(found_RS[longest, 2:].tolist())
    assert ended <= {vlm.processor.tokenizer.pad_token_id}


@torch.no_grad()
def test_an_answer_never_needs_a_position_that_there_is_not():
    """OPT's are a table, past whose end there is nothing."""
    family = families.blip2_opt()
    vlm = family.vlm
    words = vlm.max_length - int(family.context().attention_mask_BT.sum(1)[0])
    questions = [QUESTIONS[0] + " red" * words, QUESTIONS[0]]
    while True:  # as long as it may be
        try:
            context = vlm.encode(family.images[:2], questions, ["", ""])
            break
        except BadSample:
            questions[0] = questions[0].removesuffix(" red")
    assert vlm.max_length - 5 < context.attention_mask_BT.sum(1)[0]
    assert vlm.generate(context, max_new_tokens=20).shape[0] == 2


@BOTH
@torch.no_grad()
def test_generate_is_the_stock_generate(family, positions):
    context = family.context()
    new_RS = family.vlm.generate(context, max_new_tokens=6)
    for row in range(3):
        inputs = family.stock_inputs(family.images[row], QUESTIONS[row])
        expected = family.vlm.model.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
        expected = expected[inputs["input_ids"].shape[1] :]
        assert new_RS[row, : len(expected)].tolist() == expected.tolist()
        assert set(new_RS[row, len(expected) :].tolist()) <= {family.vlm.processor.tokenizer.pad_token_id}


def test_a_context_holds_the_question_and_the_slots(family):
    context = family.context()
    tokenizer = family.vlm.processor.tokenizer
    for row, question in enumerate(QUESTIONS):
        inputs = family.stock_inputs(family.images[row], question)
        real = context.attention_mask_BT[row]
        assert context.input_ids_BT[row][real].tolist() == inputs["input_ids"][0].tolist()
        assert not context.positions_PBT[:, row, real][:, 0].any()  # counted from the first real token
        own = family.vlm.embed(torch.tensor(tokenizer(question, add_special_tokens=False).input_ids))
        torch.testing.assert_close(context.question_BLD[row][context.question_mask_BL[row]], own)
        slots = context.visual_slot_BN[row][context.visual_mask_BN[row]]
        assert (context.input_ids_BT[row][slots] == family.vlm.image_token_id).all()
        assert len(slots) == (inputs["input_ids"] == family.vlm.image_token_id).sum()


def test_answers_are_what_the_model_would_write(family):
    """All that comes after the prompt, where a space is between them unless the prompt ends with one."""
    context = family.context()
    tokenizer = family.vlm.processor.tokenizer
    end = family.vlm.template.split("{question}")[1]
    assert not end[-1].isspace()
    prompt = tokenizer(end, add_special_tokens=False).input_ids
    for row, answer in enumerate(ANSWERS):
        whole = tokenizer(f"{end} {answer}", add_special_tokens=False).input_ids
        assert whole[: len(prompt)] == prompt
        assert gold(context, row).tolist() == whole[len(prompt) :]


def test_grid_counts_rows_and_columns(qwen):
    context = qwen.context()
    assert context.grid_BN2[2][context.visual_mask_BN[2]].tolist() == [
        [row, column] for row in range(5) for column in range(3)
    ]
    assert context.visual_mask_BN.sum(1).tolist() == [12, 4, 15]


@torch.no_grad()
def test_without_a_class_token_attention_is_that_of_all_tokens():
    """As the tower itself says it, asked for its weights."""
    family = families.llava_of_siglip()
    given = family.vlm.processor.image_processor(images=list(family.images), return_tensors="pt")["pixel_values"]
    tower = family.vlm.model.model.vision_tower
    tower.set_attn_implementation("eager")
    weights_BHNN = tower(given, output_attentions=True).attentions[-1]
    tower.set_attn_implementation("sdpa")
    found = family.vlm.visual_features(family.images).encoder_attention_BN
    torch.testing.assert_close(found, weights_BHNN.mean((1, 2)))


@torch.no_grad()
def test_an_image_too_long_for_its_tiles_has_the_overview_alone():
    vlm = families.llava_next().vlm
    features = vlm.visual_features([np.zeros((2, 500, 3), np.uint8)])
    assert features.grid_BN2[0].tolist() == [[row, column] for row in range(4) for column in range(4)]
    assert features.encoder_attention_BN.shape == (1, 16)


@BOTH
@torch.no_grad()
def test_a_batch_is_its_single_prompts(family, positions):
    context = family.context()
    selection = some_tokens(context)
    batch = family.vlm.logits(context, selection)
    new = family.vlm.generate(context, selection, max_new_tokens=5)
    attention = family.vlm.answer_attention(context)
    for row in range(3):
        single = family.context([row])
        n = single.n_visual
        kept = Selection.of(selection.kept_RK[[row]])
        length = single.answer_ids_BA.shape[1]
        close(batch[[row], :length], family.vlm.logits(single, kept))
        alone = family.vlm.generate(single, kept, max_new_tokens=5)
        assert new[row, : alone.shape[1]].tolist() == alone[0].tolist()
        close(attention[[row], :, :n], family.vlm.answer_attention(single))
        close(context.visual_BND[[row], :n], single.visual_BND)
        close(context.encoder_attention_BN[[row], :n], single.encoder_attention_BN)
        close(context.encoder_key_BNE[[row], :n], single.encoder_key_BNE)
        assert not attention[row, :, n:].any()


@torch.no_grad()
def test_a_part_of_a_batch_is_that_part(family):
    """Also where the longest prompt is left out, so that all that stay are padded."""
    context = family.context()
    index = torch.tensor([2, 0])
    part = context.rows(index)
    close(family.vlm.answer_attention(part), family.vlm.answer_attention(context)[index])
    close(family.vlm.logits(part), family.vlm.logits(context)[index])
    new_RS = family.vlm.generate(part, max_new_tokens=3)
    assert torch.equal(new_RS, family.vlm.generate(context, max_new_tokens=3)[index, : new_RS.shape[1]])


def hidden_from_all(family, inputs: dict[str, torch.Tensor], visible_T: torch.Tensor):
    """The stock model's mask with the columns of what is not visible taken out."""
    index_T = torch.arange(len(visible_T))
    causal_TT = index_T[:, None] >= index_T
    if "token_type_ids" not in inputs:
        return (causal_TT & visible_T)[None, None]
    image_T = inputs.pop("token_type_ids")[0].bool()
    allowed_TT = (causal_TT | (image_T[:, None] & image_T)) & visible_T
    near_TT = index_T > index_T[:, None] - family.vlm.language_model.config.sliding_window
    return {"full_attention": allowed_TT[None, None], "sliding_attention": (allowed_TT & near_TT)[None, None]}


@torch.no_grad()
def test_dropping_is_masking_with_original_positions(family):
    """The stock model over the whole prompt, with the dropped tokens hidden from every query."""
    context = family.context()
    selection = some_tokens(context)
    logits_RAV = family.vlm.logits(context, selection)
    for row in range(3):
        inputs, answer_A = stock(family, context, row)
        total = inputs["input_ids"].shape[1]
        visible = torch.ones(total, dtype=torch.bool)
        slots = (inputs["input_ids"][0] == family.vlm.image_token_id).nonzero()[:, 0]
        visible[slots] = False
        visible[slots[selection.kept_RK[row]]] = True
        if "mm_token_type_ids" in inputs:
            grid = {key: inputs[key] for key in ("mm_token_type_ids", "image_grid_thw")}
            inputs["position_ids"], _ = family.vlm.model.model.get_rope_index(inputs["input_ids"], **grid)
        else:
            inputs["position_ids"] = torch.arange(total)[None]  # OPT would count them from the mask
        inputs["attention_mask"] = hidden_from_all(family, inputs, visible)
        expected = family.vlm.model(**inputs).logits[0, -len(answer_A) :]
        close(logits_RAV[row, : len(answer_A)], expected)
        full = family.vlm.logits(context)[row, : len(answer_A)]
        assert (expected - full).abs().max() > 1e-2


@pytest.mark.parametrize("positions", ["compact"], indirect=True)
def test_compact_positions_have_no_gap(family, positions):
    context = family.context()
    inputs = assemble(context, some_tokens(context), family.vlm.embed, positions, context.answer_ids_BA)
    for row in range(3):
        positions_PS = inputs.positions_PRS[:, row, inputs.attention_mask_RS[row]]
        for axis_S in positions_PS:
            assert axis_S.unique().tolist()[0] == 0
        assert positions_PS.unique().tolist() == list(range(int(positions_PS.max()) + 1))
        after = positions_PS[:, -context.answer_ids_BA.shape[1] - 1 :]
        assert (after == after[0]).all()  # text has one position on all axes
        assert (after.diff(dim=1) == 1).all()


def test_compact_positions_are_those_of_the_smaller_image(qwen):
    """Rows 0, 3, 4 and columns 0, 2 of a 5 x 3 image, all six crossings kept: the positions of a 3 x 2 image."""
    context = qwen.context([2])
    kept = torch.tensor([[row * 3 + column for row in (0, 3, 4) for column in (0, 2)]])
    inputs = assemble(context, Selection.of(kept), qwen.vlm.embed, "compact")
    text = qwen.stock_inputs(qwen.images[1], QUESTIONS[2])["input_ids"]  # 2 x 2 visual tokens
    image = (text == qwen.vlm.image_token_id)[0]
    first = int(image.nonzero()[0])
    ids = torch.cat([text[:, :first], text[:, first : first + 1].expand(-1, 6), text[:, ~image][:, first:]], dim=1)
    expected, _ = qwen.vlm.model.model.get_rope_index(
        ids, (ids == qwen.vlm.image_token_id).int(), image_grid_thw=torch.tensor([[1, 6, 4]])
    )
    assert inputs.positions_PRS.tolist() == expected.tolist()


@BOTH
@torch.no_grad()
def test_the_cache_is_recomputation(family, positions):
    context = family.context()
    selection = some_tokens(context)
    new_RA = family.vlm.generate(context, selection, max_new_tokens=5)
    again = replace(context, answer_ids_BA=new_RA, answer_mask_BA=torch.ones_like(new_RA, dtype=torch.bool))
    best_RA = family.vlm.logits(again, selection).argmax(-1)
    pad = family.vlm.processor.tokenizer.pad_token_id
    assert ((new_RA == best_RA) | (new_RA == pad)).all()


@pytest.mark.parametrize("positions", ["compact"], indirect=True)
@torch.no_grad()
def test_no_image_is_the_stock_language_model(family, positions):
    context = family.context()
    logits_RAV = family.vlm.logits(context, Selection.none(context))
    for row in range(3):
        inputs, answer_A = stock(family, context, row)
        ids = inputs["input_ids"][:, inputs["input_ids"][0] != family.vlm.image_token_id]
        hidden = family.vlm.language_model(input_ids=ids).last_hidden_state
        close(logits_RAV[row, : len(answer_A)], family.vlm.model.get_output_embeddings()(hidden)[0, -len(answer_A) :])


@torch.no_grad()
def test_merged_tokens_take_the_place_of_the_kept(family):
    context = family.context()
    kept_BK = torch.tensor([[3, 0], [1, 2], [0, 2]])
    own_BKD = context.visual_BND[torch.arange(3)[:, None], kept_BK]
    plain = family.vlm.logits(context, Selection.of(kept_BK))
    close(family.vlm.logits(context, Selection.of(kept_BK, merged_BKD=own_BKD)), plain)
    other = family.vlm.logits(context, Selection.of(kept_BK, merged_BKD=own_BKD.flip(1)))
    assert (other - plain).abs().max() > 1e-2


@torch.no_grad()
def test_rows_of_one_prompt_do_not_mix(family):
    """Several selections a prompt, of different sizes, in any order of prompts."""
    context = family.context()
    rows = Selection(
        kept_RK=torch.tensor([[0, 1, 3], [2, 0, 0], [1, 2, 0], [0, 3, 0]]),
        mask_RK=torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]], dtype=torch.bool),
        prompt_R=torch.tensor([1, 0, 0, 2]),
    )
    together = family.vlm.logits(context, rows)
    for row, prompt in enumerate(rows.prompt_R.tolist()):
        kept = rows.kept_RK[[row]][:, rows.mask_RK[row]]
        alone = family.vlm.logits(context.rows(torch.tensor([prompt])), Selection.of(kept))
        close(together[[row]], alone)


def test_answer_scores_by_hand():
    """Two answers of three tokens and one of two; the third token of the last is padding, whatever the model says."""
    probabilities = torch.tensor(
        [
            [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
            [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2]],
            [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05]],
        ]
    )
    ids = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    scores = answer_scores(probabilities.log(), ids, mask)
    wanted = [np.log([0.7, 0.8, 0.6]).mean(), np.log([0.7, 0.8, 0.2]).mean(), np.log([0.5, 0.8]).mean()]
    assert scores.log_prob_R.tolist() == pytest.approx(wanted, abs=1e-6)
    assert scores.correct_R.tolist() == [True, False, True]


def test_answer_scores_say_what_greedy_decoding_does(family):
    context = family.context()
    new_RS = family.vlm.generate(context, max_new_tokens=2)
    scores = family.vlm.answer_scores(context)
    assert (scores.log_prob_R < 0).all()
    right = replace(
        context, answer_ids_BA=new_RS[:, :1], answer_mask_BA=torch.ones_like(new_RS[:, :1], dtype=torch.bool)
    )
    assert family.vlm.answer_scores(right).correct_R.all()
    wrong = replace(right, answer_ids_BA=(new_RS[:, :1] + 1) % 7)
    assert not family.vlm.answer_scores(wrong).correct_R.any()


def test_fewer_rows_a_forward_give_the_same_scores(family, monkeypatch):
    context = family.context()
    selection = top_k(torch.randn(context.visual_mask_BN.shape).masked_fill(~context.visual_mask_BN, -torch.inf), 2)
    repeated = selection.rows(torch.tensor([0, 1, 2, 1, 0]))
    whole = family.vlm.answer_scores(context, repeated, with_kl=True)
    forwards = []
    inner = family.vlm.logits

    def counted(context, selection=None):
        forwards.append(len(selection.prompt_R))
        return inner(context, selection)

    monkeypatch.setattr(family.vlm, "logits", counted)
    monkeypatch.setattr(family.vlm, "rows_per_forward", 2)
    parts = family.vlm.answer_scores(family.context(), repeated, with_kl=True)
    assert max(forwards) == 2
    assert sum(forwards) == len(repeated.prompt_R) + context.batch_size
    for name, value in tensors_of(whole).items():
        torch.testing.assert_close(getattr(parts, name), value, rtol=1e-4, atol=1e-5)


def test_encode_refuses_lists_of_different_length(family):
    with pytest.raises(ValueError, match="got 1, 2 and 1"):
        family.vlm.encode(family.images[:1], ["a", "b"], ["c"])
