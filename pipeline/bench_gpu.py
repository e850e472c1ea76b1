"""Time VLMs of random weights against the share of visual tokens that they keep, and what a step of GRPO has to do.

    python -m pipeline.bench_gpu --to artifacts/gpu/h200.json          # on a GPU: the shapes of two 7B models
    python -m pipeline.bench_gpu --to cpu.json --divisor 4 --batch 1 --prompts 1 --group 4     # widths of a quarter
    python -m pipeline.bench_gpu --draw artifacts/gpu/h200.json        # a table, and h200.png and .svg beside it

Measuring needs torch, transformers and this repository, nothing else, and no download. All shares are measured in turn,
round after round, so that a machine's drift hits all alike. Drawing needs the project's environment.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration
from transformers import __version__ as transformers_version
from transformers.fusion_mapping import register_fusion_patches

from grip_core.cost.shapes import LLAVA_7B, QWEN_7B, llava_1_5, qwen2_5_vl, random_model
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.policy.scorer import Scorer, ScorerConfiguration
from grip_core.rl.advantages import dead_groups, group_advantages
from grip_core.rl.scoring import score_selections
from grip_core.seeds import numpy_random, torch_generator
from grip_core.vlm.context import Context, Selection, top_k
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.families.qwen_vl import Qwen25VLM
from grip_core.vlm.frozen import FrozenVLM, Preprocessors
from grip_core.vlm.words import TEMPLATE, build_tokenizer

RATIOS = (1.0, 0.5, 0.25, 0.1, 0.05)
NEW_TOKENS = 17
QUESTION_WORDS = 40
WORDS = ("which", "object", "left", "of", "red", "sign")
SHAPES = (LLAVA_7B, QWEN_7B)
GRID = 48  # patches a side of Qwen's image; two by two make one of 576 visual tokens, as many as LLaVA has
PARTS = ("encode", "select", "prefill", "decode")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    batch: int = 16
    """Prompts that are answered at once."""
    prompts: int = 8
    """Of a step of GRPO."""
    group: int = 16
    keep_ratio: float = 0.1
    """In a step of GRPO."""
    repetitions: int = 5
    warmups: int = 2


def random_vlm(shape: str, divisor: int, device: torch.device, dtype: torch.dtype) -> FrozenVLM:
    """A VLM of random weights that reads words, and sees noise."""
    tokenizer = build_tokenizer(WORDS)
    if shape == LLAVA_7B:
        model = random_model(llava_1_5(divisor), device, dtype)
        return LlavaVLM(model, Preprocessors(tokenizer, squares), TEMPLATE)
    config = qwen2_5_vl(divisor)
    # A convolution over patches that do not overlap, which some versions of cuDNN have no fast kernel for.
    register_fusion_patches(Qwen2_5_VLForConditionalGeneration, config, {"patch_embeddings": True})
    model = random_model(config, device, dtype)
    return Qwen25VLM(model, Preprocessors(tokenizer, patches), TEMPLATE)


def squares(images: Sequence[object], **_: object) -> BatchFeature:
    """LLaVA's pixels of as many images: how long encoding takes does not depend on what is seen."""
    return BatchFeature({"pixel_values": torch.randn(len(images), 3, 336, 336, generator=torch_generator(0, "pixels"))})


def patches(images: Sequence[object], **_: object) -> BatchFeature:
    """Qwen's, of GRID x GRID patches."""
    count = len(images) * GRID * GRID
    values = torch.randn(count, 3 * 2 * 14 * 14, generator=torch_generator(0, "pixels"))
    return BatchFeature({"pixel_values": values, "image_grid_thw": torch.tensor([[1, GRID, GRID]] * len(images))})


def questions(count: int) -> list[str]:
    """Of QUESTION_WORDS words each."""
    random = numpy_random(0, "bench words", count)
    return [" ".join(random.choice(WORDS, QUESTION_WORDS)) for _ in range(count)]


