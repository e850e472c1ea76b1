"""An ablation from its launch to its export, and whether the export still holds."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grip_core.config import load
from grip_core.errors import UserError
from grip_core.evaluation.exports import ANSWERS, CURVES, MANIFEST, RUNS, AblationExport, read_ablation, write_export
from grip_core.runs import RunFolder
from studies import launch as launching
from studies.ablation import plan
from studies.ablation_tables import curves, tables
from studies.answers import export_answers
from studies.comparison import ROWS
from studies.definition import load_definition
from studies.folder import StudyFolder, read_lines
from studies.launch import launch
from studies.profile import Profile
from studies.settings import changed_params
from studies.verify import VERIFIED, Export, difference, first_difference, verify
from studies.worker import work
from tests.studies.ablations import written
from tests.studies.conftest import ROOT, toy
from tests.studies.test_arms import TINY

LOCAL = Profile(cluster="local", workers=1)


WHOLE = {"compute": {"selections": 48, "rungs": 1}}  # 4 steps at a stretch


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[tuple[StudyFolder, Path]]:
    """A tiny ablation that this process has worked on, and its export."""
    root, few = tmp_path_factory.mktemp("ablation"), {"evaluate.budgets": [1, 7]}
    params = changed_params(load(ROOT / "params.yaml"), few, "x")
    ablation = {
        "factors": {"grpo.scale_rewards": ["group", "none"]},
        "design": "grid",
        "learning_rates": [0.01],
    }
    definition = load_definition(written(root / "toy.yaml", ablation, **TINY | WHOLE), params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(launching, "submit", lambda *_: [])
        launch(root, definition, params, LOCAL, None, [])
        folder = StudyFolder(root / "toy")
        gc.freeze()  # transformers collects at every start
        assert work(folder, lambda: False) == "all 4 trials have begun"
        gc.unfreeze()
        yield folder, export_answers(folder, root / "export")


@pytest.fixture(scope="module")
def exported(finished) -> AblationExport:
    return read_ablation(finished[1])


ARMS = ["baseline", "baseline @ lr=0.01", "scale_rewards=none", "scale_rewards=none @ lr=0.01"]


@pytest.mark.slow
def test_an_exports_manifest_says_where_every_arm_stands(exported):
    manifest = exported.manifest
    assert manifest["ablation"] == {
        "factors": {"grpo.scale_rewards": ["group", "none"]},
        "baseline": "baseline",
        "design": "grid",
        "learning_rates": [0.01],
        "missing": [],
    }
    assert {arm: (item["levels"], item["learning_rate"]) for arm, item in manifest["arms"].items()} == {
        name: ({"grpo.scale_rewards": label}, rate)
        for name, label, rate in zip(ARMS, ["group", "group", "none", "none"], [None, 0.01, None, 0.01])
    }
    assert manifest["definition"]["ablation"]["design"] == "grid"
    assert set(exported.answers["method"]) == set(ARMS)


def run_of(folder: StudyFolder, arm: str, seed: int) -> Path:
    """Arms are taken in their order."""
    return folder.newest_run(ARMS.index(arm), seed)


@pytest.mark.slow
def test_curves_have_every_runs_numbers(finished, exported):
    table, (folder, _) = exported.curves, finished
    assert len(table.drop_duplicates(["arm", "seed", "step", "metric"])) == len(table)
    for arm, seed in itertools.product(ARMS, (1, 2)):
        lines = read_lines(run_of(folder, arm, seed) / "metrics.jsonl")
        own = table[(table["arm"] == arm) & (table["seed"] == seed)]
        assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
        for metric, steps in {"kl": [1, 2, 3, 4], "scored": [1, 2, 3, 4], "accuracy@4": [0, 4]}.items():
            part = own[own["metric"] == metric]
            assert part["step"].tolist() == steps
            assert part["value"].tolist() == [np.float32(lines[step][metric]) for step in steps]
    assert not [name for name in table["metric"].unique() if "/" in name or name.startswith("sampled")]


def test_a_metric_that_a_step_lacks_has_no_row():
    lines = {("a", 0): [{"step": 0, "accuracy": 0.5}, {"step": 1, "kl": 0.1, "accuracy/b": 1.0}]}
    assert curves(lines)[["step", "metric"]].to_numpy().tolist() == [[0, "accuracy"], [1, "kl"]]


@pytest.mark.slow
def test_agreement_is_the_mean_overlap_of_what_two_seeds_keep(finished, exported):
    table, (folder, _) = exported.agreement, finished
    kept = [pd.read_parquet(run_of(folder, ARMS[1], seed) / ROWS) for seed in (1, 2)]
    for k in sorted(set(kept[0]["k"])):
        sets = [[set(tokens) for tokens in rows[rows["k"] == k]["kept"]] for rows in kept]  # in one order of questions
        mean = np.mean([len(one & other) / len(one | other) for one, other in zip(*sets, strict=True)])
        found = table[(table["arm"] == ARMS[1]) & (table["k"] == k)]
        assert found[["seed_a", "seed_b"]].to_numpy().tolist() == [[1, 2]]
        assert found["jaccard"].item() == pytest.approx(mean, abs=1e-6)
    assert len(table) == len(ARMS) * kept[0]["k"].nunique()
    assert (table["jaccard"] < 1).any()


@pytest.mark.slow
def test_runs_tell_how_they_ended(finished, exported):
    folder, _ = finished
    for row in exported.runs.itertuples():
        run = run_of(folder, row.arm, row.seed)
        last = read_lines(run / "metrics.jsonl")[-1]
        assert (row.steps, row.accuracy) == (4, np.float32(last["accuracy"]))
        assert row.collapsed == (run / "collapse.json").exists()
    assert len(exported.runs) == 8


def test_a_collapse_is_told_with_its_step_and_cause(tmp_path):
    for seed in (0, 1):
        run = RunFolder(tmp_path / str(seed), {})
        for step in (0, 30):
            run.append_metrics({"step": step, "accuracy": 0.5})
        if seed == 1:
            run.set_collapse(20, "accuracy")
    answer = {"benchmark": "b", "example_id": "q", "method": "a", "k": 1, "kept": np.array([0])}
    rows = pd.DataFrame([answer | {"seed": seed} for seed in (0, 1)])
    whole, broken = tables({("a", seed): tmp_path / str(seed) for seed in (0, 1)}, rows)[RUNS].itertuples()
    assert (broken.collapsed, broken.collapse_step, broken.cause) == (True, 20.0, "accuracy")
    assert (whole.collapsed, np.isnan(whole.collapse_step), whole.cause) == (False, True, "")


@pytest.mark.slow
def test_arms_that_other_code_would_make_are_not_exported_as_those_that_were_run(finished, tmp_path, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr("studies.answers.plan", lambda *given: replace(made := plan(*given), arms=made.arms[:-1]))
    with pytest.raises(UserError, match=rf"toy: .* others of it \({re.escape(ARMS[-1])}\); .*PYTHONPATH={folder.path}"):
        export_answers(folder, tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_without_answers_are_not_exported(tmp_path, params, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launching, "submit", lambda *_: [])
    definition = toy(space={}, sampler={"name": "grid"}, promote=None, arms={"own": {}}, budget={"trials": 1})
    launch(tmp_path, definition, params, LOCAL, None, [])
    folder = StudyFolder(tmp_path / "toy")
    work(folder, lambda: False)
    with pytest.raises(UserError, match=r"tests\.studies\.toys:Walk has written no rows\.parquet; leave --answers out"):
        export_answers(folder, tmp_path / "out")


@pytest.mark.slow
def test_an_export_that_is_damaged_or_no_ablation_is_refused(finished, tmp_path):
    _, export = finished
    whole = (export / CURVES).read_bytes()
    (export / CURVES).write_bytes(whole + b" ")
    with pytest.raises(UserError, match=r"curves\.parquet must have the sha256 of its manifest"):
        read_ablation(export)
    (export / CURVES).unlink()
    with pytest.raises(UserError, match=r"there is no curves\.parquet"):
        read_ablation(export)
    (export / CURVES).write_bytes(whole)
    row = {"benchmark": "b", "example_id": "q", "image_id": 0, "method": "a", "seed": 0, "k": 1, "correct": True}
    write_export(tmp_path, pd.DataFrame([row]), {"hashes": {}})
    with pytest.raises(UserError, match="no ablation"):
        read_ablation(tmp_path)


# What of an export still holds ----------------------------------------------------------------------------------------


@pytest.fixture
def stale(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the export, made by code that is gone."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("studies.verify.input_hashes", lambda *_: {"vlm": "tiny"})
    copy = shutil.copytree(finished[1], tmp_path / "export")
    manifest = json.loads((copy / MANIFEST).read_text())
    hashes = {**manifest["hashes"], "grip_core/rl/grpo.py": "old", "grip_core/gone.py": "old"}
    (copy / MANIFEST).write_text(json.dumps(manifest | {"hashes": hashes}))
    return copy


@pytest.mark.slow
def test_an_export_of_the_same_numbers_is_stale_no_longer(finished, stale, tmp_path):
    whole = read_ablation(finished[1]).manifest
    assert verify(stale, tmp_path / "studies") == dict.fromkeys(ARMS, 4)
    found = read_ablation(stale)
    assert found.manifest["hashes"] == whole["hashes"]
    (said,) = found.manifest[VERIFIED]
    assert (said["seed"], said["steps"]) == (1, dict.fromkeys(ARMS, 4))
    assert said.keys() > {"git_commit", "code"}
    assert {key: value for key, value in found.manifest.items() if key not in ("hashes", VERIFIED)} == {
        key: value for key, value in whole.items() if key != "hashes"
    }


@pytest.mark.slow
@pytest.mark.parametrize(("file", "column"), [(CURVES, "value"), (ANSWERS, "correct")])
def test_one_other_number_is_named_and_nothing_is_written(stale, tmp_path, file, column):
    table, manifest = pd.read_parquet(stale / file), json.loads((stale / MANIFEST).read_text())
    name = {CURVES: "arm", ANSWERS: "method"}[file]
    own = table.index[(table[name] == ARMS[2]) & (table["seed"] == 1)][-1]
    table.loc[own, column] = not table.loc[own, column] if column == "correct" else table.loc[own, column] * 1.0001
    table.to_parquet(stale / file, index=False)
    digest = hashlib.sha256((stale / file).read_bytes()).hexdigest()
    changes = {"sha256": digest} if file == ANSWERS else {"tables": manifest["tables"] | {file: digest}}
    (stale / MANIFEST).write_text(before := json.dumps(manifest | changes))
    with pytest.raises(UserError, match=rf"^{ARMS[2]}, seed 1: at .*, {column} was .* and is .* stays stale"):
        verify(stale, tmp_path / "studies")
    assert (stale / MANIFEST).read_text() == before


@pytest.mark.slow
def test_an_export_of_another_model_cannot_be_verified(stale, tmp_path, monkeypatch):
    monkeypatch.setattr("studies.verify.input_hashes", lambda *_: {"vlm": "another"})
    with pytest.raises(UserError, match=r"is of other data \(vlm\); run toy again, and export it"):
        verify(stale, tmp_path / "studies")
    assert not (tmp_path / "studies").exists()


def test_two_tables_differ_where_a_number_or_a_row_does():
    was = pd.DataFrame({"step": [1, 2, 10], "metric": ["kl"] * 3, "value": [0.5, np.nan, 1.0]})
    keys = ["step", "metric"]
    assert first_difference(was, was.astype({"metric": "category"}), keys, "value") is None
    other = was.assign(value=[0.5, np.nan, 2.0])
    assert first_difference(was, other, keys, "value") == "at step=10, metric=kl, value was 1.0 and is 2.0"
    assert first_difference(was, was[1:], keys, "value") == "at step=1, metric=kl, value was 0.5 and is nan"
    assert first_difference(was[:2], was, keys, "value") == "at step=10, metric=kl, value was nan and is 1.0"


def test_a_run_that_is_shorter_than_the_exports_is_compared_as_far_as_it_goes(tmp_path):
    run = RunFolder(tmp_path, {})
    for step, kl in enumerate([0.1, 0.2]):
        run.append_metrics({"step": step, "kl": kl})
    export = Export(
        pd.DataFrame(), curves({("a", 0): [{"step": step, "kl": kl} for step, kl in enumerate([0.1, 0.2, 0.3])]}), {}
    )
    assert difference(export, "a", 0, tmp_path) is None
    run.append_metrics({"step": 2, "kl": 0.4})
    assert difference(export, "a", 0, tmp_path).startswith("at step=2, metric=kl, value was 0.3")
