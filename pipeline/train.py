"""Train the scorer by GRPO with one seed; one run folder a seed."""

from __future__ import annotations

from grip_core.config import Params
from grip_core.policy.scorer import Scorer
from grip_core.rl.train import train
from grip_core.runs import RunFolder, hash_files
from pipeline.stage import WARMUP, run, train_run
from pipeline.training import load_inputs


def main(params: Params, seed: int) -> None:
    """Run the stage for one seed."""
    inputs = load_inputs(params)
    config = {
        "grpo": params.grpo.model_dump(exclude={"seeds"}),
        "budgets": params.budgets.model_dump(),
        "seed": seed,
        "warmup": hash_files((WARMUP / "scorer").iterdir()),
        **inputs.fingerprint,
    }
    folder = RunFolder(train_run(seed), config)
    if folder.finished:
        return
    warmup = Scorer.from_pretrained(WARMUP / "scorer")
    train(params.grpo, params.budgets, seed, warmup, inputs.vlm, inputs.train, inputs.validation, folder)


if __name__ == "__main__":
    run(main, seed=int)
