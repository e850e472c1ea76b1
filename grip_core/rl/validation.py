"""Accuracy of the policy's mode on held-out questions at fixed budgets: what training is judged by while it runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grip_core.policy.distribution import SelectionDistribution
from grip_core.policy.scorer import Scorer
from grip_core.rl.processes import shared_out
from grip_core.vlm.context import Context, Selection, top_k
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.protocol import AnsweringVLM

BATCH = 100


class Validation:
    """Validation prompts, encoded once."""

    def __init__(self, vlm: AnsweringVLM, store: FeatureStore, budgets: Sequence[int]) -> None:
        self.vlm, self.budgets = vlm, budgets
        self.benchmarks = store.table["benchmark"].to_numpy()
        batches = np.array_split(np.arange(len(store)), -(-len(store) // BATCH))
        self.contexts: list[Context] = [store.context(vlm, batch) for batch in batches]

    @torch.no_grad()
    def __call__(
        self,
        scorer: Scorer,
        distribution: type[SelectionDistribution] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, float]:
        """`accuracy@k` and `log_prob@k` for every budget, and their means over budgets; `accuracy@k/benchmark`.

        Given a distribution, also `sampled_accuracy@k` and `sampled_log_prob@k` of one selection a question that the
        generator draws from it, the mean `sampled_accuracy`, and `gap`, by which the mode's accuracy is above that:
        what is trained is the sampled policy, what is judged the mode.

        Raises ValueError if only one of distribution and generator is given.
        """
        if (distribution is None) != (generator is None):
            raise ValueError("a distribution and a generator must be given together, but got only one of them")
        row: dict[str, float] = {}
        for turn, k in enumerate(self.budgets):
            scores = [scorer(context, context.at_most(k)) for context in self.contexts]
            correct_R, log_prob = self._answered([top_k(scores_BN, k) for scores_BN in scores], turn)
            row |= {f"accuracy@{k}": correct_R.mean().item(), f"log_prob@{k}": log_prob}
            for name in sorted(set(self.benchmarks)):
                row[f"accuracy@{k}/{name}"] = correct_R[torch.from_numpy(self.benchmarks == name)].mean().item()
            if distribution is not None and generator is not None:
                pairs = zip(self.contexts, scores, strict=True)
                drawn = [_drawn(distribution, item, context.at_most(k), generator) for context, item in pairs]
                correct_R, log_prob = self._answered(drawn, turn)
                row |= {f"sampled_accuracy@{k}": correct_R.mean().item(), f"sampled_log_prob@{k}": log_prob}
        for name in ("accuracy", "log_prob") if distribution is None else ("accuracy", "log_prob", "sampled_accuracy"):
            row[name] = float(np.mean([row[f"{name}@{k}"] for k in self.budgets]))
        if distribution is not None:
            row["gap"] = row["accuracy"] - row["sampled_accuracy"]
        return row

    def _answered(self, selections: Sequence[Selection], turn: int) -> tuple[torch.Tensor, float]:
        """From one selection a question, context by context: which are answered rightly, (R,), float64, and the mean
        log-probability of the gold answer, nats."""
        pairs = list(zip(self.contexts, selections, strict=True))
        scores = shared_out(pairs, lambda pair: self.vlm.answer_scores(*pair), self.vlm.device, turn)
        log_prob = torch.cat([item.log_prob_R for item in scores]).double().mean().item()
        return torch.cat([item.correct_R for item in scores]).double(), log_prob


def _drawn(
    distribution: type[SelectionDistribution], scores_BN: torch.Tensor, k_B: torch.Tensor, generator: torch.Generator
) -> Selection:
    """One selection a prompt."""
    picks = distribution(scores_BN, k_B).sample(1, generator)
    return Selection.of(picks.index_BGK[:, 0], picks.mask_BGK[:, 0])


def validation_subset(store: FeatureStore, per_benchmark: int) -> FeatureStore:
    """The first questions of every benchmark."""
    table = store.table
    rank = table.groupby("benchmark").cumcount()
    return store.subset(np.flatnonzero(rank < per_benchmark))
