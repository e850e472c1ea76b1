"""Draw the figures and the report: report/index.html, and report/figures/ as PNG and SVG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from grip_core.config import BudgetConfig, Params
from grip_core.data.examples import load_split
from grip_core.data.registry import BENCHMARKS
from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, benchmark_label, label
from grip_core.figures.curves import curves
from grip_core.figures.difference import difference
from grip_core.figures.keep_maps import Answered, KeepMap, keep_maps
from grip_core.figures.pareto import pareto
from grip_core.figures.report import Picture, render_report
from grip_core.figures.save import figure_bytes, save_figure
from grip_core.figures.schedules import schedules
from grip_core.files import write_text
from grip_core.places import EVALUATION, FEATURES, PREPARED, REPORT, RESULTS, train_run
from grip_core.policy.budgets import SCHEDULES, make_schedule
from grip_core.runs import environment, hash_files
from grip_core.seeds import numpy_random, torch_generator
from grip_core.vlm.context import Selection
from grip_core.vlm.features import FeatureStore, load_store
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import load_vlm
from pipeline.stage import run

SHOWN = (GRIP, "fastv", "encoder_attention", "random")
"""Methods whose keep maps are drawn, beside all tokens; those that were not evaluated are left out."""

EXAMPLES_CAPTION = (
    "Test questions drawn at random among those that the model answers rightly with all tokens and wrongly without the "
    "image, whatever the pruning methods make of them. Patches that a method does not keep are darkened (k = {k}); the "
    "model's answer from what is kept stands below each image."
)


def choose_examples(rows: pd.DataFrame, count: int) -> list[str]:
    """Ids of examples to show, benchmarks in turn, drawn at random among those that need the image.

    Those are the questions that the model answers rightly with all tokens and wrongly without the image. What the
    pruning methods make of them plays no part.
    """
    wide = rows[rows["method"].isin([FULL, NO_IMAGE])].pivot(
        index=["benchmark", "example_id"], columns="method", values="correct"
    )
    candidates = wide.index[wide[FULL] & ~wide[NO_IMAGE]].to_frame(index=False)
    order = candidates.iloc[numpy_random(0, "report examples").permutation(len(candidates))]
    turn = order.groupby("benchmark").cumcount()
    return order.assign(turn=turn).sort_values(["turn", "benchmark"])["example_id"].head(count).tolist()


def build_keep_maps(
    vlm: FrozenVLM, store: FeatureStore, rows: pd.DataFrame, example_ids: Sequence[str], k: int, prepared: Path
) -> list[KeepMap]:
    """Images, kept patches at budget k under each method's first seed, and the model's answers from those patches."""
    place = {example: i for i, example in enumerate(store.table["id"])}
    index = [place[example] for example in example_ids]
    context = store.context(vlm, index)
    first = rows[rows["k"] == k].sort_values("seed").drop_duplicates(["method", "example_id"])
    kept = first.set_index(["method", "example_id"])["kept"]
    answered = [_answered(vlm, context, "all tokens", None)]
    for method in SHOWN:
        if method in kept.index.get_level_values("method"):
            patches = [list(kept[method, example]) for example in example_ids]
            answered.append(_answered(vlm, context, f"{label(method)}, k = {k}", patches))
    splits = {
        name: load_split(prepared / name / "test", BENCHMARKS[name].render)
        for name in store.table["benchmark"].unique()
    }
    return [
        KeepMap(
            splits[item["benchmark"]].image(item["image_id"]),
            benchmark_label(item["benchmark"]),
            item["question"],
            item["answer"],
            [
                Answered(name, None if patches is None else patches[b], answers[b], answers[b] == item["answer"])
                for name, patches, answers in answered
            ],
        )
        for b, item in enumerate(store.table.iloc[index].to_dict("records"))
    ]


def _answered(vlm: FrozenVLM, context, name: str, patches: list[list[int]] | None):
    selection = Selection.all(context) if patches is None else Selection.of(torch.tensor(patches))
    answers = vlm.processor.tokenizer.batch_decode(vlm.generate(context, selection), skip_special_tokens=True)
    return name, patches, [answer.strip() for answer in answers]


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


def provenance(config: Mapping[str, Path], data: Path, vlm: Path, run_folder: Path) -> dict[str, dict[str, str]]:
    """What the report was made from: hashes of its inputs, and the environments of training and of the report."""
    files = {name: [path] for name, path in config.items() if path.exists()}
    files |= {"prepared data": _files(data), "VLM": _files(vlm)}
    hashes = {f"{name} (SHA-256)": hash_files(paths) for name, paths in files.items() if paths}
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
    numbers: Mapping,
    table: pd.DataFrame,
    figures: Mapping[str, tuple[Figure, str]],
    environments: Mapping[str, Mapping[str, str]],
) -> None:
    """Save the figures, each with its text for those who cannot see it, and the report that embeds them."""
    pictures = {}
    for name, (figure, alt) in figures.items():
        save_figure(figure, folder / "figures", name)
        kind = "png" if name == "keep_maps" else "svg"  # photographs are smaller as pixels, lines as vectors
        pictures[name] = Picture(figure_bytes(figure, kind), kind, alt)
    write_text(folder / "index.html", render_report(numbers, table, pictures, environments))


def main(params: Params) -> None:
    """Run the stage."""
    k = params.report.example_budget
    rows = pd.read_parquet(EVALUATION / "rows.parquet")
    vlm = load_vlm(params.vlm.path, params.vlm.positions, params.vlm.dtype)
    store = load_store(FEATURES, params.data.benchmarks, "test")
    examples = build_keep_maps(vlm, store, rows, choose_examples(rows, params.report.examples), k, PREPARED)
    numbers = json.loads((RESULTS / "headline.json").read_text())
    table = pd.read_csv(RESULTS / "table.csv")
    grid = tuple(int(side) for side in np.asarray(store.grid_N2).max(0) + 1)
    figures = {
        "pareto": (pareto(table), "Accuracy against kept tokens; the numbers are in the tables below."),
        "difference": (
            difference(order_methods(pd.read_csv(RESULTS / "differences.csv"))),
            "Differences between GRIP and every other method; the averages are in the summary.",
        ),
        "curves": (curves(pd.read_csv(RESULTS / "curves.csv")), "Learning curves of every training seed."),
        "schedules": (
            schedules(
                draw_budgets(
                    params.budgets,
                    params.grpo.steps // params.grpo.num_iterations,
                    params.grpo.prompts_per_step,
                    params.grpo.seeds[0],
                ),
                params.budgets.schedule,
            ),
            "Budgets that each schedule draws over a run, the one in use marked; adaptive for an invented signal.",
        ),
        "keep_maps": (
            keep_maps(examples, (grid[0], grid[1])),
            EXAMPLES_CAPTION.format(k=k),
        ),
    }
    environments = provenance(
        {"params.yaml": Path("params.yaml")},
        PREPARED,
        Path(params.vlm.path),
        train_run(params.grpo.seeds[0]),
    )
    write_report(REPORT, numbers, table, figures, environments)


if __name__ == "__main__":
    run(main)
