"""What a launch would run, without running it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.rl.void import Finding, by_key
from studies.ablation import AT_RATE
from studies.definition import Definition, Dimension
from studies.folder import StudyFolder
from studies.jobs import arrays, sbatch_text
from studies.launch import check, jobs_wanted
from studies.profile import Profile
from studies.settings import GROUP_SHAPE, rescaled
from studies.show import render_arrays, values
from studies.space import trial_params
from studies.trainable import load_trainable
from studies.void import refusals, void_settings


def preview(console: Console, root: Path, definition: Definition, params: Params, profile: Profile) -> None:
    """Print what is searched or compared, what a trial gets, the arrays, what they can cost at most, and the first
    array's script.

    Raises UserError for whatever makes the study impossible; what is only missing so far is told.
    """
    check(definition, params)
    trainable, work, memory = load_trainable(definition.trainable), None, None
    try:
        trainable.check_inputs(params)
        memory = trainable.memory(params)
        if definition.arms:
            runs = [trial_params(definition, params, arm) for arm in ({}, *definition.arms.values())]
            steps_work = trainable.token_forwards(runs)
            work = steps_work and [of_step * run.grpo.steps for of_step, run in zip(steps_work, runs, strict=True)]
    except UserError as error:
        console.print(f"not yet: {error}")
    console.print(arms_table(definition, work) if definition.arms else space_table(definition))
    if scaled := rescaled_arms(definition, params):
        console.print(scaled)
    findings = void_settings(definition, params)
    if findings:
        console.print(void_table(findings))
    if refused := refusals(definition, findings):
        raise UserError(refused)
    budget, compute = definition.budget, definition.compute
    steps = sorted(step_counts(definition, params))
    console.print(
        f"{budget.trials} trials of {len(definition.seeds)} seeds, each {compute.selections:,} scored selections in "
        f"{compute.rungs} rungs: {steps[0]} to {steps[-1]} optimizer steps"
    )
    if definition.promote is not None:
        seeds = len(definition.promote.seeds)
        console.print(f"then the best {definition.promote.best} on {seeds} fresh seeds, by `promote`")
    jobs = jobs_wanted(definition, profile, budget.trials)
    console.print(render_arrays(jobs, profile))
    console.print(cost(definition, profile, jobs))
    if memory is not None:
        console.print(memory)
    if profile.cluster == "slurm":
        folder = StudyFolder((root / definition.name).absolute())
        elements, parallel = arrays(jobs, profile)[0]
        console.rule("sbatch")
        # As it is, for it may be kept and compared.
        print(sbatch_text(folder, definition.name, "SNAPSHOT", profile, elements, parallel))


def step_counts(definition: Definition, params: Params) -> set[int]:
    """The numbers of optimizer steps that trials of this study can have."""
    if definition.arms:
        return {trial_params(definition, params, arm).grpo.steps for arm in definition.arms.values()}
    shape = [key for key in GROUP_SHAPE if key in definition.space]
    points = itertools.product(*(definition.space[key].extremes for key in shape))
    return {trial_params(definition, params, dict(zip(shape, values))).grpo.steps for values in points}


def cost(definition: Definition, profile: Profile, jobs: int) -> str:
    """The most GPU-hours that can be spent: what bounds them, in words."""
    if not profile.gpus:
        return "GPU-hours: none, for the profile asks for no GPU"
    cap = definition.budget.gpu_hours
    at_once = min(jobs, profile.workers)
    gpus, hours = at_once * profile.gpus, profile.minutes / 60
    limits = [f"{gpus} GPUs for up to {hours:g} hours a job, requeued while trials are left"]
    if definition.budget.hours is not None:
        limits.append(f"no trial begins later than {definition.budget.hours:g} hours after the launch")
    if cap is not None:
        limits.append(
            f"no trial begins once {cap:g} GPU-hours are spent, but up to {at_once * profile.runs_per_vlm} still run"
        )
    return "GPU-hours: " + "; ".join(limits)


def space_table(definition: Definition) -> Table:
    """The space, a key a line."""
    table = Table(
        "key", "values", "only with", title=f"{definition.name}: {definition.sampler.name}", title_justify="left"
    )
    for key, dimension in definition.space.items():
        conditions = "; ".join(f"{other} in {values}" for other, values in dimension.when.items())
        table.add_row(key, _values(dimension), conditions)
    for key, value in definition.params.items():
        table.add_row(key, f"{value} (in all trials)", "")
    return table


def arms_table(definition: Definition, work: Sequence[float] | None = None) -> Table:
    """The arms and what they set, an arm a line.

    `work` has the token-forwards of a run with no settings of its own, and then of every arm's; shown is their ratio.
    """
    table = Table(title=definition.name, title_justify="left", caption_justify="left")
    for column in ("arm", "sets"):
        table.add_column(column, overflow="fold")
    if work is not None:
        table.add_column("work", justify="right", no_wrap=True)
        table.caption = (
            f"work: token-forwards of the VLM a run, a warm-up not counted; 1 is a run with no settings of its own, "
            f"{work[0]:,.0f}"
        )
    for place, (name, arm) in enumerate(definition.arms.items(), start=1):
        table.add_row(name, values(arm) or "nothing", *([f"{work[place] / work[0]:.2f}"] if work is not None else []))
    if definition.params:
        table.add_row("(all)", values(definition.params))
    return table


def rescaled_arms(definition: Definition, params: Params) -> str:
    """Of which arms the gradient has another scale than the base's, in words; nothing where there are none."""
    base = {**by_key(params.model_dump()), **definition.params}
    arms = {name: arm for name, arm in definition.arms.items() if AT_RATE not in name}
    names = [name for name, arm in arms.items() if rescaled(arm, base)]
    rates = None if definition.ablation is None else definition.ablation.learning_rates
    what = "compare with matched learning rates" if rates is None else f"matched at learning rates {rates}"
    return f"gradient scale differs: {what}: {'; '.join(names)}" if names else ""


def void_table(findings: list[Finding]) -> Table:
    """What cannot matter, a finding a line."""
    table = Table(
        "launch", "key", "values", "what is wrong", title="Void settings", title_justify="left", show_lines=True
    )
    does = {"refuse": "refuses", "warn": "warns"}
    for item in findings:
        told = " ".join(filter(None, (item.where, item.reason)))
        table.add_row(does[item.severity], item.key, ", ".join(map(str, item.values)), f"{told}; {item.remedy}")
    return table


def _values(dimension: Dimension) -> str:
    if dimension.choices is not None:
        return ", ".join(map(str, dimension.choices))
    return f"{dimension.low} to {dimension.high}{', log' if dimension.log else ''}"
