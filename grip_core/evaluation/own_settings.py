"""How steadily training goes at the pipeline's own settings: over the runs of all ablations, whose seeds differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from grip_core.evaluation.ablation import Ablation
from grip_core.evaluation.ablation_training import Series, series, steadiness
from grip_core.evaluation.ablations import COLUMNS
from grip_core.evaluation.arms import settings

OWN_COLUMNS = ["ablations", "steps", *COLUMNS["stability"].split()[1:]]
"""Those of the table `stability` after what it is of."""


def own_series(ablation: Ablation) -> Series | None:
    """The ablation's runs with nothing but params.yaml's settings; None if it has none."""
    manifest = ablation.export.manifest
    run = next((arm for arm in manifest["arms"] if not settings(manifest, arm)), None)
    return None if run is None else series(ablation, run)


def own_table(parts: Sequence[Series], confidence: float) -> pd.DataFrame:
    """OWN_COLUMNS: a row a length of runs, for only equally long ones are one sample; most runs first.

    Two seeds' kept sets agree or not if they are of one ablation; others were not compared.
    """
    groups: dict[tuple[int, ...], list[Series]] = {}
    for part in parts:
        groups.setdefault(tuple(part.accuracy.columns), []).append(part)
    rows: list[dict[str, Any]] = [
        {"ablations": len(group), "steps": evaluations[-1], **steadiness(together(group), confidence)}
        for evaluations, group in groups.items()
    ]
    table = pd.DataFrame(rows, columns=OWN_COLUMNS)
    return table.sort_values("seeds", ascending=False, kind="stable", ignore_index=True)


def together(parts: Sequence[Series]) -> Series:
    """All of their runs, each seed once: ablations with a seed in common have run it twice."""
    seeds = np.concatenate([part.accuracy.index for part in parts])
    first_R = np.unique(seeds, return_index=True)[1]
    return Series(
        pd.concat([part.accuracy for part in parts]).iloc[first_R],
        pd.concat([part.reward for part in parts]).iloc[first_R],
        np.concatenate([part.test_R for part in parts])[first_R],
        np.concatenate([part.collapsed_R for part in parts])[first_R],
        np.concatenate([part.agreement for part in parts]),
        parts[0].chance,  # all are asked at the same budgets
    )
