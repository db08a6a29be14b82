"""`fewshot report --open` opens the newest report, and says why where it cannot."""

from __future__ import annotations

import io
import os
import webbrowser

import pytest
from rich.console import Console

from ray_jobs.commands.output_tables import open_newest
from ray_jobs.console.progress import Reporter
from ray_jobs.results.output_status import OutputReports, RunReport
from tests.ray_jobs.export.exports import pictures
from tests.ray_jobs.place import fewshot
from tests.ray_jobs.written_run import WrittenRun


@pytest.fixture
def opened(monkeypatch):
    """What browsers were asked to open."""
    urls = []
    monkeypatch.setattr(webbrowser, "open", lambda url: urls.append(url) or True)
    return urls


def reports(*paths):
    return OutputReports(output="", reports=tuple(RunReport(run=str(i), path=path) for i, path in enumerate(paths)))


def said(result):
    messages = io.StringIO()
    open_newest(result, Reporter(Console(file=messages, width=200)))
    return messages.getvalue()


def test_the_newest_report_is_opened(tmp_path, opened):
    for age, name in enumerate(("new.html", "o l d.html")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    said(reports(str(tmp_path / "o l d.html"), None, str(tmp_path / "new.html")))
    assert opened == [(tmp_path / "new.html").as_uri()]


def test_a_remote_report_is_not_opened(opened):
    assert "copy the folder of s3://bucket/report/index.html" in said(reports("s3://bucket/report/index.html"))
    assert opened == []


def test_a_machine_without_a_browser_is_told_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    (tmp_path / "index.html").touch()
    assert f"no browser was found; open {tmp_path}" in said(reports(str(tmp_path / "index.html")))


def test_the_command_opens_what_it_prints(tmp_path, opened):
    run = WrittenRun(tmp_path).write(pictures("a.jpg"))
    outcome = fewshot("report", run.store.root, "--open")
    (path,) = [each["path"] for each in outcome.result["reports"]]
    assert opened == [f"file://{path}"]
