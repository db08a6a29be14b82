"""A result is read from a log whole, however the log is cut, and the other lines are shown."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.console.json_result import RESULT_LINE, LogReader, format_result

RESULT = {"complete": True, "output": "s3://bücket", "names": ["a\nb"]}


@given(cuts=st.lists(st.integers(1, 30), max_size=20), before=st.sampled_from(["", "half a line "]))
def test_the_result_is_read_and_the_other_lines_are_shown(cuts, before):
    log = f"one\ntwo\n{before}" + format_result(RESULT, {RESULT_LINE: "1"}) + "\nlast, without an end"
    lines: list[str] = []
    reader = LogReader(lines.append)
    for cut in cuts:
        reader.feed(log[:cut])
        log = log[cut:]
    reader.feed(log)
    reader.close()
    assert reader.result == RESULT
    half = [f"{before}\n"] if before else []
    assert lines == ["one\n", "two\n", *half, "\n", "last, without an end\n"]


def test_a_log_without_a_result_has_none():
    reader = LogReader(lambda _: None)
    reader.feed('{"complete": true}\n')
    reader.close()
    assert reader.result is None


def test_a_result_for_stdout_is_plain_json():
    assert json.loads(format_result(RESULT, {})) == RESULT
