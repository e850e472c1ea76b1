"""Train the scorer by GRPO with one seed; one run folder a seed."""

from __future__ import annotations

from grip_core.config import Params
from grip_core.rl.train import Task, train
from grip_core.runs import RunFolder, hash_files
from pipeline.stage import WARMUP, run, train_run
from pipeline.training import load_inputs, load_scorer


def main(params: Params, seed: int) -> None:
    """Run the stage for one seed."""
    inputs = load_inputs(params)
    task = Task(inputs.vlm, inputs.train, load_scorer(WARMUP))
    config = {
        "grpo": params.grpo.model_dump(exclude={"seeds"}),
        "budgets": params.budgets.model_dump(),
        "seed": seed,
        "warmup": hash_files((WARMUP / "scorer").iterdir()),
        **inputs.fingerprint,
    }
    folder = RunFolder(train_run(seed), config)
    train(params.grpo, params.budgets, seed, task, inputs.validation, folder)


if __name__ == "__main__":
    run(main, seed=int)
