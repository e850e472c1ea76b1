"""Tiny random models, prompts of different lengths and image sizes, and contexts without a model."""

from __future__ import annotations

import pytest
import torch

from grip_core.vlm.context import Context
from tests import families
from tests.families import Family


@pytest.fixture(scope="session", params=["llava", "qwen2_5_vl"])
def family(request) -> Family:
    return families.BUILDERS[request.param]()


@pytest.fixture(scope="session")
def llava() -> Family:
    return families.llava()


@pytest.fixture(scope="session")
def qwen() -> Family:
    return families.qwen2_5_vl()


@pytest.fixture
def positions(request, family):
    """Set the family's positions for one test."""
    before = family.vlm.positions
    family.vlm.positions = request.param
    yield request.param
    family.vlm.positions = before


def synthetic_context(visual_BND: torch.Tensor, **given: torch.Tensor) -> Context:
    """A context without a model: a grid of one row, one word of question; any field may be given."""
    batch, n, width = visual_BND.shape
    columns = torch.arange(n).expand(batch, -1)
    fields = {
        "visual_mask_BN": torch.ones(batch, n, dtype=torch.bool),
        "grid_BN2": torch.stack([torch.zeros_like(columns), columns], dim=-1),
        "encoder_attention_BN": torch.zeros(batch, n),
        "encoder_key_BNE": visual_BND,
        "question_BLD": torch.ones(batch, 1, width),
        "question_mask_BL": torch.ones(batch, 1, dtype=torch.bool),
        "input_ids_BT": torch.ones(batch, n + 2, dtype=torch.long),
        "attention_mask_BT": torch.ones(batch, n + 2, dtype=torch.bool),
        "positions_PBT": torch.arange(n + 2).expand(1, batch, -1),
        "visual_slot_BN": columns + 1,
        "answer_ids_BA": torch.ones(batch, 1, dtype=torch.long),
        "answer_mask_BA": torch.ones(batch, 1, dtype=torch.bool),
    }
    return Context(visual_BND=visual_BND, **(fields | given))
