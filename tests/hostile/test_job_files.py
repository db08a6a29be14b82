"""Job files made to loop, to grow or to escape end with exit code 2, in one message that a terminal can show."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.errors import JobError
from ray_jobs.job_file.keys import item_of, keys_of, table_in
from ray_jobs.job_file.limits import MAX_BYTES, MAX_DEPTH, MAX_MISTAKES, is_deep
from ray_jobs.job_file.reading import SECTIONS, read_job
from tests.ray_jobs.place import fewshot
from tests.sources import PACKAGES, imports, is_within, modules

JOB = '[job]\nname = "x"\noutput = "runs"\n'


def messages(tmp_path, text, *overrides):
    """Every problem of a job file."""
    path = tmp_path / "job.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return list(read_job(path, overrides)[1])
    except JobError as error:
        return list(error.problems)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (JOB + "[clip]\nmodel = " + "[" * 5000 + "]" * 5000, "not valid TOML: maximum recursion"),
        (JOB + "[clip]\nmodel = " + "[" * 99 + "]" * 99, f"nested deeper than {MAX_DEPTH} levels"),
        (JOB + "[classifier]\n" + ".".join("a" * 5000) + " = 1", f"nested deeper than {MAX_DEPTH} levels"),
        (JOB + "[" + ".".join("a" * 5000) + "]", f"nested deeper than {MAX_DEPTH} levels"),
        (JOB + "[clip]\nthreads = " + "9" * 10_000, "not valid TOML: Exceeds the limit"),
        (JOB + JOB, "Cannot declare"),
        (JOB + "[clip]\nthreads = 1\nthreads = 2", "Cannot overwrite a value"),
        (JOB + " " * MAX_BYTES, f"is larger than {MAX_BYTES} bytes"),
        (b"\xff\xfe" + JOB.encode("utf-16-le"), "cannot read the job file"),
        (JOB.replace('"x"', '"' + "x" * 100 + '"'), "[job] name: expected at most 60 characters, got 100"),
    ],
)
def test_a_file_unlike_any_job_file_is_refused(tmp_path, text, reason):
    (problem,) = messages(tmp_path, text)
    assert reason in problem
    assert len(problem) < 600


@pytest.mark.parametrize("name", ["a/b", "../up", "..", ".", ".hidden", "a\\nb", "a b", "", "a\\u0000", "a\\u202eb"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path, name):
    (problem,) = messages(tmp_path, JOB.replace('"x"', f'"{name}"'))
    assert "[job] name: expected letters, digits" in problem
    assert problem.isprintable()


def test_very_many_mistakes_are_counted(tmp_path):
    problems = messages(tmp_path, JOB + "[clip]\n" + "".join(f"k{number} = 1\n" for number in range(20_000)))
    assert len(problems) == MAX_MISTAKES + 1
    assert problems[-1].endswith(f"[clip]: {20_000 - MAX_MISTAKES} more mistakes")
    assert len(messages(tmp_path, JOB + "".join(f"[k{number}]\n" for number in range(20_000)))) <= MAX_MISTAKES


def test_long_values_are_cut_and_control_characters_escaped(tmp_path):
    (problem,) = messages(tmp_path, JOB + 'clip = "' + "x" * 100_000 + '"')
    assert len(problem) < 500
    (problem,) = messages(tmp_path, JOB + '["\\u001b[31m\\n"]')
    assert "\x1b" not in problem


@pytest.mark.parametrize(
    "override",
    [
        "clip.model=" + "[" * 3000,
        'clip.model="a"\n[archive]\nuri = "/etc"',
        "a." * 3000 + "b=1",
        "clip.__class__=1",
        "job.__init__.__globals__=1",
        "__proto__.x=1",
        "=1",
        ".=1",
        "clip.threads=" + "9" * 10_000,
    ],
)
def test_an_override_reaches_nothing_but_keys_of_sections(tmp_path, override):
    (tmp_path / "job.toml").write_text(JOB)
    try:
        job, problems = read_job(tmp_path / "job.toml", [override])
    except JobError as error:
        problems = error.problems
    else:
        assert job.archive is None
        assert type(job.job).__name__ == "JobSection"
        assert problems or job.clip.model == override.partition("=")[2].strip()
    assert all(len(problem) < 600 for problem in problems)


def test_a_pipe_is_read_and_an_endless_device_is_refused(tmp_path):
    with pytest.raises(JobError, match="is larger than"):
        read_job("/dev/zero")
    reader, writer = os.pipe()
    os.write(writer, JOB.encode())
    os.close(writer)
    assert read_job(f"/dev/fd/{reader}")[0].job.name == "x"
    os.close(reader)


def numbers_of(table, path):
    """The keys of a section that take numbers, with those of the tables in it."""
    for name, key in keys_of(table).items():
        if (inner := table_in(key.annotation)) is not None:
            if item_of(key.annotation) is None:
                yield from numbers_of(inner, f"{path}.{name}")
        elif any(word in key.expected for word in ("number", "integer")):
            yield f"{path}.{name}"


NUMBERS = [key for section, table in SECTIONS.items() for key in numbers_of(table, section)]


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1e309", "9" * 400, "true", '"1"'])
def test_every_number_of_a_job_file_is_finite_and_of_its_type(tmp_path, value):
    (tmp_path / "job.toml").write_text(JOB)
    settings = (word for key in NUMBERS for word in ("--set", f"{key}={value}"))
    outcome = fewshot("plan", tmp_path / "job.toml", *settings)
    assert outcome.code == 2
    assert [key for key in NUMBERS if f"error: --set {key}: " not in outcome.messages] == []
    assert {"classifier.max_error", "storage.lease_s", "cluster.memory_per_worker_gib", "deploy.gpu.max"} < {*NUMBERS}


@pytest.mark.parametrize("key", ["batch_size", "threads"])
def test_a_forward_has_a_size_that_memory_may_hold(tmp_path, key):
    for section in ("clip", "diffusion", "escalate"):
        (problem,) = messages(tmp_path, JOB, f"{section}.{key}={2**40}")
        assert f"[{section}] {key}: expected an integer of at least 1 and at most" in problem


values = st.recursive(
    st.none(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=1), inner, max_size=2)
)


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(value=values, more=st.integers(0, 2 * MAX_DEPTH))
def test_depth_is_found_without_recursion(value, more):
    for _ in range(more):
        value = [value]
    assert is_deep(value) == (depth(value) > MAX_DEPTH)


def test_a_refused_job_file_exits_with_2_and_writes_nothing(tmp_path):
    (tmp_path / "job.toml").write_text(JOB + "[clip]\nmodel = " + "[" * 5000)
    outcome = fewshot("classify", tmp_path / "job.toml")
    assert outcome.code == 2
    assert "not valid TOML" in outcome.messages
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_yaml_is_written_and_never_read():
    readers = [
        f"{module} imports {name}"
        for module, tree in modules(*PACKAGES)
        for name in imports(module, tree)
        if is_within(name, "yaml")
    ]
    assert set(readers) <= {"ray_jobs.manifest.kubernetes_text imports yaml"}


def test_zips_are_opened_for_the_pictures_of_the_demo_only():
    assert {module for module, tree in modules(*PACKAGES) if "zipfile" in imports(module, tree)} <= {
        "fewshot.demo.write",
        "fewshot.demo.scenes",
    }
