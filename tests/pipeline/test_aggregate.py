from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from grip_core.claims.schema import load_claims
from grip_core.config import Params, load
from grip_core.evaluation.exports import write_export
from grip_core.evaluation.tables import interval_table
from pipeline.aggregate import Arms, aggregate, comparable, judge_all, read_arms, read_costs, write_results
from tests.answers import make_rows

CURVES = pd.DataFrame([("seed-0", 1, "kl", 0.5)], columns=["run", "step", "metric", "value"])
TIMED = pd.DataFrame(
    [("grip", 2, 1, "select", 0.25), ("grip", 2, 1, "prefill", 0.5), ("grip", 2, 8, "select", 9.0)],
    columns=["method", "k", "batch", "part", "seconds"],
)
FLOPS = pd.DataFrame([("grip", 2, 10), ("grip", 4, 20)], columns=["method", "k", "flops"])


@pytest.fixture
def rows() -> pd.DataFrame:
    return make_rows({"grip": 0.8, "warmup": 0.6, "random": 0.3}).assign(model="some")


@pytest.fixture
def results(rows, tmp_path):
    return judge_all(load_claims(), rows, Arms(pd.DataFrame(), []), tmp_path, 1, 0.95)


def test_every_result_can_be_read_back(tmp_path, rows, results):
    write_results(aggregate(rows, CURVES, results, None, 0.25, 0.95), tmp_path)
    names = {"accuracy", "table", "differences", "summary", "profiles", "claims", "comparisons", "curves"}
    assert {path.name for path in tmp_path.iterdir()} == {*(f"{name}.csv" for name in names), "headline.json"}
    assert json.loads((tmp_path / "headline.json").read_text())["accuracy"]["grip"] == 0.8
    assert pd.read_csv(tmp_path / "curves.csv").equals(CURVES)
    differences = pd.read_csv(tmp_path / "differences.csv")
    assert set(differences["method"]) == {"warmup", "random"}
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert len(claims) == len(load_claims().all) * len(load_claims().settings)
    assert set(claims["verdict"]) == {"not run"}, "these answers are of no setting's model"


def test_the_order_of_the_rows_does_not_matter(rows, results):
    shuffled = rows.sample(frac=1, random_state=0)
    written, again = (aggregate(item, CURVES, results, None, 0.25, 0.95) for item in (rows, shuffled))
    assert written == again


def test_accuracies_are_written_with_six_digits(results):
    rows = make_rows({"grip": 0.8, "warmup": 0.6})
    written = pd.read_csv(io.StringIO(aggregate(rows, CURVES, results, None, 0.25, 0.95)["table.csv"]))
    exact = interval_table(rows, 0.95)
    assert (exact["low"] - exact["low"].round(4)).abs().max() > 1e-5, "numbers that four digits would hold show nothing"
    assert np.allclose(written["low"], exact["low"], rtol=1e-5, atol=0, equal_nan=True)


def test_arms_stand_in_a_table_with_the_same_questions_of_the_same_model(rows):
    arms = make_rows({"distill": 0.7}).query("method == 'distill'").assign(model="some")

    def found(rows: pd.DataFrame, arms: pd.DataFrame, stale=()) -> pd.DataFrame:
        return comparable(rows, Arms(arms, stale))

    assert len(found(rows, arms)) == len(arms)
    assert found(rows, arms.assign(k=arms["k"].replace(8, 9))).empty, "it lacks GRIP's k = 8"
    assert len(found(rows, pd.concat([arms, arms.assign(k=9)]))) == len(arms), "GRIP has no k = 9"
    assert found(rows, arms.assign(model="another")).empty
    assert found(rows, arms[arms["example_id"] != "one-3"]).empty
    assert found(rows, arms, ["grip_core/rl/grpo.py"]).empty
    fewer = rows[rows["example_id"] != "one-3"]
    assert set(found(fewer, arms)["example_id"]) == set(fewer["example_id"]), "an export may cover more"


def test_exported_arms_say_of_which_model_and_what_has_changed(tmp_path, monkeypatch):
    params = load()
    arms = make_rows({"distill": 0.7}).query("method == 'distill'")
    known = json.loads(json.dumps(params.model_dump()))
    write_export(tmp_path / "arms", arms, {"params": known, "hashes": {"vlm": "1", "grip_core/gone.py": "2"}})

    def read(weights: str = "1", **changes: dict[str, object]) -> Arms:
        monkeypatch.setattr("grip_core.evaluation.exports.input_hashes", lambda *_: {"vlm": weights})
        now = {section: {**values, **changes.get(section, {})} for section, values in known.items()}
        return read_arms(tmp_path / "arms", Params.model_validate(now))

    def settings(**changes: dict[str, object]) -> list[str]:
        first, *others = read(**changes).stale
        assert first == "grip_core/gone.py"
        return others

    found = read()
    assert set(found.rows["model"]) == {params.vlm.path}
    assert found.rows["correct"].tolist() == arms["correct"].tolist()
    assert settings() == []
    assert settings(grpo={"steps": 4000, "seeds": [7]}) == ["grpo.steps"]
    assert settings(supervised={"learning_rate": 0.5, "steps": 4000}) == ["supervised.learning_rate"]
    assert settings(vlm={"positions": "compact"}) == ["vlm.positions"]
    assert settings(vlm={"rows_per_forward": 2, "processes": 2}) == []
    assert settings(warmup={"sharpness": 1.0}) == ["warmup.sharpness"], "its weights are not hashed"
    assert settings(scorer={"layers": 3}) == ["scorer.layers"]
    images = known["features"]["images"]
    assert settings(features={"images": {**images, "test": 2}, "batch_size": 7}) == []
    assert settings(features={"images": {**images, "train": 500}}) == ["features.images"]
    assert read("2").rows.empty, "answers of another VLM are held against nothing"
    assert read_arms(tmp_path / "none", params).rows.empty


def test_costs_are_of_one_batch_size_and_whole_answers(tmp_path):
    assert read_costs(tmp_path, "own", 1, ["arm"]) is None
    TIMED.to_csv(tmp_path / "own.csv", index=False)
    FLOPS.to_csv(tmp_path / "own-flops.csv", index=False)
    costs = read_costs(tmp_path, "own", 1, ["arm"])
    assert costs.fillna(-1.0).to_dict("list") == {
        "method": ["grip"] * 2 + ["arm"] * 2, "k": [2, 4] * 2, "flops": [10, 20] * 2, "seconds": [0.75, -1.0] * 2
    }  # fmt: skip
