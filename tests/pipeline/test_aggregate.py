from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd

from grip_core.evaluation.tables import interval_table
from pipeline.aggregate import aggregate, write_results
from tests.answers import make_rows

CURVES = pd.DataFrame([("seed-0", 1, "kl", 0.5)], columns=["run", "step", "metric", "value"])


def test_every_result_can_be_read_back(tmp_path):
    rows = make_rows({"grip": 0.8, "warmup": 0.6, "random": 0.3})
    write_results(aggregate(rows, CURVES, 0.25, 0.95), tmp_path)
    names = {"accuracy.csv", "table.csv", "differences.csv", "curves.csv", "headline.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert json.loads((tmp_path / "headline.json").read_text())["accuracy"]["grip"] == 0.8
    assert pd.read_csv(tmp_path / "curves.csv").equals(CURVES)
    differences = pd.read_csv(tmp_path / "differences.csv")
    assert set(differences["method"]) == {"warmup", "random"}


def test_the_order_of_the_rows_does_not_matter():
    rows = make_rows({"grip": 0.8, "warmup": 0.6, "random": 0.3})
    assert aggregate(rows, CURVES, 0.25, 0.95) == aggregate(rows.sample(frac=1, random_state=0), CURVES, 0.25, 0.95)


def test_accuracies_are_written_with_six_digits():
    rows = make_rows({"grip": 0.8, "warmup": 0.6})
    written = pd.read_csv(io.StringIO(aggregate(rows, CURVES, 0.25, 0.95)["table.csv"]))
    exact = interval_table(rows, 0.95)
    assert (exact["low"] - exact["low"].round(4)).abs().max() > 1e-5, "numbers that four digits would hold show nothing"
    assert np.allclose(written["low"], exact["low"], rtol=1e-5, atol=0, equal_nan=True)
