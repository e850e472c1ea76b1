"""Seconds of an answer's parts: encoding the image, selecting tokens, reading the prompt, decoding one token.

Everything is per answer: of a batch, divided by its size. All methods and budgets are measured in turn, round after
round, so that a machine's drift hits all alike; the first rounds warm up. What a method memoises in a context is
forgotten before each selection.

Prefill starts with assembling the prompt and ends with the first answer token, decoding ends with the second one.
Pixels are prepared beforehand.

Methods inside the language model select while it reads the prompt: that pass is their prefill, without the first
answer token's logits, and their selection takes 0 seconds. It leaves no cache, so their decoding is not measured but
read off the other methods' at the mean number of visual tokens per layer; see `with_modelled_decode`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from grip_core.cost.answer import answer_flops, answer_kv_bytes
from grip_core.cost.dimensions import Model
from grip_core.cost.layers import visual_per_layer
from grip_core.cost.selection import Prompt
from grip_core.evaluation.evaluate import Selector, budget_grid
from grip_core.vlm.context import Context
from grip_core.vlm.frozen import FrozenVLM, Preprocessors

PARTS = ("encode", "select", "prefill", "decode")


@dataclass(frozen=True)
class Span:
    """A measured block: its seconds, and the peak of the GPU's memory in bytes (NaN on a CPU)."""

    seconds: float
    peak: float


@dataclass(frozen=True)
class Timed:
    """A method to measure."""

    name: str
    selector: Selector
    inside: bool = False


@dataclass(frozen=True)
class Batch:
    """What is answered at once: prompts and, for encoding, their images."""

    context: Context
    images: Sequence[np.ndarray]


def timed(run: Callable[[], object], device: torch.device) -> Span:
    """Run once, with the device idle before and after."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    start = now(device)
    run()
    seconds = now(device) - start
    return Span(seconds, torch.cuda.max_memory_allocated(device) if on_gpu else float("nan"))


def now(device: torch.device) -> float:
    """Seconds on a monotonic clock, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def with_prepared_images(vlm: FrozenVLM, images: Sequence[np.ndarray]) -> FrozenVLM:
    """The same model, whose image processor gives these images' pixels at once: encoding is then the model's part."""
    pixels = vlm.processor.image_processor(images=list(images), return_tensors="pt")
    ready = Preprocessors(vlm.processor.tokenizer, lambda **_: pixels)
    return type(vlm)(vlm.model, ready, vlm.template, vlm.positions)


def answer_spans(vlm: FrozenVLM, context: Context, method: Timed, k: int) -> dict[str, Span]:
    """One selection and one answer of two tokens: select, prefill and, of methods before the language model, decode.

    Raises ValueError if every answer ends with its first token.
    """
    fresh = replace(context, memo={})
    selections = []
    with torch.no_grad():
        select = timed(lambda: selections.append(method.selector.select(fresh, k)), vlm.device)
    if method.inside:
        return {"select": Span(0.0, select.peak), "prefill": select}
    calls: list[float] = []
    handle = vlm.language_model.register_forward_pre_hook(lambda *_: calls.append(now(vlm.device)))
    try:
        both = timed(lambda: vlm.generate(fresh, selections[0], max_new_tokens=2), vlm.device)
        end = now(vlm.device)
    finally:
        handle.remove()
    if len(calls) != 2:
        raise ValueError(f"two answer tokens are needed to time decoding, but {method.name} at k={k} gave {len(calls)}")
    prefill = both.seconds - (end - calls[1])
    return {"select": select, "prefill": Span(prefill, both.peak), "decode": Span(both.seconds - prefill, both.peak)}


