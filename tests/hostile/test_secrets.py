"""A secret of the environment or of a URL is found nowhere after a job, however it ended."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import (
    ClusterError,
    Ledger,
    LocalExecutor,
    RayExecutor,
    Retry,
    Store,
    Unit,
    Workers,
    WorkerStartError,
    run_stage,
)
from cluster.records.location import Location
from cluster.secrets import HIDDEN, has_password, public_url, redacted, without_credentials
from cluster.storage.store import StorageError
from ray_jobs.console.sanitize import configure_logging, sanitized
from ray_jobs.errors import JobError
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

    def load_backbone(_):
        try:
            quote_everything()
        except RuntimeError as error:
            raise BackboneError(str(error)) from error

    monkeypatch.setattr("fewshot.backbones.load_backbone", load_backbone)
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


CAMEL_CASE_NAMES = ("clientSecret", "accessToken", "awsSecretAccessKey")
SECRET_NAMES = ("sig", "X-Amz-Signature", "access_token", "api_key", "AccountKey")
PASSWORD_URLS = (
    "{scheme}://me:{first}{mark}{second}@host/photos",
    "{scheme}://me:7/{first}{mark}{second}@host:9000",
    "{scheme}://me.com:80/{first}{mark}{second}@host",
    "zip://*.jpg::{scheme}://me:{first}{mark}{second}@host/photos.zip",
)
SECRET_URLS = (
    *PASSWORD_URLS,
    "{scheme}://{first}@host/photos?{name}={second}",
    "{scheme}://host/photos?a=b&{name}={first}{mark}{second}",
    "{scheme}://host:9000/a?{name}={first}@{second}",
    "{scheme}://me:{first} {second}@host/photos",
    "//me:{first}{mark}{second}@host/photos",
    "{scheme}://host/photos#{first}{mark}{second}",
    "{scheme}://host/photos#state=1&{name}={first}{mark}{second}",
    "{scheme}://host/photos;{name}={first}{mark}{second}",
    "{scheme}://host/photos;v=1;{name}={first}{mark}{second}?x",
)
QUOTED = (
    str,
    repr,
    json.dumps,
    lambda url: json.dumps({"url": url}).replace("/", "\\/"),
    lambda url: json.dumps(json.dumps({"url": url})),
    quote,
    lambda url: quote(url, safe=""),
    lambda url: quote(quote(url, safe=""), safe=""),
    lambda url: f"https://proxy/fetch?url={quote_plus(url)}",
    lambda url: f"ConnectionError(host={url!r}, port=443): refused",
)
halves = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=12)
marks = st.text("/+=@:?#&;%\"'\\~é", max_size=3)
urls = st.sampled_from(["s3", "https", "redis", "S3A"])


def shown(message: str) -> str:
    """A message as the console, the log, and the errors of both packages show it."""
    return "\n".join([redacted(message), sanitized(message), str(ClusterError(message)), str(JobError([message]))])


@given(
    form=st.sampled_from(SECRET_URLS),
    scheme=urls,
    first=halves,
    mark=marks,
    second=halves,
    name=st.sampled_from(SECRET_NAMES),
    quoted=st.sampled_from(QUOTED),
)
def test_no_part_of_a_secret_in_a_url_is_shown(form, scheme, first, mark, second, name, quoted):
    url = form.format(scheme=scheme, first=first, mark=mark, second=second, name=name)
    messages = shown(f"cannot open {quoted(url)}: not found")
    assert first not in messages
    assert second not in messages
    assert messages.startswith("cannot open ")


@pytest.mark.parametrize("quoted", [str, repr, json.dumps])
def test_a_password_is_hidden_where_a_path_merged_the_slashes(quoted):
    messages = shown(f"{quoted('/home/https:/me:hunter2/x@host/photos')}: not found")
    assert "hunter2" not in messages
    assert "/home/https:/host/photos" in messages


@given(form=st.sampled_from(PASSWORD_URLS), scheme=urls, first=halves, mark=marks, second=halves)
def test_a_url_with_a_password_is_refused_before_it_is_opened(form, scheme, first, mark, second):
    url = form.format(scheme=scheme, first=first, mark=mark, second=second)
    assert has_password(url) or re.search("://me(:7|.com:80)/", url)  # Port 7 of a host "me", as it stands.
    if has_password(url):
        with pytest.raises(StorageError) as caught:
            Store(url)
        assert first not in str(caught.value)


@given(
    name=st.sampled_from(
        ["password", "db_passwd", "client_secret", "aws_secret_access_key", *CAMEL_CASE_NAMES, *SECRET_NAMES]
    ),
    first=halves,
    form=st.sampled_from(
        ["{name}={secret}", "?x=1&{name}={secret}&y=2", "{{'{name}': '{secret}'}}", '{{"{name}": "{secret}, more"}}']
    ),
    quoted=st.sampled_from([str, repr, json.dumps, quote]),
)
def test_a_value_beside_the_name_of_a_secret_is_not_shown(name, first, form, quoted):
    assert first not in shown(quoted(form.format(name=name, secret=first)))


@given(
    name=st.sampled_from(["password", "db_passwd", "client_secret", "accessToken", "api-key"]),
    first=halves,
    second=halves,
    form=st.sampled_from(
        ["{name}: {secret}", "a: 1\n  {name}: {secret}\nb: 2", "{{{name}: {secret}, b: 2}}", "x {name}:  {secret}, y"]
    ),
)
def test_a_secret_in_a_line_of_yaml_is_not_shown(name, first, second, form):
    messages = shown(form.format(name=name, secret=f"{first} {second}" if "pass" in name else first))
    assert first not in messages
    assert second not in messages


@given(
    option=st.sampled_from(["--password", "--db-passwd", "--access-token", "--api-key", "--client-secret"]),
    first=halves,
    form=st.sampled_from(
        ["{option} {secret}", "{option}={secret}", "['{option}', '{secret}']", '["{option}","{secret}"]']
    ),
    quoted=st.sampled_from([str, repr, json.dumps]),
)
def test_an_option_with_a_secret_is_not_shown(option, first, form, quoted):
    messages = shown(quoted("run " + form.format(option=option, secret=first)))
    assert first not in messages
    assert option in messages


@given(
    form=st.sampled_from(
        ["Bearer {}", "got 401 with bearer {}.", "auth=Bearer {}", "Basic {}=", "Basic aB{}", "Basic 1{}"]
    ),
    first=halves,
    quoted=st.sampled_from([str, repr, json.dumps, quote, quote_plus]),
)
def test_the_value_of_a_scheme_of_authentication_is_not_shown(form, first, quoted):
    assert first not in shown(quoted(form.format(first)))


@pytest.mark.parametrize(
    "message",
    [
        "headers={'Authorization': 'AWS4-HMAC-SHA256 Credential=A/s3/aws4_request, Signature=%s'}",
        "Authorization: Bearer %s",
        '{\\"authorization\\": \\"Bearer %s\\"}',
        "raw_headers=((b'Authorization', b'Bearer %s'),)",
        "x-amz-security-token: %s",
    ],
)
def test_the_headers_of_a_request_are_not_shown(message):
    assert "0123456789abcdef" not in shown(message % "0123456789abcdef")


@given(
    secret=st.text(
        st.one_of(
            st.sampled_from("/+= \"'\\&<>\n\té😀"), st.characters(exclude_categories=["Cs"], exclude_characters="\0")
        ),
        min_size=8,
        max_size=30,
    ),
    quoted=st.sampled_from(
        [
            repr,
            json.dumps,
            lambda text: json.dumps(text, ensure_ascii=False),
            lambda text: json.dumps(json.dumps(text)),
            lambda text: repr(text.encode()),
            quote,
            lambda text: re.sub("%..", lambda byte: byte[0].lower(), quote(text, safe="")),
            lambda text: quote(quote(text, safe="")),
            quote_plus,
        ]
    ),
)
def test_a_secret_of_the_environment_is_hidden_however_it_is_encoded(secret, quoted):
    encoded = quoted(secret).strip("b\"'") if quoted not in (quote, quote_plus) else quoted(secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOME_API_KEY", secret)
        assert encoded not in redacted(f"<{quoted(secret)}>") or encoded in HIDDEN


@pytest.mark.parametrize(
    "url",
    [
        "http://minio:9000/photos/logo@2x.png",
        "s3://bucket/2024/#1/a;b=c.jpg",
        "abfs://container@account.dfs.core.windows.net/photos",
        "https://host/wiki/A:B@C",
        "/home/me:x@y/photos#1",
    ],
)
def test_a_place_without_secrets_stays_as_it_is(url):
    assert public_url(url) == url
    assert not has_password(url)
    assert Location.parse(url).redacted == url


@pytest.mark.parametrize(
    "message",
    [
        "[support] shots: expected an integer, got 'x'; see https://host:8265/jobs or s3://bucket/a@b (token 3)",
        "photos/a@2x.png, s3://bucket/a@2x.png: not found",
        "http://minio:9000/photos/logo@2x.png: not found",
        "http://minio.local:9000/photos/x:y/logo@2x.webp, try again",
        "see http://host:8265 or mail me@example.org",
        "s3://bucket: denied, ask me@example.org",
        "http://host: mail me@example.org",
        "// a comment: see a@b",
        "/home//me/x:y@z.png",
        "Bearer authentication failed; a bearer token is required",
        "Basic authentication and basic information",
        "token: expected an integer; unknown secret: there is none of this name",
        "--set storage.secret_key: [storage] secret_key: unknown key",
        "no credentials: set AWS_ACCESS_KEY_ID",
        "max_tokens=77, tokens: 5 of 77, tokenizer=bert",
        "compass: north, monkey: banana, secretary: Bob",
        "--token-file token.txt --password --verbose",
    ],
)
def test_an_ordinary_message_stays_as_it_is(message):
    assert redacted(message) == message


@pytest.mark.parametrize(
    "part",
    [
        "a",
        "a_",
        "a: ",
        "//a:",
        "--a-",
        "token: a",
        "x://a:b c",
        "bearer ",
        "Basic a",
        "\\",
        ";",
        "x://",
        "::a",
        "%25",
        "token",
        "a:b@",
        '"',
        "authorization",
    ],
)
def test_a_long_message_is_redacted_in_little_time(part):
    begin = time.process_time()
    redacted(f's3://{part * 5_000} authorization="{part * 5_000} x;{part * 5_000}')
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1:1/photos.tar#{}",
        "https://127.0.0.1:1/photos.tar;sig={}",
        "https://me:pass/{}@127.0.0.1:1/photos.tar",
        "https://{}@127.0.0.1:1/photos.tar",
        "memory://photos?token={}",
    ],
)
def test_a_place_with_a_secret_in_it_is_not_told_or_stored(place, uri, monkeypatch):
    monkeypatch.setattr("cluster.records.reading.RETRY", Retry(deadline_s=0))
    for section in ({"archive": {"uri": uri}}, {"support": {"uri": uri}}, {"job": {"output": uri}}):
        changes = {name: {key: value.format(PASSWORD) for key, value in keys.items()} for name, keys in section.items()}
        place.write_job(**changes)
        outcome = place.classify()
        assert outcome.code in (1, 2), section
        assert traces(place.output, outcome.messages) == []
