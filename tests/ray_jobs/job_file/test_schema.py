"""The JSON schema accepts and refuses the same job files as `read_job`, and explains every key."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from fewshot.methods.table import METHODS
from ray_jobs.commands.app import app
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import SECTIONS, job_file_text, read_job
from ray_jobs.job_file.schema import DIALECT, job_file_schema
from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN
from tests.sources import ROOT

SCHEMA = job_file_schema()
HEAD = '[job]\nname = "x"\noutput = "runs"\n'
JOB_FILES = [
    *(
        block if "[job]" in block else HEAD + block
        for document in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
        for block in re.findall(r"^```toml\n(.*?)^```", document.read_text(), re.M | re.S)
    ),
    EVERYTHING,
    PLAIN,
]


def errors(text: str) -> list[str]:
    """What the schema refuses in a job file."""
    validator = Draft202012Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(tomllib.loads(text))]


def reads(folder: Path, text: str) -> bool:
    """Whether a job file can be read without a problem."""
    (folder / "job.toml").write_text(text, encoding="utf-8")
    try:
        return not read_job(folder / "job.toml")[1]
    except JobError:
        return False


def described(schema: object) -> list[dict[str, object]]:
    """All parts of a schema that have properties."""
    if not isinstance(schema, dict):
        return []
    inner = [found for value in schema.values() for found in described(value)]
    return [schema, *inner] if isinstance(schema.get("properties"), dict) else inner


def test_the_command_prints_a_valid_schema():
    done = CliRunner().invoke(app, ["schema"])
    assert (done.exit_code, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    Draft202012Validator.check_schema(printed)
    assert printed["$schema"] == DIALECT
    assert printed == SCHEMA


def test_every_section_and_key_is_explained():
    assert SCHEMA["properties"].keys() == SECTIONS.keys()
    tables = described(SCHEMA)
    assert len(tables) == len(SECTIONS) + 8  # The file itself and the tables in [support], [clip] and [deploy].
    for table in tables:
        assert table["description"].endswith(".")
        for name, key in table["properties"].items():
            assert key["description"].rstrip(")").endswith("."), name
            assert "None" not in key["description"], name


def test_null_is_nowhere_because_toml_has_none():
    assert "null" not in json.dumps(SCHEMA)


@pytest.mark.parametrize("text", JOB_FILES)
def test_job_files_in_documents_and_tests_are_valid(tmp_path, text):
    assert (errors(text), reads(tmp_path, text)) == ([], True)


@pytest.mark.parametrize(
    "mistake",
    [
        "[clip]\nthreads = 0\n",
        "[clip]\nmodle = 'embedded'\n",
        "[clip]\nprecision = 'fp8'\n",
        "[clip]\ntemplates = []\n",
        "[clip]\ndevice = 'gpu'\n",
        "[escalate]\ndevice = 'cuda:x'\n",
        "[classifier]\nmax_error = 1.0\n",
        "[archive]\n",
        "[archive]\nuri = ''\n",
        "[archive]\nuri = 'a'\nschemes = ['ftp']\n",
        "[escalate]\nmax_fraction = 0.0\n",
        "[evaluate]\nsplits = 'a'\nshots = [0]\n",
        "[cluster]\ndecode_workers = 'many'\n",
        "[deploy]\nimage = 'a'\ngpu = { max = -1 }\n",
        "[deploy]\nimage = 'a'\nnamespace = 'Vision'\n",
        "[deploy]\nimage = 'a'\nvolumes = [{ claim = 'a' }]\n",
        "[[support.classes]]\nname = 'milk'\n",
        "[nonsense]\n",
        "clip = 3\n",
    ],
)
def test_the_same_mistakes_are_refused(tmp_path, mistake):
    text = mistake + HEAD if "[" not in mistake else HEAD + mistake
    assert not reads(tmp_path, text)
    assert errors(text) != []


@settings(max_examples=25)
@given(
    method=st.sampled_from(sorted(METHODS)),
    shots=st.none() | st.integers(1, 99),
    max_error=st.none() | st.floats(0.01, 0.99),
    decode=st.none() | st.integers(1, 9) | st.just("auto"),
)
def test_a_resolved_job_is_valid(tmp_path_factory, method, shots, max_error, decode):
    given_keys = {"support.shots": shots, "classifier.max_error": max_error, "cluster.decode_workers": decode}
    overrides = [f"{key}={json.dumps(value)}" for key, value in given_keys.items() if value is not None]
    folder = tmp_path_factory.getbasetemp()
    (folder / "job.toml").write_text(PLAIN, encoding="utf-8")
    job, problems = read_job(folder / "job.toml", [f"classifier.method={method}", *overrides])
    assert problems == []
    assert errors(job_file_text(job)) == []
