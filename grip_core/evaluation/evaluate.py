"""Methods x budgets x examples -> one row for every answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from grip_core.vlm.context import Context, Selection
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.frozen import AnswerScores, FrozenVLM

COLUMNS = ("benchmark", "kind", "example_id", "image_id", "method", "seed", "k", "correct", "log_prob", "kl", "kept")


class Selector(Protocol):
    """Anything that keeps k tokens of each prompt, one row per prompt: a baseline, or a trained scorer's mode."""

    def select(self, context: Context, k: int) -> Selection:
        """The kept tokens."""
        ...


@dataclass(frozen=True)
class Method:
    """A selector with the name and seed it has in every table; deterministic methods have seed 0.

    `version` changes whenever what the selector was loaded from does (a hash of its checkpoint).
    """

    name: str
    seed: int
    selector: Selector
    version: str = ""


class KeepAll:
    """The unpruned model."""

    def select(self, context: Context, k: int) -> Selection:
        """Every token, whatever k."""
        return Selection.all(context)


class KeepNone:
    """The model without the image: what the question alone gives away."""

    def select(self, context: Context, k: int) -> Selection:
        """No token, whatever k."""
        return Selection.none(context)


FULL, NO_IMAGE = "full", "no_image"
REFERENCES = (Method(FULL, 0, KeepAll()), Method(NO_IMAGE, 0, KeepNone()))


def budget_grid(method: str, budgets: Sequence[int], n_visual: int) -> list[int]:
    """The budgets at which a method is run.

    The references have one budget each, N and 0. All others equal the unpruned model at N by contract: they are not
    run there.
    """
    return {FULL: [n_visual], NO_IMAGE: [0]}.get(method, [k for k in budgets if k < n_visual])


def evaluate(
    vlm: FrozenVLM,
    store: FeatureStore,
    methods: Sequence[Method],
    budgets: Sequence[int],
    batch_size: int,
    progress: bool = True,
) -> pd.DataFrame:
    """A row (COLUMNS) for every example, method and budget.

    `log_prob` and `kl` (full model || pruned, of the gold answer's tokens) are means over the answer's tokens, nats.
    `kept` lists in ascending order the tokens that the language model's last layer still has. A context is built once
    per batch and shared, with what the methods memoise in it, by all methods and budgets.
    """
    jobs = [(method, k) for method in methods for k in budget_grid(method.name, budgets, store.n_visual)]
    frames = []
    with tqdm(total=len(store) * len(jobs), unit="answer", disable=not progress, mininterval=1.0) as bar:
        for start in range(0, len(store), batch_size):
            index = np.arange(start, min(start + batch_size, len(store)))
            context = store.context(vlm, index)
            for method, k in jobs:
                bar.set_postfix_str(f"{method.name} k={k}", refresh=False)
                selection = method.selector.select(context, k)
                scores = vlm.answer_scores(context, selection, with_kl=True)
                frames.append(_rows(store.table.iloc[index], method, k, selection, scores))
                bar.update(len(index))
    return pd.concat(frames, ignore_index=True)


def _rows(table: pd.DataFrame, method: Method, k: int, selection: Selection, scores: AnswerScores) -> pd.DataFrame:
    pairs = zip(*(part_RK.tolist() for part_RK in selection.final), strict=True)
    assert scores.kl_R is not None  # asked for
    kept = [[index for index, real in zip(*pair, strict=True) if real] for pair in pairs]
    measured = {
        "method": method.name,
        "seed": method.seed,
        "k": k,
        "correct": scores.correct_R.cpu().numpy(),
        "log_prob": scores.log_prob_R.float().cpu().numpy(),
        "kl": scores.kl_R.cpu().numpy(),
        "kept": kept,
    }
    return table.rename(columns={"id": "example_id"}).assign(**measured)[list(COLUMNS)]
