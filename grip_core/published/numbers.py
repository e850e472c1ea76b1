"""The stored table of published accuracies of LLaVA-1.5-7B under token pruning.

Nothing here was measured by this project. A value holds for its own paper's harness alone: papers disagree about one
another's methods by up to eleven points.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from grip_core.errors import UserError

TABLE = "llava_1_5_7b.csv"
N_VISUAL = 576
"""Visual tokens of LLaVA-1.5-7B, 24 x 24."""
COLUMNS = ("method", "tokens", "benchmark", "value", "unit", "source", "notes")
HIGHEST = {"percent": 100.0, "points": 2800.0}  # points are MME's: fourteen subtasks of 200
BENCHMARKS = {
    "pope": ("POPE", "percent"),
    "scienceqa": ("ScienceQA", "percent"),
    "textvqa": ("TextVQA", "percent"),
    "mme": ("MME", "points"),
    "gqa": ("GQA", "percent"),
    "ai2d": ("AI2D", "percent"),
    "ocrbench": ("OCRBench", "percent"),
}
"""Each benchmark's name for readers, and its unit."""


def read_published() -> pd.DataFrame:
    """The table, a row a value: COLUMNS; `tokens` is missing where the paper does not state its budget.

    Methods are named as in this project's own tables; "grip_vlm" is the paper that it sets out to test.
    """
    with (files("grip_core.published") / TABLE).open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype={"tokens": "Int64"}, keep_default_na=False, na_values={"tokens": [""]})
    check_published(table)
    return table


def check_published(table: pd.DataFrame) -> None:
    """Raises UserError, naming the first row at fault, unless all units, ranges and sources are as they must be."""
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{TABLE} must have the columns {', '.join(COLUMNS)}, but has {', '.join(table.columns)}")
    unit = table["benchmark"].map({name: unit for name, (_, unit) in BENCHMARKS.items()})
    faults = {
        f"benchmark must be one of {', '.join(BENCHMARKS)}": unit.isna(),
        "unit must be the benchmark's, percent or points": table["unit"] != unit,
        "value must lie between 0 and its unit's highest": ~table["value"].between(0, table["unit"].map(HIGHEST)),
        f"tokens must lie between 1 and {N_VISUAL}, or be empty": ~table["tokens"].between(1, N_VISUAL).fillna(True),
        "source must be stated": table["source"].str.strip() == "",
        "a source states one value for a method, budget and benchmark": table.duplicated(
            ["method", "tokens", "benchmark", "source"]
        ),
    }
    for rule, wrong in faults.items():
        if wrong.any():
            raise UserError(f"{TABLE}: {rule}; found {table[wrong].iloc[0].to_dict()}")
