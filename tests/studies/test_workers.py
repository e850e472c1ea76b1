"""What a worker says of itself while it works."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from studies.workers import Reporter, new_card


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_in_a_trial_counts_while_it_runs_and_not_between_trials(tmp_path, clock):
    path: Path = tmp_path / "card.json"
    reporter = Reporter(path, new_card("w", "1", "host", 0, ""), beat=1000)

    def told() -> tuple[float, float, int | None]:
        card = json.loads(path.read_text())
        return card["seconds"], card["in_trials"], card["trial"]

    clock[0] += 10
    reporter.begin(3)
    clock[0] += 5
    reporter.write()
    assert told() == (15, 5, 3)
    clock[0] += 2
    reporter.end()
    assert told() == (17, 7, None)
    clock[0] += 4
    reporter.begin(4)
    clock[0] += 1
    reporter.close("done")
    assert told() == (22, 8, None)
    clock[0] += 30
    reporter.close("done")
    assert told()[1] == 8
