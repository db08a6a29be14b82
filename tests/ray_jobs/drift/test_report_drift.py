"""What `fewshot drift` prints, writes and sends."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster import Store
from ray_jobs.drift import DriftRules, check_drift, keep_reference
from ray_jobs.drift.drift_page import sentences_of
from ray_jobs.drift.report_drift import call_webhook, report_check, run_drift, webhook_url
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import DriftSection
from ray_jobs.output.latest_runs import record_latest
from ray_jobs.registry.journal import Journal
from ray_jobs.suggestion.embedded_run import EmbeddedRun
from tests.ray_jobs.drift.passes import Passes, rows
from tests.ray_jobs.place import Place, fewshot, picture, put
from tests.ray_jobs.registry.registered import with_versions
from tests.ray_jobs.written_run import WrittenRun

GENEROUS = DriftRules(alarms_a_year=300.0)


@pytest.fixture
def alarmed(tmp_path) -> tuple[Passes, EmbeddedRun]:
    passes = Passes(tmp_path)
    old = rows(90, 1)
    keep_reference(passes.write(old), version=3, clock=passes.clock)
    strange = rows(70, 2, away=6.0)
    return passes, passes.write({**old, **strange}, dict.fromkeys(strange, "<b>blue</b>"))


@contextmanager
def server(*statuses: int, answers_at_once: bool = True) -> Iterator[tuple[str, list[bytes]]]:
    """A webhook that answers with these statuses, one after another, at once or in the end, and what it got."""
    got: list[bytes] = []
    ended = threading.Event()
    answers = iter(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            if not answers_at_once:
                ended.wait()
                return
            self.send_response(next(answers))
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/alarm", got
        ended.set()
        http.shutdown()
        thread.join()


def test_an_alarm_is_told_shown_and_sent(alarmed) -> None:
    passes, run = alarmed
    check = check_drift(run, version=3, rules=GENEROUS, clock=passes.clock)
    with server(200) as (url, got):
        result = report_check(check, run, fails=True, webhook=url)
    assert (result.alarm, result.fails, result.webhook) == (True, True, "sent")
    sent = json.loads(got[0])
    assert sent["night"]["number"] == 1
    assert sent["sentences"] == list(result.sentences)
    assert result.sentences[0] == (
        "night 1: 70 images came; 70 images since reference 1 of version 3, 90 images of 2026-11-01"
    )
    assert result.sentences[1].startswith("ALARM: the newest 70 images can be told from the reference, AUC ")
    assert result.page is not None
    page = (passes.folder / "output" / "registry" / "by-hand" / "drift" / "nights" / "000001.html").read_text()
    assert "Content-Security-Policy" in page
    assert page.count("data:image/webp;base64,") == len(check.night.unlike) > 0
    assert "&lt;b&gt;blue&lt;" in page
    assert "<b>blue" not in page


def test_without_an_alarm_nothing_is_sent(tmp_path) -> None:
    passes = Passes(tmp_path)
    keep_reference(passes.write(rows(90, 1)), version=None, clock=passes.clock)
    run = passes.write({**rows(90, 1), **rows(60, 2)})
    check = check_drift(run, version=None, clock=passes.clock)
    with server() as (url, got):
        result = report_check(check, run, fails=True, webhook=url)
    assert (result.alarm, result.fails, result.webhook, got) == (False, False, None, [])
    assert result.sentences[-1] == "no alarm"
    waiting = sentences_of(replace(check, did="waiting", night=None, came=7))
    assert waiting == (
        "7 images came since reference 1, 90 images of 2026-11-01",
        "nothing is compared yet: that takes 50 new images at least, and those that came count then",
    )


@pytest.mark.parametrize("statuses", [(500,), (302,), (404,)])
def test_a_webhook_that_refuses_loses_nothing(alarmed, statuses) -> None:
    passes, run = alarmed
    check = check_drift(run, version=3, rules=GENEROUS, clock=passes.clock)
    with server(*statuses) as (url, got):
        result = report_check(check, run, fails=False, webhook=url)
    assert result.webhook == f"not sent: HTTP status {statuses[0]}"
    assert len(got) == 1  # Redirects are not followed.
    assert (result.alarm, result.fails) == (True, False)
    again = check_drift(run, version=3, rules=GENEROUS, clock=passes.clock)
    assert (again.did, again.night) == ("unchanged", check.night)


def test_a_webhook_that_is_slow_to_answer_gets_an_alarm_once(alarmed, monkeypatch) -> None:
    monkeypatch.setattr("ray_jobs.drift.report_drift.TIMEOUT_S", 0.3)
    passes, run = alarmed
    check = check_drift(run, version=3, rules=GENEROUS, clock=passes.clock)
    result = report_check(check, run, fails=False)
    with server(answers_at_once=False) as (url, got):
        assert call_webhook(url, result).startswith("not sent: ")
    assert len(got) == 1


def test_the_answer_of_a_webhook_is_not_read_beyond_its_status(alarmed) -> None:
    passes, run = alarmed
    result = report_check(check_drift(run, version=3, rules=GENEROUS, clock=passes.clock), run, fails=False)
    hung_up = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(500):  # Ten seconds, in parts that come at once.
                    self.wfile.write(bytes(1 << 16))
                    time.sleep(0.02)
                return
            hung_up.set()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        assert call_webhook(f"http://127.0.0.1:{http.server_port}/alarm", result) == "sent"
        assert hung_up.wait(30)
        http.shutdown()
        thread.join()


def test_connecting_to_a_webhook_is_tried_again(alarmed, monkeypatch) -> None:
    import urllib3

    tried = []

    def refuse(self) -> None:
        tried.append(self.host)
        raise urllib3.exceptions.NewConnectionError(self, "refused")

    monkeypatch.setattr("urllib3.connection.HTTPConnection.connect", refuse)
    passes, run = alarmed
    result = report_check(check_drift(run, version=3, rules=GENEROUS, clock=passes.clock), run, fails=False)
    assert call_webhook("http://127.0.0.1:9/alarm", result) == "not sent: MaxRetryError"
    assert len(tried) == 3


def test_a_webhook_that_cannot_be_reached_is_told_without_its_url(alarmed, monkeypatch) -> None:
    monkeypatch.setattr("ray_jobs.drift.report_drift.ATTEMPTS", 1)
    passes, run = alarmed
    check = check_drift(run, version=3, rules=GENEROUS, clock=passes.clock)
    result = report_check(check, run, fails=False)
    told = call_webhook("http://127.0.0.1:9/secret-token", result)
    assert told.startswith("not sent: ")
    assert "secret-token" not in told


@pytest.mark.parametrize("is_alarm", [True, False])
def test_a_webhook_that_is_not_set_is_told_and_prevents_no_check(tmp_path, monkeypatch, is_alarm) -> None:
    monkeypatch.delenv("DRIFT_HOOK", raising=False)
    passes, job = Passes(tmp_path), WrittenRun(tmp_path).job
    section = DriftSection(alarms_a_year=300.0, webhook="$DRIFT_HOOK")
    old = rows(90, 1)
    for images in (old, {**old, **rows(70, 2, away=6.0 * is_alarm)}):
        run = passes.write(images)
        record_latest(run.store, "by-hand", "classification", run.run.folder)
        result = run_drift(replace(job, drift=section))
    assert (result.did, result.alarm) == ("compared", is_alarm)
    assert result.webhook is not None
    assert result.webhook.startswith("not sent: webhook: $DRIFT_HOOK is not set")


def test_a_webhook_may_be_named_by_a_variable() -> None:
    assert webhook_url(None, {}) is None
    assert webhook_url("https://example.org/x", {}) == "https://example.org/x"
    assert webhook_url("$HOOK", {"HOOK": "http://h/x"}) == "http://h/x"
    with pytest.raises(JobError, match=r"webhook: \$HOOK is not set"):
        webhook_url("$HOOK", {})
    for given, environment in (("$HOOK", {"HOOK": "host/secret"}), ("host/secret", {}), ("$host/secret", {})):
        with pytest.raises(JobError, match="expected a URL") as caught:
            webhook_url(given, environment)
        assert "secret" not in str(caught.value)


def test_a_run_that_is_not_by_production_is_refused(tmp_path) -> None:
    passes = Passes(tmp_path)
    store, job = Store(str(tmp_path / "output")), WrittenRun(tmp_path).job
    journal = Journal(store, "by-hand")
    with_versions(journal, 2)
    for classifier in (2, 1):
        run = passes.write(rows(90, 1), classifier=classifier)
        record_latest(store, "by-hand", "classification", run.run.folder)
        if classifier == 1:
            assert run_drift(job).reference.version == 1
            continue
        for accept in (False, True):
            with pytest.raises(JobError, match=r"not by version 1, which is in production: run fewshot retrain"):
                run_drift(job, accept=accept)


class _Turn:
    """What a turn of retraining returns."""

    def __init__(self, *, refused: bool) -> None:
        self.refused = refused

    def to_json(self) -> dict[str, object]:
        return {"refused": self.refused}


@pytest.mark.parametrize(("turn", "code"), [(True, 3), (False, 0), ("classifier.from is set", 2)])
def test_an_alarm_that_retrains_is_printed_and_ends_as_the_turn_does(
    tmp_path, alarmed, monkeypatch, turn: bool | str, code: int
) -> None:
    passes, run = alarmed
    check = check_drift(run, version=3, rules=GENEROUS, clock=passes.clock)
    result = report_check(check, run, fails=False)
    job = replace(WrittenRun(tmp_path).job, drift=DriftSection(on_alarm="retrain"))

    def take_turn(path, overrides, by) -> _Turn:
        assert overrides == ["job.name=x", "classifier.archive_sample=renew"]
        if isinstance(turn, str):
            raise JobError([turn])
        return _Turn(refused=turn)

    monkeypatch.setattr("ray_jobs.job_file.reading.read_job", lambda path, overrides: (job, []))
    monkeypatch.setattr("ray_jobs.drift.report_drift.run_drift", lambda *given, **named: result)
    monkeypatch.setattr("ray_jobs.commands.registry_group._take_turn", take_turn)
    job_file = tmp_path / "job.toml"
    job_file.touch()
    outcome = fewshot("drift", job_file, "--set", "job.name=x")
    assert (outcome.code, outcome.result) == (code, json.loads(json.dumps(result.to_json())))
    assert "ALARM" in outcome.messages


@pytest.mark.slow
def test_the_command_ends_with_3_on_an_alarm_until_it_is_accepted(tmp_path, tiny_clip) -> None:
    place = Place(tmp_path, tiny_clip).fill(images=60)
    place.write_job(archive={"shard_images": 100}, drift={"alarms_a_year": 300.0})
    assert place.classify().code == 1 or place.output.exists()
    first = fewshot("drift", place.job)
    assert (first.code, first.result["did"]) == (0, "reference")
    for seed in range(100):
        put(place.archive / f"new_{seed:03}.jpg", picture("cyan", 500 + seed))
    place.classify()
    second = fewshot("drift", place.job)
    assert (second.code, second.result["alarm"], second.result["fails"]) == (3, True, True)
    assert "ALARM" in second.messages
    assert fewshot("drift", place.job).code == 3
    reported = fewshot("drift", place.job, "--set", "drift.on_alarm=report")
    assert (reported.code, reported.result["alarm"], reported.result["fails"]) == (0, True, False)
    accepted = fewshot("drift", place.job, "--accept")
    assert (accepted.code, accepted.result["reference"]["number"]) == (0, 2)
    assert fewshot("drift", place.job).code == 0
