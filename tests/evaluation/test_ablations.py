"""From exports of ablations, made up, to tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grip_core.errors import UserError
from grip_core.evaluation.ablation import Ablation
from grip_core.evaluation.ablations import COLUMNS
from grip_core.evaluation.arms import choose_arms, trained_budgets
from grip_core.evaluation.exports import read_ablation
from grip_core.evaluation.tables import collect_scores, difference_table
from grip_core.statistics.intervals import compare
from tests.evaluation.made_ablations import (
    BUDGETS,
    CONFIDENCE,
    EVALUATIONS,
    HEADLINE,
    SCORED,
    Made,
    made_export,
    read_made,
    write_exports,
)


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    return write_exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def made(exports) -> dict[str, tuple[Ablation, dict[str, pd.DataFrame]]]:
    return read_made(exports)


# Arms -----------------------------------------------------------------------------------------------------------------


def test_of_several_learning_rates_the_best_on_validation_counts_whatever_the_test_says(made):
    arms = made["rates"][0].arms
    assert {name: (arm.run, arm.rate) for name, arm in arms.items()} == {
        "baseline": ("baseline @ lr=0.001", 0.001),
        "scaling=none": ("scaling=none @ lr=0.001", 0.001),
        "scaling=alone": ("scaling=alone", 0.0005),
    }
    assert arms["scaling=none"].rates == (0.0005, 0.001)
    assert arms["scaling=none"].against == "baseline @ lr=0.001"
    assert arms["scaling=alone"].against == "baseline", "which had no choice of rates either"
    effects = made["rates"][1]["effects"].set_index("arm")["effect"]
    assert effects.to_dict() == pytest.approx({"scaling=none": -0.05, "scaling=alone": 0.05}, abs=0.01)


def test_an_ablation_needs_its_baseline(tmp_path):
    folder = made_export(tmp_path / "x", {"size=8": Made({"size": "8"})})
    with pytest.raises(UserError, match="the ablation x must have its arm baseline"):
        choose_arms(read_ablation(folder), "x")


def test_the_budgets_of_training_are_the_arms_own(made):
    manifest = made["schedules"][0].export.manifest
    assert trained_budgets(manifest, "baseline") == tuple(range(1, 37))
    assert trained_budgets(manifest, "schedule=only_2") == (2,)
    mixed = {**manifest, "definition": {"params": {"budgets.schedule": "mixture"}}}
    assert trained_budgets(mixed, "baseline") == (1, 4, 14)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_every_table_has_its_columns(made):
    for _, tables in made.values():
        assert {name: list(table) for name, table in tables.items()} == {
            name: ["ablation", *words.split()] for name, words in COLUMNS.items()
        }


def test_effects_are_paired_differences_within_holms_intervals(made):
    ablation, tables = made["grid"]
    rows = ablation.export.answers
    effects = tables["effects"].set_index("arm")
    plain = difference_table(rows, "size=32", ["baseline"], HEADLINE, CONFIDENCE).set_index("benchmark").loc["mean"]
    assert effects.loc["size=32", "effect"] == pytest.approx(plain["effect"])
    assert effects["verdict"].to_dict() == {"size=32": "better", "beta=0": "worse", "size=32, beta=0": "undecided"}
    assert effects["time"].to_dict() == {"size=32": 1.75, "beta=0": 1.0, "size=32, beta=0": 1.0}
    # Two are claimed, so the third is tested at the whole level, and the weaker of the two at half of it.
    two = [collect_scores(rows, arm, HEADLINE) for arm in ("size=32, beta=0", "baseline")]
    last = compare(two[0].score_SE, two[1].score_SE, two[0].image_E, two[0].benchmark_E, same_seeds=True)
    assert effects.loc["size=32, beta=0", "low"] == pytest.approx(last.interval(CONFIDENCE).low)
    assert effects.loc["size=32, beta=0", "p"] == pytest.approx(last.p_value())
    weaker = effects["p"].drop("size=32, beta=0").idxmax()
    own = collect_scores(rows, weaker, HEADLINE)
    half = compare(own.score_SE, two[1].score_SE, own.image_E, own.benchmark_E, same_seeds=True).interval(1 - 0.05 / 2)
    assert (effects.loc[weaker, "low"], effects.loc[weaker, "high"]) == pytest.approx((half.low, half.high))


def test_stability_of_arms(made):
    table = made["grid"][1]["stability"].set_index("arm")
    assert table["collapsed"].to_dict() == {"baseline": 0, "beta=0": 3, "size=32": 0, "size=32, beta=0": 0}
    calm, broken = table.loc["baseline"], table.loc["beta=0"]
    assert (calm["gain"], calm["collapse_high"]) == pytest.approx((0.2, 0.4899), abs=1e-4)
    assert calm["long_term_risk"] == 0.0
    assert calm["reward_gap"] == pytest.approx(0.0)
    assert calm["dispersion_across_time"] == pytest.approx(0.0)
    assert calm["agreement"] == 0.5
    by_chance = [1 / 16, (28 / 3 + 1) / 120, (880 / 7 + 396 / 3 + 48 * 3 / 5 + 1) / 1820]  # at k = 1, 2 and 4 of 16
    assert calm["agreement_chance"] == pytest.approx(np.mean(by_chance))
    assert broken["gain"] == pytest.approx(np.mean([0.0925, 0.0975, 0.1025, 0.215]), abs=0.001)  # half way, but for one
    assert calm["worst_seed"] <= calm["accuracy"] - calm["spread"] / 2
    assert np.isnan(calm["detectable"]), "it is what the others are held against"
    means = made["grid"][0].means
    assert broken["apart"] == pytest.approx(np.std(means["beta=0"] - means["baseline"], ddof=1))
    assert broken["detectable"] > broken["apart"]


def test_survival_falls_where_runs_collapse(made):
    table = made["grid"][1]["survival"]
    own = table[table["arm"] == "beta=0"]
    assert own["selections"].tolist() == [SCORED * step for step in own["step"]]
    assert own[["step", "at_risk", "surviving"]].to_numpy().tolist() == [[0, 4, 1.0], [60, 4, 0.25], [120, 1, 0.25]]
    assert set(table.loc[table["arm"] == "baseline", "surviving"]) == {1.0}


def test_curves_are_thin_and_runs_that_ended_stay_in_them(made):
    table = made["grid"][1]["curves"]
    own = table[(table["arm"] == "beta=0") & (table["metric"] == "kl")]
    assert own["step"].tolist() == list(range(5, 121, 5))  # 120 steps in at most 25 points
    assert own["selections"].tolist() == [SCORED * step for step in own["step"]]
    assert own["iqm"].iloc[0] == pytest.approx(0.1 * 3 / 120)
    assert own["iqm"].iloc[-1] == pytest.approx(0.1 * 58 / 120)  # the last of the middle two runs
    accuracy = table[(table["arm"] == "baseline") & (table["metric"] == "accuracy")]
    assert accuracy["step"].tolist() == list(EVALUATIONS)
    assert (accuracy["low"] <= accuracy["iqm"]).all()


def test_the_matrix_and_what_one_scorer_carries(made):
    tables = made["schedules"][1]
    matrix = tables["matrix"].set_index(["arm", "k"])
    assert matrix["unseen"].to_dict() == {
        **{("baseline", k): False for k in BUDGETS},
        **{("schedule=only_2", k): k != 2 for k in BUDGETS},
    }
    assert matrix.loc[("schedule=only_2", 4), "difference"] == pytest.approx(-0.2, abs=0.01)
    assert set(matrix.loc["baseline", "difference"]) == {0.0}
    (row,) = tables["carry"].to_dict("records")
    assert (row["arm"], row["k"], row["effect"]) == ("schedule=only_2", 2, pytest.approx(0.0, abs=0.01))
    assert row["corrected_high"] == row["high"], "there is one"
    assert made["grid"][1]["carry"].empty


def test_profiles_fall_from_all_scores_to_none(made):
    ablation, tables = made["grid"]
    own = tables["profiles"].query("arm == 'size=32'").set_index("threshold")
    assert (own["share"].iloc[-1], own["share"].is_monotonic_decreasing) == (0.0, True)
    means = ablation.export.answers.query("method == 'size=32' and k in @HEADLINE")
    scores = means.groupby(["seed", "benchmark", "k"], observed=True)["correct"].mean()
    for threshold, share in own["share"].items():
        assert share == pytest.approx((scores > threshold).mean())
    assert ((own["low"] <= own["share"]) & (own["share"] <= own["high"])).all()


def test_cells_of_two_factors(made):
    table = made["grid"][1]["heat"].set_index(["row_level", "column_level"])
    assert table["mean"].to_dict() == pytest.approx(
        {("8", "0.1"): 0.6, ("32", "0.1"): 0.8, ("8", "0"): 0.3, ("32", "0"): 0.61}, abs=0.01
    )
    assert made["rates"][1]["heat"].empty


def test_importances_of_the_test_are_those_of_the_cells(made):
    table = made["grid"][1]["importances"]
    assert list(table["phase"].unique()) == ["early", "middle", "late", "test"]
    test = table[table["phase"] == "test"].set_index("parameter")["importance"]
    assert list(test.index) == ["size", "beta", "interactions", "seeds"]
    means = np.array([[0.6, 0.3], [0.8, 0.61]])
    size, beta = means.mean(1).var(), means.mean(0).var()
    noise = np.var([-0.015, -0.005, 0.005, 0.015], ddof=1)
    total = means.var() + noise
    assert test["size"] == pytest.approx(size / total, abs=0.02)
    assert test["beta"] == pytest.approx(beta / total, abs=0.02)
    assert test["seeds"] < 0.03
    early = table[table["phase"] == "early"].set_index("parameter")["importance"]
    assert early["seeds"] == pytest.approx(1.0, abs=0.01), "all arms have one validation curve"
    rest = made["rates"][1]["importances"]
    assert set(rest["parameter"]) == {"scaling", "seeds"}


def test_ranks_and_sensitivity(made):
    ranks = made["grid"][1]["ranks"].set_index("arm")
    assert ranks["rank"].to_dict() == {"size=32": 1, "size=32, beta=0": 2, "baseline": 3, "beta=0": 4}
    assert ranks.loc["size=32", "first"] == 1.0
    plane = made["grid"][1]["sensitivity"].set_index("setting")
    assert set(plane["factor"]) == {"size"}
    assert set(plane["settings"]) == {2}
    assert plane.loc["32", "performance"] > plane.loc["8", "performance"]
    (whole,) = made["rates"][1]["sensitivity"].to_dict("records")
    assert (whole["factor"], whole["settings"]) == ("all", 5), "the levels have unequally many settings"
