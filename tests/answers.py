"""Made-up rows of answers, as the evaluation writes them, with chosen accuracies."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

BENCHMARKS = ("one", "two")
BUDGETS = (2, 4, 8)
N_VISUAL = 16
IMAGES, QUESTIONS = 20, 2  # two questions an image


def make_rows(accuracy: Mapping[str, float], seeds: Mapping[str, int] | None = None) -> pd.DataFrame:
    """Rows of every method in `accuracy`, and of the references, with one seed or as many as `seeds` says.

    The same questions are the easy ones for all, and at every budget a method's accuracy is as wished.
    """
    seeds = {"grip": 2} | dict(seeds or {})
    grid = {"full": [N_VISUAL], "no_image": [0]}
    total = IMAGES * QUESTIONS
    return pd.DataFrame(
        [
            {
                "benchmark": benchmark,
                "kind": "any",
                "example_id": f"{benchmark}-{i}",
                "image_id": i // QUESTIONS,
                "method": method,
                "seed": seed,
                "k": k,
                "correct": (i * 17 % total) < round(share * total),  # 17 and 40 have no common factor: a shuffle
                "log_prob": -1.0,
                "kept": list(range(k)),
            }
            for method, share in ({"full": 1.0, "no_image": 0.25} | dict(accuracy)).items()
            for seed in range(seeds.get(method, 1))
            for k in grid.get(method, BUDGETS)
            for benchmark in BENCHMARKS
            for i in range(total)
        ]
    )
