"""The verdict on the stability of training flips with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from grip_core.claims.stability import NOT_RUN, judge_stability
from grip_core.evaluation.ablations import ablation_tables, empty_tables
from grip_core.evaluation.arms import answers_of
from grip_core.evaluation.own_settings import RISE_COLUMNS, own_runs, pooled, rises
from tests.evaluation.made_ablations import (
    BUDGETS,
    CLAIM,
    CONFIDENCE,
    GRID,
    HEADLINE,
    SCHEDULES,
    Made,
    ablation_of,
    made_export,
    made_warmup,
)


def judged(tmp_path: Path, collapsed: int = 0, start: float = 0.4, own: float = 0.6, seeds: int = 40) -> Any:
    """The claim on a made-up ablation of schedules."""
    arms = {
        "baseline": Made(SCHEDULES["baseline"].levels, own, collapsed=collapsed),
        "schedule=only_2": SCHEDULES["schedule=only_2"],
    }
    ablation = ablation_of(made_export(tmp_path / "it", arms, seeds))
    tables, runs = ablation_tables(ablation), own_runs(ablation)
    twice = pd.concat([tables["runs"], tables["runs"].assign(ablation="again")])
    (both,) = pooled([runs, runs], 120)
    risen = rises(both, answers_of(made_warmup(start), "warmup"), HEADLINE, CONFIDENCE)
    return judge_stability(CLAIM, twice, risen, tables["carry"], CONFIDENCE)


@pytest.mark.parametrize(
    ("change", "verdict", "parts"),
    [
        ({}, "supported", ["supported"] * 4),
        ({"seeds": 5}, "undecided", ["undecided", "supported", "supported", "supported"]),
        ({"collapsed": 20}, "contradicted", ["contradicted", "supported", "supported", "supported"]),
        ({"start": 0.9}, "contradicted", ["supported", "contradicted", "contradicted", "supported"]),
        ({"own": 0.4, "start": 0.2}, "contradicted", ["supported", "supported", "supported", "contradicted"]),
    ],
)
def test_the_verdict_flips_with_the_data(tmp_path, change, verdict, parts):
    found, judged_parts = judged(tmp_path, **{"own": 0.72, **change})  # clear of the margin, with so few questions
    assert (found, [part.verdict for part in judged_parts]) == (verdict, parts)
    assert judged_parts[0].n == change.get("seeds", 40), "a run that two ablations have exported is one run"
    assert judged_parts[1].n == judged_parts[0].n
    assert (judged_parts[1].k, judged_parts[2].k in map(str, BUDGETS), judged_parts[3].k) == ("", True, "2")


def test_nothing_is_judged_without_ablations():
    empty, nothing = empty_tables(), pd.DataFrame(columns=RISE_COLUMNS)
    verdict, parts = judge_stability(CLAIM, empty["runs"], nothing, empty["carry"], CONFIDENCE)
    assert {verdict, *(part.verdict for part in parts)} == {NOT_RUN}


def test_arms_of_other_settings_say_nothing_of_the_pipelines(tmp_path):
    folder = made_export(tmp_path / "it", GRID, own={"grpo.num_iterations": 2})
    ablation = ablation_of(folder)
    assert own_runs(ablation) is None
    tables, nothing = ablation_tables(ablation), pd.DataFrame(columns=RISE_COLUMNS)
    assert judge_stability(CLAIM, tables["runs"], nothing, tables["carry"], CONFIDENCE)[0] == NOT_RUN
