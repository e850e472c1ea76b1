"""Write a trained scorer as the Hub has it, with a model card: `python -m pipeline.publish --to my-scorer`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from grip_core.card import model_card
from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.evaluation.names import GRIP
from grip_core.model import TRAINED_WITH
from grip_core.places import EVALUATION, train_run
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
    accuracy = accuracy_of(EVALUATION / "rows.parquet", trained, seed)
    card = model_card(trained, params.vlm.path, accuracy, params.data.benchmarks)
    setattr(scorer.config, TRAINED_WITH, params.vlm.model_dump(include={"path", "template", "positions"}))
    scorer.save_pretrained(to)
    card.save(to / "README.md")
    print(f"{to}: the scorer of {trained}, with its card")


def accuracy_of(path: Path, trained: Path, seed: int) -> dict[int, float]:
    """Test accuracy of a run's scorer by budget, mean over benchmarks; nothing where it was not evaluated, or only an
    earlier one of that seed was."""
    if not path.exists():
        return {}
    rows = pd.read_parquet(path, columns=["method", "seed", "benchmark", "k", "correct"])
    if rows.attrs.get(SCORERS, {}).get(trained.name) != hash_files((trained / "scorer").iterdir()):
        return {}
    own = rows[(rows["method"] == GRIP) & (rows["seed"] == seed)]
    means = own.groupby(["k", "benchmark"], observed=True)["correct"].mean().groupby("k").mean()
    return {int(k): float(share) for k, share in means.items()}


if __name__ == "__main__":
    run(main, to=Path, seed=int)
