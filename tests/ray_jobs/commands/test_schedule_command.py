"""`fewshot schedule`: which way, what is refused before anything runs, turns as real processes, and its status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
import tomlkit
import yaml
from typer.testing import CliRunner, Result

from cluster import Store
from cluster.storage.lease import acquire_lease
from ray_jobs.commands.app import app
from ray_jobs.job_file.command_needs import ScheduledCommand
from ray_jobs.results.schedule_results import ScheduledTurn, ScheduleRecord
from ray_jobs.scheduling.schedule_records import LEASE, ScheduleRecords, to_text
from tests.ray_jobs.commands.test_app import COMMANDS
from tests.ray_jobs.manifest.jobs import PLAIN, write
from tests.ray_jobs.place import Place, fewshot
from tests.sources import ROOT

NIGHTLY = ("--cron", "0 3 * * *")


def schedule(*words: object) -> Result:
    """Run the command in this process; its text may be no JSON."""
    return CliRunner().invoke(app, ["schedule", *map(str, words)])


def records(place: Place, command: str = "retrain") -> ScheduleRecords:
    return ScheduleRecords(Store(str(place.output)), "test", command)


def status_of(place: Place) -> dict:
    """The status of the job's only schedule."""
    (found,) = fewshot("schedule", place.job, "--status").result["schedules"]
    return found


def begun(place: Place, command: str = "classify", *, days: int = 2, **changes: object) -> ScheduleRecord:
    """Store the record of a scheduler that began days ago, so that a turn is due."""
    record = ScheduleRecord(
        job="test",
        command=command,
        cron="0 3 * * *",
        time_zone="UTC",
        delay_s=0,
        since=to_text(datetime.now(UTC) - timedelta(days=days)),
    )
    records(place, command).write(replace(record, **changes))
    return record


@pytest.mark.parametrize("command", get_args(ScheduledCommand))
def test_every_scheduled_command_exists(command):
    assert command in COMMANDS


@pytest.mark.parametrize(("words", "kind"), [((), "RayCronJob"), (("--kind", "cronjob"), "CronJob")])
def test_a_manifest_goes_to_stdout_or_to_a_file(tmp_path, words, kind):
    path, file = write(tmp_path, PLAIN), tmp_path / "cron.yaml"
    shown = schedule(path, "--cron", "@daily", "--time-zone", "Europe/Berlin", *words)
    assert (shown.exit_code, shown.stderr) == (0, "")
    written = schedule(path, "--cron", "@daily", "--time-zone", "Europe/Berlin", *words, "--out", file)
    assert (written.exit_code, written.stdout) == (0, "")
    assert file.read_text() == shown.stdout
    _, document = yaml.safe_load_all(shown.stdout)
    assert (document["kind"], document["spec"]["schedule"]) == (kind, "0 0 * * *")
    assert document["spec"]["timeZone"] == "Europe/Berlin"
    assert document["spec"]["suspend"] is False


def test_a_suspended_manifest_starts_nothing(tmp_path):
    shown = schedule(write(tmp_path, PLAIN), "--cron", "0 3 * * 7", "--suspend", "--run", "classify")
    _, document = yaml.safe_load_all(shown.stdout)
    assert document["spec"]["suspend"] is True
    assert document["spec"]["schedule"] == "0 3 * * 0"
    assert " classify " in document["spec"]["jobTemplate"]["entrypoint"]


def test_units_of_systemd_go_to_stdout_or_into_a_folder(place, tmp_path):
    words = (place.job, *NIGHTLY, "--systemd", "--jitter", "5m", "--set", "support.shots=2")
    shown = schedule(*words)
    assert shown.exit_code == 0, shown.stderr
    written = schedule(*words, "--out", tmp_path)
    service = (tmp_path / "fewshot-retrain-test.service").read_text()
    timer = (tmp_path / "fewshot-retrain-test.timer").read_text()
    assert (written.exit_code, written.stdout) == (0, "")
    assert shown.stdout == f"# fewshot-retrain-test.service\n{service}\n# fewshot-retrain-test.timer\n{timer}"
    assert f"ExecStart={sys.executable} -m ray_jobs retrain {place.job} --set support.shots=2 --by schedule" in service
    assert "RandomizedDelaySec=300" in timer


