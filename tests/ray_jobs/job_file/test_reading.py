"""Job files are read strictly: every mistake is reported at once, with its line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import read_job, resolved
from ray_jobs.preflight import _outside
from tests.ray_jobs.place import Place, fewshot

SECTIONS = """\
[job]
name = "groceries"
output = "runs/groceries"

[archive]
uri = "photos/"

[support]
uri = "examples/"
"""


@pytest.fixture
def bare(tmp_path):
    """A folder without an archive: nothing here embeds anything."""
    return Place(tmp_path, tmp_path)


@pytest.fixture
def filled(bare):
    """One with everything but weights: nothing here may get as far as needing them."""
    return bare.fill()


def read(folder, text, *overrides, needs=()):
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return read_job(path, overrides, needs=needs)


def problems(folder, text, *overrides, needs=()):
    """Every problem, without the folder in front of it."""
    try:
        _, found = read(folder, text, *overrides, needs=needs)
    except JobError as error:
        found = error.problems
    return [problem.removeprefix(f"{folder}/") for problem in found]


def test_every_mistake_is_reported_with_line_and_suggestion(tmp_path):
    text = """\
[job]
name = "two words"
output = "runs"

[archive]
uri = "photos/"
shard_imgs = 10
shard_images = 0

[suport]
uri = "examples/"

