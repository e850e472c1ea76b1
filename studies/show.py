"""Status, plans and tables as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from studies.jobs import arrays
from studies.profile import Profile
from studies.status import Status, share_in_trials
from studies.workers import members


def render_status(status: Status) -> RenderableType:
    """A status as tables."""
    parts: list[RenderableType] = [_head(status)]
    if status.best:
        parts.append(_best(status))
    if status.running:
        parts.append(_running(status))
    if status.failures:
        parts.append(_failures(status))
    parts.append(_jobs(status))
    return Group(*parts)


def hours(spent: float, cap: float | None) -> str:
    """Hours, and the cap if there is one."""
    return f"{spent:.2f}" + (f" of {cap:g}" if cap is not None else "")


def values(params: Mapping[str, Any]) -> str:
    """Settings in one line."""
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )


def _head(status: Status) -> Text:
    states = ", ".join(f"{count} {name.lower()}" for name, count in sorted(status.states.items())) or "none begun"
    spent = [
        f"GPU-hours {hours(status.gpu_hours, status.gpu_hours_cap)}",
        f"hours since the launch {hours(status.hours, status.hours_cap)}",
        f"worker-hours {status.worker_hours:.2f}",
    ]
    share = share_in_trials(status.cards)
    if share is not None:
        spent.append(f"of which in trials, loading aside, {share:.0%}")
    lines = [f"{status.name}: {status.done} of {status.trials} trials done ({states})", ", ".join(spent)]
    if status.spent is not None:
        lines.append(f"no new trial begins: {status.spent}")
    if status.stopped is not None:
        lines.append(f"stopped: {status.stopped}")
    return Text("\n".join(lines))


def _best(status: Status) -> Table:
    table = Table("trial", "value", "settings", title="Best so far", title_justify="left")
    for trial in status.best:
        table.add_row(str(trial.number), ", ".join(f"{value:.4f}" for value in trial.values), values(trial.params))
    return table


def _running(status: Status) -> Table:
    table = Table("trial", "seeds (step)", "attempt", "worker", title="Begun and not finished", title_justify="left")
    for item in status.running:
        seeds = ", ".join(f"{seed}: {step}/{item.steps}" for seed, step in item.seeds.items())
        lease = item.lease
        worker = (
            "nobody" if lease is None else f"put down by {lease.owner.worker}" if lease.released else lease.owner.worker
        )
        table.add_row(str(item.number), seeds, str(lease.attempt if lease else 0), worker)
    return table


def _failures(status: Status) -> Table:
    table = Table("cause", "trials", "message of the last", "log", title="Failures", title_justify="left")
    for group in status.failures:
        table.add_row(group.cause, ", ".join(map(str, group.trials)), group.message, group.log)
    return table


def _jobs(status: Status) -> RenderableType:
    if isinstance(status.jobs, str):
        return Text(f"jobs: not known: {status.jobs}")
    if not status.jobs:
        return Text("no worker runs or waits")
    table = Table("job", "state", "node", "trial", "log", title=f"Jobs: {len(status.jobs)}", title_justify="left")
    for job, state in sorted(status.jobs.items()):
        at_work = members(status.cards, job)
        for card in at_work:
            table.add_row(job, state, card.host, "" if card.trial is None else str(card.trial), card.log)
        if not at_work:
            table.add_row(job, state, "", "", "")
    return table


def render_arrays(jobs: int, profile: Profile) -> str:
    """What would be sent, in words."""
    runs = profile.runs_per_vlm
    shared = f", each of {runs} workers that share a VLM" if runs > 1 else ""
    if profile.cluster == "local":
        what = "worker" if runs == 1 else "job"
        return f"{jobs} {what}{'s' * (jobs > 1)} on this machine{shared}"
    sizes = arrays(jobs, profile)
    each = ", ".join(f"{size} ({parallel} at a time)" for size, parallel in sizes)
    return f"{len(sizes)} job array{'s' * (len(sizes) > 1)} of {each} {'workers' if runs == 1 else 'jobs'}{shared}"