def test_units_get_a_folder_and_the_commands_that_start_them(place, tmp_path):
    folder = tmp_path / "config" / "systemd" / "user"
    written = schedule(place.job, *NIGHTLY, "--systemd", "--out", folder)
    assert written.exit_code == 0, written.stderr
    assert written.stderr.splitlines()[-2:] == [
        "next: systemctl --user daemon-reload",
        "next: systemctl --user enable --now fewshot-retrain-test.timer",
    ]
    elsewhere = schedule(place.job, *NIGHTLY, "--systemd", "--out", tmp_path / "units")
    service, timer = (tmp_path / "units" / f"fewshot-retrain-test.{kind}" for kind in ("service", "timer"))
    assert f"next: systemctl --user link {service} {timer}" in elsewhere.stderr
    file = tmp_path / "file"
    file.touch()
    assert "error: cannot make the folder" in schedule(place.job, *NIGHTLY, "--systemd", "--out", file / "x").stderr


def test_a_job_without_machines_is_told_what_to_add(place):
    done = schedule(place.job, *NIGHTLY)
    assert done.exit_code == 2
    assert [line for line in done.stderr.splitlines() if "[deploy] and image = " in line and "--local" in line]


def test_the_status_of_an_output_is_that_of_a_job_file(place, tmp_path):
    done = schedule(tmp_path, "--status")
    assert (done.exit_code, "--status: expected a job file" in done.stderr) == (2, True)


def test_a_schedule_without_a_turn_says_so_and_how_to_go_on(place):
    begun(place, "retrain", days=0)
    done = schedule(place.job, "--status")
    assert "retrain of test: 0 3 * * * UTC: no turn yet" in done.stderr
    assert '--cron "0 3 * * *" --time-zone UTC --run retrain --local (or --once' in done.stderr.replace("\n", " ")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    done = schedule(write(tmp_path, PLAIN), *NIGHTLY, "--out", tmp_path / "missing" / "cron.yaml")
    assert done.exit_code == 2
    assert "error: cannot write" in done.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), '--cron: missing; give five fields (minute, hour, day of month, month, day of week) such as "0 3 * * *"'),
        (("--cron", "0 3 * *"), "--cron: expected five fields"),
        ((*NIGHTLY, "--time-zone", "Mars"), "--time-zone: unknown time zone 'Mars'."),
        (
            (*NIGHTLY, "--time-zone", "CEST"),
            "--time-zone: 'CEST' is no time zone: expected a name of the IANA database",
        ),
        ((*NIGHTLY, "--time-zone", "UTC+2"), "--time-zone: 'UTC+2' is no time zone: expected a name of the IANA"),
        ((*NIGHTLY, "--jitter", "soon"), "--jitter: expected a number of seconds, minutes or hours"),
        ((*NIGHTLY, "--jitter", "5m"), "--jitter: Kubernetes has none; choose another minute in --cron"),
        ((*NIGHTLY, "--local", "--systemd"), "expected one of --local, --systemd, --status, or a manifest"),
        ((*NIGHTLY, "--local", "--kind", "cronjob"), "expected one of --local, --systemd, --status, or a manifest"),
        ((*NIGHTLY, "--status", "--once"), "expected one of --local, --systemd, --status, or a manifest"),
    ],
)
def test_wrong_options_are_refused(tmp_path, words, problem):
    done = schedule(write(tmp_path, PLAIN), *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"error: {problem}" in done.stderr


def test_all_wrong_options_are_named_at_once(tmp_path):
    done = schedule(write(tmp_path, PLAIN), "--cron", "x", "--time-zone", "x", "--jitter", "x")
    assert [line.partition(":")[2].partition(":")[0] for line in done.stderr.splitlines()] == [
        " --cron",
        " --time-zone",
        " --jitter",
    ]


@pytest.mark.parametrize("way", ["--local", "--once", "--systemd"])
def test_a_job_that_the_command_would_refuse_is_refused_now(place, way):
    place.write_job(support={"uri": str(place.folder / "nowhere")}, classifier={"method": "tip_adaptor"})
    now, later = schedule(place.job, *NIGHTLY, way), fewshot("retrain", place.job)
    assert (now.exit_code, later.code) == (2, 2)
    assert now.stderr == later.messages
    assert "Did you mean 'tip_adapter'?" in now.stderr
    assert not place.output.exists()


def test_a_stored_classifier_is_refused_as_retrain_does_it(finished, tmp_path):
    (card,) = (finished.output / "classifiers").rglob("card.json")
    sections = tomlkit.parse(finished.job.read_text())
    del sections["support"]
    sections["job"]["output"] = str(tmp_path / "output")
    sections["classifier"] = {"from": str(card.parent)}
    job = tmp_path / "job.toml"
    job.write_text(tomlkit.dumps(sections))
    now, later = schedule(job, *NIGHTLY, "--local"), fewshot("retrain", job)
    assert (now.exit_code, later.code) == (2, 2)
    assert [line for line in later.messages.splitlines() if line.startswith("error")] == now.stderr.splitlines()
    assert "[classifier] from: retrain trains a classifier" in now.stderr
    other = schedule(job, *NIGHTLY, "--once", "--run", "classify")
    assert other.exit_code == 0, other.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"escalate": {"max_fraction": 0.1}},
        {"classifier": {"method": "tip_adapter", "max_error": 0.1, "max_error_from": "audit"}},
    ],
    ids=["escalate", "audit"],
)
def test_what_retrain_cannot_do_is_refused_with_its_words(place, changes):
    place.write_job(**changes)
    now, later = schedule(place.job, *NIGHTLY, "--local"), fewshot("retrain", place.job)
    assert (now.exit_code, later.code) == (2, 2)
    assert now.stderr == later.messages
    assert "run classify" in now.stderr


