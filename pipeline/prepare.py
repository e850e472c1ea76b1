"""Build every split of every benchmark into data/prepared/<benchmark>/<split>: the same bytes on every machine."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from grip_core.config import DataConfig, Params
from grip_core.data.examples import SPLITS
from grip_core.data.registry import BENCHMARKS
from grip_core.places import PREPARED
from grip_core.seeds import numpy_random
from pipeline.stage import run


def prepare(config: DataConfig, output: Path) -> None:
    """Write the splits of `config.benchmarks` to `output`/<benchmark>/<split>."""
    jobs = [(name, split) for name in config.benchmarks for split in SPLITS]
    for name, split in (progress := tqdm(jobs, unit="split")):
        progress.set_description(f"{name} {split}")
        built = BENCHMARKS[name].build(
            split,
            getattr(config.images, split),
            getattr(config.questions_per_image, split),
            numpy_random(config.seed, f"{name}/{split}"),
        )
        built.save(output / name / split)


def main(params: Params) -> None:
    """Run the stage."""
    prepare(params.data, PREPARED)


if __name__ == "__main__":
    run(main)
