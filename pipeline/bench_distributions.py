"""Print what the distributions over selections cost in time and memory, at a training step's size and at a large one.

Random scores, on the CPU, each distribution in a fresh process; reads and writes nothing. Scoring is a forward and a
backward pass.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from grip_core.policy.distributions import DISTRIBUTIONS
from grip_core.seeds import torch_generator

OPERATIONS = ("sample", "log_prob", "entropy", "kl")
REPEATS = 3


class Size(NamedTuple):
    """B prompts of N tokens, G selections of about k each."""

    prompts: int
    tokens: int
    k: int
    group: int


SIZES = (Size(16, 144, 36, 32), Size(64, 2880, 640, 16))


def measure(name: str, size: Size) -> tuple[list[float], float]:
    """Median seconds of each operation, and by how much all of them raised the peak of the process's memory, MiB."""
    before = peak_mib()
    generator = torch_generator(0, "bench")
    scores_BN, other_BN = torch.randn(2, size.prompts, size.tokens, generator=generator)
    scores_BN.requires_grad_()
    k_B = torch.full((size.prompts,), size.k)
    make = DISTRIBUTIONS[name]
    picks = make(scores_BN, k_B).sample(size.group, generator)
    runs: dict[str, Callable] = {
        "sample": lambda: make(scores_BN, k_B).sample(size.group, generator),
        "log_prob": lambda: make(scores_BN, k_B).log_prob(picks).sum().backward(),
        "entropy": lambda: make(scores_BN, k_B).entropy(picks).sum().backward(),
        "kl": lambda: make(scores_BN, k_B).kl(make(other_BN, k_B), picks).sum().backward(),
    }
    seconds = [median_seconds(runs[operation]) for operation in OPERATIONS]
    return seconds, peak_mib() - before


def median_seconds(function: Callable) -> float:
    """The median of a few runs, after one that does not count."""
    function()
    runs = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        runs.append(time.perf_counter() - start)
    return sorted(runs)[REPEATS // 2]


def peak_mib() -> float:
    """The most memory that this process has held so far, MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for size in SIZES:
        table = Table(
            title=f"Milliseconds and MiB at B = {size.prompts}, N = {size.tokens}, k = {size.k}, G = {size.group}"
        )
        for column in ("distribution", *OPERATIONS, "peak"):
            table.add_column(column, justify="left" if column == "distribution" else "right")
        for name in DISTRIBUTIONS:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                seconds, peak = fresh.submit(measure, name, size).result()
            table.add_row(name, *(f"{1000 * second:.1f}" for second in seconds), f"{peak:.0f}")
        console.print(table)


if __name__ == "__main__":
    main()
