"""From exports of ablations, made up here, to tables, a verdict, figures and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from grip_core.claims.schema import load_claims
from grip_core.claims.stability import NOT_RUN, judge_stability
from grip_core.config import Params, load
from grip_core.errors import UserError
from grip_core.evaluation.ablation import Ablation
from grip_core.evaluation.ablations import COLUMNS, ablation_tables, describe, empty_tables
from grip_core.evaluation.arms import choose_arms, trained_budgets
from grip_core.evaluation.exports import AGREEMENT, CURVES, RUNS, read_ablation, write_export
from grip_core.evaluation.tables import collect_scores, difference_table
from grip_core.figures.column_width import STALE
from grip_core.figures.stability import Judged, render_stability
from grip_core.seeds import numpy_random
from grip_core.statistics.intervals import compare
from pipeline import ablations as stage
from pipeline.ablation_figures import drawings, read_tables, write_stability
from pipeline.ablations import ABOUT, read_ablations, together

BUDGETS, TOKENS, SHARE, CONFIDENCE = (1, 2, 4, 16), 16, 0.25, 0.95
HEADLINE = [1, 2, 4]
IMAGES, QUESTIONS, STEPS = 40, 2, 120
EVALUATIONS = (0, 30, 60, 90, 120)
CLAIM = load_claims(Path(__file__).parents[2] / "claims.yaml").stability
RATE = "grpo.learning_rate"


@dataclass(frozen=True)
class Made:
    """An arm of a made-up export."""

    levels: Mapping[str, str]
    test: float | Mapping[int, float] = 0.6
    """Accuracy, or by budget."""
    validation: float = 0.6
    settings: Mapping[str, Any] = ()  # type: ignore[assignment]
    rate: float | None = None
    collapsed: int = 0
    """Of its runs."""


def made_export(
    folder: Path, arms: Mapping[str, Made], seeds: int = 4, start: float = 0.4, own: Mapping[str, Any] | None = None
) -> Path:
    """An export of these arms, the baseline being the first."""
    generator = numpy_random(0, folder.name)
    rows, curves, runs, agreement = [], [], [], []
    for arm, made in arms.items():
        for seed in range(seeds):
            accuracy = made.test if isinstance(made.test, Mapping) else dict.fromkeys(BUDGETS, made.test)
            shift = 0.01 * (seed - (seeds - 1) / 2)
            rows += _answers(generator, arm, seed, {k: share + shift for k, share in accuracy.items()})
            collapsed = seed < made.collapsed
            end = STEPS // 2 if collapsed else STEPS
            curves += _curves(arm, seed, start, made.validation + shift, end)
            at, cause = (float(end), "kl") if collapsed else (np.nan, "")
            runs.append((arm, seed, end, collapsed, at, cause, made.validation + shift))
        pairs = [(one, other) for one in range(seeds) for other in range(one)]
        agreement += [(arm, k, other, one, 0.5) for k in BUDGETS for one, other in pairs]
    params = json.loads(json.dumps(load(Path(__file__).parents[2] / "params.yaml").model_dump()))
    factors: dict[str, list[str]] = {}
    for made in arms.values():
        for factor, level in made.levels.items():
            factors.setdefault(factor, [])
            factors[factor] += [level] if level not in factors[factor] else []
    manifest = {
        "params": params,
        "hashes": {"vlm": "1"},
        "definition": {"params": dict(own or {})},
        "arms": {
            arm: {"settings": dict(made.settings), "levels": dict(made.levels), "learning_rate": made.rate}
            for arm, made in arms.items()
        },
        "ablation": {"factors": factors, "baseline": "baseline", "design": "grid", "missing": []},
    }
    tables = {
        CURVES: pd.DataFrame(curves, columns=["arm", "seed", "step", "metric", "value"]).astype({"arm": "category"}),
        AGREEMENT: pd.DataFrame(agreement, columns=["arm", "k", "seed_a", "seed_b", "jaccard"]),
        RUNS: pd.DataFrame(
            runs, columns=["arm", "seed", "steps", "collapsed", "collapse_step", "cause", "accuracy"]
        ).astype({"arm": "category", "cause": "category"}),
    }
    columns = ["benchmark", "example_id", "image_id", "method", "seed", "k", "correct"]
    write_export(folder, pd.DataFrame(rows, columns=columns), manifest, tables)
    return folder


def _answers(generator: np.random.RandomState, arm: str, seed: int, accuracy: Mapping[int, float]) -> list[tuple]:
    return [
        (benchmark, f"{benchmark}-{i}", i // QUESTIONS, arm, seed, k, correct)
        for k, share in accuracy.items()
        for benchmark in ("one", "two")
        for i, correct in enumerate(generator.permutation(IMAGES * QUESTIONS) < round(share * IMAGES * QUESTIONS))
    ]


def _curves(arm: str, seed: int, start: float, end: float, steps: int) -> list[tuple]:
    found = []
    for step in range(steps + 1):
        done = step / STEPS
        if step in EVALUATIONS:
            value = start + (end - start) * done
            found += [(arm, seed, step, metric, value) for metric in ("accuracy", "accuracy@1", "accuracy@4")]
        if step:
            values = {"reward": done, "kl": 0.1 * done, "entropy": 1 - 0.5 * done, "dead_share": 0.2, "scored": 8.0}
            found += [(arm, seed, step, metric, value) for metric, value in values.items()]
    return found


def ablation_of(folder: Path) -> Ablation:
    return Ablation(folder.name, read_ablation(folder), TOKENS, SHARE, CONFIDENCE)


GRID = {
    "baseline": Made({"size": "8", "beta": "0.1"}),
    "size=32": Made({"size": "32", "beta": "0.1"}, 0.8, settings={"grpo.group_size": 8}),
    "beta=0": Made({"size": "8", "beta": "0"}, 0.3, settings={"grpo.beta": 0.0}, collapsed=3),
    "size=32, beta=0": Made({"size": "32", "beta": "0"}, 0.61, settings={"grpo.group_size": 8, "grpo.beta": 0.0}),
}
SCHEDULES = {
    "baseline": Made({"schedule": "log_uniform"}),
    "schedule=only_2": Made(
        {"schedule": "only_2"},
        {1: 0.4, 2: 0.6, 4: 0.4, 16: 0.4},
        settings={"budgets.schedule": "constant", "budgets.constant": 2},
    ),
}
RATES = {
    "baseline": Made({"scaling": "group"}, validation=0.6),
    "baseline @ lr=0.001": Made({"scaling": "group"}, 0.7, 0.7, {RATE: 0.001}, 0.001),
    "scaling=none": Made({"scaling": "none"}, 0.9, 0.5, {"grpo.scale_rewards": "none"}),
    "scaling=none @ lr=0.001": Made({"scaling": "none"}, 0.65, 0.6, {"grpo.scale_rewards": "none", RATE: 0.001}, 0.001),
    "scaling=alone": Made({"scaling": "alone"}, 0.65, settings={"grpo.beta": 0.1}),
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("exports")
    for name, arms in {"grid": GRID, "schedules": SCHEDULES, "rates": RATES}.items():
        made_export(root / name, arms)
    return root


@pytest.fixture(scope="module")
def made(exports) -> dict[str, tuple[Ablation, dict[str, pd.DataFrame]]]:
    found = {name: ablation_of(exports / name) for name in ("grid", "schedules", "rates")}
    return {name: (ablation, ablation_tables(ablation)) for name, ablation in found.items()}


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
    # Two are claimed, so the third is tested at the whole level, and the weaker of the two at half of it.
    two = [collect_scores(rows, arm, HEADLINE) for arm in ("size=32, beta=0", "baseline")]
    last = compare(two[0].score_SE, two[1].score_SE, two[0].image_E, two[0].benchmark_E)
    assert effects.loc["size=32, beta=0", "low"] == pytest.approx(last.interval(CONFIDENCE).low)
    assert effects.loc["size=32, beta=0", "p"] == pytest.approx(last.p_value())
    weaker = effects["p"].drop("size=32, beta=0").idxmax()
    own = collect_scores(rows, weaker, HEADLINE)
    half = compare(own.score_SE, two[1].score_SE, own.image_E, own.benchmark_E).interval(1 - 0.05 / 2)
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
    assert calm["detectable"] > 2 * calm["spread"]


def test_survival_falls_where_runs_collapse(made):
    table = made["grid"][1]["survival"]
    own = table[table["arm"] == "beta=0"]
    assert own[["step", "at_risk", "surviving"]].to_numpy().tolist() == [[0, 4, 1.0], [60, 4, 0.25], [120, 1, 0.25]]
    assert set(table.loc[table["arm"] == "baseline", "surviving"]) == {1.0}


def test_curves_are_thin_and_runs_that_ended_stay_in_them(made):
    table = made["grid"][1]["curves"]
    own = table[(table["arm"] == "beta=0") & (table["metric"] == "kl")]
    assert own["step"].tolist() == list(range(3, 121, 3))  # 120 steps in at most 50 points
    assert own["iqm"].iloc[0] == pytest.approx(0.1 * 2 / 120)
    assert own["iqm"].iloc[-1] == pytest.approx(0.1 * 59 / 120)  # the last of the middle two runs
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


# The verdict ----------------------------------------------------------------------------------------------------------


def judged(tmp_path: Path, collapsed: int = 0, start: float = 0.4, own: float = 0.6, seeds: int = 40) -> Any:
    """The claim on a made-up ablation of schedules."""
    arms = {
        "baseline": Made(SCHEDULES["baseline"].levels, own, collapsed=collapsed),
        "schedule=only_2": SCHEDULES["schedule=only_2"],
    }
    tables = ablation_tables(ablation_of(made_export(tmp_path / "it", arms, seeds, start)))
    twice = {name: pd.concat([tables[name], tables[name].assign(ablation="again")]) for name in ("runs", "gains")}
    return judge_stability(CLAIM, twice["runs"], twice["gains"], tables["carry"], CONFIDENCE)


@pytest.mark.parametrize(
    ("change", "verdict", "parts"),
    [
        ({}, "supported", ["supported"] * 4),
        ({"seeds": 5}, "undecided", ["undecided", "supported", "supported", "supported"]),
        ({"collapsed": 20}, "contradicted", ["contradicted", "supported", "supported", "supported"]),
        ({"start": 0.9}, "contradicted", ["supported", "contradicted", "contradicted", "supported"]),
        ({"own": 0.4}, "contradicted", ["supported", "supported", "supported", "contradicted"]),
    ],
)
def test_the_verdict_flips_with_the_data(tmp_path, change, verdict, parts):
    found, judged_parts = judged(tmp_path, **{"own": 0.72, **change})  # clear of the margin, with so few questions
    assert (found, [part.verdict for part in judged_parts]) == (verdict, parts)
    assert judged_parts[0].n == change.get("seeds", 40), "a run that two ablations have exported is one run"
    assert (judged_parts[2].k in ("1", "4"), judged_parts[3].k) == (True, "2")


def test_nothing_is_judged_without_ablations():
    empty = empty_tables()
    verdict, parts = judge_stability(CLAIM, empty["runs"], empty["gains"], empty["carry"], CONFIDENCE)
    assert {verdict, *(part.verdict for part in parts)} == {NOT_RUN}


def test_arms_of_other_settings_say_nothing_of_the_pipelines(tmp_path):
    folder = made_export(tmp_path / "it", GRID, own={"grpo.num_iterations": 2})
    tables = ablation_tables(ablation_of(folder))
    assert judge_stability(CLAIM, tables["runs"], tables["gains"], tables["carry"], CONFIDENCE)[0] == NOT_RUN


# The stage and the page -----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty repository in which the stage runs."""
    root = Path(__file__).parents[2]
    (tmp_path / "claims.yaml").write_text((root / "claims.yaml").read_text())
    (tmp_path / "artifacts/results").mkdir(parents=True)
    (tmp_path / "artifacts/results/headline.json").write_text(json.dumps({"tokens": TOKENS}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings() -> Params:
    params = load(Path(__file__).parents[2] / "params.yaml")
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"headline_share": SHARE})})