def measure(
    vlm: FrozenVLM,
    methods: Sequence[Timed],
    budgets: Sequence[int],
    batches: Mapping[int, Batch],
    repetitions: int,
    warmups: int,
    progress: bool = True,
) -> pd.DataFrame:
    """A row for every method, budget, batch size and part: `seconds` (median), `low` and `high` (quartiles) an answer.

    `peak_bytes` is the largest a repetition took on the GPU, of the batch; NaN on a CPU.
    """
    jobs = [
        (size, method, k)
        for size, batch in batches.items()
        for method in methods
        for k in budget_grid(method.name, budgets, batch.context.n_visual)
    ]
    encoders = {size: with_prepared_images(vlm, batch.images) for size, batch in batches.items()}
    spans: dict[tuple[str, int, int, str], list[Span]] = {}
    rounds = warmups + repetitions
    with tqdm(total=rounds * len(jobs), unit="answer", disable=not progress, mininterval=1.0) as bar:
        for _ in range(rounds):
            for size, batch in batches.items():
                encode = timed(partial(encoders[size].visual_features, batch.images), vlm.device)
                for _, method, k in (job for job in jobs if job[0] == size):
                    bar.set_postfix_str(f"{method.name} k={k} batch={size}", refresh=False)
                    for part, span in {"encode": encode, **answer_spans(vlm, batch.context, method, k)}.items():
                        spans.setdefault((method.name, k, size, part), []).append(span)
                    bar.update()
    return pd.DataFrame([_row(key, found[warmups:]) for key, found in spans.items()])


def _row(key: tuple[str, int, int, str], spans: Sequence[Span]) -> dict[str, object]:
    method, k, batch, part = key
    low, median, high = np.quantile([span.seconds / batch for span in spans], [0.25, 0.5, 0.75])
    peak = max(span.peak for span in spans)
    names = ("method", "k", "batch", "part", "seconds", "low", "high", "peak_bytes")
    return dict(zip(names, (method, k, batch, part, median, low, high, peak), strict=True))


def with_modelled_decode(table: pd.DataFrame, n_visual: int, layers: int) -> pd.DataFrame:
    """The measured table and, for methods without one, the decoding modelled from that of the others.

    A decoding step reads every layer's cache once, so its time is taken to depend on the mean number of visual tokens
    over the layers: linear between the budgets that were measured, at each the median over the methods.
    """
    parts = table.groupby(["method", "k", "batch"])["part"].agg(set)
    missing = [key for key, found in parts.items() if "decode" not in found]
    decode = table[table["part"] == "decode"].groupby(["batch", "k"])[["seconds", "low", "high"]].median()
    rows = []
    for method, k, batch in missing:
        known = decode.loc[batch].sort_index()
        visual = np.mean(visual_per_layer(method, k, n_visual, layers))
        modelled = {name: float(np.interp(visual, known.index, known[name])) for name in known.columns}
        rows.append(
            {"method": method, "k": k, "batch": batch, "part": "decode", "peak_bytes": float("nan"), **modelled}
        )
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True) if rows else table


def with_formulas(
    table: pd.DataFrame, model: Model, prompts: Mapping[int, Prompt], bytes_per_number: int
) -> pd.DataFrame:
    """The table with `flops` and `kv_bytes` per answer, by formula; `prompts` says how long they are, by batch size."""

    def by_formula(method: str, k: int, batch: int, part: str) -> tuple[int, int]:
        prompt, n = prompts[batch], model.tower.visual
        cached = answer_kv_bytes(model.decoder, method, prompt, n, k, bytes_per_number)
        return answer_flops(model, method, prompt, k)[part], cached[part]

    keys = table[["method", "k", "batch", "part"]].itertuples(index=False)
    flops, kv_bytes = zip(*(by_formula(*key) for key in keys), strict=True)
    return table.assign(flops=flops, kv_bytes=kv_bytes)


def prompt_lengths(context: Context) -> Prompt:
    """Mean lengths of a batch's prompts, rounded; padding is left out."""
    text_B = context.attention_mask_BT.sum(1) - context.visual_mask_BN.sum(1)
    return Prompt(
        text=round(text_B.float().mean().item()), question=round(context.question_mask_BL.sum(1).float().mean().item())
    )
