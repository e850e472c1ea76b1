"""Compute once what the frozen VLM gives: visual tokens, and its answers with every token and with none."""

from __future__ import annotations

import json

from grip_core.config import Params, check_budgets
from grip_core.data.examples import SPLITS, load_split
from grip_core.data.registry import BENCHMARKS
from grip_core.errors import UserError
from grip_core.places import FEATURES, PREPARED
from grip_core.runs import code_fingerprint, hash_files
from grip_core.vlm.features import cache_features, load_store
from grip_core.vlm.load import fingerprint, load_vlm
from pipeline.stage import run


def main(params: Params) -> None:
    """Run the stage."""
    config = params.features
    vlm = load_vlm(params.vlm.path, params.vlm.positions, params.vlm.dtype)
    made_from = [params.vlm.model_dump(), fingerprint(params.vlm.path), code_fingerprint()]
    for name in params.data.benchmarks:
        for split in SPLITS:
            folder = PREPARED / name / split
            images = getattr(config.images, split)
            sizes = (images, config.questions_per_image, config.batch_size)
            cache_features(
                vlm,
                load_split(folder, BENCHMARKS[name].render),
                FEATURES / name / split,
                images,
                config.questions_per_image,
                config.batch_size,
                json.dumps([*made_from, *sizes, hash_files(folder.iterdir())]),
            )
    train = load_store(FEATURES, params.data.benchmarks, "train")
    check_budgets(params, train.n_visual)
    if not train.table["full_correct"].any():
        raise UserError(
            f"{params.vlm.path} answers none of {len(train)} questions correctly with every token, so there is nothing "
            "to learn from; see that its prompt template is the one it was trained on"
        )


if __name__ == "__main__":
    run(main)
