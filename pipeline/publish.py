"""Write a trained scorer as the Hub has it, with a model card: `python -m pipeline.publish --to my-scorer`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from grip_core.card import model_card
from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.evaluation.names import GRIP
from grip_core.places import EVALUATION, train_run
from grip_core.policy.saved import trained_with
from grip_core.rl.inputs import load_scorer
from grip_core.runs import hash_files
from pipeline.evaluate import SCORERS
from pipeline.stage import run


def main(params: Params, to: Path, seed: int | None = None) -> None:
    """Write the scorer of a training seed, by default the first, into the folder `to`."""
    seed = params.grpo.seeds[0] if seed is None else seed
    trained = train_run(seed)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to must name a new or an empty folder, but {to} is or holds a file; name another one")
    scorer = load_scorer(trained)
    tested = tested_on(EVALUATION / "rows.parquet", trained, seed)
    card = model_card(trained, trained_with(scorer)["path"], accuracy_of(tested), tested["benchmark"].unique())
    scorer.save_pretrained(to)
    card.save(to / "README.md")
    print(f"{to}: the scorer of {trained}, with its card")


def tested_on(path: Path, trained: Path, seed: int) -> pd.DataFrame:
    """What a run's scorer answers to test questions; no rows where it was not evaluated, or only an earlier one of that
    seed was."""
    columns = ["method", "seed", "benchmark", "k", "correct"]
    rows = pd.read_parquet(path, columns=columns) if path.exists() else pd.DataFrame(columns=columns)
    if rows.attrs.get(SCORERS, {}).get(trained.name) != hash_files((trained / "scorer").iterdir()):
        return rows[:0]
    return rows[(rows["method"] == GRIP) & (rows["seed"] == seed)]


def accuracy_of(tested: pd.DataFrame) -> dict[int, float]:
    """By budget, mean over benchmarks."""
    means = tested.groupby(["k", "benchmark"], observed=True)["correct"].mean().groupby("k").mean()
    return {int(k): float(share) for k, share in means.items()}


if __name__ == "__main__":
    run(main, to=Path, seed=int)