def page(here: Path) -> str:
    write_stability(
        here / "report", here / "artifacts/results/ablations", here / "artifacts/exports/ablations", CLAIM, CONFIDENCE
    )
    return (here / "report/stability.html").read_text()


def test_without_exports_tables_are_empty_and_the_page_says_how_to_run_one(here):
    stage.main(settings())
    folder = here / "artifacts/results/ablations"
    for name, words in COLUMNS.items():
        assert (folder / f"{name}.csv").read_text() == ",".join(["ablation", *words.split()]) + "\n"
    text = page(here)
    assert "No ablation has been run" in text
    assert "python -m studies launch studies/ablations/" in text
    assert not (here / "report/figures").exists()


@pytest.fixture
def run_here(here, exports, monkeypatch) -> Path:
    """Where the stage has run on all made-up exports."""
    (here / "artifacts/exports").mkdir()
    (here / "artifacts/exports/ablations").symlink_to(exports)
    monkeypatch.setattr("grip_core.evaluation.exports.input_hashes", lambda *_: {"vlm": "1"})
    stage.main(settings())
    return here


def words(folder: Path, confidence: float = CONFIDENCE) -> str:
    """The page without figures, in one line."""
    verdict, parts = stage.read_verdict(folder / "verdict.csv")
    about = json.loads((folder / ABOUT).read_text())
    pictures: Any = AnyPicture()
    return " ".join(
        render_stability(read_tables(folder), about, Judged(CLAIM, verdict, parts), pictures, confidence).split()
    )


