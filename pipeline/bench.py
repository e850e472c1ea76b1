"""Print where a GRPO step's time goes, what it costs beside the bare VLM forward, and how fast methods are evaluated.

Everything is measured in this one run, in turn, because machines drift: quote the ratios. Needs the stages up to
`warmup` (`dvc repro warmup`); writes nothing.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback, TrainerCallback

from grip_core.baselines import registry
from grip_core.config import BudgetConfig, Params
from grip_core.evaluation.evaluate import Selector
from grip_core.evaluation.policy import PolicySelector
from grip_core.places import FEATURES, WARMUP
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.policy.scorer import Scorer
from grip_core.rl.grpo import SelectionTrainer
from grip_core.rl.inputs import load_scorer
from grip_core.rl.scoring import ROWS_PER_FORWARD
from grip_core.rl.train import Task, build_trainer
from grip_core.seeds import torch_generator
from grip_core.vlm.assemble import Assembled, assemble
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.features import FeatureStore, load_store
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import load_vlm
from pipeline.stage import run

BUDGETS = (1, 2, 4, 8, 16, 32, 64)
STEPS = 12
DISCARDED = 3  # steps before caches and allocators are warm
ALONE = 48  # selections scored one at a time
EVALUATED = 200  # test questions


class StepTimer(TrainerCallback):
    """Times whole steps and, between them, the language model's bare forward on as many selections of the same
    prompts."""

    def __init__(self, trainer: SelectionTrainer) -> None:
        self.trainer = trainer
        self.steps: list[float] = []
        self.floors: list[float] = []
        self.parts: list[dict[str, float]] = []
        self.began: float | None = None
        self.measuring = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        # From one step's begin to the next one's, less our own measuring, so that data loading and logging count.
        now = time.perf_counter()
        if self.began is not None:
            self.steps.append(now - self.began - self.measuring)
            self.parts.append(dict(self.trainer.stopwatch.seconds))
        self.trainer.stopwatch.seconds.clear()
        self.began = now

    def on_step_end(self, args, state, control, **kwargs):
        start = time.perf_counter()
        rollout = self.trainer.rollout
        batches = assembled_batches(self.trainer.vlm, rollout.context, rollout.k_B, self.trainer.num_generations)
        prepared = time.perf_counter()
        for inputs in batches:
            language_forward(self.trainer.vlm, inputs)
        end = time.perf_counter()
        self.floors.append(end - prepared)
        self.measuring = end - start


def assembled_batches(vlm: FrozenVLM, context: Context, k_B: torch.Tensor, group: int) -> list[Assembled]:
    """The inputs of a rollout's forward, in the batches that training uses."""
    scores_BN = torch.zeros(context.batch_size, context.n_visual)
    selection_BGK = PlackettLuce(scores_BN, k_B).sample(group, torch_generator(0, "bench"))
    prompt_R = torch.arange(context.batch_size).repeat_interleave(group)
    part = Selection.of(selection_BGK.flatten(0, 1))
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
    k_B = torch.full((context.batch_size,), k)
    selection_BGK = PlackettLuce(torch.zeros(context.batch_size, context.n_visual), k_B).sample(
        group, torch_generator(0, "bench")
    )
    start = time.perf_counter()
    for row in range(ALONE):
        prompt = row % context.batch_size
        part = Selection.of(selection_BGK[prompt, row // context.batch_size][None])
        vlm.answer_scores(context, Selection(part.kept_RK, part.mask_RK, torch.tensor([prompt])))
    return (time.perf_counter() - start) / ALONE


def step_table(params: Params, task: Task) -> Table:
    """One row a budget: the step's parts and ratios."""
    table = Table(
        title=f"GRPO step, B = {params.grpo.prompts_per_step}, G = {params.grpo.group_size}, mu = 1 (medians)"
    )
    for name in (
        "k",
        "step s",
        "rollout s",
        "VLM s",
        "update s",
        "rest s",
        "bare VLM s",
        "step / bare",
        "alone / batched",
    ):
        table.add_column(name, justify="right")
    gains = []
    for k in (k for k in BUDGETS if k <= task.store.n_visual):
        settings = params.grpo.model_copy(update={"steps": STEPS, "num_iterations": 1, "checkpoint_every": STEPS * 10})
        budgets = BudgetConfig(schedule="uniform", low=k, high=k)
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(settings, budgets, 0, task, Path(folder))
            trainer.remove_callback(PrinterCallback)
            timer = StepTimer(trainer)
            trainer.add_callback(timer)
            trainer.train()
        median = {
            name: float(np.median([part[name] for part in timer.parts[DISCARDED:]]))
            for name in ("step", "rollout", "vlm_forward")
        }
        step, bare = float(np.median(timer.steps[DISCARDED:])), float(np.median(timer.floors[DISCARDED:]))
        update = median["step"] - median["rollout"] - median["vlm_forward"]
        rows = params.grpo.prompts_per_step * params.grpo.group_size
        alone = one_at_a_time(task.vlm, trainer.rollout.context, k, params.grpo.group_size) * rows
        gains.append(alone / median["vlm_forward"])
        numbers = (step, median["rollout"], median["vlm_forward"], update, step - median["step"], bare)
        table.add_row(str(k), *(f"{x:.3f}" for x in numbers), f"{step / bare:.2f}", f"{gains[-1]:.1f}")
    table.caption = f"alone / batched, mean over these budgets: {np.mean(gains):.1f}"
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
    vlm = load_vlm(params.vlm.path, params.vlm.positions)
    train, test = (load_store(FEATURES, params.data.benchmarks, split) for split in ("train", "test"))
    warmup = load_scorer(WARMUP)
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    console.print(step_table(params, Task(vlm, train, warmup)))
    console.print(evaluation_table(params, vlm, test, warmup))


if __name__ == "__main__":
    run(main)
