"""`fewshot init` writes a job file that plan and classify take as it is, whatever the places are called."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_jobs.commands.init_tables import MAX_CLASSES, rows_to_show
from ray_jobs.job_file.reading import read_job
from tests.cluster.records.archives import tar_bytes
from tests.cluster.records.s3_server import s3_server
from tests.ray_jobs.place import CLASSES, fewshot, picture, put, write_table, written

NAMES = (
    "photos",
    "my photos",
    "it's 5\" wide",
    "файлы",
    "#1 best",
    "a = [b]",
    "line\nend",
    "tab\t",
    "back\\slash",
    "'''",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder one is in: `photos/` with four pictures, `examples/` with two of each of three classes."""
    for seed in range(4):
        put(tmp_path / f"photos/{seed}.jpg", picture(CLASSES[seed % 3], seed))
    write_examples(tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_examples(folder: Path, *, shots: int = 2) -> None:
    for label in CLASSES:
        for shot in range(shots):
            put(folder / label / f"{shot}.jpg", picture(label, 1000 + shot))


def init(*words):
    return fewshot("init", *words)


@pytest.mark.slow
def test_the_written_file_is_planned_and_classified_as_it_is(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    tiny = [f"clip.model={place.clip}", "clip.batch_size=4", "cluster.mode=process", "support.views=1"]
    outcome = init("archive", "examples", "--job", "new.toml", *(word for text in tiny for word in ("--set", text)))
    assert (outcome.code, outcome.result["warnings"], outcome.result["notes"]) == (0, [], [])
    assert {outcome.result[key] for key in ("job_file", "name", "output")} == {"new.toml", "archive", "runs/archive"}
    assert not (place.folder / "runs").exists()
    plan = fewshot("plan", "new.toml", "--no-probe")
    assert (plan.code, plan.result["archive"]["images"], plan.result["examples"]) == (0, 20, 6)
    done = fewshot("classify", "new.toml")
    assert (done.code, done.result["complete"], done.result["images"]) == (0, True, 20)
    assert done.run.parent == place.folder / "runs/archive/runs"


def test_what_is_there_is_shown_and_told(here):
    put(here / "photos/.hidden", b"x")
    put(here / "examples/amber/notes.txt", b"x")
    outcome = init("photos", "examples")
    assert outcome.code == 0
    archive, examples = outcome.result["archive"], outcome.result["examples"]
    assert (archive["kind"], archive["images"], archive["skipped"]) == ("folder", 4, 1)
    assert (examples["form"], examples["counts"]) == ("folder", dict.fromkeys(CLASSES, 2))
    assert outcome.result["suggestions"] | {"clip": None, "least_error": None} == {
        "shots": None,
        "views": 0,
        "clip": None,
        "held_out": 6,
        "max_error": 0.1,
        "needed": 22,
        "least_error": None,
    }
    for shown in (
        "folder, 4 images",
        "in the archive, 1 entry was skipped, not an image by its name: ",
        ".hidden",
        "notes.txt",
        "6 examples of 3 classes",
        "amber",
        "fewshot plan job.toml",
    ):
        assert shown in outcome.messages
    text = (here / "job.toml").read_text()
    for comment in (
        "folder, 4 images; 1 entry was skipped, not an image by its name",
        "takes 22 held-out examples, the 6 here allow 0.32",
        "ViT-B-32",
    ):
        assert comment in text


@pytest.mark.parametrize("archive", NAMES)
def test_a_file_with_odd_names_reads_back_as_they_are(archive, here):
    examples = f"{archive} examples"
    (here / "photos").rename(here / archive)
    (here / "examples").rename(here / examples)
    job_file = here / f"{archive}.toml"
    outcome = init(archive, examples, "--output", f"out/{archive}", "--job", job_file)
    assert outcome.code == 0, outcome.messages
    job, problems = read_job(job_file)
    assert problems == []
    assert (job.archive.uri, job.support.uri, job.job.output) == (archive, examples, f"out/{archive}")
    plan = fewshot("plan", job_file, "--no-probe")
    assert (plan.code, plan.result["archive"]["images"]) == (0, 4)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: (
        name.strip()
        and not name.startswith(("~", "."))
        and not name.lower().endswith((".toml", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tar", ".tgz", ".zip"))
    )
)


@given(archive=names, examples=names, label=st.sampled_from(["a", "b # c", 'd"e', "f'g", "ж"]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_written_file_loads_without_problems(tmp_path_factory, archive, examples, label):
    root = tmp_path_factory.mktemp("any")
    put(root / "a" / archive / "x.jpg", picture("blue", 1))
    for name in (label, "other"):
        put(root / "e" / examples / name / "1.jpg", picture("blue", len(name)))
    outcome = init(root / "a" / archive, root / "e" / examples, "--job", root / "job.toml")
    assert outcome.code == 0, outcome.messages
    job, problems = read_job(root / "job.toml", needs=("archive", "support"))
    assert problems == []
    assert (job.archive.uri, job.support.uri) == (str(root / "a" / archive), str(root / "e" / examples))


def test_every_line_to_uncomment_is_valid(here):
    init("photos", "examples")
    lines = (here / "job.toml").read_text().split("\n")
    commented = [index for index, line in enumerate(lines) if line.startswith("# ") and " = " in line]
    assert len(commented) == 8
    changed = [line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in lines]
    changed.remove(next(line for line in changed if line.startswith('model = "embedded"')))
    (here / "changed.toml").write_text("\n".join(changed))
    job, problems = read_job("changed.toml")
    assert problems == []
    assert (job.clip.model, job.clip.pretrained) == ("ViT-B-32", "laion2b_s34b_b79k")
    assert (job.support.shots, job.classifier.max_error, job.archive.labels) == (16, 0.1, "labels.csv")
    assert job.support.labels is True
    assert (job.cluster.address, job.cluster.clip_workers) == ("auto", 4)


def test_settings_are_written_into_the_file(here):
    overrides = (
        "job.name=other",
        "support.shots=1",
        'support.classes=[{label = "plain # class", name = "a \\"thing\\""}]',
        "classifier.max_error=0.3",
        "classifier.hyperparameters.name_weight=0.5",
        'cluster.labels={"ray.io/accelerator-type" = "H100"}',
        "storage.region=eu-central-1",
    )
    outcome = init("photos", "examples", *(word for text in overrides for word in ("--set", text)))
    assert outcome.code == 2  # a hyperparameter that gda does not have
    assert "[classifier] method:" in outcome.messages
    overrides = [text for text in overrides if "hyperparameters" not in text]
    outcome = init("photos", "examples", *(word for text in overrides for word in ("--set", text)))
    assert outcome.code == 0, outcome.messages
    job, problems = read_job("job.toml")
    assert problems == []
    assert (job.job.name, job.support.shots, job.classifier.max_error) == ("other", 1, 0.3)
    assert [(item.label, item.name) for item in job.support.classes] == [("plain # class", 'a "thing"')]
    assert job.cluster.labels == {"ray.io/accelerator-type": "H100"}
    assert job.storage.region == "eu-central-1"
    assert outcome.result["examples"]["counts"]["plain # class"] == 0
    assert (outcome.result["suggestions"]["shots"], outcome.result["suggestions"]["held_out"]) == (1, 3)
    assert any("max_error = 0.3 needs" in warning for warning in outcome.result["warnings"])


def test_what_would_spoil_a_run_is_warned_of(here):
    put(here / "photos/copy.jpg", (here / "examples/amber/0.jpg").read_bytes())
    put(here / "examples/blue/again.jpg", (here / "examples/amber/1.jpg").read_bytes())
    put(here / "examples/cyan/again.jpg", (here / "examples/cyan/1.jpg").read_bytes())
    put(here / "examples/cyan/broken.jpg", b"no image")
    put(here / "examples/single/1.jpg", picture("blue", 77))
    put(here / "examples/amber/0_mask.png", picture("amber", 78))
    put(here / "photos/copy_mask.png", picture("amber", 79))
    outcome = init("photos", "examples")
    assert outcome.code == 0
    mask, copy, contradiction, repeat, unreadable, example_mask, single = outcome.result["warnings"]
    assert mask.startswith("1 archive image is called like a mask of another one, such as copy_mask.png of copy.jpg")
    assert "such as amber/0_mask.png of amber/0.jpg" in example_mask
    assert copy.startswith("1 archive image is a copy of examples, such as copy.jpg of amber/0.jpg.")
    assert "blue/again.jpg (blue) and amber/1.jpg (amber). Keep each image in one class." in contradiction
    assert repeat.startswith("1 example repeats another one of the same class.")
    assert unreadable.startswith("1 example cannot be read, such as cyan/broken.jpg: not an image")
    assert single.startswith("1 class has only one example: single.")
    assert all(f"warning: {warning}" in outcome.messages for warning in outcome.result["warnings"])
    twice = outcome.result["duplicates"]
    assert (twice["archive_copies"], twice["contradicting"], twice["same_class"]) == (1, 1, 1)


@pytest.mark.parametrize("inside", [True, False])
def test_examples_and_archive_in_each_other_are_warned_of(here, inside):
    outer, inner = ("examples", "photos") if inside else ("photos", "examples")
    (here / inner).rename(here / outer / inner)
    words = [f"{outer}/{inner}" if name == inner else name for name in ("photos", "examples")]
    outcome = init(*words)
    assert outcome.code == 0
    if inside:
        assert outcome.result["archive_inside_examples"] is True
        assert "The archive lies inside the folder of the examples" in outcome.messages
    else:
        assert outcome.result["duplicates"]["examples_inside_archive"] == 6
        assert "6 examples lie inside the archive" in outcome.messages
    assert outcome.result["duplicates"]["archive_copies"] == 0


def test_archives_of_other_forms_are_told_apart(here):
    images = [path.read_bytes() for path in sorted((here / "photos").iterdir())]
    put(here / "a.tar", tar_bytes([(f"{index}.jpg", data) for index, data in enumerate(images)]))
    pq.write_table(pa.table({"image": images}), here / "b.parquet")
    for archive, count in (("a.tar", None), ("b.parquet", 4)):
        outcome = init(archive, "examples", "--force")
        assert (outcome.code, outcome.result["archive"]["images"], outcome.result["warnings"]) == (0, count, [])
        assert outcome.result["output"] == f"runs/{archive[0]}"
        (note,) = outcome.result["notes"]
        assert note.startswith("The examples were not looked for in the archive")
        assert fewshot("plan", "job.toml", "--no-probe").result["archive"]["images"] == count


def test_examples_of_a_table_are_taken(here):
    rows = [(f"examples/{label}/{shot}.jpg", label) for label in CLASSES for shot in range(2)]
    write_table(here / "examples.csv", rows)
    outcome = init("photos", "examples.csv")
    assert (outcome.code, outcome.result["examples"]["form"]) == (0, "csv")
    assert "a csv table, 6 examples of 3 classes" in (here / "job.toml").read_text()


def test_what_was_not_looked_at_is_told(here, monkeypatch):
    monkeypatch.setattr("ray_jobs.drafting.examples_survey.MAX_INSPECTED", 4)
    monkeypatch.setattr("ray_jobs.drafting.duplicates.MAX_CANDIDATES", 0)
    put(here / "photos/copy.jpg", (here / "examples/amber/0.jpg").read_bytes())
    outcome = init("photos", "examples")
    examples, archive = outcome.result["notes"]
    assert examples == "Only the first 4 of the 6 examples to use were read."
    assert archive.startswith("Only the first ")
    assert f"note: {archive}" in outcome.messages
    assert (outcome.result["warnings"], outcome.result["duplicates"]["all_compared"]) == ([], False)


def test_names_alone_lead_to_labels(here):
    outcome = init("photos", write_table(here / "names.csv", [("", "amber"), ("", "blue")]))
    (warning,) = outcome.result["warnings"]
    assert "support.labels = true" in warning
    text = (here / "job.toml").read_text()
    assert "# labels = true " in text
    assert "now up to" not in text


def test_a_list_of_names_is_refused_with_the_form_they_take(here):
    (here / "names.txt").write_text("amber\nblue\n")
    outcome = init("photos", "names.txt")
    assert outcome.code == 2
    assert "for class names alone, a table with the columns image and label and nothing in image" in outcome.messages


def test_classes_known_by_name_only_are_told(here):
    rows = [("examples/blue/0.jpg", "blue"), ("", "amber"), ("", "cyan")]
    outcome = init("photos", write_table(here / "examples.csv", rows), "--set", "classifier.max_error=0.5")
    named, single, reach = outcome.result["warnings"]
    assert named == "2 classes have no example, only a name: amber, cyan."
    assert single.startswith("1 class has only one example: blue. Add a second one")
    assert reach.endswith("there are 1: every prediction would be abstained. Add examples, or raise max_error to 0.9.")


def test_many_examples_are_capped(here, monkeypatch):
    monkeypatch.setattr("ray_jobs.drafting.suggestions.MAX_SHOTS", 1)
    assert init("photos", "examples").code == 0
    job, _ = read_job("job.toml")
    assert job.support.shots == 1
    assert "the largest class has 2" in (here / "job.toml").read_text()


def test_nothing_is_replaced_without_force(here):
    (here / "job.toml").write_text("mine")
    outcome = init("nothing", "examples")
    assert outcome.code == 2
    assert "job.toml exists; choose another file with --job, or replace it with --force" in outcome.messages
    assert "error: ARCHIVE: " in outcome.messages
    assert init("photos", "examples").code == 2
    assert (here / "job.toml").read_text() == "mine"
    assert init("photos", "examples", "--force").code == 0
    assert tomllib.loads((here / "job.toml").read_text())["archive"]["uri"] == "photos"
    assert init("photos", "examples", "--job", "new/folder/job.toml").code == 0
    assert (here / "new/folder/job.toml").exists()


def test_every_mistake_is_told_at_once_and_nothing_written(here):
    before = written(here)
    outcome = init("nothing", "absent", "--output", "photos/out", "--job", "job.txt", "--set", "classifier.max_error=7")
    assert outcome.code == 2
    for problem in ("--job: job.txt does not end in .toml", "--set classifier.max_error", "ARCHIVE: ", "EXAMPLES: "):
        assert f"error: {problem}" in outcome.messages
    outcome = init("photos", "examples", "--output", "photos/out", "--set", "cliip.model=x")
    assert "error: --output: " in outcome.messages
    assert "lies inside" in outcome.messages
    assert "unknown section" in outcome.messages
    assert "[cliip]" in outcome.messages
    outcome = init("photos", "examples", "--set", "archive.uri=x", "--set", "nonsense")
    assert "--set archive.uri: give it as ARCHIVE" in outcome.messages
    assert "expected section.key=value" in outcome.messages
    assert written(here) == before


def test_a_file_that_cannot_be_written_is_told(here):
    outcome = init("photos", "examples", "--job", "photos/0.jpg/job.toml")
    assert (outcome.code, outcome.messages.splitlines()[-1]) == (
        2,
        "error: cannot write photos/0.jpg/job.toml: File exists (photos/0.jpg)",
    )


def test_places_in_object_storage_are_looked_at(here):
    with s3_server() as server:
        for path in sorted((here / "photos").iterdir()):
            server.objects[f"photos/{path.name}"] = path.read_bytes()
        for path in sorted((here / "examples").rglob("*.jpg")):
            server.objects[f"examples/{path.relative_to(here / 'examples')}"] = path.read_bytes()
        server.objects["photos/copy.jpg"] = server.objects["examples/blue/1.jpg"]
        server.objects["photos/notes.txt"] = b"x"
        endpoint = f"storage.endpoint={server.storage.endpoint}"
        words = ("s3://bucket/photos", "s3://bucket/examples", "--set", endpoint, "--set", "storage.anonymous=true")
        outcome = init(*words)
        assert outcome.code == 0, outcome.messages
        plan = fewshot("plan", "job.toml", "--no-probe")
    archive, examples = outcome.result["archive"], outcome.result["examples"]
    assert (archive["images"], archive["skipped"], outcome.result["output"]) == (5, 1, "runs/photos")
    assert examples["counts"] == dict.fromkeys(CLASSES, 2)
    assert [copy["archive_image"] for copy in outcome.result["duplicates"]["copies"]] == ["copy.jpg"]
    assert (plan.code, plan.result["archive"]["images"]) == (0, 5)
    fetched = [path for method, path in server.requests if method == "GET" and "/photos/" in path]
    assert len(fetched) == 1


def test_of_many_classes_the_largest_and_the_smallest_are_shown():
    counts = {f"class {index}": index for index in range(MAX_CLASSES + 1)}
    rows = rows_to_show(counts)
    assert [name for name, _ in rows[:2]] == ["class 20", "class 19"]
    assert rows[5] == ("…", "11 classes between")
    assert rows[-1] == ("class 0", "0")
    assert len(rows_to_show(dict.fromkeys(map(str, range(MAX_CLASSES)), 1))) == MAX_CLASSES


@pytest.mark.parametrize("job", ["no_folder.txt/job.toml", f"{'x' * 300}/job.toml"])
def test_a_job_file_that_cannot_be_written_is_found_before_the_archive_is_read(place, job):
    (place.folder / "no_folder.txt").write_bytes(b"")
    outcome = fewshot("init", place.archive, place.examples, "--job", place.folder / job)
    assert (outcome.code, outcome.result) == (2, None)
    assert "cannot write" in outcome.messages
    assert "File exists" in outcome.messages or "File name too long" in outcome.messages
