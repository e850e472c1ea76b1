"""The prepare stage on one small benchmark."""

from __future__ import annotations

from grip_core.config import DataConfig
from grip_core.data import digit_grids
from grip_core.data.examples import SPLITS, load_split
from pipeline.prepare import prepare


def test_prepare_writes_every_split_with_the_same_bytes_again(tmp_path):
    config = DataConfig.model_validate(
        {
            "benchmarks": ["digit_grids"],
            "sources": {},
            "instruct": None,
            "max_bad": 0,
            "images": {"train": 3, "validation": 2, "test": 1},
            "questions_per_image": {"train": 4, "validation": 4, "test": 8},
            "seed": 5,
        }
    )
    for folder in ("one", "two"):
        prepare(config, tmp_path / folder)
    for name, images, examples in zip(SPLITS, (3, 2, 1), (12, 8, 8), strict=True):
        split = load_split(tmp_path / "one" / "digit_grids" / name, digit_grids.render)
        assert (len(split.scenes), len(split.examples)) == (images, examples)
    files = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    assert len(files) == 9
    assert files == {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
