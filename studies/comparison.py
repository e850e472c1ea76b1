"""Arms that differ in what they learn from: GRPO from one start or another, or a supervised principle.

Every run ends with its answers to the test questions, which an export of the study collects.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.evaluation.exports import PACE
from grip_core.files import atomic_file
from grip_core.places import FEATURES, PREPARED
from studies.trainable import Pause
from studies.training import Training

if TYPE_CHECKING:
    from grip_core.rl.fit import Pause as PauseAt
    from grip_core.runs import RunFolder

ROWS = "rows.parquet"
"""In the folder of a finished run: grip_core/evaluation/evaluate.py's row an answer, of method TRAINED."""
TRAINED = "trained"


class Comparison(Training):
    """Trains by `supervised.method`, or where that is "none" by GRPO, and then answers the test questions.

    A supervised run has the steps, rungs and checkpoints that a GRPO run of the study has.
    """

    unread: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Params, socket: Path | None = None) -> None:
        from grip_core.evaluation.exports import input_hashes
        from grip_core.vlm.features import COMPLETE, load_store

        super().__init__(params, socket)
        self.test = load_store(FEATURES, params.data.benchmarks, "test")
        self.evaluated = params.evaluate
        folders = [FEATURES / name / "test" for name in params.data.benchmarks]
        self.data |= {
            "test": {str(folder): (folder / COMPLETE).read_text() for folder in folders},
            "evaluate": {"budgets": params.evaluate.budgets, "batch_size": params.evaluate.batch_size},
            "inputs": input_hashes(params.data.benchmarks, params.vlm.path),
        }
        self.fingerprint |= self.data

    @classmethod
    def whole_prompts(cls, params: Params) -> int:
        """See Training."""
        return max(super().whole_prompts(params), params.evaluate.batch_size)

    @classmethod
    def check_keys(cls, keys: list[str]) -> None:
        """See Trainable."""
        super().check_keys(keys)
        for key in keys:
            if key.removeprefix("supervised.") in PACE:
                raise UserError(f"{key} follows from compute, as that of grpo does, and cannot be set; remove it")

    @classmethod
    def check_trial(cls, params: Params, base: Params, source: str) -> None:
        """See Trainable."""
        method = params.supervised.method
        if method == "none":
            return
        asked = {
            "vlm.positions": (params.vlm.positions, "original", params.vlm.positions != "original"),
            "budgets.schedule": (params.budgets.schedule, "another", params.budgets.schedule == "adaptive"),
        }
        for key, (value, rule, refused) in asked.items():
            if refused:
                raise UserError(
                    f"{source}: {key} must be {rule} for supervised.method={method}, but got {value}; leave one of the "
                    "two out"
                )

    @staticmethod
    def needed(params: Params) -> list[Path]:
        """See Training."""
        names = params.data.benchmarks
        return [
            *Training.needed(params),
            *(FEATURES / name / "test" for name in names),
            *(PREPARED / name for name in names),
        ]

    @classmethod
    def token_forwards(cls, trials: Sequence[Params]) -> list[float]:
        """See Trainable."""
        from grip_core.supervised.compute import mean_text, token_forwards
        from grip_core.vlm.features import load_store
        from grip_core.vlm.load import configured_vlm

        first = trials[0]
        store = load_store(FEATURES, first.data.trained_on, "train")
        text = mean_text(configured_vlm(first.vlm), store)
        return [
            token_forwards(params.grpo, params.supervised, params.budgets, store.n_visual, text) for params in trials
        ]

    @staticmethod
    def server(params: Params, socket: Path) -> list[str]:
        """See Trainable."""
        raise UserError("supervised arms take gradients through the VLM of their own process; set runs_per_vlm: 1")

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        """See Trainable. The last step is reached once the test questions are answered."""
        from grip_core.runs import RunFolder

        metrics = super().advance(params, seed, step, folder, pause)
        run = RunFolder(folder, self.run_config(params, seed))
        if run.finished and not (folder / ROWS).exists():
            if pause():
                return None
            self.answer(seed, run)
        return metrics

    def run_config(self, params: Params, seed: int) -> dict[str, Any]:
        """See Training."""
        return {**super().run_config(params, seed), "supervised": params.supervised.model_dump()}

    def train(self, params: Params, seed: int, run: RunFolder, pause: PauseAt) -> None:
        """See Training."""
        if params.supervised.method == "none":
            super().train(params, seed, run, pause)
            return
        from grip_core.supervised.train import train_supervised

        config = params.supervised.model_copy(update={name: getattr(params.grpo, name) for name in PACE})
        task = self.task(params, seed)
        train_supervised(config, params.budgets, seed, task, self.inputs.validation, run, pause=pause)

    def answer(self, seed: int, run: RunFolder) -> None:
        """Write what the trained scorer's mode answers at every budget of `evaluate.budgets`."""
        from grip_core.evaluation.evaluate import Method, evaluate
        from grip_core.evaluation.policy import PolicySelector
        from grip_core.policy.scorer import Scorer
        from grip_core.vlm.frozen import FrozenVLM

        method = Method(TRAINED, seed, PolicySelector(Scorer.from_pretrained(run.scorer)))
        vlm, config = self.inputs.vlm, self.evaluated
        assert isinstance(vlm, FrozenVLM)  # `server` shares none
        rows = evaluate(vlm, self.test, [method], config.budgets, config.batch_size)
        with atomic_file(run.path / ROWS) as file:
            rows.to_parquet(file, index=False)


def cost(params: Params) -> dict[str, Any]:
    """What a seed's training asks of the VLM: scored selections, or prompts with or without a backward pass."""
    config, steps = params.supervised, params.grpo.steps
    if config.method != "none":
        return {"steps": steps, "prompts": steps * config.prompts_per_step, "backward": config.method != "distill"}
    rollouts = steps // params.grpo.num_iterations
    return {"steps": steps, "selections": rollouts * params.grpo.prompts_per_step * params.grpo.group_size}
