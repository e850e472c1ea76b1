"""The command line: python -m studies COMMAND."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from grip_core.config import load
from grip_core.errors import UserError
from studies import crew
from studies import promote as promotion
from studies.answers import export_answers
from studies.definition import Definition, load_definition
from studies.export import export as export_study
from studies.folder import ROOT, StudyFolder
from studies.jobs import active, cancel
from studies.launch import Sent
from studies.launch import launch as launch_study
from studies.launch import resume as resume_study
from studies.preview import preview as preview_study
from studies.profile import Profile, load_profile
from studies.retry import retry as retry_trials
from studies.show import render_status
from studies.status import gather
from studies.storage import is_journal, load_study, recover_journal
from studies.team import Seat
from studies.verify import verify as verify_export
from studies.worker import Worker, take_seat

app = typer.Typer(
    help="Optuna searches over params.yaml, on this machine or on SLURM. Every command is safe to run twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

Name = Annotated[str, typer.Argument(help="the study's name")]
Path_ = Annotated[Path, typer.Argument(help="the study's definition, as studies/search.yaml")]
Root = Annotated[Path, typer.Option(help="where studies lie; on a file system that all nodes share")]
ProfileName = Annotated[str, typer.Option(help="a file, or a name under slurm/profiles/")]
ParamsPath = Annotated[Path, typer.Option(help="the settings that trials start from")]
Storage = Annotated[str | None, typer.Option(help="a database's URL; a journal file in the study's folder otherwise")]
PARAMS = Path("params.yaml")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose user errors are one line on stderr and exit code 2."""

    @app.command()
    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except (OSError, DBAPIError) as error:
            print(f"error: {str(error).splitlines()[0]}; put that right and run this again", file=sys.stderr)
            sys.exit(1)

    return run


def folder_of(root: Path, name: str) -> StudyFolder:
    """The folder of an existing study. Raises UserError if there is none."""
    folder = StudyFolder((root / name).absolute())
    if not folder.exists:
        known = sorted(path.parent.name for path in root.glob("*/study.json"))
        raise UserError(f"there is no study {name} in {root}; known: {', '.join(known) or 'none'}")
    return folder


@command
def preview(definition: Path_, profile: ProfileName = "local", params: ParamsPath = PARAMS, root: Root = ROOT) -> None:
    """Show what `launch` would run, and send nothing."""
    settings = load(params)
    study = load_definition(definition, settings)
    preview_study(console, root, study, settings, load_profile(profile, study.resources))


@command
def launch(
    definition: Path_,
    profile: ProfileName = "local",
    params: ParamsPath = PARAMS,
    storage: Storage = None,
    root: Root = ROOT,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for workers on this machine")] = False,
) -> None:
    """Begin a study, or go on with it: send the workers that are missing."""
    settings = load(params)
    study = load_definition(definition, settings)
    chosen = load_profile(profile, study.resources)
    sent = launch_study(root, study, settings, chosen, storage, [])
    _after_sending(StudyFolder((root / study.name).absolute()), study.name, chosen, sent, detach)


