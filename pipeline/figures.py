"""Draw the report, index.html and stability.html in report/, and the figures in report/figures/ as PNG, SVG, PDF."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from grip_core.claims.costs import priced_like_grip
from grip_core.claims.schema import load_claims
from grip_core.config import BudgetConfig, Params
from grip_core.errors import UserError
from grip_core.evaluation.arms import drawn_budgets
from grip_core.evaluation.coverage import coverage_table, keep_share_table
from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.tables import MEAN
from grip_core.figures.coverage import coverage_curves, keep_heat_maps
from grip_core.figures.curves import curves
from grip_core.figures.difference import difference
from grip_core.figures.groups import best_of_groups
from grip_core.figures.keep_maps import keep_maps, methods_by_budgets, shrinking
from grip_core.figures.ledger import ledger
from grip_core.figures.pareto import pareto
from grip_core.figures.profiles import profiles
from grip_core.figures.published import CAPTION, published
from grip_core.figures.report import Findings, render_report
from grip_core.figures.schedules import schedules
from grip_core.figures.speed import accuracy_against_cost, parts
from grip_core.files import write_text
from grip_core.places import EVALUATION, EXPORTS, FEATURES, PREPARED, REPORT, RESULTS, TIMING, train_run
from grip_core.policy.budgets import SCHEDULES, make_schedule
from grip_core.published.numbers import read_published
from grip_core.runs import environment, hash_files
from grip_core.seeds import torch_generator
from grip_core.vlm.features import load_store
from grip_core.vlm.load import configured_vlm, fingerprint
from pipeline.ablation_figures import write_stability
from pipeline.drawings import Drawing, save_drawings
from pipeline.examples import Examples, choose_examples
from pipeline.stage import run

EXAMPLES_CAPTION = (
    "Test questions drawn at random among those that the model answers rightly with all tokens and wrongly without the "
    "image, whatever the pruning methods make of them. Patches that a method does not keep are darkened (k = {k}); the "
    "model's answer from what is kept stands below each image."
)
MAPS = ("keep_maps", "shrinking", "methods_by_budgets")
"""Figures of photographs, which are smaller as pixels than as vectors."""
SHRINKING = 4
"""Examples shown at every budget."""


def draw_budgets(config: BudgetConfig, rollouts: int, prompts: int, seed: int) -> pd.DataFrame:
    """What training with `seed` would draw under every schedule: schedule, rollout and k, a row a prompt.

    `config` gives the schedules their settings. The rewards' std that an adaptive one follows is `invented_std`.
    """
    parts = []
    for name in SCHEDULES:
        schedule = make_schedule(config.model_copy(update={"schedule": name}))
        state, drawn = schedule.initial(), []
        for rollout in range(rollouts):
            k_B = schedule.sample(state, rollout, rollouts, prompts, torch_generator(seed, "budget", rollout))
            state = schedule.update(state, k_B, invented_std(k_B, rollout / rollouts, config.low, config.high))
            drawn.append(k_B)
        rollout_R = np.repeat(np.arange(rollouts), prompts)
        parts.append(pd.DataFrame({"schedule": name, "rollout": rollout_R, "k": torch.cat(drawn).numpy()}))
    return pd.concat(parts, ignore_index=True)


def invented_std(k_B: torch.Tensor, done: float, low: int, high: int) -> torch.Tensor:
    """exp(-d^2 / 2), d being the octaves from k to a peak that wanders from `high` to `low` as `done` goes from 0 to 1.

    As if the policy learned to do with fewer and fewer tokens.
    """
    peak = high * (low / high) ** done
    return (-0.5 * (k_B / peak).log2() ** 2).exp()


def trained_range(config: BudgetConfig) -> tuple[int, int]:
    """The smallest and the largest budget that training draws."""
    drawn = drawn_budgets(config)
    return drawn[0], drawn[-1]


def provenance(config: Mapping[str, Path], data: Path, vlm: str, run_folder: Path) -> dict[str, dict[str, str]]:
    """What the report was made from: hashes of its inputs, and the environments of training and of the report."""
    files = {name: [path] for name, path in config.items() if path.exists()}
    files |= {"prepared data": _files(data)}
    hashes = {f"{name} (SHA-256)": hash_files(paths) for name, paths in files.items() if paths}
    hashes["VLM (SHA-256, or the Hub's commit)"] = fingerprint(vlm)
    trained = json.loads((run_folder / "environment.json").read_text())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "Inputs": hashes,
        "Training (first seed)": _flat(trained),
        "This report": {**_flat(environment()), "gpu": gpu},
    }


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flat(values: Mapping) -> dict[str, str]:
    packages = ", ".join(f"{name} {version}" for name, version in values["packages"].items())
    single = {name.replace("_", " "): str(value) for name, value in values.items() if name != "packages"}
    return {**single, "packages": packages}


def order_methods(differences: pd.DataFrame) -> pd.DataFrame:
    """Methods by their difference on the first benchmark (the mean), the largest first; benchmarks as they are."""
    first = differences[differences["benchmark"] == differences["benchmark"].iloc[0]]
    rank = first.set_index("method")["effect"].rank(ascending=False)
    order = differences.assign(rank=differences["method"].map(rank))
    parts = [part.sort_values("rank") for _, part in order.groupby("benchmark", sort=False)]
    return pd.concat(parts).drop(columns="rank")


def write_report(
    folder: Path,
    findings: Findings,
    drawings: Iterable[Drawing],
    environments: Mapping[str, Mapping[str, str]],
) -> None:
    """Save the figures and write the report that embeds them."""
    pictures = save_drawings(folder / "figures", drawings, MAPS)
    write_text(folder / "index.html", render_report(findings, pictures, environments))


def example_figures(examples: Examples, k: int, budgets: Sequence[int], grid: tuple[int, int]) -> Iterator[Drawing]:
    """The keep maps: all methods at one budget, GRIP at all budgets, and one example under both."""
    falling = sorted(budgets, reverse=True)
    yield "keep_maps", partial(keep_maps, examples.by_method(k), grid), EXAMPLES_CAPTION.format(k=k)
    yield (
        "shrinking",
        partial(shrinking, examples.by_budget(falling)[:SHRINKING], grid),
        "What GRIP keeps of an image as the budget shrinks, and the model's answer from it.",
    )
    yield (
        "methods_by_budgets",
        partial(methods_by_budgets, examples.by_method_and_budget(0, falling), grid),
        "What the methods keep of one image as the budget shrinks, and the model's answers from it.",
    )


def table_figures(results: Path, questions: int, trained: tuple[int, int], own: pd.DataFrame) -> Iterator[Drawing]:
    """Figures of the tables in `results`; `own` are mean accuracies, drawn beside published ones."""
    table, differences = pd.read_csv(results / "table.csv"), pd.read_csv(results / "differences.csv")
    claims = pd.read_csv(results / "claims.csv", keep_default_na=False, na_values={"effect": "", "low": "", "high": ""})
    yield "claims", partial(ledger, claims), "Verdicts on the paper's claims; each is in words below."
    yield (
        "pareto",
        partial(pareto, table, questions, trained),
        "Accuracy against kept tokens; the numbers are in the tables below.",
    )
    yield (
        "difference",
        partial(difference, order_methods(differences)),
        "Differences between GRIP and every other method; the averages are in the summary.",
    )
    yield (
        "profiles",
        partial(profiles, pd.read_csv(results / "profiles.csv"), best_of_groups(table)),
        "Performance profiles of all methods; the summary table has their areas.",
    )
    yield "curves", partial(curves, pd.read_csv(results / "curves.csv")), "Learning curves of every training seed."
    yield "published", partial(published, read_published(), own), CAPTION


def cost_figures(timing: Path, table: pd.DataFrame, shape: str, arms: Sequence[str]) -> Iterator[Drawing]:
    """Time by part, and accuracy against FLOPs; none where no costs were measured."""
    if not (timing / f"{shape}-flops.csv").exists():
        return
    measured = pd.read_csv(timing / f"{shape}.csv")
    repetitions = json.loads((timing / f"{shape}.json").read_text())["repetitions"]
    yield (
        "time",
        partial(parts, measured, repetitions),
        "Time of an answer by part; the medians are in the table of costs.",
    )
    flops = priced_like_grip(pd.read_csv(timing / f"{shape}-flops.csv"), arms)
    shown = table[(table["benchmark"] == MEAN) & table["method"].isin({FULL, *best_of_groups(table)})]
    against = shown.merge(flops.assign(cost=flops["flops"] / 1e6), on=["method", "k"])
    against = against.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    note = f"n = {shown['images'].max()} images; bars: intervals over seeds and images"
    yield "cost", partial(accuracy_against_cost, against, "MFLOPs", note), "Accuracy against floating-point operations."


def coverage_figures(rows: pd.DataFrame, k: int, grid: tuple[int, int]) -> Iterator[Drawing]:
    """Where on the image patches are kept."""
    pruned = rows[~rows["method"].isin([FULL, NO_IMAGE])]
    yield (
        "heat",
        partial(keep_heat_maps, keep_share_table(pruned, k, grid), k),
        "How often each patch is kept, by method.",
    )
    yield (
        "coverage",
        partial(coverage_curves, coverage_table(pruned, grid), grid[0] * grid[1]),
        "Mean distance from a patch to the nearest kept one, by method and budget.",
    )


def schedule_figures(params: Params) -> Iterator[Drawing]:
    """The budgets that training would draw under every schedule."""
    rollouts = params.grpo.steps // params.grpo.num_iterations
    drawn = draw_budgets(params.budgets, rollouts, params.grpo.prompts_per_step, params.grpo.seeds[0])
    yield (
        "schedules",
        partial(schedules, drawn, params.budgets.schedule),
        "Budgets that each schedule draws over a run, the one in use marked; adaptive for an invented signal.",
    )


def main(params: Params) -> None:
    """Run the stage."""
    k = params.report.example_budget
    rows = pd.read_parquet(EVALUATION / "rows.parquet")
    vlm = configured_vlm(params.vlm)
    store = load_store(FEATURES, params.data.benchmarks, "test")
    numbers = json.loads((RESULTS / "headline.json").read_text())
    table = pd.read_csv(RESULTS / "table.csv")
    grid = store.grid
    budgets = [budget for budget in params.evaluate.budgets if budget < store.n_visual]
    if k not in budgets:
        raise UserError(f"report.example_budget must be below all {store.n_visual} tokens, but got {k}")
    claims = load_claims()
    drawings = chain(
        table_figures(RESULTS, numbers["questions"], trained_range(params.budgets), table),
        cost_figures(TIMING, table, claims.shape_of(params.vlm.path), claims.arms),
        schedule_figures(params),
    )
    if grid is not None:  # else a kept token is no cell of the image
        examples = Examples(vlm, store, rows, choose_examples(rows, params.report.examples), PREPARED)
        drawings = chain(drawings, coverage_figures(rows, k, grid), example_figures(examples, k, budgets, grid))
    environments = provenance(
        {"params.yaml": Path("params.yaml"), "claims.yaml": Path("claims.yaml")},
        PREPARED,
        params.vlm.path,
        train_run(params.grpo.seeds[0]),
    )
    findings = Findings(
        numbers,
        table,
        pd.read_csv(RESULTS / "summary.csv"),
        pd.read_csv(RESULTS / "claims.csv", keep_default_na=False),
    )
    write_report(REPORT, findings, drawings, environments)
    write_stability(REPORT, RESULTS / "ablations", EXPORTS / "ablations", claims.stability, params.report.confidence)


if __name__ == "__main__":
    run(main)
