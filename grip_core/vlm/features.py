"""The feature cache: what is frozen is computed once and read from memory-mapped files.

A folder holds one split of one benchmark: `visual.npy` (images, N, D), `encoder_attention.npy` (images, N) and
`encoder_key.npy` (images, N, E) in float32, `grid.npy` (N, 2), and `examples.parquet` with the questions and what the
full model and the model without the image make of them.
`complete.json` is written last; a folder without it is computed anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from grip_core.data.examples import Split
from grip_core.errors import UserError
from grip_core.files import atomic_file, write_text
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures
from grip_core.vlm.protocol import AnsweringVLM

COMPLETE = "complete.json"


@dataclass(frozen=True)
class FeatureStore:
    """Cached features of examples.

    `table` has a row per example: id, image_id, question, answer, kind, benchmark, split, full_log_prob, full_correct,
    blind_log_prob, blind_correct (without the image), and where its image's features lie: `source`, an index into the
    lists below, and `image_row`.
    """

    table: pd.DataFrame
    visual: list[np.ndarray]
    """One memory-mapped array (images, N, D) a source."""
    encoder_attention: list[np.ndarray]
    """(images, N) a source."""
    encoder_key: list[np.ndarray]
    """(images, N, E) a source."""
    grid_N2: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def n_visual(self) -> int:
        """N."""
        return self.visual[0].shape[1]

    def subset(self, index: Sequence[int] | np.ndarray) -> FeatureStore:
        """The examples `index` names, over the same arrays."""
        table = self.table.iloc[index].reset_index(drop=True)
        return replace(self, table=table)

    def context(self, vlm: AnsweringVLM, index: Sequence[int] | np.ndarray) -> Context:
        """Prompts for the examples `index` names (positions in the table)."""
        table, rows = self.table, np.asarray(index)
        place = list(zip(table["source"].to_numpy()[rows], table["image_row"].to_numpy()[rows], strict=True))
        visual = np.stack([self.visual[source][row] for source, row in place])
        attention = np.stack([self.encoder_attention[source][row] for source, row in place])
        key = np.stack([self.encoder_key[source][row] for source, row in place])
        batch, n, _ = visual.shape
        device = vlm.device
        features = VisualFeatures(
            torch.from_numpy(visual).to(device),
            torch.ones(batch, n, dtype=torch.bool, device=device),
            torch.from_numpy(self.grid_N2).to(device).expand(batch, -1, -1),
            torch.from_numpy(attention).to(device),
            torch.from_numpy(key).to(device),
        )
        questions, answers = table["question"].to_numpy()[rows], table["answer"].to_numpy()[rows]
        return vlm.context(features, list(questions), list(answers))


def load_store(root: Path, benchmarks: Sequence[str], split: str) -> FeatureStore:
    """One store over the folders `root`/<benchmark>/`split`. Raises UserError if one is missing or incomplete."""
    tables, visual, attention, key = [], [], [], []
    for source, benchmark in enumerate(benchmarks):
        folder = root / benchmark / split
        if not (folder / COMPLETE).exists():
            raise UserError(f"{folder} holds no complete feature cache; run `dvc repro features` first")
        tables.append(pd.read_parquet(folder / "examples.parquet").assign(source=source))
        visual.append(np.load(folder / "visual.npy", mmap_mode="r"))
        attention.append(np.load(folder / "encoder_attention.npy", mmap_mode="r"))
        key.append(np.load(folder / "encoder_key.npy", mmap_mode="r"))
        grid = np.load(folder / "grid.npy")
    return FeatureStore(pd.concat(tables, ignore_index=True), visual, attention, key, grid)


def cache_features(
    vlm: FrozenVLM, split: Split, folder: Path, images: int, questions_per_image: int, batch_size: int, key: str
) -> None:
    """Compute the cache of the first `images` images and the first `questions_per_image` questions of each.

    Does nothing where a complete cache with the same `key` lies already, so that an interrupted stage goes on where it
    was.
    """
    if (folder / COMPLETE).exists() and json.loads((folder / COMPLETE).read_text())["key"] == key:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / COMPLETE).unlink(missing_ok=True)
    by_image: dict[int, list] = {}
    for example in split.examples:
        if example.image_id < images:
            by_image.setdefault(example.image_id, []).append(example)
    rows = []
    with (
        atomic_file(folder / "visual.npy") as visual_file,
        atomic_file(folder / "encoder_attention.npy") as attention_file,
        atomic_file(folder / "encoder_key.npy") as key_file,
    ):
        visual_parts, attention_parts, key_parts = [], [], []
        image_ids = sorted(by_image)
        for start in tqdm(range(0, len(image_ids), batch_size), desc=f"features {folder.parent.name} {folder.name}"):
            batch = image_ids[start : start + batch_size]
            features = vlm.visual_features([split.image(i) for i in batch])
            visual_parts.append(features.visual_BND.float().cpu().numpy())
            attention_parts.append(features.encoder_attention_BN.float().cpu().numpy())
            key_parts.append(features.encoder_key_BNE.float().cpu().numpy())
            asked = [(place, example) for place, i in enumerate(batch) for example in by_image[i][:questions_per_image]]
            for chunk in range(0, len(asked), batch_size):
                rows += _answers(vlm, features, asked[chunk : chunk + batch_size], start)
        np.lib.format.write_array(visual_file, np.concatenate(visual_parts), version=(1, 0))
        np.lib.format.write_array(attention_file, np.concatenate(attention_parts), version=(1, 0))
        np.lib.format.write_array(key_file, np.concatenate(key_parts), version=(1, 0))
    with atomic_file(folder / "grid.npy") as file:
        np.lib.format.write_array(file, features.grid_BN2[0].cpu().numpy(), version=(1, 0))
    with atomic_file(folder / "examples.parquet") as file:
        pd.DataFrame(rows).to_parquet(file, index=False)
    write_text(folder / COMPLETE, json.dumps({"key": key, "images": len(by_image), "examples": len(rows)}))


def _answers(vlm: FrozenVLM, features: VisualFeatures, asked: list, first_row: int) -> list[dict]:
    """Table rows of some questions: what the full model and the model without the image make of them."""
    places = torch.tensor([place for place, _ in asked], device=features.visual_BND.device)
    examples = [example for _, example in asked]
    context = vlm.context(features.rows(places), [e.question for e in examples], [e.answer for e in examples])
    full, blind = vlm.answer_scores(context), vlm.answer_scores(context, Selection.none(context))
    return [
        {
            **asdict(example),
            "image_row": first_row + int(place),
            "full_log_prob": full.log_prob_R[i].item(),
            "full_correct": full.correct_R[i].item(),
            "blind_log_prob": blind.log_prob_R[i].item(),
            "blind_correct": blind.correct_R[i].item(),
        }
        for i, (place, example) in enumerate(asked)
    ]
