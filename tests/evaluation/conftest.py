"""Two small benchmarks in a feature store over the tiny LLaVA, and made-up rows of answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.vlm.features import FeatureStore, Shard

EXAMPLES = {"one": 5, "two": 3}


@pytest.fixture(scope="session")
def store(llava) -> FeatureStore:
    """Five questions about three images, and three about three others."""
    random = np.random.RandomState(0)
    tables, shards = [], []
    for source, (name, count) in enumerate(EXAMPLES.items()):
        images = [random.randint(256, size=(144, 144, 3)).astype(np.uint8) for _ in range(3)]
        shards.append(Shard.of([llava.vlm.visual_features(images)]))
        questions = [["what color ?", "red"], ["is there a red circle in row 2 ?", "yes"]]
        tables.append(
            pd.DataFrame(
                {
                    "id": [f"{name}-{i}" for i in range(count)],
                    "image_id": [i % 3 for i in range(count)],
                    "question": [questions[i % 2][0] for i in range(count)],
                    "answer": [questions[i % 2][1] for i in range(count)],
                    "kind": "any",
                    "benchmark": name,
                    "split": "test",
                    "shard": source,
                    "image_row": [i % 3 for i in range(count)],
                }
            )
        )
    return FeatureStore(pd.concat(tables, ignore_index=True), shards, 144, 32)
