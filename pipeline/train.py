"""Train the scorer by GRPO with one seed; one run folder a seed."""

from __future__ import annotations

from grip_core.config import Params
from grip_core.places import WARMUP, train_run
from grip_core.rl.inputs import open_task, run_config
from grip_core.rl.train import train
from grip_core.runs import RunFolder
from pipeline.stage import run
from pipeline.training import load_inputs


def main(params: Params, seed: int) -> None:
    """Run the stage for one seed."""
    inputs = load_inputs(params)
    task = open_task(inputs, WARMUP, params.grpo.start, seed)
    config = run_config(params.grpo, params.budgets, seed, WARMUP, inputs.fingerprint)
    train(params.grpo, params.budgets, seed, task, inputs.validation, RunFolder(train_run(seed), config))


if __name__ == "__main__":
    run(main, seed=int)
