"""Build or read every split of every benchmark into data/prepared/<benchmark>/<split>: the same bytes everywhere."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from grip_core.config import DataConfig, Params
from grip_core.data.registry import splits_of, write_split
from grip_core.places import PREPARED
from pipeline.stage import run


def prepare(config: DataConfig, output: Path) -> None:
    """Write the splits of `config.benchmarks` to `output`/<benchmark>/<split>."""
    for name, split in (progress := tqdm(splits_of(config), unit="split")):
        progress.set_description(f"{name} {split}")
        write_split(config, name, split, output / name / split)


def main(params: Params) -> None:
    """Run the stage."""
    prepare(params.data, PREPARED)


if __name__ == "__main__":
    run(main)
