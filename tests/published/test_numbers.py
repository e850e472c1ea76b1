from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest

from grip_core.errors import UserError
from grip_core.published.numbers import BENCHMARKS, COLUMNS, check_published, read_published

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table() -> pd.DataFrame:
    return read_published()


def value(table: pd.DataFrame, method: str, tokens: int, benchmark: str) -> float:
    chosen = table[(table["method"] == method) & (table["tokens"] == tokens) & (table["benchmark"] == benchmark)]
    return chosen["value"].item()


def test_every_method_has_five_benchmarks_at_three_budgets(table):
    assert tuple(table.columns) == COLUMNS
    pruned = table[table["tokens"].isin([64, 128, 192])]
    assert len(pruned) == 8 * 3 * 5
    assert set(pruned.groupby(["method", "tokens"]).size()) == {5}
    assert set(table["benchmark"]) == set(BENCHMARKS)


def test_values_are_those_printed(table):
    assert value(table, "full", 576, "pope") == 85.9
    assert value(table, "fastv_inside", 192, "pope") == 75.8
    assert value(table, "fastv_inside", 64, "mme") == 1284
    assert value(table, "diffprune", 128, "gqa") == 57.5
    assert value(table, "holov", 64, "textvqa") == 54.9


def test_the_budget_of_the_paper_under_test_is_unknown(table):
    paper = table[table["method"] == "grip_vlm"].set_index("benchmark")
    assert paper["tokens"].isna().all()
    assert paper["value"].to_dict() == {
        "pope": 87.05,
        "scienceqa": 71.15,
        "ai2d": 55.57,
        "mme": 1790,
        "ocrbench": 31.7,
        "textvqa": 57.86,
    }


@pytest.mark.parametrize(
    ("column", "wrong", "rule"),
    [
        ("benchmark", "vqav2", "benchmark must be one of pope"),
        ("unit", "points", "unit must be"),
        ("value", 100.1, "value must lie"),
        ("value", float("nan"), "value must lie"),
        ("tokens", 577, "tokens must lie"),
        ("source", " ", "source must be stated"),
    ],
)
def test_a_wrong_row_is_told_by_its_rule(table, column, wrong, rule):
    table.loc[0, column] = wrong
    with pytest.raises(UserError, match=rule):
        check_published(table)


def test_a_value_that_comes_twice_is_refused(table):
    with pytest.raises(UserError, match="states one value"):
        check_published(pd.concat([table, table.tail(1)]))


def test_other_columns_are_refused(table):
    with pytest.raises(UserError, match="must have the columns"):
        check_published(table.drop(columns="notes"))


def test_files_beside_the_code_are_installed_with_it():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert any(fnmatch("llava_1_5_7b.csv", pattern) for pattern in patterns)
    assert (ROOT / "grip_core" / "published" / "__init__.py").exists()  # only packages are found
