"""Tables of made-up answers, as the figures read them."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from grip_core.evaluation.headline import headline, headline_differences
from grip_core.evaluation.tables import interval_table
from tests.answers import make_rows

SHARE, CONFIDENCE = 0.25, 0.95

TRAINING = {
    "seed-0": {"kept_share": 0.9, "spearman": -0.5, "diverged": 1.0, "collapse": "no"},
    "seed-1": {"collapse": "kl at step 7"},
}


@pytest.fixture(autouse=True)
def closed_figures():
    mpl.use("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    rows = make_rows({"grip": 0.8, "warmup": 0.6, "random": 0.3, "norm": 0.9}, seeds={"grip": 3})
    wrong = (rows["method"] == "grip") & (rows["seed"] == 2) & (rows["image_id"] == 3)
    rows.loc[wrong, "correct"] = False  # so that the seeds spread
    return rows


@pytest.fixture(scope="session")
def table(rows) -> pd.DataFrame:
    return interval_table(rows, CONFIDENCE)


@pytest.fixture(scope="session")
def differences(rows) -> pd.DataFrame:
    return headline_differences(rows, SHARE, CONFIDENCE)


@pytest.fixture(scope="session")
def numbers(rows, differences) -> dict:
    return headline(rows, differences, SHARE, CONFIDENCE) | {"training": TRAINING}
