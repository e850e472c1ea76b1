"""One GRPO run in one folder: the same function for a DVC stage, a study's worker or a notebook."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from grip_core.config import BudgetConfig, GrpoConfig
from grip_core.errors import UserError
from grip_core.files import write_text
from grip_core.policy.budgets import make_schedule
from grip_core.policy.saved import save_scorer
from grip_core.policy.scorer import Scorer
from grip_core.rl.checkpoints import newest, seal
from grip_core.rl.collapse import CollapseDetector
from grip_core.rl.fit import OnStep, Pause
from grip_core.rl.grpo import Plan, SelectionTrainer
from grip_core.rl.processes import by_first, meet, rank, together
from grip_core.rl.task import Task, carries_signal
from grip_core.rl.validation import Validation
from grip_core.rl.warmup import example_order
from grip_core.runs import RunFolder
from grip_core.seeds import torch_generator

logger = logging.getLogger(__name__)


@together()
def train(
    config: GrpoConfig,
    budgets: BudgetConfig,
    seed: int,
    task: Task,
    validation: Validation,
    run: RunFolder,
    on_step: OnStep = lambda step, row: None,
    pause: Pause = lambda step: False,
) -> Scorer | None:
    """Train a copy of the task's warm-up by GRPO with the warm-up as the reference; save it in the run folder.

    Resumes from the folder's newest intact checkpoint, with the same numbers as if it had not been stopped (bit-equal
    on a CPU); a finished run is read back. Calls `on_step(step, row)` with every row of metrics. Once `pause(step)` is
    true the run is checkpointed at the next end of a rollout, and None is returned; the next call goes on from there.
    A run that collapses is flagged in its folder, with its step and cause, and ends there if `collapse.stop` is set.

    Raises FloatingPointError, once it is flagged, where a metric is not a finite number.
    """
    if run.finished:
        return Scorer.from_pretrained(run.scorer)
    trainer = build_trainer(config, budgets, seed, task, run.checkpoints)
    recorder = Recorder(config, trainer, validation, run, on_step, pause)
    trainer.add_callback(recorder)
    trainer.remove_callback(PrinterCallback)  # it prints TRL's whole log at every step
    checkpoint = by_first(lambda: newest(run.checkpoints))
    run.drop_metrics_after(-1 if checkpoint is None else int(checkpoint.name.split("-")[1]))
    run.clear_collapse()
    meet()
    if checkpoint is None:
        kept = float(carries_signal(task.store, config.filter).mean())
        first = {"step": 0, "kept_share": kept, **validation(task.warmup)}
        recorder.watch(first)
        recorder.write(first)
    else:
        trainer.budget_state = json.loads((checkpoint / BUDGET_STATE).read_text())
        for row in run.metrics():
            recorder.watch(row)
    began = time.perf_counter()
    if checkpoint is not None and config.collapse.stop and run.collapsed:  # killed between its end and its last words
        ended, scorer = int(checkpoint.name.split("-")[1]), Scorer.from_pretrained(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        ended, scorer = trainer.state.global_step, trainer.accelerator.unwrap_model(trainer.model)
        if ended < config.steps and not (config.collapse.stop and run.collapsed):
            return None
    if rank() == 0:
        save_scorer(scorer, task.vlm, run.scorer)
    run.finish(ended, {"total": time.perf_counter() - began, **trainer.stopwatch.seconds})
    return scorer


def build_trainer(config: GrpoConfig, budgets: BudgetConfig, seed: int, task: Task, output: Path) -> SelectionTrainer:
    """The trainer of one run, not yet started.

    Raises UserError if no example passes the filter.
    """
    kept = np.flatnonzero(carries_signal(task.store, config.filter))
    if not len(kept):
        raise UserError(f"grpo.filter leaves none of the {len(task.store)} examples; switch one of its rules off")
    return SelectionTrainer(
        config=config,
        arguments=trl_arguments(config, budgets, seed, output, cpu=task.vlm.device.type == "cpu"),
        plan=make_plan(config, seed, kept),
        schedule=make_schedule(budgets),
        scorer=copy.deepcopy(task.warmup).train().requires_grad_(True),
        reference=task.warmup,
        vlm=task.vlm,
        store=task.store,
        seed=seed,
    )


def make_plan(config: GrpoConfig, seed: int, kept: np.ndarray) -> Plan:
    """Draw the run's prompts. `kept` are the examples that may come up."""

    def drawn(purpose: str) -> np.ndarray:
        rollouts, prompts = config.steps // config.num_iterations, config.prompts_per_step
        return kept[example_order(len(kept), rollouts * prompts, seed, purpose)].reshape(rollouts, prompts)

    return Plan(drawn("order"), drawn("reserve") if config.dead_groups == "resample" else None)


