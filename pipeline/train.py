"""Train the scorer by GRPO with one seed; one run folder a seed."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from grip_core.config import Params
from grip_core.places import WARMUP, train_run
from grip_core.rl import processes
from grip_core.rl.inputs import open_task, run_config
from grip_core.rl.train import train
from grip_core.runs import OnlookersFolder, RunFolder
from pipeline.stage import run
from pipeline.training import load_inputs


def main(params: Params, seed: int) -> None:
    """Run the stage for one seed."""
    if params.vlm.processes > 1 and "WORLD_SIZE" not in os.environ:
        launch(params.vlm.processes)
    processes.join()
    inputs = load_inputs(params)
    task = open_task(inputs, WARMUP, params.grpo.start, seed)
    config = run_config(params.grpo, params.budgets, seed, WARMUP, inputs.fingerprint)
    folder = processes.by_first(lambda: RunFolder(train_run(seed), config))
    if processes.rank() > 0:
        folder = OnlookersFolder(train_run(seed))
    train(params.grpo, params.budgets, seed, task, inputs.validation, folder)


def launch(n_processes: int) -> NoReturn:
    """Become a launcher of this command in so many processes, so that whoever stops it stops them. Raises UserError if
    there are too few GPUs."""
    processes.check_devices(n_processes)
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    os.execv(sys.executable, [sys.executable, "-m", *several, "-m", "pipeline.train", *sys.argv[1:]])


if __name__ == "__main__":
    run(main, seed=int)
