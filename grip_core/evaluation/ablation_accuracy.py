"""How well the arms of an ablation answer the test questions, and what that depends on.

The tables are described in grip_core/evaluation/ablations.py. Shape legend: M arms but the baseline, A arms, R runs
(seeds) of one, C cells of a grid, K budgets, H settings, P their hyper-parameters, E environments (a benchmark at a
budget).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from grip_core.evaluation.ablation import Ablation, of_arm
from grip_core.evaluation.arms import Answers, Arm, curve, trained_budgets
from grip_core.seeds import numpy_random
from grip_core.statistics import importance
from grip_core.statistics.aggregates import profile_band
from grip_core.statistics.intervals import mean_interval
from grip_core.statistics.multiple import holm, holm_levels
from grip_core.statistics.ranks import rank_stability
from grip_core.statistics.sensitivity import effective_dimension, normalize, sensitivity
from grip_core.statistics.verdict import verdict

DRAWS = 1000
THRESHOLDS = 50
PHASES = ("early", "middle", "late")
"""Thirds of training; validation accuracy is what they are judged by."""
TEST = "test"
"""The phase after them: accuracy on the test questions."""
ARMS = "settings"
"""All factors together, where an ablation is no full grid."""
ALL = "all"


def effects(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm but the baseline."""
    others = list(ablation.arms.values())[1:]
    if not others:
        return []
    compared = [ablation.comparison(arm.run, arm.against, ablation.budgets) for arm in others]
    p_M = np.array([item.p_value() for item in compared])
    adjusted_M, level_M = holm(p_M), holm_levels(p_M, 1 - ablation.confidence)
    table = []
    for arm, item, p, level in zip(others, compared, adjusted_M, level_M, strict=True):
        found = item.interval(1 - level)
        table.append(
            {
                "arm": arm.name,
                "levels": json.dumps(dict(arm.levels)),
                "learning_rate": arm.rate,
                "rates": len(arm.rates),
                "seeds": len(ablation.means[arm.run]),
                "images": found.n,
                "accuracy": ablation.means[arm.run].mean(),
                "baseline": ablation.means[arm.against].mean(),
                "effect": found.effect,
                "low": found.low,
                "high": found.high,
                "p": p,
                "verdict": verdict(found.low, found.high),
                "time": ablation.seconds(arm.run) / ablation.seconds(arm.against),
            }
        )
    return table


