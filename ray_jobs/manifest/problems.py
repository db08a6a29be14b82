"""Problems of a job on the machines of [deploy], found before a manifest is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version

from fewshot.backbones.clip_spec import EMBEDDED
from fewshot.errors import FewShotError
from ray_jobs.job_file.command_needs import JobCommand, ScheduledCommand, ScheduleKind
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.reading import job_file_text
from ray_jobs.job_file.sections import Job
from ray_jobs.manifest.kubernetes_text import name_problems
from ray_jobs.manifest.path_problems import credential_problems, path_problems, volume_problems
from ray_jobs.manifest.sizing import WorkerShape, sizing_problems
from ray_jobs.preflight import check_escalation_method, check_method

MAX_JOB_FILE_BYTES = 1_000_000
"""A ConfigMap has at most 1 MiB."""
MAX_CRON_LENGTH: Mapping[ScheduleKind, int] = {"raycronjob": 36, "cronjob": 52}
"""Characters in the name of a schedule: KubeRay and Kubernetes append the minute to it in the names of its jobs."""
OLDEST_RAY = (2, 52)
"""First version with tokens."""


def find_problems(job: Job, deploy: DeploySection, *, kind: str, command: JobCommand | None) -> list[str]:
    """Return every problem, one line each.

    No path is opened: a manifest can be written on a machine that cannot read the archive.

    Args:
        job: as far as its sections are right.
        deploy: its section [deploy].
        kind: kind of manifest.
        command: command that will run; None if that is open.
    """
    return [
        *name_problems(job.job.name),
        *_image_problems(deploy),
        *sizing_problems(job, deploy),
        *(_launcher_problems(deploy) if kind == "launcher" else _kubernetes_problems(deploy)),
        *path_problems(job, deploy, command),
        *volume_problems(deploy),
        *credential_problems(job),
        *_name_problems(job),
        *_size_problems(job),
        *_ray_problems(),
    ]


def find_schedule_problems(
    job: Job, deploy: DeploySection, *, kind: ScheduleKind, command: ScheduledCommand
) -> list[str]:
    """Return every problem that only a schedule has, one line each; see `find_problems`.

    Args:
        job: as far as its sections are right.
        deploy: its section [deploy].
        kind: kind of manifest.
        command: that runs; the name of the schedule ends with it.
    """
    names = name_problems(job.job.name, MAX_CRON_LENGTH[kind] - len(f"-{command}"))
    if kind == "raycronjob":
        queued = (
            "[deploy] queue: KubeRay cannot give the jobs of a RayCronJob a queue; remove it, or use `--kind cronjob`"
        )
        return [*names, *([] if deploy.queue is None else [queued])]
    return [*names, *_one_machine_problems(job, deploy)]


def _one_machine_problems(job: Job, deploy: DeploySection) -> Iterator[str]:
    if job.cluster.address is not None:
        yield "[cluster] address: not with `--kind cronjob`, whose pod runs the job by itself; remove it"
    if not deploy.gpu.max and not deploy.cpu.max:
        return  # See `sizing_problems`.
    shape = WorkerShape.from_job(job, deploy)
    fitting, wanted = shape.fit_on(deploy.gpu if deploy.gpu.max else deploy.cpu), job.cluster.clip_workers
    if not fitting or (wanted is not None and wanted > fitting):
        yield (
            f"[cluster] clip_workers: expected at most {fitting} with `--kind cronjob`, as fit on one machine of "
            f"[deploy.{'gpu' if deploy.gpu.max else 'cpu'}], got {wanted if wanted is not None else 1}"
        )


def _image_problems(deploy: DeploySection) -> Iterator[str]:
    name, at, _ = deploy.image.partition("@sha256:")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if not at and (not colon or tag in ("", "latest")):
        yield (
            f"[deploy] image: {deploy.image!r} does not fix a version, and all machines need the same one; add a tag "
            "with a version, or a digest"
        )


def _kubernetes_problems(deploy: DeploySection) -> Iterator[str]:
    spot = [name for name, group in (("gpu", deploy.gpu), ("cpu", deploy.cpu)) if group.spot and group.max]
    if spot and not deploy.spot_selector:
        yield (
            f"[deploy.{spot[0]}] spot: the labels of spot machines are missing; set deploy.spot_selector, "
            'e.g. { "cloud.google.com/gke-spot" = "true" }'
        )
    if spot and deploy.queue is not None:
        yield (
            f"[deploy.{spot[0]}] spot: not with deploy.queue: Kueue starts a fixed number of machines, and its "
            "resource flavors choose spot machines; remove spot"
        )


def _launcher_problems(deploy: DeploySection) -> Iterator[str]:
    if deploy.aws is None:
        yield "[deploy.aws]: missing section; `--kind launcher` needs its region, ami and instance_profile"
    if deploy.volumes:
        yield "[[deploy.volumes]]: not with `--kind launcher`; remove them and use URLs such as s3://bucket/prefix"
    if deploy.secret is not None:
        yield "[deploy] secret: not with `--kind launcher`; remove it and use deploy.aws.instance_profile"


def _name_problems(job: Job) -> Iterator[str]:
    """Yield a problem for each unknown name of a method or a model."""
    for where, attempt in _name_checks(job):
        try:
            attempt()
        except FewShotError as error:
            yield f"{where}: {error}"


def _name_checks(job: Job) -> Iterator[tuple[str, Callable[[], None]]]:
    classifier, escalate = job.classifier, job.escalate
    yield "[classifier] method", lambda: check_method(classifier.method, **classifier.hyperparameters)
    if escalate is not None and escalate.hyperparameters:
        yield "[escalate] hyperparameters", lambda: check_escalation_method(escalate)
    for name in job.evaluate.methods if job.evaluate is not None else ():
        yield "[evaluate] methods", partial(check_method, name)
    for tower in job.clip.spec.towers:
        if tower.model != EMBEDDED and not re.search(r"[/~:]", tower.model) and not tower.is_folder:
            yield "[clip] model", tower.check


def _size_problems(job: Job) -> Iterator[str]:
    size = len(job_file_text(job).encode())
    if size > MAX_JOB_FILE_BYTES:
        yield (
            f"the job file has {size} bytes, more than the {MAX_JOB_FILE_BYTES} of a ConfigMap; move names and "
            "descriptions of classes into the table of [support] uri"
        )


def _ray_problems() -> Iterator[str]:
    if tuple(int(part) for part in version("ray").split(".")[:2]) < OLDEST_RAY:
        yield f"ray {version('ray')} has no tokens; install ray {'.'.join(map(str, OLDEST_RAY))} or newer"