def test_tables_are_read_back_with_names_as_names(run_here):
    tables = read_tables(run_here / "artifacts/results/ablations")
    assert set(tables["effects"]["ablation"]) == {"grid", "rates", "schedules"}
    assert set(tables["heat"]["column_level"]) == {"0", "0.1"}
    assert tables["runs"]["collapsed"].dtype == bool


def test_the_page_answers_in_computed_sentences(run_here):
    text = words(run_here / "artifacts/results/ablations")
    for question in ("How often", "What prevents", "How much do seeds", "Which defaults", "How far does one scorer"):
        assert question in text
    for said in (
        "3 of the 36 runs of all ablations collapsed.",  # the baseline of all three is one and the same
        "own settings 0 of 4 runs did: a rate between 0% and 49%",
        "Causes: it drifted from the warm-up (3).",
        "In the ablation grid, runs collapsed at beta=0 (3 of 4); none of the 12 runs of the other arms.",
        "Whatever was varied, no run collapsed in the ablation rates and schedules.",
        "In 0 of 3 ablations the seed matters more than all that was varied.",
        "In the ablation grid the default is beaten by size=32 (+2",
        "count with the one whose accuracy on validation is best: baseline at 0.001 of 2; scaling=none at 0.001 of 2.",
        "At k = 2, the scorer of all budgets against the one trained there alone:",
        "<li>Undecided: GRPO reliably finds good masks across budgets without instability.</li>",
        "Runs do not collapse: undecided; the rate is 0% (0% to 49%) of 4 runs and has to be below 10%.",
    ):
        assert said in text, said
    assert "stale" not in text.split("<body>")[1].lower()


