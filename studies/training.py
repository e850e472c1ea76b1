"""The trials of this project: GRPO runs on the pipeline's features and warm-up."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grip_core.config import Params, check_budgets
from grip_core.errors import UserError
from grip_core.places import FEATURES, WARMUP
from studies.trainable import Pause, Trainable

if TYPE_CHECKING:
    from grip_core.rl.fit import Pause as PauseAt
    from grip_core.rl.task import Task
    from grip_core.runs import RunFolder

OPENED = ("vlm", "data", "features", "pretrain", "scorer", "warmup", "evaluate", "report", "grpo.validation_questions")
"""Sections and keys that decide what a worker opens once: no trial has its own."""


class Training(Trainable):
    """Opens the features once, and the VLM, or a connection to the process that holds it."""

    unread: ClassVar[tuple[str, ...]] = ("supervised",)
    """Sections that its runs do not read."""
    warmup: Path = WARMUP
    """The folder of the finished warm-up that runs start from."""

    def __init__(self, params: Params, socket: Path | None = None) -> None:
        # Here and not above: they import torch and trl, which whoever only checks a study need not wait for.
        from grip_core.rl.inputs import open_inputs
        from grip_core.runs import hash_files
        from grip_core.vlm.load import configured_vlm
        from grip_core.vlm.protocol import AnsweringVLM
        from grip_core.vlm.remote import RemoteVLM

        own = params.vlm
        vlm: AnsweringVLM = RemoteVLM(socket) if socket else configured_vlm(own)
        self.inputs = open_inputs(
            vlm,
            FEATURES,
            params.data.trained_on,
            params.evaluate.budgets,
            params.evaluate.headline_share,
            params.grpo.validation_questions,
        )
        check_budgets(params, self.inputs.train.n_visual)
        # A study's code is its snapshot, so the hash of the modules that happen to be loaded has no place here.
        self.data = {name: value for name, value in self.inputs.fingerprint.items() if name != "code"}
        self.fingerprint: dict[str, Any] = {**self.data, "warmup": hash_files((WARMUP / "scorer").iterdir())}

    @classmethod
    def check_keys(cls, keys: list[str]) -> None:
        """See Trainable."""
        for key in keys:
            if key in OPENED or key.split(".")[0] in OPENED:
                raise UserError(f"{key} cannot differ between trials, for workers open what it decides once; remove it")
            if key.split(".")[0] in cls.unread:
                raise UserError(f"{key} is read by none of this study's trials; remove it")

    @classmethod
    def check_inputs(cls, params: Params) -> None:
        """See Trainable."""
        missing = [str(path) for path in cls.needed(params) if not path.is_dir()]
        if missing:
            raise UserError(
                f"a study needs the pipeline's outputs, but there is no {missing[0]}; run `make repro` first"
            )

    @staticmethod
    def needed(params: Params) -> list[Path]:
        """The folders that a worker reads."""
        folders = [FEATURES / name / split for name in params.data.trained_on for split in ("train", "validation")]
        return [*folders, WARMUP / "scorer"]

    @classmethod
    def whole_prompts(cls, params: Params) -> int:
        """How many prompts the VLM answers at once from every visual token."""
        from grip_core.rl.rewards import needs_kl

        return params.grpo.prompts_per_step if needs_kl(params.grpo.reward) else 0

    @classmethod
    def memory(cls, params: Params) -> str:
        """See Trainable."""
        from grip_core.cost.plan import Work, in_words, memory_plan
        from grip_core.vlm.features import load_store

        store = load_store(FEATURES, params.data.trained_on, "train")
        of, trained, tested = params.features.images, len(params.data.trained_on), len(params.data.benchmarks)
        images = trained * (of.train + of.validation) + tested * of.test
        work = Work(
            images=images,
            tokens=store.n_visual,
            image_size=store.image_size,
            budget=params.budgets.high,
            validation=trained * params.grpo.validation_questions,
            whole=cls.whole_prompts(params),
        )
        plan = memory_plan(params.vlm, params.grpo, work)
        return in_words(plan, params.vlm.processes, params.features.max_gigabytes)

    @staticmethod
    def server(params: Params, socket: Path) -> list[str]:
        """See Trainable."""
        own = params.vlm
        model = ["--vlm", own.path, "--positions", own.positions, "--dtype", own.dtype]
        model += ["--device", own.device, "--quantization", own.quantization]
        model += ["--rows-per-forward", str(own.rows_per_forward)]
        model += [] if own.template is None else ["--template", own.template]
        place = ["--socket", str(socket), "--owner", str(os.getpid())]
        return [sys.executable, "-m", "grip_core.vlm.server", *model, *place]

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        """See Trainable. Raises UserError for a budget larger than the number of visual tokens."""
        from grip_core.runs import RunFolder

        check_budgets(params, self.inputs.train.n_visual)
        run = RunFolder(folder, self.run_config(params, seed))
        # The last row is written before the scorer is: who was killed in between has yet to finish.
        if run.metrics_at(step) is None or (step == params.grpo.steps and not run.finished):
            self.train(params, seed, run, lambda now: now >= step or pause())
        return run.metrics_at(step)

    def run_config(self, params: Params, seed: int) -> dict[str, Any]:
        """All that decides a run's numbers."""
        from grip_core.rl.inputs import run_config

        return run_config(params.grpo, params.budgets, seed, self.warmup, self.data)

    def task(self, params: Params, seed: int) -> Task:
        """What a run trains for, and the scorer that it begins with."""
        from grip_core.rl.inputs import open_task

        return open_task(self.inputs, self.warmup, params.grpo.start, seed)

    def train(self, params: Params, seed: int, run: RunFolder, pause: PauseAt) -> None:
        """Go on with a run until it is finished or paused."""
        from grip_core.rl.processes import by_first
        from grip_core.rl.train import train

        by_first(lambda: (params, seed, run.path, self.warmup))  # to those that follow
        train(params.grpo, params.budgets, seed, self.task(params, seed), self.inputs.validation, run, pause=pause)

    def follow(self, params: Params, seed: int, folder: Path, start: Path) -> None:
        """See Trainable. `start` is the folder of the warm-up."""
        from grip_core.rl.train import train
        from grip_core.runs import OnlookersFolder

        self.warmup = start
        task, run = self.task(params, seed), OnlookersFolder(folder)
        train(params.grpo, params.budgets, seed, task, self.inputs.validation, run)
