"""The methods that are not baselines, and what every method is called in figures and sentences."""

from __future__ import annotations

from grip_core.baselines.registry import known
from grip_core.evaluation.evaluate import FULL, NO_IMAGE

GRIP, WARMUP = "grip", "warmup"
SPECIALISTS = ("only_2", "only_7", "only_72", "mixture")
"""GRPO at some budgets alone: held against GRIP where a claim says so, at those budgets, and ranked nowhere."""
LABELS = {
    GRIP: "GRIP",
    WARMUP: "Warm-up only",
    FULL: "All tokens",
    NO_IMAGE: "No image",
    "distill": "Distillation",
    "gumbel": "Gumbel straight-through",
    "soft_topk": "Soft top-k (VisionSelector)",
    "diffprune": "Soft top-k, noise (DiffPrune)",
    "only_2": "GRPO at k = 2 only",
    "only_7": "GRPO at k = 7 only",
    "only_72": "GRPO at k = 72 only",
    "mixture": "GRPO at k = 1, 4, 14",
    "no_warmup": "GRPO without warm-up",
    "no_warmup_no_kl": "GRPO without warm-up and KL",
    "grip_vlm": "GRIP-VLM",
}
BENCHMARK_LABELS = {
    "easy_vqa": "easy-VQA",
    "sort_of_clevr": "Sort-of-CLEVR",
    "digit_grids": "Digit grids",
    "pope": "POPE",
    "scienceqa": "ScienceQA",
    "ai2d": "AI2D",
    "mme": "MME",
    "ocrbench": "OCRBench",
    "textvqa": "TextVQA",
    "gqa": "GQA",
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