[clip]
threads = "many"
"""
    found = problems(tmp_path, text, needs=("archive", "support"))
    expected = [
        ("job.toml, line 2:", "[job] name: expected letters", "got 'two words'"),
        ("job.toml, line 7:", "[archive] shard_imgs: unknown key.", "Did you mean 'shard_images'?"),
        ("job.toml, line 8:", "[archive] shard_images: expected an integer of at least 1, got 0"),
        ("job.toml, line 10:", "[suport]: unknown section.", "Did you mean '[support]'?"),
        ("job.toml, line 14:", "[clip] threads: expected an integer of at least 1 and at most 1024, got 'many'"),
        ("job.toml:", "[support]: missing section; it needs uri"),
    ]
    assert len(found) == len(expected)
    for pieces in expected:
        assert sum(all(piece in line for piece in pieces) for line in found) == 1, (pieces, found)


def test_mistakes_in_the_file_and_in_its_paths_are_reported_together(bare):
    bare.write_job(
        archive={"uri": "nowhere/", "labels": "no_truth.csv"},
        support={"uri": "no_examples.csv"},
        classifier={"method": "tip_adaptor"},
        cluster={"clip_workers": 0},
        evaluate={"splits": "no_splits.json"},
    )
    outcome = fewshot("classify", bare.job)
    assert (outcome.code, outcome.result) == (2, None)
    for piece in (
        "[cluster] clip_workers: expected an integer of at least 1 and at most 1000000, got 0",
        "[archive] uri: ",
        "nowhere: not found",
        "[archive] labels: there is no no_truth.csv",
        "[support] uri: there is no no_examples.csv",
        "[classifier] method: unknown method 'tip_adaptor'. Did you mean 'tip_adapter'?",
    ):
        assert piece in outcome.messages
    assert len(outcome.messages.splitlines()) == 5
    assert [path.name for path in bare.folder.iterdir()] == ["job.toml"]


def test_a_mistake_in_an_override_names_the_override(tmp_path):
    text = SECTIONS + "shots = 4\n"
    assert problems(tmp_path, text, "support.shots=0") == [
        "--set support.shots: [support] shots: expected an integer of at least 1, got 0"
    ]
    (found,) = problems(tmp_path, text + "views = -1\n", "support.shots=2")
    assert found.startswith("job.toml, line 11: [support] views: expected")


@pytest.mark.parametrize("key", ["support.seed", "escalate.seed", "evaluate.seeds"])
def test_a_seed_of_more_than_64_bits_is_refused(tmp_path, key):
    values = [-(2**63) - 1, 2**63]
    for value in values:
        given = f"{key}={[value] if key.endswith('s') else value}"
        found = problems(tmp_path, SECTIONS, given, "evaluate.splits=splits.json")
        assert any("seed" in line and str(value) in line for line in found), (given, found)
    assert problems(tmp_path, SECTIONS, "support.seed=-1") == []


def test_paths_of_other_commands_are_not_checked(bare):
    bare.write_job(evaluate={"splits": "no_splits.json"}, archive={"uri": "nowhere/"})
    outcome = fewshot("evaluate", bare.job)
    assert outcome.code == 2
    assert "[evaluate] splits: there is no no_splits.json" in outcome.messages
    assert "nowhere" not in outcome.messages


def test_a_prompt_without_a_place_for_the_name_is_refused(filled):
    outcome = filled.classify('clip.templates=["a photo"]')
    assert (outcome.code, filled.output.exists()) == (2, False)
    assert "[clip] templates: expected exactly one {} in each" in outcome.messages


@pytest.mark.parametrize(
    ("output", "reason"), [("http://localhost:1/it", "only read"), ("memory://it", "end with the process")]
)
def test_an_output_that_keeps_nothing_is_refused_before_any_work(filled, output, reason):
    outcome = filled.classify(f"job.output={output}")
    assert (outcome.code, outcome.result) == (2, None)
    (line,) = [line for line in outcome.messages.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: [job] output: ")
    assert f"{reason}; use a folder, or a URL such as s3://bucket/prefix" in line


def test_nothing_is_requested_from_aws_in_place_of_a_wrong_endpoint(filled, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(Store, "check_access", lambda store: asked.append(store.root))
    outcome = filled.classify("job.output=s3://bucket/it", "storage.endpoint=http://localhost:1/bucket")
    assert (outcome.code, asked) == (2, [])
    (line,) = [line for line in outcome.messages.splitlines() if line.startswith("error: ")]
    assert "storage.endpoint" in line


@pytest.mark.parametrize("output", ["gopher://here/it", "dvc://here/it", "job.toml/below", "job.toml"])
def test_an_unwritable_output_is_a_mistake_of_the_job_file(filled, output):
    output = output if "://" in output else filled.folder / output
    outcome = filled.classify(f"job.output={output}")
    assert (outcome.code, outcome.result) == (2, None)
    assert "[job] output: " in outcome.messages


@pytest.mark.parametrize("command", ["status", "report"])
def test_an_output_without_a_driver_is_reported(command):
    outcome = fewshot(command, "dvc://here/it")
    assert outcome.code == 2
    assert "cannot open dvc:// URLs: Install dvc" in outcome.messages


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a folder that refuses to be written to, also by root")
def test_an_output_that_refuses_writes_ends_in_one_line(filled):
    outcome = filled.classify("job.output=/sys/fewshot")
    assert outcome.code > 0
    (line,) = outcome.messages.splitlines()
    assert line.startswith("error: ")
    assert "/sys/fewshot" in line


@pytest.mark.parametrize("where", ["archive", "examples"])
def test_an_output_inside_the_images_is_refused(filled, where):
    inside = filled.folder / where / "results"
    outcome = filled.classify(f"job.output={inside}")
    assert (outcome.code, inside.exists()) == (2, False)
    assert "[job] output: " in outcome.messages
    assert "lies inside" in outcome.messages


def test_an_output_inside_the_folder_of_a_glob_is_refused(filled):
    outcome = filled.classify(f"archive.uri={filled.archive}/**/*.jpg", f"job.output={filled.archive / 'results'}")
    assert outcome.code == 2
    assert "lies inside" in outcome.messages


def test_an_output_inside_an_archive_is_found_under_other_spellings(monkeypatch):
    monkeypatch.setattr(Store, "check_access", lambda self: None)
    for place, output in (("s3://b/photos", "s3a://b/photos/out"), ("s3a://b//photos/", "s3://b/photos/out")):
        with pytest.raises(ValueError, match="lies inside"):
            _outside(Store(output), [place])
    _outside(Store("s3a://b/out"), ["s3://b/photos"])


@pytest.mark.parametrize(
    "section", ["job", "archive", "support", "clip", "classifier", "escalate", "evaluate", "cluster", "deploy"]
)
def test_a_value_in_place_of_a_section_is_reported(tmp_path, section):
    (found,) = problems(tmp_path, f"{section} = 3\n" + SECTIONS.replace(f"[{section}]", f"[{section}_]"))[:1]
    assert f"[{section}]: expected a section, got {section} = 3" in found


def test_a_mistake_in_a_nested_table_has_its_own_line(tmp_path):
    text = (
        SECTIONS
        + """\
