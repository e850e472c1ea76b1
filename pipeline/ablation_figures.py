"""The figures of ablations, and the page on the stability of training that shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from grip_core.claims.schema import Stability
from grip_core.evaluation.ablation_accuracy import ALL
from grip_core.evaluation.ablation_training import scored_per_step, thin_curve
from grip_core.evaluation.ablations import COLUMNS
from grip_core.evaluation.arms import curve, setting
from grip_core.evaluation.exports import AblationExport
from grip_core.evaluation.own_settings import HEADLINE
from grip_core.figures.arm_curves import arm_curves
from grip_core.figures.arm_profiles import arm_profiles
from grip_core.figures.arms import arm_label, arm_styles
from grip_core.figures.effects_heat_map import effects_heat_map
from grip_core.figures.entropy import entropy
from grip_core.figures.forest import forest
from grip_core.figures.importances import importances
from grip_core.figures.kl_reward import kl_reward_frontier
from grip_core.figures.own_gains import own_gains
from grip_core.figures.palette import Style
from grip_core.figures.schedule_matrix import schedule_matrix
from grip_core.figures.sensitivity import sensitivity
from grip_core.figures.stability import FOREST, OWN_GAINS, SLACK, Judged, render_stability
from grip_core.figures.survival import survival
from grip_core.files import write_text
from pipeline.ablations import ABOUT, OWN, VERDICT, read_ablations, read_verdict
from pipeline.drawings import Drawing, save_drawings

Tables = Mapping[str, pd.DataFrame]
NAMES = {
    "at": str,
    "cause": str,
    "settings": str,
    "arm": str,
    "ablation": str,
    "setting": str,
    "row_level": str,
    "column_level": str,
}


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of the stage `ablations`. An arm's or a level's name is text, whatever it looks like."""
    tables = {}
    for name, columns in {**{name: words.split() for name, words in COLUMNS.items()}, **OWN}.items():
        numbers = dict.fromkeys(set(columns) - set(NAMES), "")
        tables[name] = pd.read_csv(folder / f"{name}.csv", dtype=NAMES, keep_default_na=False, na_values=numbers)
    return tables


def write_stability(report: Path, results: Path, exports: Path, claim: Stability, confidence: float) -> None:
    """Draw the figures of every ablation into the report's folder, and write the page."""
    tables, about = read_tables(results), json.loads((results / ABOUT).read_text())
    verdict, parts = read_verdict(results / VERDICT)
    pictures = {}
    if about:
        drawn = drawings(tables, about, exports, confidence)
        pictures = save_drawings(report / "figures" / "ablations", drawn, _pixels(about))
    page = render_stability(tables, about, Judged(claim, verdict, parts), pictures, confidence)
    write_text(report / "stability.html", page)


MANY = ("curves", "steps", "survival", "frontier", "entropy", "profiles")
"""Kinds whose lines are so many that pixels are smaller than vectors."""


def _pixels(about: Mapping[str, Any]) -> list[str]:
    return [f"{name}-{kind}" for name in about for kind in MANY]


def drawings(tables: Tables, about: Mapping[str, Any], exports: Path, confidence: float) -> Iterator[Drawing]:
    """The figures of all ablations, then those of each."""
    stale = any(item["stale"] for item in about.values())
    note = (
        f"n = {_several(about, 'questions')} test questions, {_scored(about)}. Intervals over new seeds, in pairs, "
        f"and new images, by Holm's procedure in each ablation at {confidence:.0%} together. Every arm has one warm-up."
    )
    yield (
        FOREST,
        partial(forest, tables["effects"], note, stale=stale),
        "Every arm of every ablation against its baseline.",
    )
    gains, rises = tables["gains"], tables["rises"]
    if len(gains):
        runs, images = rises[["seeds", "images"]].iloc[0]
        note = f"{runs} runs, {images} test images; {confidence:.0%} intervals of the mean over new seeds and images."
        means = rises[rises["at"] != HEADLINE].assign(k=lambda table: table["at"].astype(int))
        yield (
            OWN_GAINS,
            partial(own_gains, gains, means, note, stale=stale),
            "What training at the pipeline's own settings adds to the warm-up, by budget and run.",
        )
    for name, export in read_ablations(exports):
        if name in about:
            own = {key: tables[key][tables[key]["ablation"] == name] for key in COLUMNS}
            for kind, draw, words in ablation_figures(own, about[name], export, confidence):
                yield f"{name}-{kind}", draw, words


