"""From a check to what `fewshot drift` prints: sentences, a page, a call of a webhook."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace

from cluster.secrets import redacted
from ray_jobs.drift.check_drift import DriftCheck, DriftRules, check_drift, classifier_of, keep_reference
from ray_jobs.drift.drift_page import sentences_of, write_page
from ray_jobs.drift.drift_store import DriftStore
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import DriftSection, Job
from ray_jobs.registry.journal import Journal
from ray_jobs.results.drift_result import DriftResult
from ray_jobs.suggestion.embedded_run import EmbeddedRun

TIMEOUT_S = 10.0
"""Of a webhook, to connect, and between parts of the head of its answer."""
ATTEMPTS = 3


def rules_of(job: Job) -> DriftRules:
    """Return the rules of a job file."""
    from fewshot.drift import Floors

    section = job.drift or DriftSection()
    return DriftRules(section.alarms_a_year, Floors(section.auc, section.change))


def run_drift(job: Job, *, accept: bool = False, webhook: str | None = None) -> DriftResult:
    """Compare the newest complete run of a job with its reference.

    Args:
        job: a job file.
        accept: take the archive as it is now for the new reference instead.
        webhook: URL that gets alarms, or $NAME of a variable that has it; None takes that of the job file.

    Raises:
        JobError: no run is complete, another backbone embedded it, the newest one is not by the version in production,
            or something that is stored is damaged.
        StorageError: storage does not respond.
    """
    section = job.drift or DriftSection()
    embedded = EmbeddedRun.open(job.job.output, job.storage.resolve(), job=job.job.name)
    version = _production_of(embedded)
    if accept:
        reference = keep_reference(embedded, version=version, accept=True, why="accepted by hand")
        check = DriftCheck("reference", reference, None, 0)
    else:
        check = check_drift(embedded, version=version, rules=rules_of(job))
    return report_check(check, embedded, fails=section.on_alarm == "fail", webhook=webhook or section.webhook)


def _production_of(embedded: EmbeddedRun) -> int | None:
    """Return the number of the version in production, which has to have made the run; None without a registry."""
    state = Journal(embedded.store, embedded.run.job).state()
    if state.production is not None and state.version(state.production).folder != classifier_of(embedded):
        problem = f"{embedded.run.url} is not by version {state.production}, which is in production"
        raise JobError([f"{problem}: run fewshot retrain, or classify, first"])
    return state.production


def report_check(check: DriftCheck, embedded: EmbeddedRun, *, fails: bool, webhook: str | None = None) -> DriftResult:
    """Write the page of a check, and call the webhook if it is an alarm.

    Args:
        check: from `check_drift`.
        embedded: the run that was checked.
        fails: whether an alarm is to end the command with exit code 3.
        webhook: URL that gets the result as JSON, or $NAME of a variable that has it; None calls none. One that cannot
            be called is told, with or without an alarm.
    """
    drift, night = DriftStore(embedded.store, embedded.run.job), check.night
    page = None
    if night is not None:
        has_page = check.did != "compared" and embedded.store.exists(drift.page(night))
        page = drift.store.url(drift.page(night)) if has_page else write_page(embedded, drift, check.reference, night)
    result = DriftResult(
        job=embedded.run.job,
        did=check.did,
        alarm=check.is_alarm,
        fails=check.is_alarm and fails,
        sentences=sentences_of(check),
        reference=check.reference,
        night=night,
        page=page,
        webhook=None,
    )
    return replace(result, webhook=_called(webhook, result))


def _called(webhook: str | None, result: DriftResult) -> str | None:
    """Call the webhook on an alarm, and return what became of it; None if it did not have to be called."""
    try:
        url = webhook_url(webhook, os.environ)
    except JobError as error:
        return f"not sent: {'; '.join(error.problems)}"
    return call_webhook(url, result) if url is not None and result.alarm else None


def webhook_url(given: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the URL of a webhook; `$NAME` stands for a variable of the environment, which keeps it out of files.

    Raises:
        JobError: there is no such variable, or it is no URL (http or https). What was given may be a secret, and is
            not in the message.
    """
    if not given:
        return None
    name = given[1:] if given.startswith("$") and given[1:].isidentifier() else None
    url = given if name is None else environment.get(name)
    if not url:
        raise JobError([f"webhook: ${name} is not set"])
    if not url.startswith(("http://", "https://")):
        where = "" if name is None else f" in ${name}"
        raise JobError([f"webhook: expected a URL{where} that begins with http:// or https://"])
    return url


def call_webhook(url: str, result: DriftResult) -> str:
    """Post a result as JSON. Whatever goes wrong is told, and loses nothing: the night is stored before.

    Args:
        url: http or https; redirects are not followed. It is called once, however often connecting to it is tried.
        result: what to send.

    Returns:
        "sent", or why not.
    """
    import urllib3

    body = json.dumps(result.to_json()).encode()
    # A receiver that is slow to answer has got the alarm: only connecting is tried again.
    retries = urllib3.Retry(
        ATTEMPTS - 1, connect=ATTEMPTS - 1, read=0, status=0, redirect=False, other=0, backoff_factor=0.5
    )
    try:
        with urllib3.PoolManager(timeout=urllib3.Timeout(TIMEOUT_S), retries=retries) as pool:
            headers = {"Content-Type": "application/json"}
            answer = pool.request("POST", url, body=body, headers=headers, preload_content=False)
            answer.close()  # What it says beside its status is not read: it may be long, or never end.
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return redacted(f"not sent: {type(error).__name__}")
    return "sent" if 200 <= answer.status < 300 else f"not sent: HTTP status {answer.status}"
