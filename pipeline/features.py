"""Compute once what the frozen VLM gives: visual tokens, and its answers with every token and with none."""

from __future__ import annotations

import json

from grip_core.config import Params, check_budgets
from grip_core.data.registry import prepared_split, splits_of
from grip_core.errors import UserError
from grip_core.places import FEATURES, PREPARED
from grip_core.runs import code_fingerprint, hash_files
from grip_core.vlm.features import Room, cache_features, load_store
from grip_core.vlm.load import configured_vlm, fingerprint
from pipeline.stage import run


def main(params: Params) -> None:
    """Run the stage."""
    config = params.features
    vlm = configured_vlm(params.vlm)
    if vlm.tokens_an_image is not None:  # else it takes all images to know, and is checked last
        check_budgets(params, vlm.tokens_an_image)
    room = Room(config.max_gigabytes * 1e9)
    made_from = [
        params.vlm.model_dump(exclude={"device", "rows_per_forward", "processes"}),
        fingerprint(params.vlm.path),
        code_fingerprint(),
    ]
    for name, split in splits_of(params.data):
        folder = PREPARED / name / split
        images = getattr(config.images, split)
        sizes = (images, config.questions_per_image)
        cache_features(
            vlm,
            prepared_split(name, split),
            FEATURES / name / split,
            images,
            config.questions_per_image,
            config.batch_size,
            json.dumps([*made_from, *sizes, hash_files(folder.iterdir())]),
            room,
            params.data.max_bad,
        )
    train = load_store(FEATURES, params.data.trained_on, "train")
    check_budgets(params, train.n_visual)
    if not train.table["full_correct"].any():
        raise UserError(
            f"{params.vlm.path} answers none of {len(train)} questions correctly with every token, so there is nothing "
            "to learn from; see that its prompt template is the one it was trained on"
        )


if __name__ == "__main__":
    run(main)
