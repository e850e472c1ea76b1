"""Print where a GRPO step's time goes, what it costs beside the bare VLM forward, and how fast methods are evaluated.

The floor is the frozen language model's forward on the kept tokens: no step can be faster than what scores it.

Everything is measured in this one run, in turn, because machines drift: quote the ratios. Needs the stages up to
`warmup` (`dvc repro warmup`); writes nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback, TrainerCallback

from grip_core.baselines import registry
from grip_core.config import Params
from grip_core.evaluation.evaluate import Selector
from grip_core.evaluation.policy import PolicySelector
from grip_core.places import FEATURES, WARMUP
from grip_core.policy.budgets import make_schedule
from grip_core.policy.distribution import Picks
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.policy.scorer import Scorer
from grip_core.rl import scoring
from grip_core.rl.grpo import SelectionTrainer
from grip_core.rl.inputs import load_scorer
from grip_core.rl.task import Task
from grip_core.rl.train import build_trainer
from grip_core.seeds import torch_generator
from grip_core.vlm.assemble import Assembled, assemble
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.features import FeatureStore, load_store
from grip_core.vlm.frozen import ROWS_PER_FORWARD, FrozenVLM
from grip_core.vlm.load import configured_vlm
from pipeline.stage import run

BUDGETS = (1, 2, 4, 8, 16, 32, 64)
UPDATES = 4  # mu of the last column
ROLLOUTS = 12
DISCARDED = 3  # rollouts before caches and allocators are warm
ROWS = (32, 64, 128, 256, 512)  # a forward
REPEATS = 5
ALONE = 48  # selections scored one at a time
EVALUATED = 200  # test questions


class StepTimer(TrainerCallback):
    """Times whole rollouts, all their updates included, and after each the language model's bare forward on as many
    selections of the same prompts."""

    def __init__(self, trainer: SelectionTrainer, vlm: FrozenVLM) -> None:
        self.trainer, self.vlm = trainer, vlm
        self.rollouts: list[float] = []
        self.floors: list[float] = []
        self.parts: list[dict[str, float]] = []
        self.began: float | None = None
        self.measuring = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        # From one rollout's begin to the next one's, less our own measuring, so that data loading and logging count.
        if state.global_step % self.trainer.num_iterations:
            return
        now = time.perf_counter()
        if self.began is not None:
            self.rollouts.append(now - self.began - self.measuring)
            self.parts.append(dict(self.trainer.stopwatch.seconds))
        self.trainer.stopwatch.seconds.clear()
        self.began = now

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.trainer.num_iterations:
            return
        start = time.perf_counter()
        rollout = self.trainer.rollout
        batches = assembled_batches(self.vlm, rollout.context, rollout.k_B, self.trainer.num_generations)
        prepared = time.perf_counter()
        for inputs in batches:
            language_forward(self.vlm, inputs)
        end = time.perf_counter()
        self.floors.append(end - prepared)
        self.measuring = end - start


def drawn(context: Context, k_B: torch.Tensor, group: int) -> Picks:
    """Selections of a policy that prefers nothing."""
    return PlackettLuce(torch.zeros(context.batch_size, context.n_visual), k_B).sample(
        group, torch_generator(0, "bench")
    )


def assembled_batches(vlm: FrozenVLM, context: Context, k_B: torch.Tensor, group: int) -> list[Assembled]:
    """The inputs of a rollout's forward, in the batches that training uses."""
    part = Selection.of(drawn(context, k_B, group).index_BGK.flatten(0, 1))
    prompt_R = torch.arange(context.batch_size).repeat_interleave(group)
    return [
        assemble(context, Selection(part.kept_RK[rows], part.mask_RK[rows], prompt_R[rows]), vlm.embed, vlm.positions)
        for rows in torch.arange(len(prompt_R)).split(ROWS_PER_FORWARD)
    ]


@torch.inference_mode()
def language_forward(vlm: FrozenVLM, inputs: Assembled) -> None:
    """The floor: nothing but the decoder and its head at the answer position."""
    hidden_RSD = vlm.language_model(
        inputs_embeds=inputs.embeds_RSD,
        attention_mask=inputs.attention_mask_RS.long(),
        position_ids=inputs.positions_PRS[0],
        use_cache=False,
    ).last_hidden_state
    vlm.model.get_output_embeddings()(hidden_RSD[:, -1:])


