"""The tables of an ablation, from its export; `ablation_tables` says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from grip_core.evaluation import ablation_accuracy as accuracy
from grip_core.evaluation import ablation_training as training
from grip_core.evaluation.ablation import Ablation

COLUMNS = {
    "effects": "arm levels learning_rate rates seeds images accuracy baseline effect low high p verdict time",
    "stability": "arm settings seeds evaluations accuracy spread worst_seed risk_across_runs dispersion_across_time "
    "short_term_risk long_term_risk dispersion_across_runs collapsed collapse_rate collapse_low collapse_high gain "
    "gain_low gain_high agreement agreement_chance reward_gap apart detectable",
    "survival": "arm step selections at_risk surviving low high",
    "curves": "arm step selections metric iqm low high seeds",
    "matrix": "arm k accuracy low high difference difference_low difference_high unseen",
    "profiles": "arm threshold share low high",
    "carry": "arm k effect low high corrected_high",
    "heat": "row_factor row_level column_factor column_level mean spread seeds",
    "sensitivity": "factor setting performance sensitivity settings dimension",
    "importances": "phase parameter importance low high",
    "ranks": "arm accuracy rank first tau",
    "runs": "arm seed settings counts collapsed cause collapse_step steps start accuracy",
}
"""Of every table; `ablation` comes before them."""


def ablation_tables(ablation: Ablation) -> dict[str, pd.DataFrame]:
    """By name, with the columns of COLUMNS:

    effects      headline accuracy of every arm on the test, minus the baseline's, over new seeds and new images; the
                 intervals are at the level at which Holm tests the arm among those of the ablation; `time` is the arm's
                 over the baseline's, on the machines that they ran on
    stability    how steadily each arm trains (grip_core/statistics/stability.py, on validation accuracy), how often it
                 collapses, how much it gains over the warm-up, what its seeds agree on
    survival     share of runs that have not collapsed
    curves       interquartile mean over seeds, and its bootstrap band
    matrix       every arm at every budget of the test; `unseen` is what its training did not draw
    profiles     share of seeds and environments (a benchmark at a headline budget) whose test accuracy is above a
                 threshold, and its bootstrap band
    carry        the baseline minus each arm that trains at one budget alone, at that budget
    heat         the cells of two factors
    sensitivity  what tuning for each task gains: of every level of the first factor if each has as many settings (of
                 the other factors, and learning rates), else of all together
    importances  whose variance it is, by phase of training
    ranks        whether other seeds would put the arms in the same order
    runs         every run; of one that is exported by several ablations, equal settings and seed tell
    """
    makers = {
        "effects": accuracy.effects,
        "stability": training.stability_table,
        "survival": training.survival,
        "curves": training.curves,
        "matrix": accuracy.matrix,
        "profiles": accuracy.profiles,
        "carry": accuracy.carry,
        "heat": accuracy.heat,
        "sensitivity": accuracy.sensitivities,
        "importances": accuracy.importances,
        "ranks": accuracy.ranks,
        "runs": training.runs,
    }
    empty = empty_tables()
    found = {name: pd.DataFrame(make(ablation)).assign(ablation=ablation.name) for name, make in makers.items()}
    return {name: empty[name] if found[name].empty else found[name][list(empty[name])] for name in makers}


def empty_tables() -> dict[str, pd.DataFrame]:
    """The tables of no ablation."""
    return {name: pd.DataFrame(columns=["ablation", *words.split()]) for name, words in COLUMNS.items()}


def describe(ablation: Ablation, stale: Sequence[str]) -> dict[str, Any]:
    """What a reader of the tables needs to know of the ablation as a whole."""
    known = ablation.export.manifest["ablation"]
    selections = ablation.export.manifest["definition"]["compute"]["selections"]
    arms = {
        arm.name: {**asdict(arm), "scored": training.scored(ablation.export, arm.run) / selections}
        for arm in ablation.arms.values()
    }
    varied = {key for arm in ablation.export.manifest["arms"].values() for key in arm["settings"]}
    return {
        "factors": known["factors"],
        "design": known["design"],
        "missing": known["missing"],
        "budgets": ablation.budgets,
        "questions": len(ablation.answers[ablation.baseline.run].example_E),
        "seeds": max(len(means) for means in ablation.means.values()),
        "selections": selections,
        "schedules": any(key.startswith("budgets.") for key in varied),
        "arms": arms,
        "stale": list(stale),
    }
