"""Here a test of a family is one of families of every kind of grid: whole, of images of any size, tiled, of one row."""

from __future__ import annotations

import pytest

from tests.families import BUILDERS, Family

GRIDS = ("llava", "qwen2_5_vl", "llava_next", "idefics3", "internvl", "blip2_llama", "gemma3")


@pytest.fixture(scope="session", params=GRIDS)
def family(request) -> Family:
    return BUILDERS[request.param]()
