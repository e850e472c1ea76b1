"""How the arms of an ablation train: steadily or not, whether they collapse, and from what to what.

The tables are described in grip_core/evaluation/ablations.py. Shape legend: R runs (seeds) of an arm, S evaluations.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from grip_core.evaluation.ablation import Ablation, of_arm
from grip_core.evaluation.arms import Arm, curve, settings
from grip_core.evaluation.exports import AblationExport
from grip_core.seeds import numpy_random
from grip_core.statistics import stability
from grip_core.statistics.aggregates import iqm_band
from grip_core.statistics.agreement import chance_level
from grip_core.statistics.power import detectable_difference
from grip_core.statistics.survival import kaplan_meier, wilson_interval

METRICS = ("accuracy", "reward", "kl", "entropy", "dead_share")
"""That have learning curves."""
POINTS = 25  # of a curve at most; metrics of every step are means over as many steps as that takes
WINDOW = 5  # changes between evaluations within which a run's dispersion is taken
POWER = 0.8  # of the difference that counts as detectable
DRAWS = 1000


@dataclass(frozen=True)
class Series:
    """Runs of equal settings, in the order of their seeds."""

    accuracy: pd.DataFrame
    """On validation, a row a seed and a column an evaluation's step."""
    reward: pd.DataFrame
    """A row a seed and a column a step."""
    test_R: np.ndarray
    """Headline accuracy."""
    collapsed_R: np.ndarray
    agreement: np.ndarray
    """Jaccard index of the sets that two seeds keep, by pair and headline budget, flat."""
    chance: float
    """That of random sets, mean over the budgets."""