@pytest.mark.parametrize(("on_alarm", "code"), [("retrain", 2), ("fail", 0)])
def test_drift_that_retrains_is_refused_what_retrain_cannot_do(place, on_alarm, code):
    place.write_job(escalate={"max_fraction": 0.1}, drift={"on_alarm": on_alarm})
    now = schedule(place.job, *NIGHTLY, "--systemd", "--run", "drift")
    assert now.exit_code == code, now.stderr
    assert ("[escalate]: retrain labels without a diffusion model" in now.stderr) is (on_alarm == "retrain")


def test_a_second_scheduler_of_a_job_ends_and_says_which_is_running(place):
    with acquire_lease(records(place).store, f"{records(place).folder}/{LEASE}", term_s=0.6):
        done = schedule(place.job, *NIGHTLY, "--local")
    assert done.exit_code == 2
    assert f"is being written by process {os.getpid()} on" in done.stderr


def test_another_command_of_a_job_is_scheduled_beside_the_first(place):
    with acquire_lease(records(place).store, f"{records(place).folder}/{LEASE}", term_s=0.6):
        done = schedule(place.job, *NIGHTLY, "--once", "--run", "classify")
    assert done.exit_code == 0, done.stderr
    assert records(place, "classify").read().command == "classify"
    assert records(place).read() is None


def test_two_commands_of_a_job_are_called_once_alternately_and_both_stay_scheduled(place):
    next_month = f"{datetime.now(UTC) + timedelta(days=30):0 0 %-d %-m *}"
    since = {command: begun(place, command, cron=next_month).since for command in ("retrain", "classify")}
    for command in (*since, *since):
        done = schedule(place.job, "--cron", next_month, "--once", "--run", command)
        assert json.loads(done.stdout)["turn"] is None
    assert {command: records(place, command).read().since for command in since} == since


def test_status_without_a_scheduler_says_where_else_to_look(place):
    done = schedule(place.job, "--status")
    assert done.exit_code == 2
    assert "no scheduler has run a command of job test with --local" in done.stderr
    assert "to start one: fewshot schedule" in done.stderr


def test_status_shows_turns_and_what_the_last_one_wrote(place):
    turn = ScheduledTurn(
        time=to_text(datetime.now(UTC).replace(hour=3, minute=0, second=0)),
        missed_since=None,
        started=to_text(datetime.now(UTC) - timedelta(seconds=90)),
        ended=to_text(datetime.now(UTC)),
        outcome="failed",
        exit_code=1,
        last_lines=("error: 3 images failed",),
    )
    begun(place, turns=(turn,), time_zone="Asia/Tokyo")
    outcome = fewshot("schedule", place.job, "--status")
    assert outcome.code == 0
    (found,) = outcome.result["schedules"]
    assert found["turns"][0]["outcome"] == "failed"
    assert (found["scheduler"], found["running"]) == (None, False)
    for text in ("failed (1)", "90 s", "error: 3 images failed", "no scheduler is running", "(Asia/Tokyo)"):
        assert text in outcome.messages


def test_status_names_the_scheduler_and_its_running_turn(place):
    now = to_text(datetime.now(UTC))
    begun(place, turns=(ScheduledTurn(time=now, missed_since=None, started=now),))
    with acquire_lease(records(place).store, f"{records(place, 'classify').folder}/{LEASE}"):
        outcome = fewshot("schedule", place.job, "--status")
    (found,) = outcome.result["schedules"]
    assert (found["running"], found["missed"]) == (True, None)
    since = f"{now[:10]} {now[11:19]}"
    assert f"a turn is running since {since}; scheduler: process {os.getpid()} on" in outcome.messages


