"""Train the embedded VLM on the train splits and write it to models/embedded. The stage is frozen; see `make vlm`."""

from __future__ import annotations

from grip_core.config import Params
from grip_core.data.examples import load_split
from grip_core.data.registry import BENCHMARKS
from grip_core.places import PREPARED, PRETRAIN, VLM
from grip_core.runs import RunFolder, code_fingerprint, hash_files
from grip_core.vlm.pretrain import pretrain
from pipeline.stage import run


def main(params: Params) -> None:
    """Run the stage."""
    names: list[str] = list(params.data.benchmarks)
    folders = {split: {name: PREPARED / name / split for name in names} for split in ("train", "validation")}
    splits = {
        split: {name: load_split(folder, BENCHMARKS[name].render) for name, folder in by_name.items()}
        for split, by_name in folders.items()
    }
    config = {
        "pretrain": params.pretrain.model_dump(),
        "data": hash_files(
            path for by_name in folders.values() for folder in by_name.values() for path in folder.iterdir()
        ),
        "code": code_fingerprint(),
    }
    captions = {name: BENCHMARKS[name].captions for name in names}
    relations = {name: BENCHMARKS[name].relations for name in names}
    folder = RunFolder(PRETRAIN, config)
    pretrain(params.pretrain, splits["train"], splits["validation"], captions, relations, folder, VLM)
    (VLM / "training.jsonl").write_text((PRETRAIN / "metrics.jsonl").read_text())


if __name__ == "__main__":
    run(main)