def ablation_figures(
    tables: Tables, item: Mapping[str, Any], export: AblationExport, confidence: float
) -> Iterator[Drawing]:
    """Kind, drawing and caption of those figures that an ablation has the data for."""
    arms, stale = item["arms"], bool(item["stale"])
    baseline = next(iter(arms))
    look = arm_styles({arm: found["levels"] for arm, found in arms.items()}, baseline)
    runs = f"{item['seeds']} seeds an arm, {_scored({'': item})}"
    drawn = f"bands: {confidence:.0%} bootstrap over seeds at each point, which describe and decide nothing."
    band = f"{runs}; {drawn}"
    curves = tables["curves"]
    accuracy = seed_curves(export, arms, "accuracy"), curves[curves["metric"] == "accuracy"], look
    quantity = "validation accuracy"
    yield (
        "curves",
        partial(arm_curves, *accuracy, quantity, band, x="selections", stale=stale),
        "Validation accuracy of every arm during training, at the headline budgets.",
    )
    if curves.groupby("arm")["step"].max().nunique() > 1:
        yield (
            "steps",
            partial(arm_curves, *accuracy, quantity, band, stale=stale),
            "The same at equal optimizer steps, of which arms have more the fewer selections a step scores.",
        )
    if tables["runs"]["collapsed"].any():
        note = f"{runs}; bands: {confidence:.0%} by Wilson's formula."
        yield (
            "survival",
            partial(survival, tables["survival"], look, note, x="selections", stale=stale),
            "Share of runs that have not collapsed.",
        )
    note = f"{runs}; lines: means over seeds, from the warm-up on; markers: where runs end."
    if any(setting(export.manifest, found["run"], "grpo.distribution") == "bernoulli" for found in arms.values()):
        note += " Bernoulli decides on every token, and has its KL per token."
    yield (
        "frontier",
        partial(kl_reward_frontier, kl_paths(export, arms), look, note, stale=stale),
        "Log-probability of the answer to validation questions against KL to the warm-up.",
    )
    lost = curves[curves["metric"].isin(["entropy", "dead_share"])].rename(columns={"iqm": "mean"})
    lost = lost.sort_values(["metric", "arm", "step"], ascending=[False, True, True], kind="stable")
    yield (
        "entropy",
        partial(entropy, lost, look, band, x="selections", stale=stale),
        "The policies' entropy, and groups that teach nothing.",
    )
    budgets = ", ".join(map(str, item["budgets"]))
    note = f"{runs}; a score: a seed's, on a benchmark's test questions, at a budget (k = {budgets}); {drawn}"
    yield (
        "profiles",
        partial(arm_profiles, tables["profiles"], look, note, stale=stale),
        "Performance profiles: share of scores above an accuracy.",
    )
    yield from _cells(tables, item, look)
    yield from _shares(tables, item, confidence)


def _cells(tables: Tables, item: Mapping[str, Any], look: Mapping[str, Style]) -> Iterator[Drawing]:
    """Figures of grids of numbers."""
    heat, stale = tables["heat"], bool(item["stale"])
    asked = f"n = {item['questions']} test questions, {_scored({'': item})}"
    if len(heat):
        factors = arm_label(_last(heat["row_factor"].iloc[0])), arm_label(_last(heat["column_factor"].iloc[0]))
        note = f"{asked}, {item['seeds']} seeds a cell; k = {', '.join(map(str, item['budgets']))}."
        yield (
            "heat",
            partial(effects_heat_map, heat, factors, ("test accuracy", "std over seeds"), note, stale=stale),
            "Test accuracy of both factors' levels, and how far seeds are apart.",
        )
    if item["schedules"]:
        note = f"{asked}, {item['seeds']} seeds an arm; differences are in points against the baseline."
        yield (
            "matrix",
            partial(schedule_matrix, tables["matrix"], look, note, stale=stale),
            "How the budgets of training do at every budget of the test.",
        )


