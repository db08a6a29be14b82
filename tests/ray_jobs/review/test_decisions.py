"""What is undone, who missed what, and what is planted: the rules, without a server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import LabelEvent
from ray_jobs.labels.label_ledger import new_label
from ray_jobs.review.decisions import MissCount, count_missed, last_batch, proposed_wrongly, read_decision, undo_events
from ray_jobs.review.prediction_index import IndexedImage
from ray_jobs.review.review_session import ReviewSession
from ray_jobs.review.screens import Screen, ScreenAddress, ScreenImage, with_planted
from tests.ray_jobs.review.reviewed_run import (
    browser,
    decision,
    index_path,
    open_session,
    pictures,
    shown,
    written_run,
)
from tests.ray_jobs.written_run import WrittenRun

AMBER = ScreenAddress("class", "amber")


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return written_run(tmp_path)


def label(image: str, *, by: str = "ann", reason: str = "review", proposed: str | None = None) -> LabelEvent:
    predicted = None if proposed is None else proposed_wrongly(proposed, classifier="", run="")
    return new_label(by=by, archive="a", image=image, answer="label", label="amber", reason=reason, predicted=predicted)


def image(number: int, top: str = "amber") -> IndexedImage:
    return IndexedImage(number, f"{number}.png", "", "s", number, "ok", 1.0 / number, None, ((top, None),))


def screen(numbers: Sequence[int]) -> Screen:
    images = tuple(ScreenImage(image(number), "amber") for number in numbers)
    return Screen(AMBER, "amber", images, "review", None, replace(AMBER, after=images[-1].image.cursor))


def test_the_last_batch_is_the_newest_of_the_person_that_is_not_undone() -> None:
    first, second = [label("1"), label("2")], [label("3"), label("4")]
    other, imported = [label("5", by="bob")], [label("6", reason="import")]
    batches = [first, second, other, imported]
    assert last_batch(batches, by="ann") == tuple(second)
    half = [*batches, undo_events(second[:1], by="ann")]
    assert last_batch(half, by="ann") == tuple(second)
    whole = [*half, undo_events(second[1:], by="ann")]
    assert last_batch(whole, by="ann") == tuple(first)
    assert last_batch([*whole, undo_events(first, by="ann")], by="ann") == ()
    assert last_batch(batches, by="bob") == tuple(other)


def test_an_undo_is_the_same_for_one_person_and_another_one_for_two() -> None:
    events = [label("1")]
    (mine,), (again,), (theirs,) = (undo_events(events, by=by) for by in ("ann", "ann", "bob"))
    assert mine.id == again.id != theirs.id


def test_planted_images_that_were_undone_or_are_of_another_person_are_not_counted() -> None:
    missed, seen = label("1", reason="planted", proposed="amber"), label("2", reason="planted", proposed="blue")
    others = [label("3", by="bob", reason="planted", proposed="amber"), label("4", proposed="amber")]
    assert count_missed([missed, seen, *others], by="ann") == MissCount(2, 1)
    assert count_missed([missed, seen, *others, *undo_events([missed], by="ann")], by="ann") == MissCount(1, 0)


def test_an_image_is_answered_once_in_a_decision() -> None:
    sent = {"screen": "0" * 32, "kind": "class", "name": "amber", "after": "", "index": "i"}
    answers = [{"id": 1, "answer": "unknown"}, {"id": 1, "answer": "skipped"}]
    with pytest.raises(JobError, match="not of one screen"):
        read_decision(json.dumps(sent | {"answers": answers}).encode(), most=9)
    assert read_decision(json.dumps(sent | {"answers": answers[:1]}).encode(), most=1).answers[0].id == 1


def test_planted_images_are_of_another_class_by_label_and_by_prediction() -> None:
    shown_images = screen(range(1, 9))
    known = [(image(20, "blue"), "amber"), (image(21, "amber"), "blue"), (image(3, "blue"), "blue")]
    assert with_planted(shown_images, known, Random(0), share=0.5) == shown_images
    planted = with_planted(shown_images, [*known, (image(22, "blue"), "cyan")], Random(0), share=0.5)
    assert [each.image.id for each in planted.images if each.is_planted] == [22]
    assert {each.proposed for each in planted.images} == {"amber"}


@pytest.mark.parametrize("seed", range(9))
def test_the_next_screen_begins_with_the_images_that_planted_ones_displaced(seed: int) -> None:
    known = [(image(number, "blue"), "blue") for number in range(20, 30)]
    planted = with_planted(screen(range(1, 9)), known, Random(seed), share=0.25)
    left = [each.image.id for each in planted.images if not each.is_planted]
    assert left == [1, 2, 3, 4, 5, 6]
    assert planted.following.after == image(6).cursor
    assert len({each.image.id for each in planted.images}) == 8


def test_planted_images_come_from_all_that_are_known(tmp_path: Path) -> None:
    session = open_session(written_run(tmp_path, 450), planted=0.5, size=20)
    archive = session.archive.source.identity
    known = [f"folder/{place:03}.png" for place in range(2, 450, 3)]
    events = [
        new_label(by="bob", archive=archive, image=key, answer="label", label="cyan", reason="import") for key in known
    ]
    session.archive.ledger.append(events)
    screens = [session.screen(AMBER, screen_id=f"{seed:032x}") for seed in range(60)]
    planted = {each.image.image for screen in screens for each in screen.images if each.is_planted}
    assert len(planted) > 140


def test_a_planted_image_lists_what_was_really_predicted_behind_what_is_proposed(tmp_path: Path) -> None:
    session = open_session(written_run(tmp_path, 60), planted=0.5, size=4)
    client = browser(session)
    client.post("/decide", json=decision(client.get("/screen?kind=class&name=cyan").text))
    tops = [client.get("/screen?kind=class&name=amber").text for _ in range(20)]
    listed = [
        page.split(f'data-id="{each["id"]}"')[1].split('data-top="')[1].split('"')[0]
        for page in tops
        for each in shown(page)
        if each["key"] in {f"folder/{place:03}.png" for place in range(2, 60, 3)}
    ]
    names = [[name for name, _ in json.loads(top.replace("&#34;", '"'))] for top in listed]
    assert names
    assert {tuple(each) for each in names} == {("amber", "cyan")}


def test_runs_that_number_classes_differently_agree_by_name(tmp_path: Path) -> None:
    images = {f"{place:03}.png": data for place, data in enumerate(pictures(30).values())}
    run = written_run(tmp_path / "one", images)
    more = {"-.png": images["000.png"]} | images
    same = written_run(tmp_path / "same", more, classes=("cyan", "amber", "blue"))
    session = open_session(run, other=index_path(same))
    assert len(shown(browser(session).get("/screen?kind=disagreements").text)) == 0


def test_disagreements_are_sorted_by_the_run_that_is_less_sure(tmp_path: Path) -> None:
    images = {f"{place:03}.png": data for place, data in enumerate(pictures(9).values())}
    run = written_run(tmp_path / "one", images)
    other = index_path(written_run(tmp_path / "two", images, classes=("violet",)))
    with closing(sqlite3.connect(other)) as database:
        database.execute("UPDATE images SET certainty = 1.0 - certainty")
        database.commit()
    session = open_session(run, other=other, size=9)
    keys = [each["key"] for each in shown(browser(session).get("/screen?kind=disagreements").text)]
    assert [abs(int(key[:3]) - 4) for key in keys] == [0, 1, 1, 2, 2, 3, 3, 4, 4]


def walked(session: ReviewSession, address: str) -> list[str]:
    """The keys of all images of a kind of screen, page by page."""
    client, url, keys = browser(session), address, []
    while found := shown(page := client.get(url).text):
        keys += [each["key"] for each in found]
        url = page.partition('data-next="')[2].partition('"')[0].replace("&amp;", "&")
    return keys


def test_lists_and_skipped_images_are_paged_without_gaps_or_repetition(run: WrittenRun) -> None:
    keys = [f"folder/{place:03}.png" for place in (50, 3, 41, 7, 22, 9, 30)]
    run.store.put("suggestions/one.json", json.dumps({"images": [{"image": key} for key in keys]}).encode())
    session = open_session(run, size=3)
    assert walked(session, "/screen?kind=list&name=one") == keys
    client = browser(session)
    for _ in range(3):
        page = client.get("/screen?kind=list&name=one").text
        client.post(
            "/decide", json=decision(page, [{"id": int(each["id"]), "answer": "skipped"} for each in shown(page)])
        )
    assert walked(session, "/screen?kind=skipped") == sorted(keys)
    assert walked(session, "/screen?kind=least") == [
        key for place in range(59, -1, -1) if (key := f"folder/{place:03}.png") not in keys
    ]


def test_an_undone_image_is_on_its_screen_again_and_counts_no_more(run: WrittenRun) -> None:
    session = open_session(run, size=5)
    client = browser(session)
    first = shown(page := client.get("/screen?kind=class&name=amber").text)
    client.post("/decide", json=decision(page))
    assert session.class_counts()["amber"] == (20, 5)
    progress = session.progress()
    assert progress.last is not None
    client.post("/undo", json={"batch": progress.last.id})
    assert session.class_counts()["amber"] == (20, 0)
    assert shown(client.get("/screen?kind=class&name=amber").text) == first


def test_an_undo_of_one_image_leaves_the_others_answered(run: WrittenRun) -> None:
    session = open_session(run, size=5)
    client = browser(session)
    client.post("/decide", json=decision(client.get("/screen?kind=class&name=amber").text))
    page = client.get("/screen?kind=class&name=amber").text
    one = {"id": int(shown(page)[0]["id"]), "answer": "unknown"}
    client.post("/decide", json=decision(page, [one]))
    assert session.class_counts()["amber"] == (20, 6)
    progress = session.progress()
    assert progress.last is not None
    client.post("/undo", json={"batch": progress.last.id})
    assert session.class_counts()["amber"] == (20, 5)
    assert shown(client.get("/screen?kind=class&name=amber").text) == shown(page)


def test_a_decision_about_the_screen_of_another_run_is_refused(run: WrittenRun) -> None:
    session = open_session(run)
    client = browser(session)
    sent = decision(client.get("/screen?kind=class&name=amber").text) | {"index": "0" * 32}
    answer = client.post("/decide", json=sent)
    assert (answer.status_code, "of another run" in answer.text) == (400, True)
    assert session.archive.ledger.batches() == []