def random_scorer(vlm: FrozenVLM) -> Scorer:
    """Of the pipeline's size."""
    config = ScorerConfiguration(input_width=vlm.embed.weight.shape[1], width=64, layers=2, heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Scorer(config).to(vlm.device).eval()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """With the device idle before and after."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gigabytes(device: torch.device) -> float | None:
    """The most that tensors have taken on the GPU since the last call; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def answer_times(vlm: FrozenVLM, scorer: Scorer, sizes: Sizes) -> list[dict[str, Any]]:
    """A row for each share and part: seconds of a batch, median and quartiles."""
    images: Sequence[Any] = range(sizes.batch)
    context = vlm.encode(images, questions(sizes.batch), ["red"] * sizes.batch)
    pixels = vlm.processor.image_processor(images=images).to(vlm.device)
    ready = type(vlm)(vlm.model, Preprocessors(vlm.processor.tokenizer, lambda **_: pixels), vlm.template)
    vlm.processor.tokenizer.eos_token = None  # no answer ends early
    vlm.model.generation_config.eos_token_id = None
    found: dict[tuple[float, str], list[float]] = {}
    peaks: dict[float, float | None] = {}
    for repetition in range(sizes.warmups + sizes.repetitions):
        for ratio in RATIOS:
            for part, value in _answer(ready, scorer, context, images, ratio).items():
                if repetition >= sizes.warmups:
                    found.setdefault((ratio, part), []).append(value)
            peaks[ratio] = peak_gigabytes(vlm.device)
    return [
        {"keep_ratio": ratio, "part": part, **_quartiles(values), "peak_gigabytes": peaks[ratio]}
        for (ratio, part), values in found.items()
    ]


def _answer(vlm: FrozenVLM, scorer: Scorer, context: Context, images: Sequence[Any], ratio: float) -> dict[str, float]:
    k = max(1, round(ratio * context.n_visual))
    k_B = torch.full((context.batch_size,), k, device=vlm.device)
    chosen: list[Selection] = []

    @torch.inference_mode()
    def select() -> None:
        chosen.append(Selection.all(context) if ratio == 1 else top_k(scorer(context, k_B), k))

    encode = seconds(lambda: vlm.visual_features(images), vlm.device)
    peak_gigabytes(vlm.device)  # of what depends on the share
    choose = seconds(select, vlm.device)
    first = seconds(lambda: vlm.generate(context, chosen[0], 1), vlm.device)
    whole = seconds(lambda: vlm.generate(context, chosen[0], NEW_TOKENS), vlm.device)
    return {"encode": encode, "select": choose, "prefill": first, "decode": (whole - first) / (NEW_TOKENS - 1)}


def step_times(vlm: FrozenVLM, scorer: Scorer, sizes: Sizes) -> dict[str, Any]:
    """Seconds of what a step of GRPO has to do (draw, have the VLM answer, update the scorer) and of its floor, the
    VLM's forwards over as many selections, in turn. The pipeline's steps have TRL's loop around them, and measure more.
    """
    images: Sequence[Any] = range(sizes.prompts)
    context = vlm.encode(images, questions(sizes.prompts), ["red sign"] * sizes.prompts)
    k_B = torch.full((sizes.prompts,), max(1, round(sizes.keep_ratio * context.n_visual)), device=vlm.device)
    scorer.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=1e-5)

    def step(number: int) -> None:
        scores_BN = scorer(context, k_B)
        distribution = PlackettLuce(scores_BN, k_B)
        with torch.no_grad():
            picks = PlackettLuce(scores_BN.detach(), k_B).sample(sizes.group, torch_generator(0, "bench", number))
            rewards_BG = score_selections(vlm, context, picks).log_prob_R.view(-1, sizes.group)
        advantages_BG = group_advantages(rewards_BG, "mean", "group", 0.0, dead_groups(rewards_BG, 0.0))
        log_prob_BG = (distribution.log_prob(picks) * picks.mask_BGK).sum(-1) / k_B[:, None]
        loss = -(advantages_BG * (log_prob_BG - log_prob_BG.detach()).exp()).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    picks = PlackettLuce(scorer(context, k_B).detach(), k_B).sample(sizes.group, torch_generator(0, "bench floor", 0))
    found: dict[str, list[float]] = {"step": [], "floor": []}
    peak_gigabytes(vlm.device)
    for repetition in range(sizes.warmups + sizes.repetitions):
        times = {
            "step": seconds(lambda number=repetition: step(number), vlm.device),  # type: ignore[misc]
            "floor": seconds(lambda: score_selections(vlm, context, picks), vlm.device),
        }
        if repetition >= sizes.warmups:
            for name, value in times.items():
                found[name].append(value)
    ratios = [step / floor for step, floor in zip(found["step"], found["floor"], strict=True)]
    return {
        "step": _quartiles(found["step"]),
        "floor": _quartiles(found["floor"]),
        "step_over_floor": float(np.median(ratios)),
        "selections_per_second": sizes.prompts * sizes.group / float(np.median(found["step"])),
        "peak_gigabytes": peak_gigabytes(vlm.device),
    }


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, median, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"seconds": median, "low": low, "high": high}