def one_at_a_time(vlm: FrozenVLM, context: Context, k: int, group: int) -> float:
    """Seconds to score one selection when each has a forward of its own."""
    index_BGK = drawn(context, torch.full((context.batch_size,), k), group).index_BGK
    start = time.perf_counter()
    for row in range(ALONE):
        prompt = row % context.batch_size
        part = Selection.of(index_BGK[prompt, row // context.batch_size][None])
        vlm.answer_scores(context, Selection(part.kept_RK, part.mask_RK, torch.tensor([prompt])))
    return (time.perf_counter() - start) / ALONE


def timed_run(params: Params, task: Task, vlm: FrozenVLM, k: int, updates: int) -> StepTimer:
    """A short run at one budget with so many updates a rollout."""
    steps = ROLLOUTS * updates
    settings = params.grpo.model_copy(
        update={"steps": steps, "num_iterations": updates, "checkpoint_every": steps * 10}
    )
    budgets = params.budgets.model_copy(update={"schedule": "constant", "constant": k, "low": k, "high": k})
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(settings, budgets, 0, task, Path(folder))
        trainer.remove_callback(PrinterCallback)
        timer = StepTimer(trainer, vlm)
        trainer.add_callback(timer)
        trainer.train()
    return timer


def step_table(params: Params, task: Task, vlm: FrozenVLM) -> Table:
    """One row a budget: the step's parts and ratios."""
    group, prompts = params.grpo.group_size, params.grpo.prompts_per_step
    table = Table(title=f"GRPO step, {params.grpo.distribution}, B = {prompts}, G = {group} (medians)")
    times = ("step s", "rollout s", "VLM s", "update s", "rest s", "bare VLM s")
    for name in ("k", *times, "step / bare", f"mu = {UPDATES}: rollout / bare", "alone / batched"):
        table.add_column(name, justify="right")
    gains = []
    for k in (k for k in BUDGETS if k <= task.store.n_visual):
        timer = timed_run(params, task, vlm, k, 1)
        median = {
            name: float(np.median([part[name] for part in timer.parts[DISCARDED:]]))
            for name in ("step", "rollout", "vlm_forward")
        }
        step, bare = ratio_parts(timer)
        update = median["step"] - median["rollout"] - median["vlm_forward"]
        alone = one_at_a_time(vlm, timer.trainer.rollout.context, k, group) * prompts * group
        gains.append(alone / median["vlm_forward"])
        several, several_bare = ratio_parts(timed_run(params, task, vlm, k, UPDATES))
        numbers = (step, median["rollout"], median["vlm_forward"], update, step - median["step"], bare)
        ratios = (f"{step / bare:.2f}", f"{several / several_bare:.2f}", f"{gains[-1]:.1f}")
        table.add_row(str(k), *(f"{x:.3f}" for x in numbers), *ratios)
    table.caption = f"alone / batched, mean over these budgets: {np.mean(gains):.1f}"
    return table


def ratio_parts(timer: StepTimer) -> tuple[float, float]:
    """Median seconds of a rollout with its updates, and of its bare forward."""
    return float(np.median(timer.rollouts[DISCARDED:])), float(np.median(timer.floors[DISCARDED:]))


def rows_table(params: Params, task: Task, vlm: FrozenVLM) -> Table:
    """Seconds to score a rollout with so many rows a forward: what ROWS_PER_FORWARD was chosen by."""
    table = Table(title="Scoring a rollout, seconds by rows a forward (medians)")
    table.add_column("k", justify="right")
    for rows in ROWS:
        table.add_column(str(rows), justify="right")
    context = task.store.context(vlm, np.arange(params.grpo.prompts_per_step))
    for k in (2, 8, 32):
        picks = drawn(context, torch.full((context.batch_size,), k), params.grpo.group_size)
        seconds: dict[int, list[float]] = {rows: [] for rows in ROWS}
        for _ in range(REPEATS):
            for rows in ROWS:
                start = time.perf_counter()
                vlm.rows_per_forward = rows
                scoring.score_selections(vlm, context, picks, rows_per_forward=rows)
                seconds[rows].append(time.perf_counter() - start)
        table.add_row(str(k), *(f"{np.median(seconds[rows]):.3f}" for rows in ROWS))
    vlm.rows_per_forward = ROWS_PER_FORWARD
    return table


def measures_table(params: Params, task: Task, vlm: FrozenVLM) -> Table:
    """What each measure gives: seconds to score a rollout at the schedule's own budgets, as it is and without one."""
    group = params.grpo.group_size
    context = task.store.context(vlm, np.arange(params.grpo.prompts_per_step))
    schedule, generator = make_schedule(params.budgets), torch_generator(0, "bench budgets")
    k_B = schedule.sample(schedule.initial(), 0, 1, context.batch_size, generator)
    picks = drawn(context, k_B, group)
    part = Selection.of(picks.index_BGK.flatten(0, 1), picks.mask_BGK.flatten(0, 1))
    prompt_R = torch.arange(context.batch_size).repeat_interleave(group)

    def unsorted() -> None:
        for rows in torch.arange(len(prompt_R)).split(ROWS_PER_FORWARD):
            vlm.answer_scores(context, Selection(part.kept_RK[rows], part.mask_RK[rows], prompt_R[rows]))

    def with_autograd() -> None:
        for rows in torch.arange(len(prompt_R)).split(ROWS_PER_FORWARD):
            with torch.enable_grad():
                vlm.forward_logits(context, Selection(part.kept_RK[rows], part.mask_RK[rows], prompt_R[rows]))

    def unpruned() -> None:
        everything = Selection.all(context)
        for rows in torch.arange(len(prompt_R)).split(ROWS_PER_FORWARD):
            index = prompt_R[rows]
            vlm.answer_scores(context, Selection(everything.kept_RK[index], everything.mask_RK[index], index))

    ways: dict[str, Callable[[], object]] = {
        "as it is": lambda: scoring.score_selections(vlm, context, picks),
        "budgets as they come, padded to the largest": unsorted,
        "the same, open to autograd": with_autograd,
        "masking instead of dropping: all tokens in every row": unpruned,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    table = Table("way", "seconds", "ratio", title=f"Scoring a rollout of {len(prompt_R)} selections (medians)")
    best = float(np.median(seconds["as it is"]))
    for name, found in seconds.items():
        table.add_row(name, f"{np.median(found):.3f}", f"{np.median(found) / best:.2f}")
    return table


def evaluation_table(params: Params, vlm: FrozenVLM, store: FeatureStore, warmup: Scorer) -> Table:
    """One row a method: questions per second over the evaluation's budgets, selection and answers together."""
    table = Table(title="Evaluation, questions x budgets per second")
    table.add_column("method")
    table.add_column("per second", justify="right")
    table.add_column("selection only", justify="right")
    index = np.arange(min(EVALUATED, len(store)))
    budgets = [k for k in params.evaluate.budgets if k < store.n_visual]
    selectors: dict[str, Selector] = {name: registry.create(name, vlm, 0) for name in params.evaluate.baselines}
    selectors["scorer"] = PolicySelector(warmup)
    for name, selector in selectors.items():
        context = store.context(vlm, index)
        start = time.perf_counter()
        selections = [selector.select(context, k) for k in budgets]
        selected = time.perf_counter() - start
        for selection in selections:
            vlm.answer_scores(context, selection)
        total = time.perf_counter() - start
        count = len(index) * len(budgets)
        table.add_row(name, f"{count / total:.0f}", f"{count / selected:.0f}")
    return table


def main(params: Params) -> None:
    """Measure and print."""
    vlm = configured_vlm(params.vlm)
    train = load_store(FEATURES, params.data.trained_on, "train")
    test = load_store(FEATURES, params.data.benchmarks, "test")
    warmup = load_scorer(WARMUP)
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    task = Task(vlm, train, warmup)
    console.print(step_table(params, task, vlm))
    console.print(rows_table(params, task, vlm))
    console.print(measures_table(params, task, vlm))
    console.print(evaluation_table(params, vlm, test, warmup))


if __name__ == "__main__":
    run(main)
