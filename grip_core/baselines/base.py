"""The contract of a baseline: from a context and a budget to a selection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch

from grip_core.errors import UserError
from grip_core.vlm.context import Context, Cut, Selection, top_k
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.inside import Observed, Stage, choose_cuts


class Baseline(ABC):
    """A method that keeps k visual tokens of each prompt. A new one is a module of this package and nothing else."""

    name: ClassVar[str]
    """Key in params.yaml and in every table."""
    label: ClassVar[str]
    """Name in figures."""
    trained: ClassVar[bool] = False
    query_aware: ClassVar[bool] = False
    """Whether the question changes the selection."""
    inside: ClassVar[bool] = False
    """Prunes inside the language model, whose first layers read every token."""

    def __init__(self, vlm: FrozenVLM, seed: int) -> None:
        self.vlm = vlm
        self.seed = seed

    @abstractmethod
    def select(self, context: Context, k: int) -> Selection:
        """One row per prompt: k of its tokens, or all of them where it has fewer.

        A prompt's selection does not depend on what else is in the batch, nor on padding.
        """


class ScoreBaseline(Baseline):
    """A method that ranks the tokens and keeps the k best. The scores are computed once for all budgets."""

    @abstractmethod
    def scores(self, context: Context) -> torch.Tensor:
        """Scores (B, N), larger is better; what padding scores does not matter."""

    def select(self, context: Context, k: int) -> Selection:
        key = f"{self.name}/{self.seed}"
        if key not in context.memo:
            context.memo[key] = self.scores(context).masked_fill(~context.visual_mask_BN, float("-inf"))
        return top_k(context.memo[key], k)


class InsideBaseline(Baseline):
    """A method that drops tokens between the layers of the language model, at one stage or at several.

    k tokens are left after the last stage; with several the number falls geometrically. The first layers read every
    token, so that the cost is more than that of k tokens (grip_core.vlm.inside.tokens_per_layer).
    """

    inside = True

    @abstractmethod
    def layers(self, n_layers: int) -> Sequence[int]:
        """The layers, ascending and at least 1, before which tokens are dropped."""

    @abstractmethod
    def scores(self, context: Context, observed: Observed) -> torch.Tensor:
        """Scores (B, N) from the layer before a stage, larger is better; what a token that is gone scores does not
        matter."""

    def select(self, context: Context, k: int) -> Selection:
        n_B = context.visual_mask_BN.sum(1)
        if int(n_B.max()) <= k:
            return Selection.all(context)
        depth = self.vlm.language_model.config.num_hidden_layers
        if depth < 2:
            raise UserError(f"{self.name} drops tokens between layers and needs at least 2 of them, but got {depth}")
        layers = self.layers(depth)
        counts = geometric_counts(n_B, k, len(layers))
        if len(layers) == 1:
            return self._once(context, layers[0], counts[0])
        stages = [Stage(*stage) for stage in zip(layers, counts, strict=True)]
        return choose_cuts(self.vlm, context, stages, partial(self.scores, context))

    def _once(self, context: Context, layer: int, count_B: torch.Tensor) -> Selection:
        """At a single stage nothing has been dropped before, so its scores serve every budget."""
        if self.name in context.memo:
            best = top_k(context.memo[self.name], count_B)
            return replace(Selection.all(context), cuts=(Cut(layer, best.kept_RK, best.mask_RK),))

        def remembered(observed: Observed) -> torch.Tensor:
            scores_BN = self.scores(context, observed)
            context.memo[self.name] = scores_BN.masked_fill(~context.visual_mask_BN, float("-inf"))
            return scores_BN

        return choose_cuts(self.vlm, context, [Stage(layer, count_B)], remembered)


def geometric_counts(n_B: torch.Tensor, k: int, stages: int) -> list[torch.Tensor]:
    """Tokens that go on at each stage: of n it leaves n (k / n)^(stage / stages), rounded, and k at the last.

    A prompt with k tokens or fewer keeps them all.
    """
    ratio_B = k / n_B.clamp(min=k).double()
    return [(n_B * ratio_B ** (stage / stages)).round().long() for stage in range(1, stages + 1)]


def scaled_layers(parts: Sequence[float], n_layers: int) -> list[int]:
    """Layers at these parts of the depth: rounded, from 1 to the last, and where two fall together one."""
    return sorted({min(max(round(part * n_layers), 1), n_layers - 1) for part in parts})