def bench(shapes: Sequence[str], divisor: int, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """All that is measured, on the GPU if there is one; again after each shape."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers_version,
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        },
        "dtype": str(dtype).removeprefix("torch."),
        "divisor": divisor,
        "sizes": asdict(sizes),
        "shapes": {},
    }
    for shape in shapes:
        start = time.perf_counter()
        vlm = random_vlm(shape, divisor, device, dtype)
        scorer = random_scorer(vlm)
        found: dict[str, Any] = {"weights_gigabytes": vlm.model.get_memory_footprint() / 1e9}
        found |= {"answer": answer_times(vlm, scorer, sizes)}
        results["shapes"][shape] = found | {"grpo": step_times(vlm, scorer, sizes)}
        print(f"{shape}: measured in {time.perf_counter() - start:.0f} s", flush=True)
        del vlm, scorer
        if device.type == "cuda":
            torch.cuda.empty_cache()
        yield results


def as_table(results: Mapping[str, Any]) -> str:
    """Milliseconds an answer, and what memory it takes with the weights, as Markdown."""
    batch = results["sizes"]["batch"]
    lines = [
        f"{results['device']}, {results['dtype']}, batches of {batch}; widths divided by {results['divisor']}.",
        "",
        "| Shape | Kept | Encode | Select | Prefill | Decode a token | Tokens/s | Peak GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for shape, found in results["shapes"].items():
        for ratio in RATIOS:
            rows = {row["part"]: row for row in found["answer"] if row["keep_ratio"] == ratio}
            times = " | ".join(f"{1e3 * rows[part]['seconds'] / batch:.2f}" for part in PARTS)
            peak = rows["prefill"]["peak_gigabytes"]
            rate = batch / rows["decode"]["seconds"]
            memory = "" if peak is None else f"{peak:.2f}"
            lines.append(f"| {shape} | {ratio:.0%} | {times} | {rate:.0f} | {memory} |")
    lines += [
        "",
        "| Shape | A step's work, s | Its floor, s | Work / floor | Selections/s | Weights GB | Peak GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape, found in results["shapes"].items():
        grpo, peak = found["grpo"], found["grpo"]["peak_gigabytes"]
        memory = "" if peak is None else f"{peak:.2f}"
        lines.append(
            f"| {shape} | {grpo['step']['seconds']:.2f} | {grpo['floor']['seconds']:.2f} | "
            f"{grpo['step_over_floor']:.2f} | {grpo['selections_per_second']:.0f} | "
            f"{found['weights_gigabytes']:.2f} | {memory} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, help="measure, into this file")
    parser.add_argument("--draw", type=Path, help="draw what was measured into that file")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument(
        "--divisor", type=int, choices=[1, 2, 4], default=1, help="of the widths (default: %(default)s)"
    )
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = parser.parse_args()
    if (arguments.to is None) == (arguments.draw is None):
        parser.error("exactly one of --to and --draw must be given")
    if arguments.to is not None:
        if arguments.divisor == 1 and not torch.cuda.is_available():
            parser.error("torch sees no GPU, and models of full width need one; see its driver, or give --divisor 4")
        sizes = Sizes(**{name: getattr(arguments, name) for name in asdict(Sizes())})
        arguments.to.parent.mkdir(parents=True, exist_ok=True)
        try:
            for results in bench(arguments.shapes, arguments.divisor, sizes):
                arguments.to.write_text(json.dumps(results, indent=1) + "\n")
                print(as_table(results), flush=True)
        except torch.OutOfMemoryError as error:
            first = str(error).split(". ")[0]
            parser.error(f"the GPU's memory is too small ({first}); give a smaller --batch, --prompts or --group")
        return
    from grip_core.figures.answer_parts import answer_parts
    from grip_core.figures.save import figure_bytes, save_figure

    results = json.loads(arguments.draw.read_text())
    print(as_table(results))
    save_figure(figure_bytes(answer_parts(results)), arguments.draw.parent, arguments.draw.stem)


if __name__ == "__main__":
    main()
