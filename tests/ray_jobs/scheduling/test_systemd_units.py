"""Units of systemd: calendar events that mean the cron expression, and words of a command line as they were."""

from __future__ import annotations

import configparser
import itertools
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ray_jobs.scheduling.cron_expression import CronExpression
from ray_jobs.scheduling.systemd_units import WEEKDAYS, calendar_events, units

EVENT = re.compile(
    r"(?:(?P<weekdays>[A-Za-z,]+) )?\*-(?P<months>[*0-9,.]+)-(?P<days>[*0-9,.]+) "
    r"(?P<hours>[*0-9,.]+):(?P<minutes>[*0-9,.]+):00 (?P<zone>\S+)"
)
EXPRESSIONS = [
    "0 3 * * *",
    "*/15 * * * *",
    "* * * * *",
    "5,10-12,30 0-6,22 * * *",
    "0 3 * * 1-5",
    "0 3 * * 7",
    "0 3 1,15 * *",
    "0 3 1,2 1-3,12 *",
    "0 3 13 * 5",
    "0 3 1-31 * 1",
    "0 3 13 * 0-6",
    "30 2 29 2 *",
    "@weekly",
]


def values(text: str, first: int, last: int) -> set[int]:
    """The values of a component of an event, read independently of how it is written."""
    found: set[int] = set()
    for item in text.split(","):
        low, _, high = item.partition("..")
        found |= set(range(first, last + 1)) if item == "*" else set(range(int(low), int(high or low) + 1))
    return found


def matches(event: str, time: datetime) -> bool:
    """Whether an event elapses at a time."""
    found = EVENT.fullmatch(event)
    assert found is not None, event
    weekdays = found["weekdays"].split(",") if found["weekdays"] else WEEKDAYS
    return (
        WEEKDAYS[(time.weekday() + 1) % 7] in weekdays
        and time.month in values(found["months"], 1, 12)
        and time.day in values(found["days"], 1, 31)
        and time.hour in values(found["hours"], 0, 23)
        and time.minute in values(found["minutes"], 0, 59)
    )


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_events_elapse_when_the_expression_matches(text):
    cron, begin = CronExpression.parse(text), datetime(2027, 12, 26, 23, 55, tzinfo=UTC)
    events = calendar_events(cron, "UTC")
    expected = list(itertools.islice(cron.after(begin, ZoneInfo("UTC")), 40))
    end = min(expected[-1], begin + timedelta(days=75))
    minutes = (begin + timedelta(minutes=n) for n in range(1, int((end - begin).total_seconds()) // 60 + 1))
    found = [time for time in minutes if any(matches(event, time) for event in events)]
    assert found == [time for time in expected if time <= end]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("0 3 * * *", ["*-*-* 03:00:00 Europe/Berlin"]),
        ("*/20 * * * *", ["*-*-* *:00,20,40:00 Europe/Berlin"]),
        ("0 9-17 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 09..17:00:00 Europe/Berlin"]),
        ("0 3 13 * 5", ["*-*-13 03:00:00 Europe/Berlin", "Fri *-*-* 03:00:00 Europe/Berlin"]),
    ],
)
def test_events_are_readable(text, events):
    assert calendar_events(CronExpression.parse(text), "Europe/Berlin") == events


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_systemd_reads_the_events(text):
    cron = CronExpression.parse(text)
    begin, zone = datetime(2027, 5, 26, 23, 55, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    coming = []
    for event in calendar_events(cron, "Europe/Berlin"):
        told = subprocess.run(
            ["systemd-analyze", "calendar", "--iterations=5", f"--base-time={begin:%Y-%m-%d %H:%M:%S} UTC", event],
            env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        if "unrecognized option" in told.stderr:
            pytest.skip("an old systemd")
        assert told.returncode == 0, told.stderr
        coming += re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", told.stdout)
    expected = [f"{time:%Y-%m-%d %H:%M:%S}" for time in itertools.islice(cron.after(begin, zone), 5)]
    assert sorted(set(coming))[:5] == expected


def read(text: str) -> dict[str, dict[str, list[str]]]:
    """A unit: of each section the values of each key, in order."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str
    sections: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            sections[section] = {}
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[section].setdefault(key, []).append(value)
    parser.read_string(text)  # It is in the form of such files.
    return sections


def made(text: str = "0 3 * * *", *, words=("/venv/bin/python", "-m", "ray_jobs", "retrain", "job.toml"), **changes):
    options = {
        "time_zone": "Europe/Berlin",
        "job": "groceries",
        "command": "retrain",
        "words": list(words),
        "folder": Path("/srv/photos"),
        "jitter_s": 0,
    }
    return units(CronExpression.parse(text), **(options | changes))


def test_a_timer_starts_the_service_of_its_name():
    texts = made()
    assert list(texts) == ["fewshot-retrain-groceries.service", "fewshot-retrain-groceries.timer"]
    service, timer = map(read, texts.values())
    assert timer["Timer"]["OnCalendar"] == ["*-*-* 03:00:00 Europe/Berlin"]
    assert timer["Timer"]["Persistent"] == ["true"]
    assert "RandomizedDelaySec" not in timer["Timer"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    assert service["Service"]["Type"] == ["oneshot"]  # systemd starts none that is still running.
    assert service["Service"]["ExecStart"] == ["/venv/bin/python -m ray_jobs retrain job.toml"]
    assert service["Service"]["WorkingDirectory"] == ["/srv/photos"]
    assert service["Service"]["KillSignal"] == ["SIGINT"]
    assert service["Service"]["TimeoutStartSec"] == ["infinity"]


def test_two_events_and_a_jitter_are_in_the_timer():
    timer = read(made("0 3 13 * 5", jitter_s=300)["fewshot-retrain-groceries.timer"])["Timer"]
    assert len(timer["OnCalendar"]) == 2
    assert (timer["RandomizedDelaySec"], timer["FixedRandomDelay"]) == (["300"], ["true"])


def unquoted(line: str) -> list[str]:
    """The words of a command line as systemd.service(5) and systemd.syntax(7) say."""
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', line)
    plain = [word[1:-1] if word.startswith('"') else word for word in words]
    plain = [re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), word) for word in plain]
    return [word.replace("%%", "%").replace("$$", "$") for word in plain]


@pytest.mark.parametrize("word", ["a b", 'say "x"', "50%", "$HOME", "C:\\x", "two\nlines", "a\tb", "", "'", "é", ";"])
def test_words_survive_the_command_line(word):
    texts = made(words=["python", "--set", f"support.uri={word}", word])
    line = read(texts["fewshot-retrain-groceries.service"])["Service"]["ExecStart"][0]
    assert not {"%", "$"} & set(line.replace("%%", "").replace("$$", ""))  # systemd would replace what follows.
    assert unquoted(line) == ["python", "--set", f"support.uri={word}", word]


def test_names_are_safe_in_files_and_descriptions():
    texts = made(job="50% of/it", folder=Path("/srv/100%"))
    assert next(iter(texts)) == "fewshot-retrain-50--of-it.service"
    service = read(texts["fewshot-retrain-50--of-it.service"])
    assert service["Unit"]["Description"] == ["fewshot retrain of the job 50%% of/it"]
    assert service["Service"]["WorkingDirectory"] == ["/srv/100%%"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_units(tmp_path):
    for name, text in made("0 3 13 * 5", words=["/bin/true", "a b$"], folder=Path("/"), jitter_s=60).items():
        (tmp_path / name).write_text(text)
    told = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True
    )
    assert [line for line in told.stderr.splitlines() if "fewshot" in line] == []
