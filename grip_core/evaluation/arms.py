"""The arms of an ablation's export: which of them count, and their runs as arrays.

Arms of the same levels differ in the learning rate alone. The best of them on validation counts, by the mean over seeds
of the last accuracy; test answers play no part in the choice. An arm that was run at its own rate only is held against
the baseline at its own, since the better of several rates would be an advantage.

Shape legend: R runs (seeds) of an arm, S evaluations, E examples, K budgets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from grip_core.config import BudgetConfig
from grip_core.errors import UserError
from grip_core.evaluation.exports import AblationExport

RATE = "grpo.learning_rate"


@dataclass(frozen=True)
class Arm:
    """One combination of levels, at the learning rate that counts."""

    name: str
    """Without a learning rate."""
    run: str
    """Its name in the export."""
    levels: Mapping[str, str]
    rate: float
    rates: tuple[float, ...]
    """Those it was run at."""
    against: str
    """The baseline that it is held against, by its name in the export."""


@dataclass(frozen=True)
class Answers:
    """An arm's answers to questions in a fixed order."""

    correct_REK: np.ndarray
    seed_R: np.ndarray
    example_E: np.ndarray
    image_E: np.ndarray
    benchmark_E: np.ndarray
    k_K: np.ndarray

    @property
    def names(self) -> list[tuple[str, str]]:
        """Benchmark and id of each question."""
        return list(zip(self.benchmark_E.tolist(), self.example_E.tolist(), strict=True))

    def only(self, names: Collection[tuple[str, str]]) -> Answers:
        """The answers to those questions."""
        kept_E = np.array([name in names for name in self.names], dtype=bool)
        return replace(
            self,
            correct_REK=self.correct_REK[:, kept_E],
            example_E=self.example_E[kept_E],
            image_E=self.image_E[kept_E],
            benchmark_E=self.benchmark_E[kept_E],
        )

    def at(self, budgets: Sequence[int]) -> np.ndarray:
        """Share of the budgets at which each answer is right, (R, E)."""
        return self.correct_REK[:, :, np.isin(self.k_K, budgets)].mean(2)

    def seed_means(self, budgets: Sequence[int]) -> np.ndarray:
        """Each seed's score, (R,), benchmarks weighing the same."""
        score_RE = self.at(budgets)
        names = np.unique(self.benchmark_E)
        return np.mean([score_RE[:, self.benchmark_E == name].mean(1) for name in names], axis=0)


def choose_arms(export: AblationExport, name: str) -> dict[str, Arm]:
    """The arms that count by their names, the baseline first, then in the order of the factors' levels.

    Raises UserError if the baseline is not among the arms that are complete.
    """
    manifest = export.manifest
    baseline = manifest["ablation"]["baseline"]
    if baseline not in manifest["arms"]:
        raise UserError(f"the ablation {name} must have its arm {baseline}, but that is not complete; export it again")
    validation = export.runs.groupby("arm", observed=True)["accuracy"].mean().fillna(0.0)
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm, item in manifest["arms"].items():
        groups.setdefault(tuple(item["levels"].values()), []).append(arm)
    best = {levels: max(arms, key=lambda arm: validation[arm]) for levels, arms in groups.items()}
    start = tuple(manifest["arms"][baseline]["levels"].values())

    def chosen(levels: tuple[str, ...]) -> Arm:
        arms = groups[levels]
        own = next((arm for arm in arms if manifest["arms"][arm]["learning_rate"] is None), arms[0])
        return Arm(
            name=own,
            run=best[levels],
            levels=manifest["arms"][own]["levels"],
            rate=setting(manifest, best[levels], RATE),
            rates=tuple(sorted(setting(manifest, arm, RATE) for arm in arms)),
            against=best[start] if len(arms) > 1 else baseline,
        )

    ranks = [
        {label: place for place, label in enumerate(labels)} for labels in manifest["ablation"]["factors"].values()
    ]

    def place(levels: tuple[str, ...]) -> tuple[Any, ...]:
        return levels != start, *(rank[level] for rank, level in zip(ranks, levels, strict=True))

    found = [chosen(levels) for levels in sorted(groups, key=place)]
    return {arm.name: arm for arm in found}


def setting(manifest: Mapping[str, Any], arm: str, key: str) -> Any:
    """A setting that an arm was run with: its own, the study's, or that of params.yaml."""
    section, name = key.split(".")
    own = {**manifest["definition"]["params"], **manifest["arms"][arm]["settings"]}
    return own.get(key, manifest["params"][section][name])


def settings(manifest: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """What an arm has otherwise than params.yaml, by key; runs of equal settings and seed are one run."""
    own = {**manifest["definition"]["params"], **manifest["arms"][arm]["settings"]}
    return dict(sorted(own.items()))


def trained_budgets(manifest: Mapping[str, Any], arm: str) -> tuple[int, ...]:
    """Every budget that an arm's training could draw."""
    keys = manifest["params"]["budgets"]
    return drawn_budgets(BudgetConfig(**{key: setting(manifest, arm, f"budgets.{key}") for key in keys}))


def drawn_budgets(config: BudgetConfig) -> tuple[int, ...]:
    """Every budget that training could draw, ascending."""
    if config.schedule == "constant":
        return (config.constant,)
    return tuple(sorted(config.values)) if config.schedule == "mixture" else tuple(range(config.low, config.high + 1))


def answers_of(rows: pd.DataFrame, method: str) -> Answers:
    """The answers of an arm, or of another method. Raises ValueError if a row is missing or there twice."""
    rows = rows[rows["method"] == method]
    cells = rows.pivot(index=["benchmark", "example_id", "image_id"], columns=["seed", "k"], values="correct")
    cells = cells.sort_index().sort_index(axis=1)
    seed_R, k_K = (cells.columns.get_level_values(name).unique().to_numpy() for name in ("seed", "k"))
    if cells.shape[1] != len(seed_R) * len(k_K) or cells.isna().any(axis=None):
        raise ValueError(f"{method} does not have one row for every example, seed and budget")
    correct_ERK = cells.to_numpy(float).reshape(len(cells), len(seed_R), len(k_K))
    example_E, image_E, benchmark_E = (
        cells.index.get_level_values(name).to_numpy() for name in ("example_id", "image_id", "benchmark")
    )
    correct_REK = correct_ERK.transpose(1, 0, 2)
    return Answers(correct_REK, seed_R, example_E.astype(str), image_E, benchmark_E.astype(str), k_K)


def curve(export: AblationExport, arm: str, metric: str) -> pd.DataFrame:
    """A metric of an arm's runs, a row a seed and a column a step; NaN where a run had ended, or has no number."""
    rows = export.curves[(export.curves["arm"] == arm) & (export.curves["metric"] == metric)]
    return rows.pivot(index="seed", columns="step", values="value").sort_index().sort_index(axis=1).astype(float)