def test_a_turn_that_is_about_to_start_is_not_missed(place):
    begun(place)
    assert status_of(place)["missed"] is not None
    with acquire_lease(records(place).store, f"{records(place, 'classify').folder}/{LEASE}"):
        assert status_of(place)["missed"] is None


def test_status_shows_all_commands_of_a_job_or_the_one_of_run(place):
    begun(place, "drift")
    begun(place, "retrain")
    outcome = fewshot("schedule", place.job, "--status")
    assert [found["command"] for found in outcome.result["schedules"]] == ["retrain", "drift"]
    assert "--run drift --local (or --once, for what is due)" in " ".join(outcome.messages.split())
    one = fewshot("schedule", place.job, "--status", "--run", "drift")
    assert [found["command"] for found in one.result["schedules"]] == ["drift"]
    none = schedule(place.job, "--status", "--run", "classify")
    assert none.exit_code == 2
    assert "no scheduler has run classify of job test with --local" in none.stderr


def test_the_status_of_an_output_has_its_schedules(finished):
    assert "schedules" not in fewshot("status", finished.output).result
    begun(finished, "classify")
    begun(finished, "drift")
    damaged = finished.output / "schedule" / "damaged" / "retrain" / "record.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    outcome = fewshot("status", finished.output)
    shutil.rmtree(finished.output / "schedule")
    found = [(each["job"], each["command"], each["missed"] is None) for each in outcome.result["schedules"]]
    assert found == [("test", "classify", False), ("test", "drift", False)]
    for command in ("classify", "drift"):
        line = f"{command} of test, 0 3 * * *: no scheduler is running; the turn of"
        assert line in " ".join(outcome.messages.split())


def process(place: Place, *words: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ray_jobs", "schedule", str(place.job), *NIGHTLY, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_turn_is_a_process_whose_end_is_recorded(place):
    begun(place)
    done = schedule(place.job, *NIGHTLY, "--once", "--run", "classify")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["complete"], result["turn"]["outcome"]) == (True, "done")
    record = records(place, "classify").read()
    assert record.last.to_json() == result["turn"]
    assert any("complete" in line or "predictions" in line for line in record.last.last_lines)
    assert list(place.output.glob("runs/*/metrics.json"))
    again = schedule(place.job, *NIGHTLY, "--once", "--run", "classify")
    assert json.loads(again.stdout) == {"turn": None, "complete": True}
    assert not list((place.output / "schedule" / "test" / "classify" / LEASE).glob("*"))


@pytest.mark.slow
def test_a_turn_that_fails_is_recorded_with_its_last_lines(place):
    held = acquire_lease(Store(str(place.output)), "registry/test/lease", term_s=0.6)
    begun(place, "retrain")
    with held:
        done = schedule(place.job, *NIGHTLY, "--once", "--set", "storage.lease_s=1")
    assert done.exit_code == 1
    turn = json.loads(done.stdout)["turn"]
    assert (turn["outcome"], turn["exit_code"]) == ("refused", 2)
    assert "error" in turn["last_lines"][-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_scheduler_that_waits_ends_at_once(place, number):
    running = process(place, "--local")
    watchdog = threading.Timer(60, running.kill)
    watchdog.start()
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("next: retrain at"):
            break
    began = time.monotonic()
    running.send_signal(number)
    assert running.wait() == 130
    watchdog.cancel()
    assert time.monotonic() - began < 15
    assert not list((place.output / "schedule" / "test" / "retrain" / LEASE).glob("*"))
    assert records(place).read().turns == ()
    assert status_of(place)["scheduler"] is None


@pytest.mark.slow
def test_an_interrupted_turn_ends_and_is_done_by_the_next_scheduler(place):
    begun(place, "retrain")
    running = process(place, "--local")
    watchdog = threading.Timer(90, running.kill)
    watchdog.start()
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("loading libraries") and records(place).read().turns:
            break
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 130
    watchdog.cancel()
    (turn,) = records(place).read().turns
    assert (turn.outcome, turn.exit_code is None) == ("interrupted", False)
    done = schedule(place.job, *NIGHTLY, "--once")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["turn"]["time"] == turn.time


def test_paths_of_units_are_absolute(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    shown = schedule(Path("job.toml"), *NIGHTLY, "--systemd")
    assert f" retrain {place.job} " in shown.stdout
    assert f"WorkingDirectory={place.folder}\n" in shown.stdout
