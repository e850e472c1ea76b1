"""Studies of random walks, launched for real: what tests of local and of SLURM workers share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from grip_core.config import load
from studies.definition import Definition
from studies.folder import StudyFolder
from studies.jobs import active
from studies.launch import launch, resume
from studies.lease import Lease, read_lease
from studies.profile import Profile
from studies.space import trial_params
from studies.storage import load_study
from studies.workers import Card, read_cards
from tests.studies.conftest import ROOT, toy
from tests.studies.toys import walk


def wait_until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: still not so after {timeout:.0f} s")
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Launched:
    """A study whose workers were sent."""

    folder: StudyFolder
    definition: Definition
    storage: str

    def trials(self) -> list[FrozenTrial]:
        return load_study(self.definition.name, self.storage).get_trials(deepcopy=False)

    def lease(self, number: int) -> Lease:
        return read_lease(self.folder.lease(number))

    def cards(self) -> list[Card]:
        return read_cards(self.folder)

    def busy(self, steps: int = 1) -> Card:
        """A worker whose trial has done some steps."""

        def found() -> Card | None:
            for card in self.cards():
                if card.trial is not None and card.ended is None and self.steps_done(card.trial) >= steps:
                    return card
            return None

        return wait_until(found, 60, "a worker is in the middle of a trial")

    def steps_done(self, number: int) -> int:
        files = self.folder.trial(number).glob("attempt-*/seed-*/metrics.jsonl")
        return max((len(path.read_text().splitlines()) for path in files), default=0)

    def wait(self, timeout: float = 120) -> None:
        """Until no trial is open and no worker is left."""

        def done() -> bool:
            trials = self.trials()
            return len(trials) >= self.definition.budget.trials and all(t.state.is_finished() for t in trials)

        wait_until(done, timeout, "all trials are finished")
        self.wait_for_workers()

    def wait_for_workers(self) -> None:
        """Until no worker is left."""
        wait_until(lambda: not active(self.folder), 150, "all workers have ended")

    def resume(self) -> None:
        resume(self.folder)

    def check(self) -> None:
        """Every trial finished once, and every number is that of a run that nothing has disturbed."""
        trials = self.trials()
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * self.definition.budget.trials
        for trial in trials:
            assert trial.value == pytest.approx(self.expected(trial), abs=1e-12)
            lease = self.lease(trial.number)
            assert trial.user_attrs["provenance"]["attempts"] == lease.attempt
            steps = trial_params(self.definition, load(ROOT / "params.yaml"), dict(trial.params)).grpo.steps
            for seed in self.definition.seeds:
                metrics = self.folder.run(trial.number, lease.attempt, seed) / "metrics.jsonl"
                assert len(metrics.read_text().splitlines()) == steps  # none lost, none double

    def expected(self, trial: FrozenTrial) -> float:
        """The value of an uninterrupted trial."""
        params = trial_params(self.definition, load(ROOT / "params.yaml"), dict(trial.params)).grpo
        return fmean(walk(seed, params.learning_rate, params.steps) for seed in self.definition.seeds)


def launched(root: Path, profile: Profile, storage: str | None = None, **changes: Any) -> Launched:
    """Launch the toy study with other entries."""
    definition = toy(**changes)
    launch(root, definition, load(ROOT / "params.yaml"), profile, storage, [])
    folder = StudyFolder((root / definition.name).absolute())
    return Launched(folder, definition, folder.read().storage)
