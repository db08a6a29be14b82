"""A secret of the environment or of a URL is found nowhere after a job, however it ended."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Ledger, LocalExecutor, RayExecutor, Store, Unit, Workers, WorkerStartError, run_stage
from cluster.secrets import HIDDEN, redacted, without_credentials
from cluster.storage.store import StorageError
from ray_jobs.console.sanitize import configure_logging, sanitized
from tests.hostile.steps import PASSWORD, SECRET, Indiscreet

PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "planted/Aws+Secret=1",
    "AWS_SESSION_TOKEN": "planted-session-token",
    "HF_TOKEN": "hf_plantedHuggingFaceToken",
    "MY_DB_PASSWORD": "planted\nwith 'quotes' and a line",
}


@pytest.fixture
def planted(monkeypatch):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


def traces(*texts):
    """Which of the secrets stand in texts, or in files below folders."""
    secrets = [*PLANTED.values(), SECRET, PASSWORD, *(repr(value)[1:-1] for value in PLANTED.values())]
    found = []
    for text in texts:
        paths = [path for path in text.rglob("*") if path.is_file()] if isinstance(text, Path) else []
        contents = {str(path): path.read_bytes() for path in paths} or {"text": str(text).encode()}
        found += [(where, secret) for where, data in contents.items() for secret in secrets if secret.encode() in data]
    return found


def quote_everything(*_, **__):
    import os

    raise RuntimeError(f"https://me:{PASSWORD}@host/ {dict(os.environ)}")


def test_the_search_for_traces_finds_them(tmp_path):
    (tmp_path / "a").write_text(f"x{SECRET}")
    assert traces(tmp_path, f"x{PASSWORD}") == [(str(tmp_path / "a"), SECRET), ("text", PASSWORD)]


def test_a_job_that_succeeds_leaves_none(place, planted):
    outcome = place.classify()
    assert outcome.code == 0
    assert traces(place.output, outcome.messages, outcome.result) == []


def test_a_unit_that_quotes_its_environment_leaves_none(place, planted, monkeypatch, caplog):
    monkeypatch.setattr("ray_jobs.steps.embed._decode", quote_everything)
    outcome = place.classify()
    assert outcome.code in (1, 2)
    assert "RuntimeError" in outcome.messages
    assert HIDDEN in outcome.messages
    assert traces(place.output, outcome.messages, outcome.result, caplog.text) == []


def test_a_unit_of_the_archive_that_quotes_its_environment_is_told_without_it(place, planted, monkeypatch, caplog):
    from ray_jobs.steps import embed

    decode = embed._decode
    broken = ("photo_004.jpg", "photo_005.jpg")
    monkeypatch.setattr(embed, "_decode", lambda *a: quote_everything() if a[1].key in broken else decode(*a))
    outcome = place.classify()
    assert outcome.code == 1
    assert outcome.result["failed_units"] >= 1
    assert traces(place.output, outcome.messages, outcome.result, caplog.text) == []


def test_a_set_up_that_quotes_its_environment_leaves_none(place, planted, monkeypatch):
    from fewshot.errors import BackboneError

    def load_clip(_):
        try:
            quote_everything()
        except RuntimeError as error:
            raise BackboneError(str(error)) from error

    monkeypatch.setattr("fewshot.backbones.load_clip", load_clip)
    outcome = place.classify()
    assert outcome.code == 2
    assert HIDDEN in outcome.messages
    assert traces(place.folder, outcome.messages) == []


def test_storage_that_quotes_its_environment_leaves_none(place, planted, monkeypatch):
    import os

    def refuse(*_):
        raise StorageError(f"no bucket at https://me:{PASSWORD}@host with {dict(os.environ)}")

    monkeypatch.setattr("ray_jobs.classification.classify.list_archive", refuse)
    outcome = place.classify()
    assert outcome.code == 1
    assert traces(place.folder, outcome.messages) == []


def test_a_password_in_the_job_file_is_not_told_or_stored(place):
    place.write_job(archive={"uri": f"https://me:{PASSWORD}@127.0.0.1:1/photos?signature={PASSWORD}"})
    outcome = place.classify()
    assert outcome.code in (1, 2)
    assert traces(place.output, outcome.messages) == []
    place.write_job(job={"output": f"s3://me:{PASSWORD}@bucket/prefix"})
    outcome = place.classify()
    assert outcome.code == 2
    assert "a URL with a password in it" in outcome.messages
    assert traces(outcome.messages) == []


def test_a_mistake_of_ours_is_shown_without_secrets(tmp_path):
    code = (
        "import os, ray_jobs.commands.app as cli\n"
        "def broken(**_): raise RuntimeError(dict(os.environ))\n"
        "cli.app = broken\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**PLANTED}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert traces(done.stderr, done.stdout) == []


@pytest.mark.ray
def test_on_ray_nothing_is_left_in_the_files_of_the_session(ray_session, tmp_path, capfd):
    import ray

    ledger = Ledger(Store(str(tmp_path)))
    with RayExecutor() as executor:
        units = [Unit(f"out/{number}", number) for number in range(3)]
        report = run_stage(executor, Indiscreet(), units, ledger, Workers(count=1))
        assert report.failed == 3
        with pytest.raises(WorkerStartError) as caught:
            run_stage(executor, Indiscreet(in_setup=True), units, ledger, Workers(count=1))
    session = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    messages = [failure.error for failure in report.failures]
    assert all("RuntimeError" in error and HIDDEN in error for error in messages)
    assert traces(session, tmp_path, messages, str(caught.value), *capfd.readouterr()) == []


def test_in_one_process_a_set_up_that_fails_is_told_without_secrets(tmp_path, planted):
    with pytest.raises(WorkerStartError) as caught:
        run_stage(LocalExecutor(), Indiscreet(in_setup=True), [Unit("a", 1)], Ledger(Store(str(tmp_path))), Workers())
    assert traces(sanitized(str(caught.value))) == []


def test_a_log_with_a_traceback_is_written_without_secrets(planted, capsys):
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers.clear()
    try:
        configure_logging("WARNING")
        try:
            quote_everything()
        except RuntimeError:
            logging.getLogger("some.library").warning("failed\x1b[31m", exc_info=True)
        messages = capsys.readouterr().err
    finally:
        root.handlers[:] = before
    assert "Traceback" in messages
    assert "\x1b" not in messages
    assert traces(messages) == []


words = st.text(st.characters(exclude_characters="/?# \t\n\r\x0b\x0c", exclude_categories=["C", "Z"]), max_size=12)


@given(user=words, password=words.filter(lambda word: len(word) > 3), scheme=st.sampled_from(["s3", "https", "redis"]))
def test_whatever_stands_before_the_host_is_cut_out(user, password, scheme):
    assert without_credentials(f"see {scheme}://{user}:{password}@host/a?b=c d") == f"see {scheme}://host/a d"


@given(secret=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=8, max_size=40))
def test_a_secret_of_any_letters_is_hidden_as_it_is_and_as_it_is_quoted(secret):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOME_API_KEY", secret)
        messages = redacted(f"<{secret}> { ({'SOME_API_KEY': secret})!r}")
    assert messages == f"<{HIDDEN}> {{'SOME_API_KEY': '{HIDDEN}'}}" or secret not in messages


@pytest.mark.parametrize("name", ["PATH", "PWD", "HOME", "KEYBOARD", "MONKEYS", "TOKENIZERS_PARALLELISM"])
def test_what_is_no_secret_stays(monkeypatch, name):
    monkeypatch.setenv(name, "an ordinary value")
    assert redacted("an ordinary value") == "an ordinary value"
