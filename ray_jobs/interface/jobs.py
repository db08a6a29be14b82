"""Jobs from Python: the same jobs that the commands run, with arguments in place of a job file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ray_jobs.errors import JobError

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter
    from ray_jobs.job_file.sections import Job
    from ray_jobs.output.runs import Run

Settings = Mapping[str, object]
"""Values by "section.key", as `--set` takes them: {"support.shots": 8, "clip.model": "ViT-B-32"}."""
PathLike = str | os.PathLike[str]


def classify(
    archive: PathLike,
    examples: PathLike | None = None,
    *,
    classifier: PathLike | None = None,
    output: PathLike | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> Run:
    """Label every image of an archive. Call it again to resume, or after images or examples were added.

    Args:
        archive: a folder, a glob, tars, zips, Parquet tables or a list of paths, as a path or URL; or a job file
            (.toml), then nothing else but `settings` is given.
        examples: a folder per class, a table (.csv, .parquet, .jsonl) or a splits.json.
        classifier: folder of a stored classifier, in place of examples; see `load_classifier`.
        output: folder or URL of all results; None takes `runs/<name>`.
        name: of the job; None derives it from the archive.
        settings: any other key of the job file, by "section.key"; `fewshot schema` lists them.
        progress: show the progress on stderr.

    Returns:
        The run; `run.is_complete` is False if work has failed, then call it again.

    Raises:
        TypeError: a place is no path or URL.
        JobError: an argument, a setting, or what one of them names is wrong; every problem is listed.
        FewShotError: the examples are not what they should be.
        ClusterError: storage or workers fail as a whole, or another process runs this job. Call it again to resume.
    """
    from ray_jobs.classification.classify import classify as run_job

    job = _classification_job(archive, examples, classifier, output, name, settings)
    return run_job(job, _reporter(progress)).run


def evaluate(
    splits: PathLike,
    *,
    methods: Sequence[str] | None = None,
    shots: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    output: PathLike | None = None,
    name: str = "evaluation",
    settings: Settings | None = None,
    progress: bool = True,
) -> Run:
    """Measure methods × shots × seeds on a labelled set. Call it again to resume.

    Args:
        splits: a splits.json, or a split_zhou_*.json of the CoOp benchmark; or a job file (.toml), then nothing else
            but `settings` is given.
        methods: names of methods; None takes the defaults of [evaluate].
        shots: numbers of examples a class, each >= 1; None takes the defaults.
        seeds: seeds of the draws; None takes the defaults.
        output: folder or URL of all results; None takes `runs/<name>`.
        name: of the job.
        settings: any other key of the job file, by "section.key", such as "evaluate.protocol".
        progress: show the progress on stderr.

    Returns:
        The run; `run.metrics.table` has a row for each method and number of shots, with mean and standard deviation.

    Raises:
        TypeError: a place is no path or URL.
        JobError: an argument, a setting, or what one of them names is wrong; every problem is listed.
        FewShotError: the splits are not what they should be.
        ClusterError: storage or workers fail as a whole, or another process runs this job. Call it again to resume.
    """
    from ray_jobs.commands.arguments import read_checked_job
    from ray_jobs.drafting.draft_arguments import is_job_file
    from ray_jobs.evaluation.evaluate import evaluate as run_job

    given = {"methods": methods, "shots": shots, "seeds": seeds}
    lists = {name: as_plain(values) for name, values in given.items() if values is not None}
    if wrong := [name for name, values in lists.items() if not isinstance(values, list)]:
        raise JobError([f"{name}: expected a list, got {lists[name]!r}" for name in wrong])
    if is_job_file(as_place("splits", splits)):
        _refuse([*given.items(), ("output", output)], "a job file says it")
        job = read_checked_job(as_place("splits", splits), _overrides(settings), "evaluate")
    else:
        sections: dict[str, dict[str, object]] = {
            "job": {"name": name, "output": as_place("output", output) if output is not None else f"runs/{name}"},
            "evaluate": {"splits": as_place("splits", splits), **lists},
        }
        job = _job_from_sections("evaluate", sections, settings, needs=("evaluate",))
    return run_job(job, _reporter(progress)).run


def _classification_job(
    archive: PathLike,
    examples: PathLike | None,
    classifier: PathLike | None,
    output: PathLike | None,
    name: str | None,
    settings: Settings | None,
) -> Job:
    from ray_jobs.commands.arguments import read_checked_job
    from ray_jobs.drafting.draft_arguments import default_name, default_output, is_job_file

    if is_job_file(as_place("archive", archive)):
        given = {"examples": examples, "classifier": classifier, "output": output, "name": name}
        _refuse(given.items(), "a job file says it")
        return read_checked_job(as_place("archive", archive), _overrides(settings), "classify")
    if (examples is None) == (classifier is None):
        given_both = "both" if examples is not None else "neither"
        raise JobError([f"expected either examples or a classifier, got {given_both}"])
    if examples is not None:
        return _drafted_job(archive, examples, output, name, settings)
    source = as_place("archive", archive)
    name = default_name(source) if name is None else name
    sections = {
        "job": {
            "name": name,
            "output": as_place("output", output) if output is not None else default_output(name, [source]),
        },
        "archive": {"uri": source},
        "classifier": {"from": as_place("classifier", classifier)},
    }
    return _job_from_sections("classify", sections, settings, needs=("archive",))


def _drafted_job(
    archive: PathLike, examples: PathLike, output: PathLike | None, name: str | None, settings: Settings | None
) -> Job:
    """The job that the command drafts of the same arguments; its file is kept in the output."""
    from ray_jobs.drafting.draft import draft_job
    from ray_jobs.drafting.draft_arguments import DraftArguments
    from ray_jobs.drafting.job_copy import keep_job_file

    draft = draft_job(
        DraftArguments(
            archive=as_place("archive", archive),
            examples=as_place("examples", examples),
            output=None if output is None else as_place("output", output),
            name=name,
            overrides=_overrides(settings),
            set_option=None,
        )
    )
    keep_job_file(draft)
    return draft.job


def _job_from_sections(
    function: str, sections: Mapping[str, Mapping[str, object]], settings: Settings | None, *, needs: Sequence[str]
) -> Job:
    import tomlkit

    from ray_jobs.job_file.reading import parse_job, stop_if_any
    from ray_jobs.preflight import check

    try:
        text = tomlkit.dumps(sections)
    except (TypeError, ValueError) as error:
        raise JobError([f"expected paths, names and lists of numbers or names: {error}"]) from error
    job, problems = parse_job(text, f"the arguments of fewshot.{function}", _overrides(settings), needs=needs)
    stop_if_any([*problems, *check(job, needs)])
    return job


def _overrides(settings: Settings | None) -> list[str]:
    """Settings as "section.key=value" with the value in TOML."""
    import tomlkit

    overrides = []
    for key, value in (settings or {}).items():
        try:
            overrides.append(f"{key}={tomlkit.item(as_plain(value)).as_string()}")
        except (TypeError, ValueError) as error:
            raise JobError([f"settings {key!r}: expected a value of TOML, got {type(value).__name__}"]) from error
    return overrides


def as_place(name: str, value: object) -> str:
    """Return a path or URL as text.

    Args:
        name: of the argument.
        value: what was passed.

    Raises:
        TypeError: it is neither text nor an `os.PathLike`.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a path or URL as str or os.PathLike, got {type(value).__name__}")
    return text


def as_plain(value: object) -> object:
    """Return a value with plain ones in place of paths, numpy's and pandas' numbers, arrays and series, and ranges."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for method in ("to_pylist", "tolist", "to_list", "as_py", "item"):  # Of pyarrow, numpy, polars.
        if callable(convert := getattr(value, method, None)):
            return as_plain(convert())
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [as_plain(item) for item in value]
    return value


def _refuse(given: object, reason: str) -> None:
    names = [name for name, value in given if value is not None]  # type: ignore[attr-defined]
    if names:
        raise JobError([f"{', '.join(names)}: not together with a job file, where {reason}"])


def _reporter(progress: bool) -> Reporter:
    from rich.console import Console

    from ray_jobs.console.progress import Reporter

    return Reporter() if progress else Reporter(Console(stderr=True, quiet=True))
