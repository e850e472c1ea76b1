"""Accuracy of the policy's mode on held-out questions at fixed budgets: what training is judged by while it runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grip_core.policy.scorer import Scorer
from grip_core.vlm.context import Context, top_k
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.frozen import FrozenVLM

BATCH = 100


class Validation:
    """Validation prompts, encoded once."""

    def __init__(self, vlm: FrozenVLM, store: FeatureStore, budgets: Sequence[int]) -> None:
        self.vlm, self.budgets = vlm, budgets
        self.benchmarks = store.table["benchmark"].to_numpy()
        batches = np.array_split(np.arange(len(store)), -(-len(store) // BATCH))
        self.contexts: list[Context] = [store.context(vlm, batch) for batch in batches]

    @torch.no_grad()
    def __call__(self, scorer: Scorer) -> dict[str, float]:
        """`accuracy@k` and `log_prob@k` for every budget, and their means over budgets; `accuracy@k/benchmark`."""
        row: dict[str, float] = {}
        for k in self.budgets:
            scores = []
            for context in self.contexts:
                k_B = torch.full((context.batch_size,), k)
                scores.append(self.vlm.answer_scores(context, top_k(scorer(context, k_B), k)))
            correct_R = torch.cat([item.correct_R for item in scores]).double()
            row[f"accuracy@{k}"] = correct_R.mean().item()
            row[f"log_prob@{k}"] = torch.cat([item.log_prob_R for item in scores]).double().mean().item()
            for name in sorted(set(self.benchmarks)):
                row[f"accuracy@{k}/{name}"] = correct_R[torch.from_numpy(self.benchmarks == name)].mean().item()
        for name in ("accuracy", "log_prob"):
            row[name] = float(np.mean([row[f"{name}@{k}"] for k in self.budgets]))
        return row


def validation_subset(store: FeatureStore, per_benchmark: int) -> FeatureStore:
    """The first questions of every benchmark."""
    table = store.table
    rank = table.groupby("benchmark").cumcount()
    return store.subset(np.flatnonzero(rank < per_benchmark))
