"""Measure what an answer costs by method and budget, in artifacts/timing.

<shape>.csv has the time of each part, <shape>-flops.csv the floating-point operations of every method at every budget,
by formula, and <shape>.json says on what machine.

Without an option `vlm.path` is measured on cached test questions. `--shape` names another shape, which gets random
weights and random prompts, on the GPU if there is one: `python -m pipeline.timing --shape llava-1.5-7b`; that goes to
artifacts/shapes, which no stage reads. What is measured is in the section `timing` of the settings; on a CPU a large
shape wants smaller batches than the default's.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, LlavaConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from grip_core.baselines.registry import create, get
from grip_core.claims.schema import OWN, load_claims
from grip_core.config import EMBEDDED_N, Params, ScorerConfig, TimingConfig
from grip_core.cost.dimensions import Model, model_dimensions
from grip_core.cost.memory import available_bytes, check_fits, needed_bytes
from grip_core.cost.selection import BASELINES, Prompt
from grip_core.cost.shapes import random_model, shape_config
from grip_core.cost.table import flops_by_budget
from grip_core.cost.timing import Batch, Timed, measure, prompt_lengths, with_formulas, with_modelled_decode
from grip_core.errors import UserError
from grip_core.evaluation.evaluate import FULL, KeepAll
from grip_core.evaluation.names import GRIP, WARMUP
from grip_core.evaluation.policy import PolicySelector
from grip_core.files import atomic_file, write_text
from grip_core.places import FEATURES, TIMING, train_run
from grip_core.places import WARMUP as WARMUP_RUN
from grip_core.policy.scorer import Scorer
from grip_core.rl.inputs import load_scorer
from grip_core.seeds import numpy_random
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.features import load_store
from grip_core.vlm.frozen import FrozenVLM, Preprocessors
from grip_core.vlm.load import configured_vlm
from grip_core.vlm.words import TEMPLATE, build_tokenizer
from pipeline.stage import run

NO_FORMULA = "costs are formulas of LLaVA-style models, but vlm.path is of the family {}: nothing is measured"
SHAPES = Path("artifacts/shapes")
QUESTION_WORDS = 40  # of a random prompt, about what visual question answering asks with its instruction
WORDS = ("which", "object", "left", "of", "red", "sign")


@dataclass(frozen=True)
class Bench:
    """What is measured: a model, prompts by batch size, and the scorers that prune for it."""

    vlm: FrozenVLM
    batches: dict[int, Batch]
    scorers: dict[str, Scorer]


def own_bench(params: Params) -> Bench:
    """The pipeline's VLM on test questions from the whole split, with the warm-up's scorer and the first seed's."""
    vlm = configured_vlm(params.vlm)
    store = load_store(FEATURES, params.data.benchmarks, "test")
    side = vlm.model.config.vision_config.image_size
    batches = {}
    for size in params.timing.batch_sizes:
        context = store.context(vlm, np.linspace(0, len(store) - 1, size).astype(int))
        batches[size] = Batch(context, random_images(size, side))
    folders = {GRIP: train_run(params.grpo.seeds[0]), WARMUP: WARMUP_RUN}
    return Bench(vlm, batches, {name: load_scorer(folders[name]) for name in folders if name in params.timing.methods})


