"""The scheduler of a machine, by a fake clock: once for each time, never two turns, nothing lost by an interrupt."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cluster.errors import LeaseLostError, StorageError
from ray_jobs.results.json_format import NewerFormatError
from ray_jobs.results.schedule_results import MAX_TURNS, ScheduledTurn, ScheduleRecord
from ray_jobs.scheduling.local_scheduler import POLL_S
from ray_jobs.scheduling.schedule_records import RECORD, ScheduleRecords, read_schedules, read_status, to_text
from ray_jobs.scheduling.turn_process import TurnEnd
from tests.ray_jobs.scheduling.fake_time import DONE, START, FakeTime

FAILED = TurnEnd(exit_code=1, last_lines=("error: 3 images failed",))
INTERRUPTED = TurnEnd(exit_code=130, last_lines=(), interrupted=True)


@pytest.fixture
def time(tmp_path) -> FakeTime:
    return FakeTime(tmp_path)


def turns(time: FakeTime) -> list[tuple[str, str | None, str]]:
    """Of each recorded turn its time, the first time that it makes up and its outcome."""
    record = time.records.read()
    assert record is not None
    return [(turn.time[8:16], turn.missed_since and turn.missed_since[8:16], turn.outcome) for turn in record.turns]


def test_a_turn_starts_at_its_time_and_is_recorded(time):
    time.until = START + timedelta(days=2, hours=4)
    time.run()
    assert [f"{started:%d %H:%M:%S}" for started in time.started] == ["01 03:00:00", "02 03:00:00", "03 03:00:00"]
    record = time.records.read()
    assert record.turns[0] == ScheduledTurn(
        time="2026-12-01T03:00:00+00:00",
        missed_since=None,
        started="2026-12-01T03:00:00+00:00",
        ended="2026-12-01T03:01:00+00:00",
        outcome="done",
        exit_code=0,
        last_lines=("in production: version 1",),
    )
    assert record.turns[0].duration_s == 60
    assert next(said for said in time.said if said.startswith("next")) == "next: retrain at 2026-12-01 03:00:00 UTC"
    assert "retrain: done after 60 s, exit code 0" in time.said


def test_nothing_that_was_due_before_the_first_start_is_made_up(time):
    time.now = START.replace(hour=12)
    time.until = time.now + timedelta(hours=1)
    time.run()
    assert time.started == []


def test_a_running_turn_is_on_record(time):
    seen = []
    time.turn = lambda: (seen.append(time.records.read().last), FakeTime.turn(time))[1]
    time.run()
    assert [(turn.outcome, turn.ended, turn.duration_s) for turn in seen] == [("running", None, None)]


def test_failed_turns_end_no_schedule(time):
    time.ends = (
        FAILED,
        TurnEnd(exit_code=2, last_lines=()),
        TurnEnd(exit_code=3, last_lines=()),
        TurnEnd(exit_code=-9, last_lines=()),
        TurnEnd(exit_code=130, last_lines=()),
        DONE,
    )
    time.until = START + timedelta(hours=6, minutes=30)
    time.run("0 * * * *")
    assert [outcome for *_, outcome in turns(time)] == ["failed", "refused", "alarm", "killed", "interrupted", "done"]
    assert time.records.read().turns[0].last_lines == ("error: 3 images failed",)


def test_times_during_a_turn_are_made_up_once_after_it(time):
    time.turn_s, time.until = 150, START + timedelta(minutes=8)
    time.run("* * * * *")
    assert [f"{started:%M:%S}" for started in time.started] == ["01:00", "03:30", "06:00"]
    assert turns(time) == [
        ("01T01:01", None, "done"),
        ("01T01:03", "01T01:02", "done"),
        ("01T01:06", "01T01:04", "done"),
        ("01T01:08", "01T01:07", "running"),
    ]


def test_a_suspended_machine_makes_up_once(time):
    slept = []

    def wait(seconds):
        if time.now >= START + timedelta(hours=4) and not slept:
            slept.append(time.now)
            time.now += timedelta(days=3)
        FakeTime.wait(time, seconds)

    time.wait, time.until = wait, START + timedelta(days=5)
    time.run()
    assert turns(time) == [("01T03:00", None, "done"), ("04T03:00", "02T03:00", "done"), ("05T03:00", None, "done")]


def test_the_clock_is_looked_at_again_and_again(time):
    waits = []
    time.wait = lambda seconds: (waits.append(seconds), FakeTime.wait(time, seconds))
    time.until = START + timedelta(hours=3)
    time.run()
    assert max(waits) == POLL_S <= 60


def test_a_stopped_scheduler_makes_up_what_it_missed_when_it_starts_again(time):
    time.until = START + timedelta(hours=4)
    time.run()
    time.now += timedelta(days=3)
    time.until = time.now + timedelta(hours=1)
    time.run()
    assert turns(time) == [("01T03:00", None, "done"), ("04T03:00", "02T03:00", "done")]
    assert "makes up for those since 2026-12-02 03:00:00 UTC" in " ".join(time.said)


@pytest.mark.parametrize("code", [130, 0, -9])
def test_an_interrupted_turn_is_resumed_when_the_scheduler_starts_again(time, code):
    time.ends = (replace(INTERRUPTED, exit_code=code), DONE)
    with pytest.raises(KeyboardInterrupt):
        time.scheduler().run()
    assert turns(time) == [("01T03:00", None, "interrupted")]
    time.until = time.now + timedelta(hours=1)
    time.run()
    assert turns(time) == [("01T03:00", None, "interrupted"), ("01T03:00", None, "done")]


def test_a_turn_whose_scheduler_was_killed_is_lost_and_run_again(time):
    def killed():
        raise SystemError("killed")

    time.turn = killed
    with pytest.raises(SystemError):
        time.scheduler().run()
    assert turns(time) == [("01T03:00", None, "running")]
    del time.turn
    time.until = time.now + timedelta(hours=1)
    time.run()
    assert turns(time) == [("01T03:00", None, "lost"), ("01T03:00", None, "done")]


@pytest.mark.parametrize(
    "changed", [{"cron": "0 2 * * *"}, {"zone": "Asia/Tokyo"}], ids=["another_time", "another_zone"]
)
def test_a_changed_schedule_makes_nothing_up(time, changed):
    time.until = START + timedelta(hours=4)
    time.run()
    time.now = START + timedelta(days=3, hours=22)
    time.until = time.now + timedelta(minutes=30)
    time.run(**({"cron": "0 3 * * *"} | changed))
    assert [turn[0] for turn in turns(time)] == ["01T03:00"]
    time.run()
    assert [turn[0] for turn in turns(time)] == ["01T03:00"]


FAR = START.replace(year=2099)


def test_a_clock_that_was_far_ahead_stops_no_schedule(time):
    time.now, time.until = FAR, FAR + timedelta(hours=4)
    time.run()
    assert len(time.started) == 1
    time.now, time.until = START, START + timedelta(days=2, hours=4)
    time.run()
    assert turns(time) == [("01T03:00", None, "done"), ("02T03:00", None, "done"), ("03T03:00", None, "done")]
    assert datetime.fromisoformat(time.records.read().since) == START
    assert sum("the clock was ahead" in said for said in time.said) == 1


def test_a_clock_that_is_set_right_while_a_scheduler_waits_stops_no_schedule(time):
    def wait(seconds):
        FakeTime.wait(time, seconds)
        if time.now >= FAR + timedelta(hours=4):
            time.now, time.until = START, START + timedelta(days=1, hours=4)

    time.wait, time.now, time.until = wait, FAR, FAR + timedelta(days=1)
    time.run()
    assert turns(time) == [("01T03:00", None, "done"), ("02T03:00", None, "done")]


def test_once_goes_on_after_a_clock_that_was_far_ahead(time):
    time.now = FAR
    time.scheduler().run_once()
    time.now = START
    assert time.scheduler().run_once() is None
    time.now = START + timedelta(hours=3)
    assert time.scheduler().run_once() is not None


def test_status_counts_no_turn_of_a_clock_that_was_far_ahead(time):
    time.now, time.until = FAR, FAR + timedelta(hours=4)
    time.run()
    status = read_status(time.records, now=START)
    assert (status.turns, status.missed, status.next_start) == ((), None, "2026-12-01T03:00:00+00:00")


def test_a_changed_jitter_makes_up_what_was_missed(time):
    time.until = START + timedelta(hours=4)
    time.run()
    time.now += timedelta(days=1)
    time.until = time.now + timedelta(minutes=30)
    time.run(delay_s=5)
    assert [turn[0] for turn in turns(time)] == ["01T03:00", "02T03:00"]


def test_a_delay_starts_every_turn_later(time):
    time.run(delay_s=90)
    assert [f"{started:%H:%M:%S}" for started in time.started] == ["03:01:30"]


def test_the_record_has_a_bounded_number_of_turns(time):
    time.turn_s, time.until = 1, START + timedelta(hours=2)
    time.run("* * * * *")
    record = time.records.read()
    assert len(time.started) > 100
    assert len(record.turns) == MAX_TURNS
    assert record.last.started == to_text(time.started[-1])


def test_once_runs_what_is_due_and_ends(time):
    time.until = START + timedelta(days=9)
    assert time.scheduler().run_once() is None
    assert "nothing is due; next: retrain at 2026-12-01 03:00:00 UTC" in time.said
    time.now += timedelta(days=2)
    turn = time.scheduler().run_once()
    assert (turn.time, turn.missed_since) == ("2026-12-02T03:00:00+00:00", "2026-12-01T03:00:00+00:00")
    assert time.scheduler().run_once() is None
    assert len(time.started) == 1


def test_two_commands_run_once_alternately_and_neither_begins_anew(tmp_path):
    end = START + timedelta(days=9)
    times = [FakeTime(tmp_path, command=command, until=end) for command in ("retrain", "drift")]
    for day in range(4):
        for time in times:
            time.now = START + timedelta(days=day)
            time.scheduler().run_once()
    for time in times:
        assert turns(time) == [("01T03:00", None, "done"), ("02T03:00", None, "done"), ("03T03:00", None, "done")]


def test_an_output_has_a_status_for_each_command_of_each_job(time, tmp_path):
    for command, cron in {"retrain": "0 3 * * *", "drift": "30 3 * * *"}.items():
        FakeTime(tmp_path, command=command).scheduler(cron).run_once()
    (tmp_path / "schedule" / "groceries" / "classify").mkdir()
    found = [(status.job, status.command, status.cron) for status in read_schedules(time.records.store, now=START)]
    assert found == [("groceries", "drift", "30 3 * * *"), ("groceries", "retrain", "0 3 * * *")]


def test_once_takes_one_turn_even_if_another_time_came_meanwhile(time):
    time.scheduler("* * * * *").run_once()
    time.now += timedelta(minutes=1)
    time.turn_s = 600
    assert time.scheduler("* * * * *").run_once() is not None
    assert len(time.started) == 1


def test_a_scheduler_that_lost_its_lease_starts_nothing(time):
    def lost():
        if time.now > START + timedelta(hours=1):
            raise LeaseLostError("taken over")

    time.checks = lost
    with pytest.raises(LeaseLostError):
        time.scheduler().run()
    assert time.started == []


def test_storage_that_is_down_delays_no_turn(time, monkeypatch):
    put, down = ScheduleRecords.write, []

    def write(records, record):
        if START + timedelta(hours=1) < time.now < START + timedelta(hours=20):
            down.append(record)
            raise StorageError("no response")
        put(records, record)

    monkeypatch.setattr(ScheduleRecords, "write", write)
    time.until = START + timedelta(days=2)
    time.run()
    assert len(time.started) == 2
    assert down
    assert "the record of the schedule could not be stored: no response" in time.said
    assert [turn[0] for turn in turns(time)] == ["01T03:00", "02T03:00"]


def test_a_damaged_record_is_replaced(time):
    path = time.folder / "schedule" / "groceries" / "retrain" / RECORD
    time.run()
    path.write_text(path.read_text().replace("done", "dome"))
    time.scheduler().run_once()
    assert time.records.read().turns == ()


def test_a_record_of_a_newer_version_is_left_alone(time):
    path = time.folder / "schedule" / "groceries" / "retrain" / RECORD
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"format_version": 99}))
    with pytest.raises(NewerFormatError):
        time.scheduler()
    assert json.loads(path.read_text()) == {"format_version": 99}


def test_status_shows_what_ran_and_what_comes_next(time):
    assert read_status(time.records, now=time.now) is None
    time.until = START + timedelta(hours=4)
    time.run()
    status = read_status(time.records, now=time.now)
    assert (status.running, status.missed, status.next_start) == (False, None, "2026-12-02T03:00:00+00:00")
    assert status.last.outcome == "done"
    late = read_status(time.records, now=time.now + timedelta(days=2))
    assert (late.missed, late.next_start) == ("2026-12-03T03:00:00+00:00", "2026-12-04T03:00:00+00:00")


def test_status_calls_a_turn_lost_whose_scheduler_is_gone(time):
    record = ScheduleRecord(
        job="groceries", command="retrain", cron="0 3 * * *", time_zone="UTC", delay_s=0, since=to_text(START)
    )
    turn = ScheduledTurn(time=to_text(START.replace(hour=3)), missed_since=None, started=to_text(START.replace(hour=3)))
    time.records.write(record.with_turn(turn))
    status = read_status(time.records, now=START.replace(hour=4))
    assert (status.running, status.last.outcome, status.missed) == (False, "lost", "2026-12-01T03:00:00+00:00")


def test_a_record_is_read_back_as_it_was_written(time):
    record = ScheduleRecord(
        job="groceries",
        command="classify",
        cron="@daily",
        time_zone="UTC",
        delay_s=3,
        since=to_text(datetime(2026, 12, 1, tzinfo=UTC)),
        turns=(ScheduledTurn(time=to_text(START), missed_since=to_text(START), started=to_text(START)),),
    )
    time.records.write(record)
    assert time.records.read() == record
    ended = replace(record.turns[0], outcome="done", exit_code=0, ended=to_text(START))
    assert record.with_turn(ended).turns == (ended,)
    assert record.with_turn(ended).with_turn(ended).turns == (ended, ended)