@pytest.mark.slow
def test_figures_are_saved_and_shown(run_here):
    (run_here / "artifacts/exports/ablations").unlink()
    made_export(run_here / "artifacts/exports/ablations/schedules", SCHEDULES)
    stage.main(settings())
    text = page(run_here)
    kinds = {"curves", "survival", "frontier", "entropy", "matrix", "importances"}
    files = {path.name for path in (run_here / "report/figures/ablations").iterdir()}
    names = ["all-forest", *(f"schedules-{kind}" for kind in kinds)]
    assert files == {f"{name}.{end}" for name in names for end in ("png", "svg", "pdf")}
    assert text.count('<img src="data:image/') == len(names)
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


def test_stale_exports_are_named_and_their_figures_marked(exports, monkeypatch):
    found = dict(read_ablations(exports))
    monkeypatch.setattr("grip_core.evaluation.exports.input_hashes", lambda *_: {"vlm": "2"})
    params = settings()
    assert stage.changed(found["schedules"], params) == ["vlm"]
    longer = params.model_copy(update={"grpo": params.grpo.model_copy(update={"steps": 7})})
    assert stage.changed(found["schedules"], longer) == ["vlm", "grpo.steps"]
    ablation = ablation_of(exports / "schedules")
    tables, about = ablation_tables(ablation), {"schedules": describe(ablation, ["vlm"])}
    drawn = list(drawings(tables, about, exports, CONFIDENCE))
    kinds = [name.removeprefix("schedules-") for name, *_ in drawn]
    assert kinds == ["all-forest", "curves", "survival", "frontier", "entropy", "matrix", "importances"]
    for name, figure, _ in drawn:
        assert [text for text in figure.texts if text.get_gid() == STALE], name
    verdict, parts = judge_stability(CLAIM, tables["runs"], tables["gains"], tables["carry"], CONFIDENCE)
    pictures: Any = AnyPicture()
    text = render_stability(tables, about, Judged(CLAIM, verdict, parts), pictures, CONFIDENCE)
    assert "Exports of schedules are stale" in text


class AnyPicture(dict):
    def __missing__(self, name: str) -> Any:
        return {"uri": "", "alt": ""}


def test_grids_have_figures_of_their_cells(exports, made):
    ablation, tables = made["grid"]
    drawn = drawings(tables, {"grid": describe(ablation, [])}, exports, CONFIDENCE)
    names = {name: figure for name, figure, _ in drawn}
    assert {"grid-heat", "grid-sensitivity"} < set(names)
    assert "grid-matrix" not in names
    assert not [text for figure in names.values() for text in figure.texts if text.get_gid() == STALE]


def test_the_verdict_is_read_back_as_it_was_written(made, tmp_path):
    tables = together([made[name][1] for name in made])
    verdict, parts = judge_stability(CLAIM, tables["runs"], tables["gains"], tables["carry"], CONFIDENCE)
    (tmp_path / "verdict.csv").write_text(stage.verdict_table(verdict, parts).to_csv(index=False))
    assert stage.read_verdict(tmp_path / "verdict.csv") == (verdict, parts)
