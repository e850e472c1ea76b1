"""What was found of a claim, and results as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import pandas as pd

from grip_core.claims.contrasts import Compared
from grip_core.claims.schema import AnyClaim, Setting
from grip_core.statistics.verdict import ClaimVerdict

Judged = ClaimVerdict | Literal["not run"]
NOT_RUN: Literal["not run"] = "not run"
NAN = float("nan")


@dataclass(frozen=True)
class Finding:
    """A verdict with what decides it: the effect, its bounds and whose they are.

    Where the verdict is "not run", `reason` says why, and an effect that there is describes and proves nothing.
    """

    verdict: Judged
    effect: float = NAN
    low: float = NAN
    high: float = NAN
    n: int = 0
    """Images."""
    p_value: float = NAN
    """Two-sided, of the effect against the claim's bar. For claims of every peer: the largest of all peers' if they are
    supported (an intersection-union test needs no more), else the deciding peer's after Holm."""
    method: str = ""
    other: str = ""
    k: str = ""
    reason: str = ""
    comparisons: tuple[Compared, ...] = ()


@dataclass(frozen=True)
class Result:
    """A claim's finding in a setting. `stale` lists what has changed since the exports it rests on were made."""

    claim: AnyClaim
    setting: Setting
    finding: Finding
    stale: tuple[str, ...]
    seeds: int
    """The fewest training runs of a method that the claim praises; 0 if one has no answers."""


def ledger_table(results: Sequence[Result]) -> pd.DataFrame:
    """A row a result: claim, words, setting, model, figure, unit, bar, the finding's fields, stale (joined by "; ")."""
    return pd.DataFrame(
        [
            {
                "claim": result.claim.name,
                "words": result.claim.words,
                "setting": result.setting.name,
                "model": result.setting.label,
                "figure": result.claim.figure,
                "unit": result.claim.unit,
                "bar": result.claim.bar,
                **{key: value for key, value in asdict(result.finding).items() if key != "comparisons"},
                "stale": "; ".join(result.stale),
            }
            for result in results
        ]
    )


def comparison_table(results: Sequence[Result]) -> pd.DataFrame:
    """A row a comparison that was made: claim, setting, the fields of Compared."""
    columns = ["claim", "setting", *(field.name for field in fields(Compared))]
    made = [
        {"claim": result.claim.name, "setting": result.setting.name, **asdict(item)}
        for result in results
        for item in result.finding.comparisons
    ]
    return pd.DataFrame(made, columns=columns)