def stability_table(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm."""
    return [
        {
            "arm": arm.name,
            "settings": _settings_text(ablation.export.manifest, arm.run),
            **steadiness(series(ablation, arm.run), ablation.confidence),
            **_power(ablation, arm),
        }
        for arm in ablation.arms.values()
    ]


def _power(ablation: Ablation, arm: Arm) -> dict[str, float]:
    """How far seeds scatter the arm's difference to its baseline, and the smallest one that they would show."""
    seeds, apart = len(ablation.means[arm.run]), ablation.apart(arm.run, arm.against)
    if arm is ablation.baseline or math.isnan(apart):
        return {"apart": math.nan, "detectable": math.nan}
    return {"apart": apart, "detectable": detectable_difference(apart, seeds, POWER, 1 - ablation.confidence)}


def series(ablation: Ablation, run: str) -> Series:
    """An arm's runs, by its name in the export."""
    export = ablation.export
    accuracy = curve(export, run, "accuracy")
    pairs = of_arm(export.agreement, run)
    return Series(
        accuracy,
        curve(export, run, "reward").reindex(accuracy.index),
        ablation.means[run],
        of_arm(export.runs, run)["collapsed"].to_numpy(),
        pairs.loc[pairs["k"].isin(ablation.budgets), "jaccard"].to_numpy(float),
        float(np.mean([chance_level(k, ablation.tokens) for k in ablation.budgets])),
    )


def steadiness(runs: Series, confidence: float) -> dict[str, Any]:
    """How well and how steadily they train: columns of the table `stability`."""
    accuracy, test_R, curve_RS = runs.accuracy, runs.test_R, runs.accuracy.to_numpy()
    final_R = accuracy.ffill(axis=1).iloc[:, -1].to_numpy()
    collapse = wilson_interval(int(runs.collapsed_R.sum()), len(runs.collapsed_R), confidence)
    gain = stability.gain_over_start(final_R, curve_RS[:, 0], confidence)
    spread = float(np.std(test_R, ddof=1)) if len(test_R) > 1 else math.nan
    return {
        "seeds": len(test_R),
        "evaluations": curve_RS.shape[1],
        "accuracy": test_R.mean(),
        "spread": spread,
        "worst_seed": stability.worst_seed(test_R),
        "risk_across_runs": stability.risk_across_runs(test_R),
        "dispersion_across_time": _mean(stability.dispersion_across_time(curve_RS, WINDOW)),
        "short_term_risk": _mean(stability.short_term_risk(curve_RS)),
        "long_term_risk": _mean(stability.long_term_risk(curve_RS)),
        "dispersion_across_runs": float(stability.dispersion_across_runs(curve_RS, 1)[1:].mean()),
        "collapsed": int(runs.collapsed_R.sum()),
        "collapse_rate": collapse.effect,
        "collapse_low": collapse.low,
        "collapse_high": collapse.high,
        "gain": gain.effect,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "agreement": _mean(runs.agreement),
        "agreement_chance": runs.chance,
        "reward_gap": _mean(_reward_gap(runs)),
    }


def _reward_gap(runs: Series) -> np.ndarray:
    """Of rewards that are means over the steps since the evaluation before."""
    steps = runs.accuracy.columns.to_numpy()
    between = np.searchsorted(steps, runs.reward.columns.to_numpy())
    reward_RS = runs.reward.T.groupby(between).mean().T.reindex(columns=range(1, len(steps))).to_numpy()
    accuracy_RS = runs.accuracy.to_numpy()[:, 1:]
    both_RS = np.isfinite(reward_RS) & np.isfinite(accuracy_RS)
    return stability.reward_accuracy_gap(np.where(both_RS, reward_RS, np.nan), np.where(both_RS, accuracy_RS, np.nan))


def survival(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm and a step at which a run of it collapsed or ended."""
    table = []
    for arm in ablation.arms.values():
        whole = of_arm(ablation.export.runs, arm.run)
        collapsed_R = whole["collapsed"].to_numpy()
        step_R = np.where(collapsed_R, whole["collapse_step"], whole["steps"])
        found = kaplan_meier(step_R, collapsed_R, ablation.confidence)
        selections_T = found.step_T * scored_per_step(ablation.export, arm.run)
        columns = (found.step_T, selections_T, found.at_risk_T, found.surviving_T, found.low_T, found.high_T)
        names = ("step", "selections", "at_risk", "surviving", "low", "high")
        table += [{"arm": arm.name, **dict(zip(names, row, strict=True))} for row in zip(*columns, strict=True)]
    return table


def curves(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm, a metric and a point. A run that has ended keeps its last value."""
    table = []
    for arm, metric in itertools.product(ablation.arms.values(), METRICS):
        thin = thin_curve(ablation.export, arm.run, metric)
        if thin.empty:
            continue
        generator = numpy_random(0, f"curves of {ablation.name}, {arm.name}, {metric}")
        band = iqm_band(thin.ffill(axis=1).to_numpy(), DRAWS, generator, ablation.confidence)
        fixed = {"arm": arm.name, "metric": metric, "seeds": len(thin)}
        scored = scored_per_step(ablation.export, arm.run)
        table += [
            {**fixed, "step": step, "selections": step * scored, "iqm": mean, "low": low, "high": high}
            for step, mean, low, high in zip(thin.columns, *band, strict=True)
        ]
    return table


def scored(export: AblationExport, run: str) -> float:
    """Selections that a run of an arm has scored, on average; none in supervised training."""
    found = curve(export, run, "scored")
    return float(found.sum(axis=1).mean()) if len(found) else 0.0


def scored_per_step(export: AblationExport, run: str) -> float:
    """Selections that an optimizer step of an arm takes, on average; of supervised training, prompts."""
    found = curve(export, run, "scored")
    if found.empty:
        cost = export.manifest["arms"][run]["cost"]
        return cost["prompts"] / cost["steps"]
    return float((found.sum(axis=1) / of_arm(export.runs, run).set_index("seed")["steps"]).mean())


def thin_curve(export: AblationExport, run: str, metric: str) -> pd.DataFrame:
    """`curve`, with means over neighbouring steps, named by their last one, where there are more than POINTS."""
    whole = curve(export, run, metric)
    steps = whole.columns.to_numpy()
    if len(steps) <= POINTS:
        return whole
    part = np.arange(len(steps)) // -(-len(steps) // POINTS)
    thin = whole.T.groupby(part).mean().T
    thin.columns = pd.Series(steps).groupby(part).max()
    return thin


def runs(ablation: Ablation) -> list[dict[str, Any]]:
    """A row a run, of those arms too that are another arm at a worse learning rate (`counts` is false)."""
    manifest, chosen = ablation.export.manifest, {arm.run for arm in ablation.arms.values()}
    table = []
    for arm in manifest["arms"]:
        start = curve(ablation.export, arm, "accuracy").iloc[:, 0]
        fixed = {"settings": _settings_text(manifest, arm), "counts": arm in chosen}
        found = of_arm(ablation.export.runs, arm).to_dict("records")
        table += [{**row, **fixed, "start": start[row["seed"]]} for row in found]
    return table


def _settings_text(manifest: Mapping[str, Any], arm: str) -> str:
    return json.dumps(settings(manifest, arm))


def _mean(values: np.ndarray) -> float:
    """Of those that are numbers; NaN if none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan
