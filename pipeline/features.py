"""Compute once what the frozen VLM gives: visual tokens, and its answers with every token and with none."""

from __future__ import annotations

import json

from grip_core.config import Params, check_budgets
from grip_core.data.examples import SPLITS, load_split
from grip_core.data.registry import BENCHMARKS
from grip_core.runs import code_fingerprint, hash_files
from grip_core.vlm.features import cache_features, load_store
from grip_core.vlm.load import load_vlm
from pipeline.stage import FEATURES, PREPARED, run


def main(params: Params) -> None:
    """Run the stage."""
    config = params.features
    vlm = load_vlm(params.vlm.path, params.vlm.positions)
    for name in params.data.benchmarks:
        for split in SPLITS:
            folder = PREPARED / name / split
            key = json.dumps(
                [params.vlm.model_dump(), config.model_dump(), hash_files(folder.iterdir()), code_fingerprint()]
            )
            cache_features(
                vlm,
                load_split(folder, BENCHMARKS[name].render),
                FEATURES / name / split,
                getattr(config.images, split),
                config.questions_per_image,
                config.batch_size,
                key,
            )
    check_budgets(params, load_store(FEATURES, params.data.benchmarks, "train").n_visual)


if __name__ == "__main__":
    run(main)
