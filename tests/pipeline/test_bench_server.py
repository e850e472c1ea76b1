"""What sharing a VLM is measured by."""

from __future__ import annotations

import os

import numpy as np
import pytest

from grip_core.rl.train import Task
from pipeline.bench_server import DISCARDED, Measured, World, measure, resident, table
from tests import families
from tests.rl.conftest import BUDGETS, make_grpo, make_scorer, make_store


def tiny_vlm():
    return families.llava().vlm


def tiny_task(vlm) -> Task:
    return Task(vlm, make_store(families.llava()), make_scorer())


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_runs_are_measured_with_and_without_a_server(shared):
    world = World(tiny_vlm, tiny_task, make_grpo(), BUDGETS)
    found = measure(world, 2, shared)
    assert found.runs == 2
    assert found.step > 0
    # Two runs at once: their rate is twice that of a step, up to what medians and means differ by.
    assert found.rate == pytest.approx(2 / found.step, rel=0.7)
    assert found.run_memory > 50
    assert (found.server_memory > 50) == shared
    assert found.memory == pytest.approx(2 * found.run_memory + found.server_memory)


def test_resident_memory_grows_with_what_is_held():
    before = resident(os.getpid())
    held = np.ones(25_000_000)  # 200 MB
    assert 150 < resident(os.getpid()) - before < 250
    assert held.sum() == 25_000_000


def test_a_row_for_every_way_and_number_of_runs():
    rows = [Measured(4, 0.5, 8.0, 300.0, 1000.0)]
    shown = table({"shared": rows, "one each": rows})
    assert [list(column.cells) for column in shown.columns] == [
        ["4", "4"],
        ["shared", "one each"],
        ["0.500", "0.500"],
        ["8.00", "8.00"],
        ["1000", "1000"],
        ["300", "300"],
        ["2200", "2200"],
    ]
    assert make_grpo().steps > DISCARDED