def _shares(tables: Tables, item: Mapping[str, Any], confidence: float) -> Iterator[Drawing]:
    """Figures of what matters."""
    stale = bool(item["stale"])
    parts = tables["importances"].dropna(subset=["importance"])
    if len(parts):
        named = parts.assign(parameter=parts["parameter"].map(_last))
        note = (
            f"{item['seeds']} seeds an arm. Share of the variance between runs, less what seeds alone would give; "
            f"validation accuracy in thirds of training, then test accuracy. {confidence:.0%} jackknife over seeds."
        )
        yield (
            "importances",
            partial(importances, named, note, stale=stale),
            "Whose variance it is: what was varied, or the seeds.",
        )
    plane = tables["sensitivity"]
    if len(plane) and plane["factor"].iloc[0] != ALL:
        factor = plane["factor"].iloc[0]
        default = next(iter(item["arms"].values()))["levels"][factor]
        look = arm_styles({level: {factor: level} for level in plane["setting"]}, default)
        settings = plane["settings"].iloc[0]
        note = (
            f"Levels of {arm_label(_last(factor))}, {settings} settings each; tasks: benchmarks at budgets, each with "
            "its own scale (Adkins et al. 2024)."
        )
        yield (
            "sensitivity",
            partial(sensitivity, plane, look, note, stale=stale),
            f"Levels of {arm_label(_last(factor))}: how well each does tuned, and what it owes to being tuned.",
        )


def seed_curves(export: AblationExport, arms: Mapping[str, Any], metric: str) -> pd.DataFrame:
    """arm, seed, step, selections and value of every run that counts."""
    parts = []
    for arm, item in arms.items():
        thin = thin_curve(export, item["run"], metric)
        long = thin.reset_index().melt("seed", var_name="step", value_name="value").dropna()
        step = long["step"].astype(int)
        parts.append(long.assign(arm=arm, step=step, selections=step * scored_per_step(export, item["run"])))
    return pd.concat(parts, ignore_index=True)


def kl_paths(export: AblationExport, arms: Mapping[str, Any]) -> pd.DataFrame:
    """arm, seed, step, kl and log_prob at every evaluation of every run that counts; kl is the mean since the one
    before, and 0 at the start."""
    parts = []
    for arm, item in arms.items():
        at = curve(export, item["run"], "log_prob")
        kl = curve(export, item["run"], "kl").reindex(at.index)
        since = at.columns[at.columns.searchsorted(kl.columns)]
        mean = kl.T.groupby(since).mean().T.reindex(columns=at.columns).fillna({at.columns[0]: 0.0})
        both = pd.concat({"kl": mean.stack(), "log_prob": at.stack()}, axis=1).dropna()
        parts.append(both.rename_axis(["seed", "step"]).reset_index().assign(arm=arm))
    return pd.concat(parts, ignore_index=True)


def _several(about: Mapping[str, Any], key: str) -> str:
    """A number of every ablation, or the smallest and the largest where they differ."""
    found = [item[key] for item in about.values()]
    return f"{min(found):,}" if min(found) == max(found) else f"{min(found):,} to {max(found):,}"


def _scored(about: Mapping[str, Any]) -> str:
    """How many selections the runs of ablations have scored."""
    words = f"{_several(about, 'selections')} scored selections a run"
    most = max((arm["scored"] for item in about.values() for arm in item["arms"].values()), default=1.0)
    return f"{words} (in some arms up to {most:.1f} times as many)" if most > 1 + SLACK else words


def _last(key: str) -> str:
    """A key of params.yaml without its section."""
    return key.rsplit(".", 1)[-1]
