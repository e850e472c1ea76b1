"""What every baseline must satisfy, on every family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from grip_core import baselines
from grip_core.baselines.base import ScoreBaseline
from grip_core.baselines.registry import create, get, known
from grip_core.errors import UserError
from grip_core.vlm.context import Context, Selection


@pytest.fixture(params=list(known()))
def method(family, request):
    return create(request.param, family.vlm, seed=0)


def kept_sets(selection: Selection) -> list[list[int]]:
    """The tokens that are left at the end, prompt by prompt."""
    return [kept[mask].tolist() for kept, mask in zip(*selection.final, strict=True)]


def fresh(context: Context, **changes) -> Context:
    return replace(context, memo={}, **changes)


def padded(context: Context, extra: int) -> Context:
    """The same prompts with `extra` more padding tokens, full of rubbish, and more padding before the prompt."""
    left = (extra, 0)
    return fresh(
        context,
        visual_BND=F.pad(context.visual_BND, (0, 0, 0, extra), value=50.0),
        visual_mask_BN=F.pad(context.visual_mask_BN, (0, extra)),
        grid_BN2=F.pad(context.grid_BN2, (0, 0, 0, extra), value=99),
        encoder_attention_BN=F.pad(context.encoder_attention_BN, (0, extra), value=50.0),
        encoder_key_BNE=F.pad(context.encoder_key_BNE, (0, 0, 0, extra), value=50.0),
        visual_slot_BN=F.pad(context.visual_slot_BN + extra, (0, extra)),
        question_BLD=F.pad(context.question_BLD, (0, 0, 0, extra), value=50.0),
        question_mask_BL=F.pad(context.question_mask_BL, (0, extra)),
        input_ids_BT=F.pad(context.input_ids_BT, left, value=3),
        attention_mask_BT=F.pad(context.attention_mask_BT, left),
        positions_PBT=F.pad(context.positions_PBT, left),
    )


def test_every_module_is_found():
    """A method is its module and nothing else: each file of the package that is not plumbing holds one."""
    plumbing = {"__init__", "base", "masks", "registry"}
    files = {path.stem for path in Path(baselines.__file__).parent.glob("*.py")} - plumbing
    assert set(known()) == files
    assert len({item.label for item in known().values()}) == len(files)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UserError, match=r"nonsense is not a known baseline; known are: .*divprune, .*random"):
        get("nonsense")


@torch.no_grad()
def test_exactly_k_sorted_and_real(family, method):
    context = family.context()
    available = context.visual_mask_BN.sum(1).tolist()
    for k in (1, 3, 7, 14, context.n_visual):
        for kept, n in zip(kept_sets(method.select(context, k)), available, strict=True):
            assert len(kept) == min(k, n)
            assert kept == sorted(set(kept))
            assert max(kept) < n


@torch.no_grad()
def test_a_batch_is_its_single_prompts(family, method):
    context = family.context()
    for k in (2, 6):
        batch = method.select(context, k)
        for row in range(3):
            single = method.select(family.context([row]), k)
            assert kept_sets(batch)[row] == kept_sets(single)[0]
            if single.merged_RKD is not None:
                merged = batch.merged_RKD[row, : single.merged_RKD.shape[1]]
                torch.testing.assert_close(merged, single.merged_RKD[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_changes_nothing(family, method):
    context = family.context()
    for k in (2, 6):
        plain, more = method.select(context, k), method.select(padded(context, 5), k)
        assert kept_sets(plain) == kept_sets(more)
        if plain.merged_RKD is not None:
            width = plain.merged_RKD.shape[1]
            torch.testing.assert_close(plain.merged_RKD, more.merged_RKD[:, :width])


@torch.no_grad()
def test_all_tokens_are_the_full_model(family, method):
    context = family.context()
    everything = method.select(context, context.n_visual)
    torch.testing.assert_close(family.vlm.logits(context, everything), family.vlm.logits(context))


@pytest.mark.parametrize("name", list(known()))
@torch.no_grad()
def test_the_seed_decides(family, name):
    first, again, other = (create(name, family.vlm, seed).select(family.context(), 3) for seed in (0, 0, 1))
    assert kept_sets(first) == kept_sets(again)
    assert (kept_sets(first) == kept_sets(other)) is (name != "random")


@torch.no_grad()
def test_budgets_do_not_disturb_each_other(family, method):
    """Asked for several budgets, a context answers as if asked for each alone.

    What ranks the tokens, or takes one after the other, keeps nested sets. Grid and pooling cut anew for every budget;
    VisionZip, VisPruner and HoloV share the budget out anew, as do methods that drop tokens layer by layer.
    """
    context = family.context()
    several = {k: kept_sets(method.select(context, k)) for k in (5, 1, 9)}
    for k, kept in several.items():
        assert kept == kept_sets(method.select(fresh(context), k))
    if isinstance(method, ScoreBaseline) or method.name in ("prumerge", "cdpruner"):
        for few, more, most in zip(several[1], several[5], several[9], strict=True):
            assert set(few) <= set(more) <= set(most)


FOLLOWING = (
    "norm",
    "encoder_attention",
    "text_similarity",
    "divprune",
    "prumerge",
    "vispruner",
    "cdpruner",
    "holov",
)


@pytest.mark.parametrize("name", FOLLOWING)
@torch.no_grad()
def test_the_order_of_the_tokens_is_irrelevant(family, name):
    """Methods that look at the tokens alone, and at their rows and columns, follow a permutation.

    Others depend on the places: random, grid and pooling where cells tie, VisionZip, whose targets are every s-th
    token, and what reads the language model's attention or keys.
    """
    context = family.context([0])
    order = torch.randperm(context.n_visual, generator=torch.Generator().manual_seed(2))
    permuted = fresh(
        context,
        visual_BND=context.visual_BND[:, order],
        encoder_attention_BN=context.encoder_attention_BN[:, order],
        encoder_key_BNE=context.encoder_key_BNE[:, order],
        grid_BN2=context.grid_BN2[:, order],
    )
    method = create(name, family.vlm, seed=0)
    for k in (1, 4):
        (plain,), (moved,) = kept_sets(method.select(context, k)), kept_sets(method.select(permuted, k))
        # The ends of LLaVA-NeXT's rows are one token, many times.
        values = context.visual_BND[0]
        one, other = (values[index][values[index, 0].argsort()] for index in (torch.tensor(plain), order[moved]))
        torch.testing.assert_close(one, other)


# Random draws another set for every prompt.
@pytest.mark.parametrize("name", [name for name, kind in known().items() if not kind.query_aware and name != "random"])
@torch.no_grad()
def test_only_methods_that_say_so_read_the_question(family, name):
    method = create(name, family.vlm, seed=0)
    context = family.context([0])
    asked = family.vlm.encode(family.images[:1], ["which row ?"], ["red"])
    assert kept_sets(method.select(context, 3)) == kept_sets(method.select(asked, 3))
