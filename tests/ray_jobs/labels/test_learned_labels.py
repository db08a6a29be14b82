"""Labels of a ledger beside examples, wherever the two lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import Store
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import support_labels
from ray_jobs.job_file.sections import ClassSection, SupportSection
from ray_jobs.labels import ImageId, LabelEvent, LabelLedger, new_label
from ray_jobs.labels.kept_images import keep_images, kept_path, key_of_kept, without_copies
from tests.ray_jobs.place import CLASSES, picture, put
from tests.s3.bucket import Bucket

IMAGES = {
    ImageId("here", "a\nb.jpg"): "amber",
    ImageId("here", "../x%2Fy.jpg"): "red",
    ImageId("there", "a\nb.jpg"): "blue",
}
CONTENTS = {image: picture(CLASSES[0], 4000 + number) for number, image in enumerate(IMAGES)}


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    for label in CLASSES:
        for shot in range(3):
            put(tmp_path / "examples" / label / f"{shot}.jpg", picture(label, 1000 + shot))
    return tmp_path / "examples"


def fill(store: Store) -> LabelLedger:
    ledger = LabelLedger(store)
    assert all(kept.is_new for kept in keep_images(store, CONTENTS).values())
    labels = [
        new_label(by="ada", archive=image.archive, image=image.image, answer="label", label=label, reason="review")
        for image, label in IMAGES.items()
    ]
    ledger.append([*labels, new_label(by="ada", archive="here", image="c.jpg", answer="unknown", reason="review")])
    return ledger


def test_all_labels_are_used_whatever_the_shots_are(examples: Path, tmp_path: Path) -> None:
    red = ClassSection(label="red", name="crimson", examples=0)
    section = SupportSection(uri=str(examples), shots=1, classes=(red,))
    labels = support_labels(section, ledger=fill(Store(str(tmp_path / "labels"))))
    assert labels.counts == {"amber": 2, "blue": 2, "cyan": 1, "red": 1}
    assert dict(zip(labels.space.names, labels.space.prompt_names, strict=True))["red"] == "crimson"
    assert not labels.notices


def test_an_empty_ledger_changes_nothing(examples: Path, tmp_path: Path) -> None:
    section = SupportSection(uri=str(examples))
    assert support_labels(section, ledger=LabelLedger(Store(str(tmp_path / "none")))) == support_labels(section)


def test_copies_are_written_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "labels"))
    fill(store)
    other = ImageId("there", "c.jpg")
    kept = keep_images(store, CONTENTS | {other: b"new"})
    assert [image for image, copy in kept.items() if copy.is_new] == [other]
    assert sorted(store.get(path) for path in store.list("images")) == sorted([*CONTENTS.values(), b"new"])


def test_a_label_is_of_the_picture_that_was_looked_at(examples: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "labels"))
    ledger, changed = fill(store), ImageId("there", "a\nb.jpg")
    new = picture(CLASSES[0], 5000)
    kept = keep_images(store, {changed: new})[changed]
    assert kept.is_new
    assert keep_images(store, {changed: new})[changed] == kept._replace(is_new=False)

    def learned() -> set[bytes]:
        labels = support_labels(SupportSection(uri=str(examples)), ledger=ledger)
        names = [image for image in labels.images if image.startswith("labels:")]
        assert [key_of_kept(name, "there") for name in names].count(changed.image) == 1
        return {record.data or b"" for record in labels.selection.read(names)}

    assert learned() == set(CONTENTS.values())
    (event,) = ledger.append(
        [
            new_label(
                by="eve", **changed._asdict(), answer="label", label="red", reason="correction", content=kept.content
            )
        ]
    )
    assert isinstance(event, LabelEvent)
    assert learned() == {*CONTENTS.values(), new} - {CONTENTS[changed]}
    assert without_copies(store, [event]) == []
    ledger.undo([event.id], by="eve")
    assert learned() == set(CONTENTS.values())
    store.delete(kept_path(event))
    assert without_copies(store, [event]) == [event]


@pytest.mark.s3
@pytest.mark.parametrize("is_remote", [True, False])
def test_ledger_and_examples_may_lie_on_different_storage(
    examples: Path, tmp_path: Path, bucket: Bucket, *, is_remote: bool
) -> None:
    store = bucket.store("run/labels") if is_remote else Store(str(tmp_path / "labels"), storage=bucket.storage)
    uri = str(examples) if is_remote else bucket.upload(examples, "examples")
    labels = support_labels(SupportSection(uri=uri), bucket.storage, ledger=fill(store))
    contents = ExampleContents.read(labels)
    contents.check(skip=False)
    contents.check_labels()
    assert len(contents.digests) == len(labels.images) == 9 + len(IMAGES)
    assert not contents.reasons
