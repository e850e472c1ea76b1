from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.evaluation.summary import profile_table, summary_table, task_scores
from tests.answers import make_rows

# Full 1, no image 1/4, so that accuracy a scores (a - 1/4) / (3/4).
ACCURACY = {"grip": 0.7, "warmup": 0.55, "random": 0.25, "only_2": 0.9}


@pytest.fixture
def rows() -> pd.DataFrame:
    return make_rows(ACCURACY)


def test_scores_are_shares_of_what_the_image_is_worth(rows):
    scores = task_scores(rows, [2, 4])
    assert set(scores) == {"grip", "warmup", "random"}, "a specialist is not ranked"
    assert scores["grip"].shape == (2, 4)  # seeds, two benchmarks at two budgets
    for method, score in {"grip": 0.6, "warmup": 0.4, "random": 0.0}.items():
        assert scores[method] == pytest.approx(np.full_like(scores[method], score))
    with pytest.raises(ValueError, match="grip lacks answers"):
        task_scores(rows[(rows["method"] != "grip") | (rows["k"] != 4)], [2, 4])


def test_a_benchmark_that_measures_nothing_is_left_out(rows):
    blind = rows[(rows["method"] == "no_image") & (rows["benchmark"] == "one")].index
    assert task_scores(rows.assign(correct=rows["correct"] | rows.index.isin(blind)), [2])["grip"].shape == (2, 1)


def test_the_summary_by_hand(rows):
    table = summary_table(rows, None, [2, 4], 0.95).set_index("method")
    assert table.index.tolist() == ["grip", "warmup", "random"]
    assert table["iqm"].tolist() == pytest.approx([0.6, 0.4, 0.0])
    assert table["gap"].tolist() == pytest.approx([0.4, 0.6, 1.0])
    assert table.loc["warmup", "improvement"] == 1.0
    assert np.isnan(table.loc["grip", "improvement"])
    assert table["hypervolume"].isna().all(), "without costs"
    assert (table.loc["grip", "iqm_low"], table.loc["grip", "iqm_high"]) == pytest.approx((0.6, 0.6))


def test_hypervolume_is_the_area_over_log_flops(rows):
    """GRIP's 0.7 from the cheapest cost on: 0.7 - 1/4. The warm-up's 0.55 from half way on: half of 0.3."""
    costs = pd.DataFrame(
        [("grip", 2, 1e2), ("grip", 4, 1e3), ("grip", 8, 1e4), ("full", 16, 1e6)]
        + [("warmup", k, 1e4) for k in (2, 4, 8)],
        columns=["method", "k", "flops"],
    )
    table = summary_table(rows, costs, [2, 4], 0.95).set_index("method")
    assert table.loc["grip", "hypervolume"] == pytest.approx(0.45)
    assert table.loc["warmup", "hypervolume"] == pytest.approx(0.15)
    assert np.isnan(table.loc["random", "hypervolume"])


def test_profiles_count_scores_above_each_threshold(rows):
    table = profile_table(rows, [2, 4])
    grip = table[table["method"] == "grip"]
    assert grip["share"].tolist() == [float(threshold < 0.6 - 1e-9) for threshold in grip["threshold"]]
    assert (grip["runs"].iloc[0], grip["tasks"].iloc[0]) == (2, 4)
