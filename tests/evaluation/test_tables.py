from __future__ import annotations

import pytest

from grip_core.evaluation.tables import (
    accuracy_table,
    collect_scores,
    difference_table,
    interval_table,
    seed_means,
)
from tests.answers import make_rows


def test_accuracy_counts_answers():
    table = accuracy_table(make_rows({"grip": 0.75}))
    row = table[(table["benchmark"] == "one") & (table["method"] == "grip") & (table["seed"] == 1) & (table["k"] == 2)]
    assert row[["accuracy", "n"]].to_numpy().tolist() == [[0.75, 40]]


def test_interval_table_has_every_benchmark_and_their_mean():
    rows = make_rows({"grip": 0.75, "random": 0.5}, seeds={"grip": 3})
    rows.loc[(rows["benchmark"] == "two") & (rows["method"] == "random"), "correct"] = False
    table = interval_table(rows, 0.95).set_index(["benchmark", "method", "k"])
    assert table.loc[("one", "random", 2), "accuracy"] == pytest.approx(0.5)
    assert table.loc[("mean", "random", 2), "accuracy"] == pytest.approx(0.25)
    grip = table.loc[("mean", "grip", 2)]
    assert grip["low"] < grip["accuracy"] < grip["high"]
    assert (grip["seeds"], grip["images"]) == (3, 40)
    assert table["seed_low"].isna().groupby("method").first().to_dict() == {
        "full": True,
        "grip": False,
        "no_image": True,
        "random": True,
    }


def test_a_missing_or_doubled_row_is_refused():
    rows = make_rows({"grip": 0.5})
    of_grip = rows.index[rows["method"] == "grip"]
    for broken in (rows.drop(of_grip[3]), rows.loc[[*rows.index, of_grip[3]]]):
        with pytest.raises(ValueError, match="one row for every example"):
            collect_scores(broken, "grip", [2, 4])


def test_seed_means_weigh_benchmarks_the_same():
    rows = make_rows({"grip": 1.0}, seeds={"grip": 2})
    wrong = (rows["method"] == "grip") & (rows["benchmark"] == "one") & (rows["seed"] == 1)
    rows.loc[wrong, "correct"] = False
    rows = rows[(rows["benchmark"] == "one") | (rows["image_id"] < 4)]  # fewer examples in the second
    assert seed_means(collect_scores(rows, "grip", [2, 4])).tolist() == [1.0, 0.5]


def test_difference_is_paired_and_signed():
    rows = make_rows({"grip": 0.9, "random": 0.4, "norm": 0.9})
    table = difference_table(rows, "grip", ["random", "norm"], [2, 4], 0.95).set_index(["benchmark", "method"])
    assert table.loc[("mean", "random"), "effect"] == pytest.approx(0.5)
    assert table.loc[("one", "random"), "verdict"] == "better"
    same = table.loc[("mean", "norm")]  # right on the same questions: nothing is left to chance
    assert (same["low"], same["high"], same["verdict"]) == (0.0, 0.0, "undecided")
    back = difference_table(rows, "random", ["grip"], [2, 4], 0.95)
    assert set(back["verdict"]) == {"worse"}


def test_methods_must_share_their_examples():
    rows = make_rows({"grip": 0.9, "random": 0.4})
    rows = rows[(rows["method"] == "grip") | (rows["image_id"] > 0)]
    with pytest.raises(ValueError, match="same examples"):
        difference_table(rows, "grip", ["random"], [2, 4], 0.95)