@command
def resume(
    name: Name,
    profile: Annotated[str | None, typer.Option(help="another profile than the one it was launched with")] = None,
    root: Root = ROOT,
    new_code: Annotated[bool, typer.Option("--new-code", help="run the code of now, not that of the launch")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for workers on this machine")] = False,
) -> None:
    """Go on with a study that was stopped, or that has lost its workers."""
    folder = folder_of(root, name)
    chosen = load_profile(profile, folder.read().definition.resources) if profile else None
    sent = resume_study(folder, chosen, new_code)
    _after_sending(folder, name, chosen or Profile(**folder.read().profile), sent, detach)


@command
def stop(
    name: Name,
    root: Root = ROOT,
    now: Annotated[
        bool, typer.Option("--now", help="kill the jobs instead of waiting for their next checkpoint")
    ] = False,
) -> None:
    """Let the workers put their trials down at the next safe boundary and end."""
    folder = folder_of(root, name)
    folder.stop_flag.write_text("by hand\n")
    if now:
        cancel(folder)
    print(f"{name} is stopped; `python -m studies resume {name}` goes on with it")


@command
def status(
    name: Name,
    root: Root = ROOT,
    watch: Annotated[bool, typer.Option("--watch", help="keep showing it until the study is finished")] = False,
) -> None:
    """Show trials, workers, the best so far, what was spent, and failures by cause."""
    folder = folder_of(root, name)
    if watch:
        _watch(folder, lambda: gather(folder).finished)
    else:
        console.print(render_status(gather(folder)))


@command
def retry(
    name: Name,
    where: Annotated[
        str, typer.Option(help="which failed trials: all, a cause as shown by status, or numbers: 3,7")
    ] = "all",
    root: Root = ROOT,
) -> None:
    """Queue failed trials again, each once; then resume the study."""
    queued = retry_trials(folder_of(root, name), where)
    print(f"{len(queued)} trials are queued again{': ' + ', '.join(map(str, queued)) if queued else ''}")
    if queued:
        print(f"`python -m studies resume {name}` sends workers for them; after a repair of the code, with --new-code")


@command
def export(
    name: Name,
    form: Annotated[str, typer.Option("--format", help="parquet or csv")] = "parquet",
    target: Annotated[Path | None, typer.Option(help="folder to write to; the study's own otherwise")] = None,
    answers: Annotated[Path | None, typer.Option(help="folder to write the arms' test answers to instead")] = None,
    root: Root = ROOT,
) -> None:
    """Write all numbers of a study as one tidy table, with a manifest."""
    if form not in ("parquet", "csv"):
        raise UserError(f"--format must be parquet or csv, but got {form}")
    folder = folder_of(root, name)
    print(export_study(folder, form, target) if answers is None else export_answers(folder, answers))


@command
def verify(
    export: Annotated[Path, typer.Argument(help="a folder that `export --answers` wrote")],
    root: Root = ROOT,
) -> None:
    """Train a part of a stale export's arms again; if no number has changed, it is stale no longer."""
    steps = verify_export(export, root)
    print(f"{export}: {len(steps)} arms are what they were; its hashes are today's")


@command
def promote(
    name: Name,
    profile: Annotated[str | None, typer.Option(help="another profile than the search's")] = None,
    params: ParamsPath = PARAMS,
    root: Root = ROOT,
    write: Annotated[bool, typer.Option("--write", help="write the winner into the params file")] = False,
) -> None:
    """Re-test the best trials on fresh seeds; once that is done, show both scores."""
    search = folder_of(root, name)
    record = search.read()
    load(params)  # before hours are spent on what could not be written
    if not search.stop_flag.exists() and not gather(search).finished:
        raise UserError(f"{name} is not finished; wait for it, or stop it first")
    best = promotion.best_few(load_study(name, record.storage), record.definition)
    again = promotion.retest_definition(record.definition, len(best))
    folder = StudyFolder((root / again.name).absolute())
    chosen = load_profile(profile, again.resources) if profile else Profile(**record.profile)
    storage = None if is_journal(record.storage) else record.storage
    if not folder.exists or not gather(folder).finished:
        queued = [dict(trial.params) for trial in best]
        sent = launch_study(root, again, record.params, chosen, storage, queued)
        _after_sending(folder, again.name, chosen, sent, detach=False)
        if chosen.cluster != "local":
            print(f"when it is done, run this again; `python -m studies status {again.name}` shows how it stands")
            return
    results = promotion.retested(search, folder)
    console.print(_promotion_table(results, record.definition))
    if write:
        where = promotion.write_winner(params, search, results[0], again.seeds)
        print(f"{params} has the settings of trial {results[0].trial}; their provenance is in {where}; now `dvc repro`")


@command
def recover(name: Name, root: Root = ROOT) -> None:
    """Repair a damaged journal: keep the lines before the damage, and a copy of the file."""
    record = folder_of(root, name).read()
    if not is_journal(record.storage):
        raise UserError(f"{name} is kept in a database, which has its own tools; this is for journal files")
    aside = recover_journal(Path(record.storage))
    print(f"{record.storage} was whole" if aside is None else f"{record.storage} is whole again; as it was: {aside}")


@command
def dashboard(name: Name, root: Root = ROOT, port: Annotated[int, typer.Option(help="on this machine")] = 8080) -> None:
    """Open optuna-dashboard on the study."""
    record = folder_of(root, name).read()
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent)) or shutil.which(
        "optuna-dashboard"
    )
    if program is None:
        raise UserError("optuna-dashboard is not installed; pip install -e '.[dashboard]'")
    sys.exit(subprocess.run([program, record.storage, "--port", str(port)], check=False).returncode)


@command
def work(
    path: Annotated[Path, typer.Argument(help="the study's folder")],
    seat: Annotated[tuple[str, str, Path] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Be a worker, here and now. `launch` and `resume` start as many as the profile says."""
    folder = path.absolute()
    print(Worker(folder)() if seat is None else take_seat(StudyFolder(folder), Seat(*seat)))


@app.command(hidden=True)
def follow(path: Annotated[Path, typer.Argument(help="the study's folder")]) -> None:
    """Be one of a worker's other processes, which starts them."""
    crew.follow(StudyFolder(path.absolute()))


def _after_sending(folder: StudyFolder, name: str, profile: Profile, sent: Sent, detach: bool) -> None:
    if sent.reason is not None:
        print(f"{name}: {sent.reason}")
        return
    print(f"{name}: {sent.workers} jobs sent ({', '.join(sent.jobs) or 'none'}), {sent.already} were there already")
    if profile.cluster == "local" and not detach:
        _watch(folder, lambda: not active(folder))
        print(f"{name}: {'finished' if gather(folder).finished else 'its workers have ended; see ' + str(folder.logs)}")


def _watch(folder: StudyFolder, done: Callable[[], bool]) -> None:
    """Show the status until then. Ctrl-C ends the showing, not the study."""
    try:
        with Live(render_status(gather(folder)), console=console, auto_refresh=False, transient=True) as live:
            while not done():
                time.sleep(3)
                live.update(render_status(gather(folder)), refresh=True)
    except KeyboardInterrupt:
        print(f"\nstill running; `python -m studies status {folder.path.name}`, or stop it by `stop`", file=sys.stderr)
        sys.exit(130)
    console.print(render_status(gather(folder)))


def _promotion_table(results: list[promotion.Retested], definition: Definition) -> Table:
    metric = definition.objectives[0].metric
    table = Table(
        "trial",
        f"{metric}, tuned on {len(definition.seeds)} seeds",
        f"re-tested on {len(promotion.promotion_of(definition).seeds)}",
        "settings",
    )
    for item in results:
        low, high = item.retested.low, item.retested.high
        settings = ", ".join(f"{key}={value}" for key, value in item.settings.items())
        table.add_row(
            str(item.trial), f"{item.tuned:.4f}", f"{item.retested.effect:.4f} [{low:.4f}, {high:.4f}]", settings
        )
    return table


if __name__ == "__main__":
    app(prog_name="python -m studies")