def trl_arguments(config: GrpoConfig, budgets: BudgetConfig, seed: int, output: Path, cpu: bool) -> GRPOConfig:
    """TRL's arguments for one run. What TRL defaults to and GRPO does not is set outright."""
    arguments = GRPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=config.group_size,  # what TRL repeats a rollout's number to
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_generations=config.group_size,
        num_iterations=config.num_iterations,
        max_steps=config.steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(config.lr_schedule, config.lr_schedule),
        warmup_steps=config.lr_warmup_steps,
        max_grad_norm=config.max_grad_norm,
        weight_decay=0.0,
        beta=0.0,  # the KL is ours, as are the advantages; see SelectionTrainer
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high,
        loss_type=config.loss_type,
        importance_sampling_level=config.importance_level,
        mask_truncated_completions=False,  # no selection ever "ends"
        max_completion_length=budgets.high,  # dr_grpo divides by it
        temperature=1.0,
        gradient_checkpointing=False,
        shuffle_dataset=False,  # the plan is already the order
        remove_unused_columns=False,
        bf16=False,
        seed=seed % 2**32,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,  # the bar is the recorder's
        use_cpu=cpu,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=False,
    )
    # A process trains on one device. transformers would spread a batch over all GPUs that it sees, which TRL refuses.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


# What TRL logs beyond these means nothing for selections.
LOGGED = ("loss", "grad_norm", "learning_rate")
BUDGET_STATE = "budgets.json"


class Recorder(TrainerCallback):
    """Writes the metrics, evaluates the mode, watches for a collapse, and keeps what TRL's checkpoints lack."""

    def __init__(
        self,
        config: GrpoConfig,
        trainer: SelectionTrainer,
        validation: Validation,
        run: RunFolder,
        on_step: OnStep,
        pause: Pause,
    ) -> None:
        self.config, self.trainer, self.validation, self.run = config, trainer, validation, run
        self.on_step, self.pause = on_step, pause
        self.detector = CollapseDetector(config.collapse)
        self.bar = tqdm(total=config.steps, desc="grpo", disable=rank() > 0)

    def write(self, row: dict[str, float]) -> None:
        self.run.append_metrics(row)
        self.on_step(int(row["step"]), row)

    def watch(self, row: dict[str, float]) -> None:
        """Flag the run when it collapses, once."""
        found = self.detector.see(row)
        if found is not None and not self.run.collapsed:
            self.run.set_collapse(found.step, found.cause)
            logger.warning("step %d: the run has collapsed (%s)", found.step, found.cause)

    def on_train_begin(self, args, state, control, **kwargs):
        # TRL does not checkpoint its own counter, by which it decides when to draw a new rollout.
        self.trainer._step = state.global_step
        self.bar.update(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "loss" not in logs:
            return
        row: dict[str, float] = {"step": state.global_step, **{name: float(logs[name]) for name in LOGGED}}
        row |= self.trainer.take_diagnostics()
        if state.global_step % self.config.evaluate_every == 0 or state.global_step == self.config.steps:
            row |= self.evaluate(state.global_step)
        self.watch(row)
        if not by_first(lambda: all(math.isfinite(value) for value in row.values())):
            raise FloatingPointError(f"step {state.global_step}: a metric is not finite: {row}")
        if self.config.collapse.stop and by_first(lambda: self.run.collapsed):
            control.should_training_stop = True
            if "accuracy" not in row:  # what it ends with is what it is judged by
                row |= self.evaluate(state.global_step)
        self.write(row)
        self.bar.update()
        if "reward" in row:  # not on the further updates of a rollout
            self.bar.set_postfix(reward=f"{row['reward']:.3f}", kl=f"{row['kl']:.3f}")

    def evaluate(self, step: int) -> dict[str, float]:
        """Held-out accuracy of the policy as it is, of its mode and of one selection drawn from it."""
        scorer = self.trainer.accelerator.unwrap_model(self.trainer.model)
        generator = torch_generator(self.trainer.seed, "validation selection", step)
        return self.validation(scorer, self.trainer.distribution, generator)

    def on_step_end(self, args, state, control, **kwargs):
        # In the middle of a rollout a checkpoint would lack the selections that its other updates are made on.
        if state.global_step % self.config.num_iterations or state.global_step == self.config.steps:
            return
        if by_first(lambda: self.pause(state.global_step)):
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()

    def on_save(self, args, state, control, **kwargs):
        self.run.sync_metrics()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        meet()  # each process has its random state in it
        if rank() == 0:
            write_text(folder / BUDGET_STATE, json.dumps(self.trainer.budget_state))
            seal(folder)
        self.run.set_status("running", state.global_step)
