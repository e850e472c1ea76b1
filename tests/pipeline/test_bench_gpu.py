"""The benchmark for GPUs, on a tiny model."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from transformers import BatchFeature, PreTrainedConfig, PreTrainedModel

from grip_core.cost.shapes import LLAVA_7B, QWEN_7B, random_model
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.frozen import Preprocessors
from pipeline import bench_gpu
from tests import families

SIZES = bench_gpu.Sizes(batch=2, prompts=2, group=4, repetitions=2, warmups=1)


def tiny(shape: str, *_: object) -> LlavaVLM:
    """For one of the two shapes; the other does not fit."""
    if shape == QWEN_7B:
        raise torch.OutOfMemoryError("24 GiB are not enough. Of them 1 GiB is free.")
    vlm = families.llava().vlm
    image = vlm.processor.image_processor(images=families.random_images([(144, 144)]), return_tensors="pt")

    def many(images, **_: object) -> BatchFeature:
        return BatchFeature({"pixel_values": image["pixel_values"].expand(len(images), -1, -1, -1)})

    return LlavaVLM(vlm.model, Preprocessors(vlm.processor.tokenizer, many), vlm.template)


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """The file after the first shape, where the second does not fit."""
    monkeypatch.setattr(bench_gpu, "random_vlm", tiny)
    path = tmp_path / "gpu" / "mine.json"
    sizes = ["--divisor=4"] + [
        f"--{name}={getattr(SIZES, name)}" for name in ("batch", "prompts", "group", "repetitions", "warmups")
    ]
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--to", str(path), *sizes])
    with pytest.raises(SystemExit) as end:
        bench_gpu.main()
    assert end.value.code == 2
    assert "memory is too small (24 GiB are not enough); give a smaller --batch" in capsys.readouterr().err
    return path


def test_every_share_and_part_is_measured_and_kept(measured, monkeypatch, capsys):
    results = json.loads(measured.read_text())
    (found,) = results["shapes"].values()
    cells = {(row["keep_ratio"], row["part"]): row for row in found["answer"]}
    assert set(cells) == {(ratio, part) for ratio in bench_gpu.RATIOS for part in bench_gpu.PARTS}
    assert all(row["low"] <= row["seconds"] <= row["high"] for row in cells.values())
    rate = SIZES.prompts * SIZES.group / found["grpo"]["step"]["seconds"]
    assert found["grpo"]["selections_per_second"] == pytest.approx(rate)
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--draw", str(measured)])
    bench_gpu.main()
    table = capsys.readouterr().out
    assert table.count(f"| {LLAVA_7B} |") == len(bench_gpu.RATIOS) + 1
    assert {path.suffix for path in measured.parent.iterdir()} >= {".json", ".png", ".svg"}


@pytest.mark.parametrize("shape", bench_gpu.SHAPES)
def test_both_shapes_answer_and_take_a_step_in_bfloat16(shape, monkeypatch):
    """The real families, with fewer layers and smaller widths."""
    monkeypatch.setattr(bench_gpu, "GRID", 16)

    def smaller(config: PreTrainedConfig, *given: object) -> PreTrainedModel:
        config.text_config.num_hidden_layers = 1
        tower = config.vision_config
        if config.model_type == "llava":
            tower.num_hidden_layers = 3
        else:
            tower.depth, tower.fullatt_block_indexes = 2, [1]
        return random_model(config, *given)

    monkeypatch.setattr(bench_gpu, "random_model", smaller)
    vlm = bench_gpu.random_vlm(shape, 4, torch.device("cpu"), torch.bfloat16)
    scorer, sizes = bench_gpu.random_scorer(vlm), bench_gpu.Sizes(batch=1, prompts=1, group=2, repetitions=1, warmups=0)
    assert len(bench_gpu.answer_times(vlm, scorer, sizes)) == len(bench_gpu.RATIOS) * len(bench_gpu.PARTS)
    assert bench_gpu.step_times(vlm, scorer, sizes)["selections_per_second"] > 0


def test_without_a_gpu_models_of_full_width_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--to", str(tmp_path / "mine.json")])
    with pytest.raises(SystemExit) as end:
        bench_gpu.main()
    assert end.value.code == 2
    assert "torch sees no GPU" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