def matrix(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm and a budget."""
    table = []
    for arm in ablation.arms.values():
        trained = trained_budgets(ablation.export.manifest, arm.run)
        for k in map(int, ablation.answers[arm.run].k_K):
            own = ablation.interval(arm.run, [k])
            difference = ablation.comparison(arm.run, arm.against, [k]).interval(ablation.confidence)
            table.append(
                {
                    "arm": arm.name,
                    "k": k,
                    "accuracy": own.effect,
                    "low": own.low,
                    "high": own.high,
                    "difference": difference.effect,
                    "difference_low": difference.low,
                    "difference_high": difference.high,
                    "unseen": k not in trained,
                }
            )
    return table


def carry(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm that trains at one budget alone, if the baseline trains at more; `corrected_high` is the upper bound
    of Bonferroni's intervals over all of these."""
    manifest, baseline = ablation.export.manifest, ablation.baseline
    trained = {arm.name: trained_budgets(manifest, arm.run) for arm in ablation.arms.values()}
    asked = {int(k) for k in ablation.answers[baseline.run].k_K}
    alone = [arm for arm in ablation.arms.values() if len(trained[arm.name]) == 1 and trained[arm.name][0] in asked]
    if len(trained[baseline.name]) == 1:
        return []
    table = []
    for arm in alone:
        k = trained[arm.name][0]
        item = ablation.comparison(arm.against, arm.run, [k])
        found = item.interval(ablation.confidence)
        corrected = item.interval(1 - (1 - ablation.confidence) / len(alone))
        row = {"arm": arm.name, "k": k, "effect": found.effect, "low": found.low, "high": found.high}
        table.append({**row, "corrected_high": corrected.high})
    return table


def heat(ablation: Ablation) -> list[dict[str, Any]]:
    """A row a cell, of an ablation of two factors."""
    factors = list(ablation.export.manifest["ablation"]["factors"])
    if len(factors) != 2:
        return []
    row, column = factors
    table = []
    for arm in ablation.arms.values():
        found = mean_interval(ablation.means[arm.run], ablation.confidence)
        table.append(
            {
                "row_factor": row,
                "row_level": arm.levels[row],
                "column_factor": column,
                "column_level": arm.levels[column],
                "mean": found.effect,
                "spread": float(np.std(ablation.means[arm.run], ddof=1)) if found.n > 1 else math.nan,
                "seeds": found.n,
            }
        )
    return table


def sensitivities(ablation: Ablation) -> list[dict[str, Any]]:
    """A row a level of the first factor, or one row; none if no environment tells the settings apart."""
    manifest = ablation.export.manifest
    arms = list(ablation.answers)
    score_HE = np.array([_by_environment(ablation.answers[arm], ablation.budgets).mean(0) for arm in arms])
    low_E, high_E = np.quantile(score_HE, [0.05, 0.95], axis=0)
    if not (high_E > low_E).any():
        return []
    score_HE = normalize(score_HE[:, high_E > low_E])
    first, *_ = manifest["ablation"]["factors"]
    levels = [manifest["arms"][arm]["levels"][first] for arm in arms]
    counts = {level: levels.count(level) for level in dict.fromkeys(levels)}
    split = min(counts.values()) > 1 and len(set(counts.values())) == 1
    table = []
    for level in counts if split else [ALL]:
        own = [i for i, other in enumerate(levels) if level in (ALL, other)]
        part_HE = score_HE[own]
        setting_HP = np.array([_labels(manifest["arms"][arms[i]]) for i in own])
        tuned = float(part_HE.max(0).mean())
        table.append(
            {
                "factor": first if split else ALL,
                "setting": level,
                "performance": tuned,
                "sensitivity": sensitivity(part_HE),
                "settings": len(own),
                "dimension": effective_dimension(setting_HP, part_HE) if tuned > 0 else math.nan,
            }
        )
    return table


def _labels(arm: Mapping[str, Any]) -> list[str]:
    """An arm's levels, and its learning rate if that is not its own."""
    return [*arm["levels"].values(), str(arm["learning_rate"])]


def _by_environment(answers: Answers, budgets: Sequence[int]) -> np.ndarray:
    """Accuracy of each seed on each benchmark at each budget, (R, E)."""
    names = np.unique(answers.benchmark_E)
    parts = [answers.correct_REK[:, answers.benchmark_E == name].mean(1) for name in names]
    return np.concatenate([part_RK[:, np.isin(answers.k_K, budgets)] for part_RK in parts], axis=1)


def profiles(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm and a threshold between the worst and the best score of a seed in an environment."""
    arms = list(ablation.arms.values())
    scores = [_by_environment(ablation.answers[arm.run], ablation.budgets) for arm in arms]
    threshold_X = np.linspace(min(score_RE.min() for score_RE in scores), max(map(np.max, scores)), THRESHOLDS)
    table = []
    for arm, score_RE in zip(arms, scores, strict=True):
        generator = numpy_random(0, f"profiles of {ablation.name}, {arm.name}")
        band = profile_band(score_RE, threshold_X, DRAWS, generator, ablation.confidence)
        table += [
            {"arm": arm.name, "threshold": threshold, "share": share, "low": low, "high": high}
            for threshold, share, low, high in zip(threshold_X, *band, strict=True)
        ]
    return table


def importances(ablation: Ablation) -> list[dict[str, Any]]:
    """A row a phase and a factor, or all together where the arms are no full grid, and one for the seeds."""
    manifest = ablation.export.manifest
    factors: dict[str, list[str]] = manifest["ablation"]["factors"]
    cells = {tuple(arm.levels[name] for name in factors): arm for arm in ablation.arms.values()}
    grid = list(itertools.product(*factors.values()))
    whole = set(grid) == set(cells)
    arms = [cells[cell] for cell in grid] if whole else list(ablation.arms.values())
    names = list(factors) if whole else [ARMS]
    shape = tuple(len(labels) for labels in factors.values()) if whole else (len(arms),)
    by_phase = {phase: [_in_phase(ablation, arm, third) for arm in arms] for third, phase in enumerate(PHASES)}
    by_phase[TEST] = [ablation.means[arm.run] for arm in arms]
    table = []
    for phase, score in by_phase.items():
        runs = min(len(score_R) for score_R in score)
        if runs < 2:
            continue
        score_CR = np.array([score_R[:runs] for score_R in score])
        found = importance.importances(score_CR.reshape(*shape, runs), names, ablation.confidence)
        for name, share in found.items():
            row = {"phase": phase, "parameter": name, "importance": share.effect, "low": share.low, "high": share.high}
            table.append(row)
    return table


def _in_phase(ablation: Ablation, arm: Arm, third: int) -> np.ndarray:
    """Mean validation accuracy of each run over the evaluations of a third of training, (R,); empty without any."""
    accuracy = curve(ablation.export, arm.run, "accuracy").ffill(axis=1)
    done_S = accuracy.columns.to_numpy() / of_arm(ablation.export.runs, arm.run)["steps"].max()
    inside_S = (done_S > third / 3) & (done_S <= (third + 1) / 3 + 1e-9)
    return accuracy.loc[:, inside_S].mean(axis=1).to_numpy() if inside_S.any() else np.array([])


def ranks(ablation: Ablation) -> list[dict[str, Any]]:
    """A row an arm."""
    arms = list(ablation.arms.values())
    scores = [ablation.means[arm.run] for arm in arms]
    same = ablation.same_seeds(*(arm.run for arm in arms))
    found = rank_stability(scores, DRAWS, numpy_random(0, f"ranks of {ablation.name}"), same)
    mean_A = pd.Series([score_R.mean() for score_R in scores])
    rank_A = mean_A.round(9).rank(ascending=False, method="min").astype(int)  # equal but for rounding
    return [
        {"arm": arm.name, "accuracy": mean, "rank": rank, "first": first, "tau": found.tau}
        for arm, mean, rank, first in zip(arms, mean_A, rank_A, found.first_A, strict=True)
    ]
