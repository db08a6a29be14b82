"""Jobs on archives as they are found: mixtures and links stop a job before any work, and each message has the key."""

from __future__ import annotations

import shutil

import pytest

from ray_jobs.inputs.archive import list_archive, open_archive
from ray_jobs.job_file.sections import ArchiveSection
from tests.cluster.records.archives import tar_bytes
from tests.ray_jobs.place import CLASSES, picture, put

pytestmark = pytest.mark.slow


def move_away(folder):
    """Put the files of a folder into a store beside it, and links to them in their places."""
    store = folder.parent / "store"
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        target = store / f"{number:040x}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        path.symlink_to(target)


def test_a_mixture_stops_the_job_and_the_form_is_named(place):
    put(place.archive / "zz/0.tar", tar_bytes([("x.jpg", picture("blue", 1))]))
    outcome = place.classify()
    assert outcome.code == 2
    assert "holds 1 .tar file and 20 images" in outcome.messages
    assert not place.output.exists() or not place.features()
    outcome = place.classify('archive.form="tar"')
    assert outcome.code == 0
    assert outcome.rows.keys() == {"x.jpg"}
    assert len(place.classify('archive.form="folder"').rows) == 20


def test_an_archive_of_links_names_the_key_and_is_read_with_it(place):
    rows = place.classify().rows
    move_away(place.archive)
    outcome = place.classify()
    assert outcome.code == 2
    assert "20 of 20 entries are symbolic links" in outcome.messages
    assert "follow_links = true" in outcome.messages
    linked = place.classify("archive.follow_links=true")
    assert linked.code == 0
    assert {image: row["label"] for image, row in linked.rows.items()} == {
        image: row["label"] for image, row in rows.items()
    }


@pytest.mark.parametrize("part", ["files", "folders"])
def test_examples_may_be_links_unless_the_job_refuses_them(place, part):
    rows = place.classify().rows
    if part == "files":
        move_away(place.examples)
    else:
        shutil.move(place.examples / "cyan", place.folder / "elsewhere")
        (place.examples / "cyan").symlink_to("../elsewhere")
    refused = place.classify("support.follow_links=false")
    assert refused.code == 2
    assert "follow_links = true" in refused.messages
    linked = place.classify()
    assert linked.code == 0
    assert {image: row["label"] for image, row in linked.rows.items()} == {
        image: row["label"] for image, row in rows.items()
    }


def test_the_component_of_webdataset_counts_and_hard_links_are_read(place):
    shutil.rmtree(place.archive)
    samples = [(f"{label}.{name}", picture(label, 1)) for label in CLASSES for name in ("jpg", "png", "seg.png")]
    put(place.archive / "0.tar", tar_bytes(samples))
    outcome = place.classify()
    assert {image: row["status"] for image, row in outcome.rows.items()} == {
        f"{label}.{name}": status for label in CLASSES for name, status in (("jpg", "ok"), ("png", "unreadable"))
    }
    assert 'component = "jpg"' in outcome.rows["blue.png"]["error"]
    assert place.classify('archive.component="jpg"').rows.keys() == {f"{label}.jpg" for label in CLASSES}


def test_tars_are_counted_where_their_images_are_not_known(place):
    shutil.rmtree(place.archive)
    for name in ("0.tar", "1.tar"):
        put(place.archive / name, tar_bytes([(f"{name}{label}.jpg", picture(label, 1)) for label in CLASSES]))
    outcome = place.classify()
    assert (outcome.code, len(outcome.rows)) == (0, 6)
    assert {"embedding: 2/2 shards, done", "labelling: 2/2 shards, done"} <= set(outcome.messages.splitlines())
    assert list_archive(open_archive(ArchiveSection(uri=str(place.archive)))).weight == (2, "shards")