def random_bench(shape: str, timing: TimingConfig, scorer: ScorerConfig) -> Bench:
    """A model and a scorer of random weights. Raises UserError if the model is too large for the machine."""
    config, device = shape_config(shape), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    dimensions = model_dimensions(config, scorer)
    parameters = sum(parameter.numel() for parameter in random_model(config, "meta").parameters())
    needed = needed_bytes(
        parameters,
        dimensions.decoder,
        QUESTION_WORDS + len(TEMPLATE.split()),
        dimensions.tower.visual,
        max(timing.batch_sizes),
        dtype.itemsize,
    )
    check_fits(shape, needed, available_bytes(device), device.type)
    vlm = random_vlm(shape, device, dtype)
    batches = {size: random_batch(vlm, size) for size in timing.batch_sizes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = Scorer(dimensions.scorer).to(device).eval()
    return Bench(vlm, batches, {name: weights for name in (GRIP, WARMUP) if name in timing.methods})


def random_vlm(shape: str, device: torch.device, dtype: torch.dtype) -> LlavaVLM:
    """A LLaVA of random weights that reads the embedded VLM's language."""
    config = shape_config(shape)
    side = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    images = CLIPImageProcessorPil(do_resize=True, size=side, do_center_crop=False)
    return LlavaVLM(random_model(config, device, dtype), Preprocessors(build_tokenizer(WORDS), images), TEMPLATE)


def random_batch(vlm: FrozenVLM, size: int) -> Batch:
    """Prompts of QUESTION_WORDS words about images of noise."""
    images = random_images(size, vlm.model.config.vision_config.image_size)
    random = numpy_random(0, "timing words", size)
    questions = [" ".join(random.choice(WORDS, QUESTION_WORDS)) for _ in range(size)]
    return Batch(vlm.encode(images, questions, ["red"] * size), images)


def random_images(count: int, side: int) -> Sequence[np.ndarray]:
    """Noise: how long encoding takes does not depend on what is seen."""
    pixels = numpy_random(0, "timing images", count).randint(256, size=(count, side, side, 3))
    return list(pixels.astype(np.uint8))


def timed_methods(names: Sequence[str], bench: Bench) -> list[Timed]:
    """The methods by name. Raises UserError for a name that is neither a scorer's nor a baseline's."""
    methods = []
    for name in names:
        if name in bench.scorers:
            methods.append(Timed(name, PolicySelector(bench.scorers[name])))
        elif name == FULL:
            methods.append(Timed(name, KeepAll()))
        else:
            methods.append(Timed(name, create(name, bench.vlm, 0), get(name).inside))
    return methods


def scaled_budgets(budgets: Sequence[int], n_visual: int) -> list[int]:
    """The same shares of n_visual tokens as `budgets` are of the embedded VLM's."""
    return sorted({max(1, round(k * n_visual / EMBEDDED_N)) for k in budgets})


def machine(vlm: FrozenVLM) -> dict[str, object]:
    """What the numbers were measured on."""
    on_gpu = vlm.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(vlm.device) if on_gpu else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(vlm.model.dtype).removeprefix("torch."),
    }


def all_flops(dimensions: Model, prompt: Prompt, baselines: Sequence[str], budgets: Sequence[int]) -> pd.DataFrame:
    """method, k and flops of an answer, by formula: of the baselines, GRIP, its warm-up and the unpruned model.

    Raises UserError for a baseline without a formula.
    """
    missing = [name for name in baselines if name not in BASELINES]
    if missing:
        raise UserError(f"{missing[0]} has no formula of its cost; add one to BASELINES in grip_core/cost/selection.py")
    n_visual = dimensions.tower.visual
    pruned = [k for k in budgets if k < n_visual]
    methods = {**dict.fromkeys([GRIP, WARMUP, *baselines], pruned), FULL: [n_visual]}
    return pd.concat([flops_by_budget(dimensions, name, prompt, ks) for name, ks in methods.items()])


def main(params: Params, shape: str = OWN) -> None:
    """Run the stage."""
    timing = params.timing
    own = shape == OWN
    if FULL not in timing.methods or len(timing.methods) < 2:
        raise UserError(f"timing.methods must hold {FULL} and one more method, but got {timing.methods}")
    if own:
        shape = load_claims().shape_of(params.vlm.path)
        config = AutoConfig.from_pretrained(params.vlm.path)
        if not isinstance(config, LlavaConfig):  # the pipeline has to go on: claims of cost are then not judged
            write_text(TIMING / f"{shape}.json", json.dumps({"not measured": NO_FORMULA.format(config.model_type)}))
            print(NO_FORMULA.format(config.model_type))
            return
    bench = own_bench(params) if own else random_bench(shape, timing, params.scorer)
    vlm = bench.vlm
    dimensions = model_dimensions(vlm.model.config, params.scorer)
    n_visual = dimensions.tower.visual
    budgets = timing.budgets if own else scaled_budgets(timing.budgets, n_visual)
    methods = timed_methods(timing.methods, bench)
    measured = measure(vlm, methods, budgets, bench.batches, timing.repetitions, timing.warmups)
    table = with_modelled_decode(measured, n_visual, dimensions.decoder.layers)
    prompts = {size: prompt_lengths(batch.context) for size, batch in bench.batches.items()}
    table = with_formulas(table, dimensions, prompts, vlm.model.dtype.itemsize).assign(shape=shape)
    counted = params.evaluate.budgets if own else budgets
    flops = all_flops(dimensions, prompts[max(prompts)], params.evaluate.baselines, counted)
    folder = TIMING if own else SHAPES
    for name, frame in ((shape, table), (f"{shape}-flops", flops)):
        with atomic_file(folder / f"{name}.csv") as file:
            frame.to_csv(file, index=False)
    write_text(
        folder / f"{shape}.json", json.dumps(machine(vlm) | {"repetitions": timing.repetitions}, indent=2) + "\n"
    )


if __name__ == "__main__":
    run(main, shape=str)
