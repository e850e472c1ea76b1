"""Made-up rows of answers and costs for claims."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from grip_core.claims.schema import Claims
from grip_core.config import parse
from grip_core.seeds import numpy_random

BENCHMARKS = ("one", "two")
BUDGETS = (2, 4, 8)
N_VISUAL = 16
IMAGES, QUESTIONS = 40, 2

CLAIMS = {
    "settings": [
        {"name": "here", "model": "m", "label": "Model M", "shape": "m", "benchmarks": ["one", "two"]},
        {"name": "paper", "model": "big", "label": "Big", "shape": "big", "benchmarks": ["pope"]},
    ],
    "groups": {"heuristics": ["random", "norm"]},
    "arms": ["gumbel", "only_2"],
    "beats_every": [
        {
            "name": "beats",
            "words": "GRIP beats heuristics",
            "figure": "difference",
            "method": "grip",
            "peers": ["heuristics"],
            "share": 0.25,
            "threshold": 0.0,
        }
    ],
    "dominates": [],
    "faster": [],
    "not_worse": [],
    "stability": {"words": "training is steady", "collapse": 0.5, "gain": 0.0, "margin": 0.02},
}


def claims(**sections: list) -> Claims:
    """CLAIMS with other sections of claims; those not given are empty."""
    kinds: dict[str, list] = {"beats_every": [], "dominates": [], "faster": [], "not_worse": []}
    return parse(Claims, CLAIMS | kinds | sections, "claims")


def against(*peers: str, **keys) -> dict:
    """A claim of GRIP against peers."""
    return {"name": "it", "words": "GRIP wins", "figure": "difference", "method": "grip", "peers": list(peers), **keys}


def answers(
    accuracy: Mapping[str, float | Mapping[int, float]], seeds: Mapping[str, int] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Rows of every method and of the unpruned model, right with probability `accuracy`, which may differ by budget.

    A question is as hard for all methods as the draw it shares with them is, up to noise of each one's own.
    """
    generator = numpy_random(seed, "answers")
    shared_E = generator.normal(size=len(BENCHMARKS) * IMAGES * QUESTIONS)
    frames = [
        _rows(generator, shared_E, method, number, k, accuracies[k])
        for method, given in ({"full": {N_VISUAL: 0.9}} | dict(accuracy)).items()
        for accuracies in [given if isinstance(given, Mapping) else dict.fromkeys(BUDGETS, given)]
        for number in range((seeds or {}).get(method, 1))
        for k in accuracies
    ]
    return pd.concat(frames, ignore_index=True)


def swapped(rows: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The rows with each of two methods' answers given to the other."""
    return rows.assign(method=rows["method"].replace({one: other, other: one}))


def costs(flops: Mapping[str, float], seconds: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Costs proportional to 4 + k tokens, times a method's own factor; the unpruned model at all of its tokens."""
    return pd.DataFrame(
        [
            {
                "method": method,
                "k": k,
                "flops": factor * (4.0 + k),
                "seconds": (seconds or flops)[method] * (4.0 + k),
            }
            for method, factor in flops.items()
            for k in ([N_VISUAL] if method == "full" else BUDGETS)
        ]
    )


def _rows(generator, shared_E, method, number, k, accuracy) -> pd.DataFrame:
    """Correct answers are spread over the questions by rank, so that the accuracy is as asked, exactly."""
    hardness_E = shared_E + 0.5 * generator.normal(size=len(shared_E))
    rank_E = hardness_E.argsort().argsort()
    index_E = np.arange(len(shared_E))
    per_benchmark = IMAGES * QUESTIONS
    return pd.DataFrame(
        {
            "model": "m",
            "benchmark": np.array(BENCHMARKS)[index_E // per_benchmark],
            "example_id": [str(i) for i in index_E % per_benchmark],
            "image_id": index_E % per_benchmark // QUESTIONS,
            "method": method,
            "seed": number,
            "k": k,
            "correct": rank_E < round(accuracy * len(shared_E)),
        }
    )
