"""The command that runs a job again and again: here, by systemd, or on Kubernetes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_jobs.commands.arguments import JobFile, Overrides, job_name, locate_output
from ray_jobs.commands.command_group import CommandGroup, JsonResult
from ray_jobs.job_file.command_needs import ScheduledCommand, ScheduleKind

if TYPE_CHECKING:
    from ray_jobs.scheduling.schedule_job import ScheduleTimes

commands = CommandGroup("Retrain")
_WAYS, _TIMES = "Ways", "Times"


@commands.add(example='fewshot schedule job.toml --cron "0 3 * * *" --local')
def schedule(
    job: JobFile,
    set_: Overrides = None,
    cron: Annotated[
        str | None,
        typer.Option(
            help='When to run: minute, hour, day of month, month and day of week, such as "0 3 * * *" (daily at 03:00) '
            "or @daily.",
            metavar="CRON",
            show_default=False,
            rich_help_panel=_TIMES,
        ),
    ] = None,
    time_zone: Annotated[
        str,
        typer.Option(help="Zone whose clocks count, such as Europe/Berlin.", metavar="ZONE", rich_help_panel=_TIMES),
    ] = "UTC",
    jitter: Annotated[
        str,
        typer.Option(
            help="Longest delay of a start, such as 5m: each command of a job always has the same, so that many at "
            "one time do not start together.",
            metavar="DURATION",
            rich_help_panel=_TIMES,
        ),
    ] = "0",
    run: Annotated[
        ScheduledCommand | None,
        typer.Option(
            help="Command to run each time. With --status, the one to show; without it, all are shown.",
            show_default="retrain",
        ),
    ] = None,
    kind: Annotated[
        ScheduleKind | None,
        typer.Option(
            help="Kind of manifest. raycronjob: KubeRay makes a cluster each time; cronjob: one machine each time, "
            "without KubeRay.",
            show_default="raycronjob",
            rich_help_panel=_WAYS,
        ),
    ] = None,
    suspend: Annotated[
        bool,
        typer.Option(
            "--suspend", help="Write a manifest that starts nothing until it is changed.", rich_help_panel=_WAYS
        ),
    ] = False,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Write a timer and a service of systemd.", rich_help_panel=_WAYS)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            help="File for a manifest, or folder for the two units of systemd.",
            show_default="standard output",
            rich_help_panel=_WAYS,
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run on this machine until interrupted.", rich_help_panel=_WAYS)
    ] = False,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Run what is due now on this machine, and end (implies --local).", rich_help_panel=_WAYS
        ),
    ] = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Show what ran on this machine and what comes next.", rich_help_panel=_WAYS),
    ] = False,
) -> JsonResult | str:
    """Run a job again and again: on Kubernetes, by systemd, or here.

    Writes a manifest of KubeRay or Kubernetes by default, or with --systemd a timer. With --local this process itself
    waits and runs each turn in a process of its own; --status shows its turns, from anywhere. Each command of a job
    (--run) has a schedule of its own.

    Two turns of a schedule never overlap, and times without a turn are made up once. With --once the exit code is 1 if
    the turn was not done: it failed, was refused or interrupted, or something waits for a person.
    """
    chosen = _only_way(systemd=systemd, local=local or once, status=status, manifest=kind is not None or suspend)
    if chosen == "status":
        return _show_status(job, run)
    from ray_jobs.scheduling.schedule_job import read_times, systemd_units

    times, command = read_times(cron, time_zone, jitter), run or "retrain"
    if chosen == "local":
        return _run_locally(job, set_ or [], times, command, once=once)
    if chosen == "systemd":
        return _written_units(systemd_units(job, set_ or (), times, command=command), out)
    return _written(_manifest(job, set_ or [], times, kind or "raycronjob", command, suspend=suspend), out)


def _only_way(**ways: bool) -> str:
    """Return the way that was chosen; a manifest is the default."""
    from ray_jobs.errors import JobError

    chosen = [way for way, is_chosen in ways.items() if is_chosen]
    if len(chosen) > 1:
        raise JobError(["expected one of --local, --systemd, --status, or a manifest with --kind and --suspend"])
    return chosen[0] if chosen else "manifest"


def _show_status(job: Path, run: ScheduledCommand | None) -> JsonResult:
    from datetime import UTC, datetime
    from typing import get_args

    from cluster import Store
    from ray_jobs.commands.schedule_tables import show_schedule
    from ray_jobs.console.progress import Reporter
    from ray_jobs.errors import JobError
    from ray_jobs.scheduling.schedule_records import ScheduleRecords, read_status

    place, storage, job_file = locate_output(str(job))
    name = job_name(job_file)
    if name is None:
        raise JobError([f"--status: expected a job file (*.toml), got {job}: name the one that was scheduled"])
    store, now = Store(place, storage=storage), datetime.now(UTC)
    wanted: tuple[str, ...] = get_args(ScheduledCommand) if run is None else (run,)
    statuses = (read_status(ScheduleRecords(store, name, command), now=now) for command in wanted)
    found = [status for status in statuses if status is not None]
    if not found:
        elsewhere = "systemctl list-timers, or kubectl get cronjobs,raycronjobs,jobs"
        what = f"{run or 'a command'} of job {name}"
        start = f'to start one: fewshot schedule {job} --cron "0 3 * * *" --local'
        raise JobError([f"no scheduler has run {what} with --local in {place}; {start}; for others see {elsewhere}"])
    reporter = Reporter()
    for status in found:
        show_schedule(reporter, status)
    return {"schedules": [status.to_json() for status in found]}


def _run_locally(
    job: Path, overrides: list[str], times: ScheduleTimes, run: ScheduledCommand, *, once: bool
) -> JsonResult:
    from ray_jobs.commands.run_group import CHECKING
    from ray_jobs.console.progress import Reporter
    from ray_jobs.scheduling.schedule_job import checked_job, run_locally

    reporter = Reporter()
    with reporter.waiting(CHECKING):
        checked = checked_job(job, overrides, run)
    turn = run_locally(checked, job, overrides, times, reporter, command=run, once=once)
    return {"turn": None if turn is None else turn.to_json(), "complete": turn is None or turn.outcome == "done"}


def _manifest(
    job: Path, overrides: list[str], times: ScheduleTimes, kind: ScheduleKind, run: ScheduledCommand, *, suspend: bool
) -> str:
    from ray_jobs.errors import JobError
    from ray_jobs.manifest import make_schedule_manifest
    from ray_jobs.manifest.cron_jobs import CronTimes

    if times.jitter:
        raise JobError(["--jitter: Kubernetes has none; choose another minute in --cron, or use --systemd or --local"])
    cron_times = CronTimes(schedule=times.cron.kubernetes, time_zone=times.zone.key, suspended=suspend)
    return make_schedule_manifest(job, overrides, cron_times, kind=kind, command=run)


def _written_units(texts: dict[str, str], folder: Path | None) -> str:
    """Write units into a folder, or return them as one text."""
    if folder is None:
        return "\n".join(f"# {name}\n{text}" for name, text in texts.items())
    from ray_jobs.errors import JobError
    from ray_jobs.scheduling.systemd_units import next_steps

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError([f"cannot make the folder {folder}: {error.strerror or error}"]) from error
    for name, text in texts.items():
        _write(folder / name, text)
    for step in next_steps(folder.resolve(), list(texts)):
        sys.stderr.write(f"next: {step}\n")
    return ""


def _written(text: str, path: Path | None) -> str:
    """Write a text to a file and return none, or return it for standard output."""
    if path is None:
        return text
    _write(path, text)
    return ""


def _write(path: Path, text: str) -> None:
    from ray_jobs.errors import JobError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError([f"cannot write {path}: {error.strerror or error}"]) from error
    sys.stderr.write(f"wrote {path}\n")
