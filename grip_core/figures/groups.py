"""The methods in groups, by what they need: the order of every legend, and the best of each group."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, WARMUP

OURS, REFERENCES, OTHERS = "Ours", "References", "Others"
GROUPS: dict[str, tuple[str, ...]] = {
    OURS: (GRIP, WARMUP),
    "GRPO, trained otherwise": ("only_2", "only_7", "only_72", "mixture", "no_warmup", "no_warmup_no_kl"),
    "Trained with supervision": ("distill", "gumbel", "soft_topk", "diffprune"),
    "Before the LLM": (
        "random",
        "grid",
        "pooling",
        "norm",
        "text_similarity",
        "encoder_attention",
        "divprune",
        "visionzip",
        "prumerge",
        "vispruner",
        "cdpruner",
        "holov",
    ),
    "Inside the LLM": ("fastv_inside", "sparsevlm", "pyramiddrop", "dart"),
    "After a full pass": ("fastv",),
}


def grouped(methods: Iterable[str]) -> dict[str, list[str]]:
    """The methods by their group's title, both in the order of a legend; empty groups are left out."""
    present = set(methods)
    listed = {name for names in GROUPS.values() for name in names} | {FULL, NO_IMAGE}
    everything = GROUPS | {OTHERS: tuple(sorted(present - listed)), REFERENCES: (FULL, NO_IMAGE)}
    found = {title: [name for name in names if name in present] for title, names in everything.items()}
    return {title: names for title, names in found.items() if names}


def best_of_groups(table: pd.DataFrame) -> list[str]:
    """The methods worth looking at first: ours, and of every other group that of the highest mean accuracy.

    `table` has benchmark, method, k and accuracy. Means are over the benchmarks and budgets that all methods but the
    references share, so that none is the best for having been run where it is easy.
    """
    groups = {title: names for title, names in grouped(table["method"]).items() if title != REFERENCES}
    pruned = table[table["method"].isin([name for names in groups.values() for name in names])]
    cells = pruned.pivot(index=["benchmark", "k"], columns="method", values="accuracy").dropna()
    means = cells.mean()
    best = {title: max(names, key=means.__getitem__) for title, names in groups.items() if title != OURS}
    return [*groups.get(OURS, []), *best.values()]
