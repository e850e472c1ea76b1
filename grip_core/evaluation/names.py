"""The methods that are not baselines, and what every method is called in figures and sentences."""

from __future__ import annotations

from grip_core.baselines.registry import known
from grip_core.evaluation.evaluate import FULL, NO_IMAGE

GRIP, WARMUP = "grip", "warmup"
LABELS = {GRIP: "GRIP", WARMUP: "Warm-up only", FULL: "All tokens", NO_IMAGE: "No image"}
BENCHMARK_LABELS = {
    "easy_vqa": "easy-VQA",
    "sort_of_clevr": "Sort-of-CLEVR",
    "digit_grids": "Digit grids",
    "mean": "Mean over benchmarks",
}


def label(method: str) -> str:
    """A method's name for readers."""
    if method in LABELS:
        return LABELS[method]
    return known()[method].label if method in known() else method.replace("_", " ")


def share_label(k: int, n_visual: int) -> str:
    """The share that k of N tokens are, as a percentage of two digits or so."""
    share = 100 * k / n_visual
    return f"{share:.1f}%" if share < 9.95 else f"{share:.0f}%"


def benchmark_label(benchmark: str) -> str:
    """A benchmark's name for readers."""
    return BENCHMARK_LABELS.get(benchmark, benchmark.replace("_", " "))
