"""Studies on this machine, with worker processes of their own: launched, disturbed, resumed, exported, promoted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from grip_core.config import load
from grip_core.errors import UserError
from studies.export import export, split_name
from studies.failures import failure_of
from studies.jobs import active, cancel
from studies.launch import launch, resume
from studies.profile import Profile
from studies.retry import retry
from studies.status import gather
from studies.workers import Card
from tests.studies.conftest import ROOT, TOY, toy
from tests.studies.harness import Launched, launched, wait_until

pytestmark = pytest.mark.slow
LOCAL = Profile(cluster="local", workers=2)
SLOW = {"grpo.beta": 0.1}


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def start(tmp_path):
    """Launch a study here; whatever a test leaves is killed."""
    started: list[Launched] = []

    def begin(**changes) -> Launched:
        started.append(launched(tmp_path, LOCAL, **changes))
        return started[-1]

    yield begin
    for study in started:
        cancel(study.folder)


def studies(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "studies", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_total_is_exact_over_workers_restarts_and_a_larger_budget(start, tmp_path, params):
    study = start()
    study.wait()
    study.check()
    assert launch(tmp_path, toy(), params, LOCAL, None, []).reason == "no trial is left"
    launch(tmp_path, toy(budget={"trials": 9}), params, LOCAL, None, [])
    more = Launched(study.folder, toy(budget={"trials": 9}), study.storage)
    more.wait()
    more.check()


def test_an_edited_definition_is_refused_with_a_difference(start, tmp_path, params):
    study = start(budget={"trials": 2})
    for changes in ({"seeds": [1, 3]}, {"budget": {"trials": 1}}):
        with pytest.raises(UserError, match="only its budget may grow") as error:
            launch(tmp_path, toy(**{"budget": {"trials": 2}} | changes), params, LOCAL, None, [])
        assert "\n-" in str(error.value)
        assert "\n+" in str(error.value)
    study.wait()


def test_launching_twice_sends_no_more_workers(start, tmp_path, params):
    study = start(params=SLOW)
    again = launch(tmp_path, toy(params=SLOW), params, LOCAL, None, [])
    assert (again.workers, again.already) == (0, 2)
    study.wait()
    study.check()


def test_a_stopped_study_goes_on_where_it_was(start):
    study = start(params=SLOW)
    number = study.busy(steps=3).trial
    study.folder.stop_flag.write_text("by the test")
    wait_until(lambda: not active(study.folder), 30, "the workers stop")
    assert study.lease(number).released
    assert gather(study.folder).stopped == "by the test"
    study.resume()
    study.wait()
    study.check()
    assert (study.lease(number).attempt, study.lease(number).losses) == (2, 0)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_worker_that_is_told_to_go_puts_its_trial_down(start, how):
    study = start(params=SLOW)
    card = study.busy(steps=2)
    os.kill(card.pid, how)
    study.wait()
    study.check()
    assert study.lease(card.trial).losses == 0
    assert study.lease(card.trial).attempt == 2


def test_a_killed_worker_loses_nothing(start):
    study = start(params=SLOW)
    card = study.busy(steps=3)
    os.kill(card.pid, signal.SIGKILL)
    study.wait()
    study.check()
    assert (study.lease(card.trial).attempt, study.lease(card.trial).losses) == (2, 1)


def test_a_worker_that_was_only_suspended_is_fenced_off(start):
    """It wakes up after its trial was taken over, and must not write over what the other did."""
    study = start(params=SLOW)
    card = study.busy(steps=3)
    os.kill(card.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: study.lease(card.trial).attempt == 2, 30, "another worker takes the trial over")
    finally:
        os.kill(card.pid, signal.SIGCONT)
    study.wait()
    study.check()
    log = next(c.log for c in study.cards() if c.worker == card.worker)
    assert f"trial {card.trial}: lost" in Path(log).read_text()


def test_a_trial_that_kills_its_workers_is_given_up(start):
    study = start(params={"grpo.beta": 0.5}, budget={"trials": 1}, failures={"attempts": 2})
    killed: set[int] = set()
    while len(killed) < 2:
        card = wait_until(lambda: at_work(study, killed), 30, "a worker has it")
        os.kill(card.pid, signal.SIGKILL)
        killed.add(card.pid)
        wait_until(lambda: not active(study.folder), 10, "it is dead")
        study.resume()
    study.wait()
    failure = failure_of(study.trials()[0])
    assert failure["cause"] == "lost"
    assert "lost 2 workers" in failure["message"]


def at_work(study: Launched, but: set[int]) -> Card | None:
    cards = [card for card in study.cards() if card.pid not in but and card.trial is not None]
    return cards[0] if cards else None


@pytest.mark.parametrize(("epsilon", "cause"), [(0.5, "nan"), (0.6, "exception: RuntimeError"), (0.7, "out of memory")])
def test_a_failure_is_kept_with_its_traceback_and_the_rest_goes_on(start, epsilon, cause):
    space = {"grpo.epsilon": {"choices": [0.2, epsilon]}, "grpo.num_iterations": {"choices": [1, 2]}}
    study = start(space=space, sampler={"name": "grid"}, budget={"trials": 4})
    study.wait()
    trials = study.trials()
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE"] * 2 + ["FAIL"] * 2
    failure = next(failure_of(trial) for trial in trials if trial.state == TrialState.FAIL)
    assert failure["cause"] == cause
    assert "as the test asked for" in failure["traceback"]
    assert os.path.exists(failure["log"])
    (group,) = gather(study.folder).failures
    assert (group.cause, len(group.trials)) == (cause, 2)


def test_failed_trials_are_retried_once_and_do_not_count_again(start):
    space = {"grpo.epsilon": {"choices": [0.2, 0.6]}}
    study = start(space=space, sampler={"name": "grid"}, budget={"trials": 2})
    study.wait()
    failed = next(trial.number for trial in study.trials() if trial.state == TrialState.FAIL)
    with pytest.raises(UserError, match="exception: RuntimeError"):
        retry(study.folder, "nan")
    assert retry(study.folder, "exception: RuntimeError") == [failed]
    assert retry(study.folder, str(failed)) == []
    study.resume()
    study.wait()
    assert [trial.state.name for trial in study.trials()].count("FAIL") == 2
    assert len(study.trials()) == 3


def test_fail_fast_stops_the_study(start):
    space = {"grpo.epsilon": {"choices": [0.6]}, "grpo.max_grad_norm": {"low": 0.1, "high": 1.0}}
    study = start(space=space, failures={"policy": "fail_fast"}, budget={"trials": 20})
    wait_until(lambda: not active(study.folder), 30, "the workers stop")
    assert len(study.trials()) <= 2
    assert "fail_fast" in gather(study.folder).stopped


def test_a_trial_may_take_only_so_long(start):
    study = start(params=SLOW, budget={"trials": 1}, failures={"trial_minutes": 0.01})
    study.wait()
    assert failure_of(study.trials()[0])["cause"] == "time-out"


def test_pruned_trials_stop_early_and_the_best_is_complete(start):
    study = start(pruner={"name": "successive_halving"}, budget={"trials": 12})
    study.wait()
    states = {trial.state for trial in study.trials()}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in study.trials():
        whole = trial.state == TrialState.COMPLETE
        assert (len(trial.intermediate_values) == 5) == whole
        if whole:
            assert trial.value == pytest.approx(study.expected(trial))


def test_a_worker_ends_after_so_many_trials_and_others_do_the_rest(start):
    study = start(trials_per_job=2)
    study.wait()
    study.check()
    assert len(study.cards()) == 3
    logs = [Path(card.log).read_text() for card in study.cards()]
    assert all(text.count(": complete") == 2 for text in logs)


def test_wilcoxons_pruner_stops_a_trial_after_some_of_its_seeds(start):
    study = start(pruner={"name": "wilcoxon", "p_threshold": 0.3}, seeds=[1, 2, 3, 4, 5, 6], budget={"trials": 10})
    study.wait()
    seeds = {trial.number: len(trial.intermediate_values) for trial in study.trials()}
    states = {trial.number: trial.state for trial in study.trials()}
    assert set(states.values()) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all((seeds[number] == 6) == (states[number] == TrialState.COMPLETE) for number in seeds)


def test_code_is_repaired_by_resuming_with_that_of_now(start):
    study = start(budget={"trials": 1})
    study.wait()
    first = study.folder.read().code
    stale = study.folder.read()
    study.folder.write(replace(stale, code="0" * 16))
    assert resume(study.folder, new_code=True).reason == "no trial is left"
    assert study.folder.read().code == first  # nothing has changed in between


def test_constraints_keep_a_trial_from_being_best(start):
    constraint = {"metric": "kl", "at_most": 0.5}
    study = start(constraints=[constraint], budget={"trials": 12})
    study.wait()
    feasible = [trial for trial in study.trials() if trial.user_attrs["metrics"]["kl"] <= 0.5]
    best = gather(study.folder).best
    assert [trial.number for trial in best] == [max(feasible, key=lambda t: t.value).number] if feasible else not best


def test_several_objectives_have_a_front(start):
    objectives = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "kl", "direction": "minimize"}]
    study = start(objectives=objectives)
    study.wait()
    best = gather(study.folder).best
    assert best
    assert all(len(trial.values) == 2 for trial in best)


def test_data_that_changes_in_between_is_refused(start, tmp_path, params):
    study = start(params=SLOW)
    study.busy()
    study.folder.stop_flag.write_text("by the test")
    wait_until(lambda: not active(study.folder), 30, "the workers stop")
    text = study.folder.record.read_text()
    study.folder.record.write_text(text.replace(f'"seed": {params.data.seed}', '"seed": 1'))
    study.resume()
    wait_until(lambda: not active(study.folder), 30, "the workers refuse")
    log = max(study.folder.logs.glob("*.log"), key=os.path.getmtime).read_text()
    assert "data or model have changed" in log
    assert "Traceback" not in log


def test_the_working_tree_may_change_while_jobs_wait(start):
    study = start(budget={"trials": 1})
    study.wait()
    record = study.folder.read()
    copy = study.folder.code(record.code)
    assert (copy / "grip_core" / "runs.py").read_bytes() == (ROOT / "grip_core" / "runs.py").read_bytes()
    variables = {**os.environ, "PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", "import grip_core, studies.worker; print(grip_core.__file__, studies.__file__)"]
    found = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.split()
    assert [str(copy / "grip_core" / "__init__.py"), str(copy / "studies" / "__init__.py")] == found
    provenance = study.trials()[0].user_attrs["provenance"]
    assert provenance["code"] == record.code
    assert {"git_commit", "packages", "data_sha256", "params_sha256", "seeds", "job", "seconds"} <= provenance.keys()


def test_the_export_is_every_number_and_its_hash(start, tmp_path):
    study = start(budget={"trials": 3})
    study.wait()
    path = export(study.folder, "parquet", tmp_path / "out")
    table = pd.read_parquet(path)
    assert list(table.columns[:2]) == ["trial", "state"]
    last = table[(table.metric == "accuracy")].sort_values("step").groupby(["trial", "seed"]).value.last()
    for trial in study.trials():
        assert np.mean([last[trial.number, seed] for seed in (1, 2)]) == pytest.approx(trial.value)
    manifest = yaml.safe_load((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == len(table)
    assert export(study.folder, "csv").exists()


@pytest.mark.parametrize(
    ("metric", "parts"),
    [
        ("kl", ("kl", None, None)),
        ("accuracy@4", ("accuracy", "4", None)),
        ("accuracy@4/easy_vqa", ("accuracy", "4", "easy_vqa")),
        ("reward@4-7", ("reward", "4-7", None)),
    ],
)
def test_a_metric_names_its_budget_and_benchmark(metric, parts):
    assert split_name(metric) == parts


def comments(text: str) -> set[str]:
    """Of a YAML file."""
    return {line.split("#", 1)[1] for line in text.splitlines() if "#" in line}


def test_the_best_are_retested_on_fresh_seeds_and_the_winner_is_written_down(tmp_path):
    """By the command line, as a user would: search, promote, and params.yaml has the winner's settings."""
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY))
    params = tmp_path / "params.yaml"
    shutil.copy("params.yaml", params)
    where = ("--root", tmp_path / "studies", "--params", params)
    result = studies("launch", tmp_path / "toy.yaml", *where)
    assert result.returncode == 0, result.stderr
    result = studies("promote", "toy", *where, "--write")
    assert result.returncode == 0, result.stderr
    again = studies("promote", "toy", *where)
    assert "re-tested on 3" in again.stdout
    before, after = load(ROOT / "params.yaml"), load(params)
    assert after.grpo.steps in (10, 20)
    assert after.grpo.learning_rate != before.grpo.learning_rate
    assert "# Promoted from the study toy, trial" in params.read_text()
    kept = yaml.safe_load((tmp_path / "studies" / "promoted" / "toy.json").read_text())
    assert kept["winner"]["retest_seeds"] == [11, 12, 13]
    assert kept["winner"]["settings"]["grpo.learning_rate"] == after.grpo.learning_rate
    assert comments((ROOT / "params.yaml").read_text()) <= comments(params.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "none"), "there is no study none"),
        (("preview", "no-such.yaml"), "no-such.yaml does not exist"),
        (("preview", "studies/search.yaml", "--profile", "mars"), "known: a100, cpu, local"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(arguments, message):
    result = studies(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_status_and_preview_say_what_there_is(start):
    study = start(budget={"trials": 2, "gpu_hours": 5.0})
    study.wait()
    shown = studies("status", "toy", "--root", study.folder.path.parent).stdout
    assert "2 of 2 trials done" in shown
    assert "GPU-hours 0.00 of 5" in shown
    planned = studies("preview", "studies/search.yaml", "--profile", "slurm/profiles/a100.yaml").stdout
    assert "#SBATCH --array=0-7%8" in planned
    assert "48 trials of 3 seeds" in planned