[deploy]
image = "fewshot:1"

[deploy.cpu]
max = 2

[deploy.gpu]
max = "many"
mx = 3

[[support.classes]]
lable = "milk"
"""
    )
    found = problems(tmp_path, text)
    expected = [
        "job.toml, line 17: [deploy.gpu] max: expected an integer of at least 0, got 'many'",
        "job.toml, line 18: [deploy.gpu] mx: unknown key. Did you mean 'max'?",
        "job.toml, line 8: [support] classes.0.lable: unknown key. Did you mean 'label'?",
        "job.toml, line 8: [support] classes.0.label: missing; expected a string",
    ]
    assert len(found) == len(expected)
    for messages in expected:
        assert sum(line.startswith(messages) for line in found) == 1, (messages, found)


def test_the_right_keys_of_a_table_with_mistakes_are_kept(tmp_path):
    text = (
        SECTIONS
        + """\
[deploy]
image = "fewshot:1"
gpu = { max = 3, mx = 4, gpus = "two" }
aws = { region = "Ireland", head_type = "large" }
"""
    )
    job, found = read(tmp_path, text)
    assert len(found) == 5
    assert (job.deploy.image, job.deploy.gpu.max, job.deploy.gpu.gpus) == ("fewshot:1", 3, 1)
    assert job.deploy.aws is None


def test_the_share_of_escalated_images_has_a_range(tmp_path):
    (found,) = problems(tmp_path, SECTIONS + "[escalate]\nmax_fraction = 0.0\n")
    assert "[escalate] max_fraction: expected a number above 0 and at most 1, got 0.0" in found


def test_an_unknown_diffusion_scorer_is_refused_with_the_known_ones(tmp_path):
    job, (found,) = read(tmp_path, SECTIONS + '[escalate]\nmethod = "tiff"\nmax_fraction = 0.3\n')
    assert found.endswith('[escalate] method: expected "diffusion_classifier" or "tif", got \'tiff\'')
    assert job.escalate.max_fraction == 0.3


def test_invalid_toml_is_reported_with_its_line(tmp_path):
    (found,) = problems(tmp_path, SECTIONS + "[clip]\nthreads =\n")
    assert "job.toml is not valid TOML" in found
    assert "line 11" in found


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert problems(tmp_path, "\ufeff" + SECTIONS) == []


def test_a_missing_file_and_a_binary_file_are_reported(tmp_path):
    with pytest.raises(JobError, match=r"there is no job file .*absent\.toml"):
        read_job(tmp_path / "absent.toml")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(JobError, match=r"expected a job file, got the folder .*: name the job file with which"):
        read_job(tmp_path)
    with pytest.raises(JobError, match=r"cannot read the job file .*picture\.toml"):
        read_job(tmp_path / "picture.toml")


def test_overrides_are_toml_values_or_strings(tmp_path):
    job, found = read(
        tmp_path,
        SECTIONS,
        "support.shots=8",
        "classifier.method=tip_adapter",
        "classifier.hyperparameters.alpha=2.5",
        "classifier.hyperparameters.beta = 1",
        'clip.templates=["a {}", "one {}"]',
        "cluster.address=host:6379",
        "archive.uri=s3://bucket/some=thing",
        "evaluate.splits='two words.json'",
    )
    assert found == []
    assert job.support.shots == 8
    assert job.classifier.method == "tip_adapter"
    assert job.classifier.hyperparameters == {"alpha": 2.5, "beta": 1}
    assert job.clip.templates == ("a {}", "one {}")
    assert job.cluster.address == "host:6379"
    assert job.archive.uri == "s3://bucket/some=thing"
    assert job.evaluate.splits == "two words.json"


@pytest.mark.parametrize(
    ("override", "messages"),
    [
        ("support", "expected section.key=value"),
        ("support=3", "expected section.key=value"),
        ("support.shots", "expected section.key=value"),
        ("support.shots=few", "[support] shots: expected an integer of at least 1"),
        ("support.shots=", "[support] shots: expected an integer of at least 1"),
        ("support.shots=true", "[support] shots: "),
        ("support.shorts=3", "Did you mean 'shots'?"),
        ("suport.shots=3", "Did you mean '[support]'?"),
        ("support.uri.folder=3", "support.uri is not a section"),
        ("job.name=a/b", "[job] name: expected letters"),
        ("job.output=", "[job] output: "),
        ("support.uri=", "[support] uri: "),
    ],
)
def test_a_wrong_override_is_one_mistake(tmp_path, override, messages):
    (found,) = problems(tmp_path, SECTIONS, override)
    assert messages in found


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "cluster.decode_workers=0",
            '[cluster] decode_workers: expected an integer of at least 1 and at most 1000000, or "auto", got 0',
        ),
        (
            "deploy.gpu.node_selector={'-'='x'}",
            "[deploy.gpu] node_selector: expected the key of a Kubernetes label, got '-'",
        ),
        ("deploy.gpu.node_selector={a='-'}", "[deploy.gpu.node_selector] a: expected the value of a Kubernetes label"),
        ("deploy.gpu=3", "[deploy] gpu: expected a table, got 3"),
        ("cluster.labels.a=1", "[cluster.labels] a: expected a string, got 1"),
        ("classifier.hyperparameters=3", "[classifier] hyperparameters: expected a table, got 3"),
        ("archive.schemes=['ftp']", '[archive] schemes.0: expected "abfs", "abfss", "az"'),
        (
            "clip.templates=[]",
            "[clip] templates: expected a list of at least one item, each a string, or the name of a data set, got []",
        ),
        ("clip.batch_size=0", "[clip] batch_size: expected an integer of at least 1 and at most 65536, got 0"),
        ("clip.pretrained=a", "; remove pretrained = 'a'"),
        ("escalate.schedule=race", '[escalate] schedule: expected "racing", "published" or "exhaustive", got \'race\''),
        ("archive.uri=", "[archive] uri: expected a path or URL, got ''"),
        ("archive.'two words'=1", "[archive] \"'two words'\": unknown key."),
    ],
)
def test_a_wrong_value_is_one_mistake_with_what_was_expected(tmp_path, override, message):
    (found,) = problems(tmp_path, SECTIONS, override, "deploy.image='fewshot:1'")
    assert message in found


@settings(max_examples=25)
@given(
    shots=st.none() | st.integers(1, 99),
    templates=st.none() | st.lists(st.text(max_size=8).map(lambda text: text + "{}"), min_size=1, max_size=3),
    hyperparameters=st.dictionaries(st.sampled_from(["alpha", "beta"]), st.floats(0, 9) | st.text(max_size=3)),
    max_error=st.none() | st.floats(0.01, 0.99),
)
def test_the_resolved_job_reads_as_the_same_job(tmp_path_factory, shots, templates, hyperparameters, max_error):
    given_keys = {
        "job": {"name": "x", "output": "out"},
        "support": {"uri": "examples"} | ({} if shots is None else {"shots": shots}),
        "clip": {} if templates is None else {"templates": templates},
        "classifier": {"hyperparameters": hyperparameters} | ({} if max_error is None else {"max_error": max_error}),
    }
    folder = tmp_path_factory.getbasetemp()
    job, found = read(folder, tomlkit.dumps(given_keys))
    assert found == []
    again, found = read(folder, tomlkit.dumps(resolved(job)))
    assert (again, found) == (job, [])


def test_the_resolved_job_has_no_credentials_in_urls(tmp_path):
    job, _ = read(tmp_path, SECTIONS, "archive.uri=https://me@host/photos?signature=secret")
    assert resolved(job)["archive"]["uri"] == "https://host/photos"


def test_a_section_with_a_mistake_is_checked_further(place):
    """The rest of a section is checked as well: all mistakes are reported at once, not one after the other."""
    job_file = place.folder / "five.toml"
    job_file.write_text(
        '[job]\nname = "x"\noutput = "out"\n'
        '[archive]\nuri = "nowhere/"\nshard_image = 3\n'
        '[support]\nuri = "nobody/"\nshots = "four"\n'
        '[clip]\nmodel = "ViT-B32"\n'
        '[classifier]\nmethod = "appe"\n'
    )
    outcome = fewshot("classify", str(job_file))
    assert outcome.code == 2
    for messages in ("shard_image", "shots", "nowhere", "nobody", "Did you mean 'ViT-B-32'", "Did you mean 'ape'"):
        assert messages in outcome.messages


def test_a_password_in_a_url_is_refused_and_not_quoted(tmp_path):
    text = SECTIONS.replace('"photos/"', '"s3://me:hunter/2@photos"') + "nonsense = 1\n[clip]\n"
    found, other, nested = problems(tmp_path, text + 'templates = ["a {}", "https://me:hunter/2@host {}"]\n')
    assert found.startswith(
        "job.toml, line 6: [archive] uri: a URL with a password in it; credentials come from the env"
    )
    assert other.startswith("job.toml, line 10: [support] nonsense: unknown key.")
    assert nested.startswith("job.toml, line 12: [clip] templates.1: a URL with a password in it")
    assert "hunter" not in f"{found}{other}{nested}"


def test_a_long_value_is_cut_without_a_part_of_its_password(tmp_path):
    (found,) = problems(tmp_path, SECTIONS + f'classes = "s3://me:{"hunter2" * 40}@photos"\n')
    assert "hunter2" not in found


FIVE = {
    "job": ['name = "two words"\noutput = "out"', 'name = "x"\noutput = 3', 'name = "x"', "name = 1\nnames = 2"],
    "archive": ['uri = "nowhere/"', 'uri = "s3://me:hunter2@photos"', "shard_images = 4", 'uri = "~nosuchuser/photos"'],
    "support": ['uri = "nobody/"', "uri = 4", 'uri = "nobody.csv"', "views = 1"],
    "clip": ['model = "ViT-B32"', 'templates = ["a photo"]', "threads = 0", "precison = 1"],
    "classifier": ['method = "appe"', "max_error = 1.5", 'from = "nothing/"\nmethod = "ape"', "hyperparameters = 3"],
    "storage": ['endpoint = "localhost"', "lease_s = 0", 'ca_file = "nowhere.pem"', 'endpoint = "http://127.0.0.1:9"'],
}


@pytest.mark.parametrize("number", range(4))
def test_mistakes_in_six_sections_are_six_lines_whatever_they_are(tmp_path, number):
    sections = {name: texts[(number + index) % 4] for index, (name, texts) in enumerate(FIVE.items())}
    job_file = tmp_path / "job.toml"
    job_file.write_text("\n".join(f"[{name}]\n{text}" for name, text in sections.items()))
    outcome = fewshot("classify", job_file)
    assert (outcome.code, outcome.result) == (2, None)
    lines = outcome.messages.splitlines()
    for name in sections:
        assert any(f"[{name}]" in line for line in lines), (name, lines)
    two = sum("names = 2" in text for text in sections.values())
    assert len(lines) == len(sections) + 2 * two, lines


def test_a_section_that_fails_its_check_beside_a_wrong_key_has_both_reported(tmp_path):
    found = problems(tmp_path, SECTIONS + '[clip]\nthreads = "two"\ntemplates = ["a photo"]\n')
    assert len(found) == 2
    assert "[clip] threads: expected an integer of at least 1" in found[0]
    assert "[clip] templates: expected exactly one {} in each" in found[1]


def test_a_server_that_does_not_respond_hides_no_local_mistake(bare):
    bare.write_job(
        storage={"endpoint": "http://127.0.0.1:9"},
        archive={"uri": "s3://bucket/photos"},
        support={"uri": "nobody.csv"},
        clip={"model": "ViT-B32"},
    )
    lines = fewshot("classify", bare.job).messages.splitlines()
    assert [line.partition("]")[0] for line in lines] == ["error: [storage", "error: [clip", "error: [support"]


def test_an_output_that_cannot_be_written_stops_the_job_before_any_work(filled, monkeypatch):
    (filled.folder / "file").write_bytes(b"")
    for output in (filled.folder / "file/output", "~nosuchuser/output", f"/{'x' * 300}/output"):
        outcome = filled.classify(f"job.output={output}")
        assert (outcome.code, outcome.result) == (2, None)
        assert "error: [job] output: " in outcome.messages
    monkeypatch.setattr("os.access", lambda *_: False)
    outcome = filled.classify()
    assert (outcome.code, outcome.result) == (2, None)
    assert f"[job] output: could not write {filled.output}: PermissionError" in outcome.messages
    assert not filled.output.exists()


def test_a_finished_run_is_recognised_where_nothing_can_be_written(finished, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert finished.classify().result["did"] == "nothing"
    outcome = finished.classify("classifier.top=2")
    assert (outcome.code, outcome.result) == (2, None)
    assert "[job] output: could not write" in outcome.messages


def test_a_folder_with_the_name_of_a_job_file_is_an_output(tmp_path):
    (tmp_path / "x.toml").mkdir()
    outcome = fewshot("classify", tmp_path / "x.toml")
    assert "is no job file" in outcome.messages


def test_a_job_file_whose_path_cannot_be_is_refused():
    for path in ("a\0b.toml", f"{'x' * 300}.toml"):
        with pytest.raises(JobError, match="cannot read the job file"):
            read_job(path)


@pytest.mark.parametrize("key", ["access_key", "secret_key", "token", "password"])
def test_credentials_under_storage_are_refused(tmp_path, key):
    (found,) = problems(tmp_path, f'{SECTIONS}[storage]\n{key} = "hunter2"\n')
    assert f"[storage] {key}: unknown key." in found
    assert "Credentials come from the environment or from the machine's identity." in found
    assert "hunter2" not in found


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "https://host/bucket", "https://"])
def test_an_endpoint_must_be_the_url_of_a_server(tmp_path, endpoint):
    (found,) = problems(tmp_path, f'{SECTIONS}[storage]\nendpoint = "{endpoint}"\n')
    assert found.startswith("job.toml, line 11: [storage] endpoint: expected a URL such as https://host:9000")


def test_a_file_without_certificates_is_refused(filled):
    outcome = filled.classify(f"storage.ca_file={filled.truth}")
    assert (outcome.code, outcome.result) == (2, None)
    assert "[storage]: expected certificates in PEM" in outcome.messages


def test_storage_settings_do_not_change_the_run(finished):
    assert finished.classify("storage.region=elsewhere", "storage.path_style=true").result["did"] == "nothing"


@pytest.mark.parametrize("value", ["a\0b", "~nosuchuser/x", "x" * 5000, f"/{'y' * 300}/z"])
def test_a_text_that_names_nothing_is_a_line_for_each_key(bare, value):
    keys = {
        "job": ("output",),
        "archive": ("uri", "labels"),
        "support": ("uri",),
        "clip": ("model",),
        "storage": ("ca_file",),
        "cluster": ("address",),
    }
    bare.write_job(**{section: dict.fromkeys(names, value) for section, names in keys.items()})
    outcome = fewshot("classify", bare.job)
    assert (outcome.code, outcome.result) == (2, None)
    for section, names in keys.items():
        for key in names:
            found = [line for line in outcome.messages.splitlines() if line.startswith(f"error: [{section}]")]
            assert any(key in line or section == "storage" for line in found), (section, key, outcome.messages)
