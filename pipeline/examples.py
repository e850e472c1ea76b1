"""The report's examples: which test questions are shown, and what methods keep of them at which budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from grip_core.data.registry import prepared_split
from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, benchmark_label, label
from grip_core.figures.keep_maps import Answered, KeepMap
from grip_core.seeds import numpy_random
from grip_core.vlm.context import Selection
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.frozen import FrozenVLM

SHOWN = (GRIP, "fastv", "divprune", "random")
"""Methods whose keep maps are drawn, beside all tokens; those that were not evaluated are left out."""
NEW_TOKENS = 8


def choose_examples(rows: pd.DataFrame, count: int) -> list[str]:
    """Ids of examples to show, benchmarks in turn, drawn at random among those that need the image.

    Those are the questions that the model answers rightly with all tokens and wrongly without the image, or any where
    there are none. What the pruning methods make of them plays no part.
    """
    wide = rows[rows["method"].isin([FULL, NO_IMAGE])].pivot(
        index=["benchmark", "example_id"], columns="method", values="correct"
    )
    needed = wide[FULL] & ~wide[NO_IMAGE]
    candidates = wide.index[needed if needed.any() else slice(None)].to_frame(index=False)
    order = candidates.iloc[numpy_random(0, "report examples").permutation(len(candidates))]
    turn = order.groupby("benchmark").cumcount()
    return order.assign(turn=turn).sort_values(["turn", "benchmark"])["example_id"].head(count).tolist()


class Examples:
    """Examples with their images, and what the first seed of each method keeps of them."""

    def __init__(
        self, vlm: FrozenVLM, store: FeatureStore, rows: pd.DataFrame, example_ids: Sequence[str], prepared: Path
    ) -> None:
        place = {example: i for i, example in enumerate(store.table["id"])}
        index = [place[example] for example in example_ids]
        self.vlm = vlm
        self.ids = list(example_ids)
        self.context = store.context(vlm, index)
        self.items = store.table.iloc[index].to_dict("records")
        own = rows[rows["example_id"].isin(example_ids)].sort_values("seed")
        first = own.drop_duplicates(["method", "k", "example_id"])
        found = first.set_index(["method", "k", "example_id"])
        self.kept, self.right = found["kept"].to_dict(), found["correct"].to_dict()
        self.whole = first[first["method"] == FULL].set_index("example_id")["correct"].to_dict()
        self.methods = [method for method in SHOWN if method in set(rows["method"])]
        crops = getattr(vlm.processor.image_processor, "do_center_crop", False)
        whole = [prepared_split(item["benchmark"], "test", prepared).image(item["image_id"]) for item in self.items]
        self.images = [central_square(image) for image in whole] if crops else whole

    def by_method(self, k: int) -> list[KeepMap]:
        """All examples under every shown method at one budget."""
        columns = [self._all(), *(self._pruned(method, k, f"{label(method)}, k = {k}") for method in self.methods)]
        return [self._map(i, [column[i] for column in columns]) for i in range(len(self.ids))]

    def by_budget(self, budgets: Sequence[int]) -> list[KeepMap]:
        """All examples under GRIP, at all tokens and then at the budgets."""
        columns = self._budgets(GRIP, budgets)
        return [self._map(i, [column[i] for column in columns]) for i in range(len(self.ids))]

    def by_method_and_budget(self, i: int, budgets: Sequence[int]) -> list[KeepMap]:
        """One example, a map for each method, at all tokens and then at the budgets."""
        return [self._map(i, [column[i] for column in self._budgets(method, budgets)]) for method in self.methods]

    def _budgets(self, method: str, budgets: Sequence[int]) -> list[list[Answered]]:
        return [self._all(), *(self._pruned(method, k, label(method)) for k in budgets)]

    def _map(self, i: int, answered: list[Answered]) -> KeepMap:
        item = self.items[i]
        return KeepMap(self.images[i], benchmark_label(item["benchmark"]), item["question"], item["answer"], answered)

    def _all(self) -> list[Answered]:
        answers = self._answers(Selection.all(self.context))
        return [Answered("all tokens", None, answers[i], self.whole[one]) for i, one in enumerate(self.ids)]

    def _pruned(self, method: str, k: int, name: str) -> list[Answered]:
        kept = [list(self.kept[method, k, example]) for example in self.ids]
        answers = self._answers(Selection.of(torch.tensor(kept, device=self.context.visual_BND.device)))
        return [Answered(name, kept[i], answers[i], self.right[method, k, one]) for i, one in enumerate(self.ids)]

    def _answers(self, selection: Selection) -> list[str]:
        ids = self.vlm.generate(self.context, selection, max(NEW_TOKENS, self.context.answer_ids_BA.shape[1]))
        return [answer.strip() for answer in self.vlm.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def central_square(image: np.ndarray) -> np.ndarray:
    """What a model sees of an image (H, W, 3) whose processor resizes the shorter side and crops the longer one."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
