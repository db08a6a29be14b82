"""The pages of review over HTTP: decisions, undo, several people, lists, and what happens around a crash."""

from __future__ import annotations

import json
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import LabelEvent
from ray_jobs.labels.label_ledger import LabelLedger, new_label
from ray_jobs.review.decisions import read_decision
from ray_jobs.review.screens import PLANTED_SHARE, ScreenAddress
from tests.ray_jobs.review.reviewed_run import (
    browser,
    decision,
    index_path,
    open_session,
    pictures,
    shown,
    written_run,
)
from tests.ray_jobs.written_run import CLASSES, WrittenRun

AMBER = "/screen?kind=class&name=amber"


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return written_run(tmp_path)


def labels(run: WrittenRun) -> dict[str, tuple[str, str | None]]:
    """The answers that count, as a new process reads them."""
    session = open_session(run)
    answers = session.refresh().of_archive(session.archive.source.identity)
    return {image: (event.answer, event.label) for image, event in answers.items()}


def test_a_screen_shows_the_most_certain_images_of_a_class(run: WrittenRun) -> None:
    page = browser(open_session(run)).get(AMBER).text
    assert [each["key"] for each in shown(page)] == [f"folder/{3 * place:03}.png" for place in range(12)]
    assert {each["proposed"] for each in shown(page)} == {"amber"}


def test_pages_follow_each_other_without_gaps(run: WrittenRun) -> None:
    client, url, keys = browser(open_session(run, size=7)), AMBER, []
    while "data-next" in (page := client.get(url).text) and shown(page):
        keys += [each["key"] for each in shown(page)]
        url = page.partition('data-next="')[2].partition('"')[0].replace("&amp;", "&")
    assert keys == [f"folder/{place:03}.png" for place in range(0, 60, 3)]


def test_an_accepted_screen_is_in_the_ledger_with_copies_of_its_images(run: WrittenRun) -> None:
    session = open_session(run)
    client = browser(session)
    page = client.get(AMBER).text
    assert client.post("/decide", json=decision(page)).json() == {"written": 12}
    assert labels(run) == {each["key"]: ("label", "amber") for each in shown(page)}
    event = next(iter(session.archive.ledger.events()))
    assert isinstance(event, LabelEvent)
    assert (event.by, event.reason) == ("ann", "review")
    assert event.predicted is not None
    assert (event.predicted.label, event.predicted.run) == ("amber", "by-hand")
    assert len(list((run.folder / "output/labels/images").iterdir())) == 12
    following = shown(client.get(AMBER).text)
    assert {each["key"] for each in following}.isdisjoint(each["key"] for each in shown(page))


def test_answers_of_all_kinds_are_written(run: WrittenRun) -> None:
    client = browser(open_session(run))
    page = client.get(AMBER).text
    numbers = [int(each["id"]) for each in shown(page)]
    answers = [
        {"id": numbers[0], "answer": "label", "label": " Red "},
        {"id": numbers[1], "answer": "unknown"},
        {"id": numbers[2], "answer": "unreadable"},
        {"id": numbers[3], "answer": "skipped"},
    ]
    assert client.post("/decide", json=decision(page, answers)).json() == {"written": 4}
    given = [("label", "Red"), ("unknown", None), ("unreadable", None), ("skipped", None)]
    assert list(labels(run).values()) == given
    assert "Red" in client.get("/labels").json()
    assert [each["id"] for each in shown(client.get("/screen?kind=skipped").text)] == [str(numbers[3])]


def test_a_decision_that_is_sent_twice_is_written_once(run: WrittenRun) -> None:
    session = open_session(run)
    client = browser(session)
    sent = decision(client.get(AMBER).text)
    assert [client.post("/decide", json=sent).json()["written"] for _ in range(3)] == [12, 0, 0]
    again = browser(open_session(run))
    assert again.post("/decide", json=sent).json() == {"written": 0}
    changed = [{**answer, "label": "blue"} for answer in sent["answers"][:1]]
    assert again.post("/decide", json=sent | {"answers": changed}).json() == {"written": 1}


def test_undo_takes_back_the_last_decision_alone_and_once(run: WrittenRun) -> None:
    client = browser(open_session(run))
    for name in ("amber", "blue"):
        client.post("/decide", json=decision(client.get(f"/screen?kind=class&name={name}").text))
    batch = client.get("/screens").text.partition('data-batch="')[2][:32]
    assert [client.post("/undo", json={"batch": batch}).json()["undone"] for _ in range(2)] == [12, 0]
    assert {label for _, label in labels(run).values()} == {"amber"}
    page = client.get("/screen?kind=class&name=blue").text
    assert len(shown(page)) == 12
    assert client.post("/decide", json=decision(page)).json() == {"written": 12}
    assert len(labels(run)) == 24


def test_undo_works_after_a_restart_but_not_for_other_people(run: WrittenRun) -> None:
    client = browser(open_session(run))
    client.post("/decide", json=decision(client.get(AMBER).text))
    batch = client.get("/screens").text.partition('data-batch="')[2][:32]
    other = browser(open_session(run, by="bob"))
    assert "data-batch" not in other.get("/screens").text
    assert other.post("/undo", json={"batch": batch}).status_code == 400
    assert browser(open_session(run)).post("/undo", json={"batch": batch}).json() == {"undone": 12}
    assert labels(run) == {}


def test_two_people_at_once_lose_nothing(run: WrittenRun) -> None:
    sessions = {name: open_session(run, by=name, size=4) for name in ("ann", "bob")}
    clients = {name: browser(session) for name, session in sessions.items()}

    def review(name: str, classes: tuple[str, ...]) -> None:
        for label in classes:
            while shown(page := clients[name].get(f"/screen?kind=class&name={label}").text):
                assert clients[name].post("/decide", json=decision(page)).status_code == 200

    threads = [threading.Thread(target=review, args=(name, CLASSES[i : i + 1])) for i, name in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {label: sum(given == label for _, given in labels(run).values()) for label in CLASSES} == {
        "amber": 20,
        "blue": 20,
        "cyan": 0,
    }
    people = [event.by for event in sessions["ann"].refresh(at_once=True).answers.values()]
    assert (people.count("ann"), people.count("bob")) == (20, 20)


def test_the_same_screen_in_two_tabs_loses_nothing(run: WrittenRun) -> None:
    session = open_session(run)
    client = browser(session)
    first, second = client.get(AMBER).text, client.get(AMBER).text
    client.post("/decide", json=decision(first))
    client.post("/decide", json=decision(second, [{"id": int(shown(second)[0]["id"]), "answer": "unknown"}]))
    assert len(session.archive.ledger.events()) == 13
    given = labels(run)
    assert (len(given), given["folder/000.png"]) == (12, ("unknown", None))


@pytest.mark.parametrize("crash", ["copies", "events", "answer"])
def test_a_crash_in_a_decision_loses_nothing_that_was_confirmed(
    run: WrittenRun, crash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser(open_session(run))
    client.post("/decide", json=decision(client.get("/screen?kind=class&name=blue").text))
    sent = decision(client.get(AMBER).text)

    class Crash(BaseException):
        pass

    def crashed(*_args: object, **_options: object) -> None:
        raise Crash

    append = LabelLedger.append

    def append_then_crash(ledger: LabelLedger, events: list[LabelEvent]) -> None:
        append(ledger, events)
        raise Crash

    where = {
        "copies": ("ray_jobs.review.review_session.keep_images", crashed),
        "events": ("ray_jobs.labels.label_ledger.LabelLedger.append", crashed),
        "answer": ("ray_jobs.labels.label_ledger.LabelLedger.append", append_then_crash),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*where[crash])
        with pytest.raises((Crash, CancelledError)):  # The client may meet what the crash cancelled first.
            client.post("/decide", json=sent)
    restarted = browser(open_session(run))
    assert len(labels(run)) == (24 if crash == "answer" else 12)
    assert restarted.post("/decide", json=sent).json() == {"written": 0 if crash == "answer" else 12}
    assert len(labels(run)) == 24


def test_missed_planted_images_are_counted_and_give_no_label(run: WrittenRun) -> None:
    session = open_session(run, by="importer")
    identity = session.archive.source.identity
    known = {f"folder/{place:03}.png": "cyan" for place in range(2, 60, 3)}
    session.archive.ledger.append(
        [
            new_label(by="importer", archive=identity, image=key, answer="label", label=label, reason="import")
            for key, label in known.items()
        ]
    )
    reviewer = open_session(run, size=4, planted=0.25)
    client = browser(reviewer)
    seen = 0
    for _ in range(300):
        page = client.get(AMBER).text
        if planted := [each for each in shown(page) if each["key"] in known]:
            seen += 1
            answers = decision(page)["answers"]
            assert {each["proposed"] for each in planted} == {"amber"}
            if seen == 2:  # Of three, the second is seen to be wrong.
                missed = int(planted[0]["id"])
                answers = [{"id": missed, "answer": "unknown"} if each["id"] == missed else each for each in answers]
            client.post("/decide", json=decision(page, answers))
        if seen == 3:
            break
    assert "missed 2 of 3 planted" in client.get("/screens").text
    assert {key: labels(run)[key] for key in known} == dict.fromkeys(known, ("label", "cyan"))


def test_about_one_image_in_fifty_is_planted(tmp_path: Path) -> None:
    run = written_run(tmp_path, 150)
    session = open_session(run, size=24, planted=PLANTED_SHARE)
    client = browser(session)
    client.post("/decide", json=decision(client.get("/screen?kind=class&name=cyan").text))
    screens = [session.screen(ScreenAddress("class", "amber"), screen_id=f"{each:032x}") for each in range(400)]
    share = sum(image.is_planted for screen in screens for image in screen.images) / (400 * 24)
    assert 0.015 < share < 0.025


def write_list(run: WrittenRun, path: str, content: dict[str, object]) -> None:
    run.store.put(path, json.dumps(content).encode())


def test_an_audit_shows_no_prediction_and_keeps_draw_and_probability(run: WrittenRun) -> None:
    keys = [f"folder/{place:03}.png" for place in (5, 9, 40)]
    rows = [{"image": key, "label": "amber", "score": 0.5, "probability": 0.25} for key in keys]
    for count in (2, 3):
        write_list(run, f"audits/seed-1/sample-{count}.json", {"draw": "seed-1", "images": rows[:count]})
    session = open_session(run)
    client = browser(session)
    client.post("/decide", json=decision(client.get(AMBER).text))  # 9 is labelled already, and is drawn all the same.
    page = client.get("/screen?kind=list&name=seed-1").text
    assert [(each["key"], each["proposed"]) for each in shown(page)] == [(key, "") for key in keys]
    assert [word for word in ("amber", "blue", "cyan", "%") if word in page.partition("<main>")[2]] == []
    answers = [{"id": int(each["id"]), "answer": "label", "label": "blue"} for each in shown(page)[:2]]
    client.post("/decide", json=decision(page, answers))
    drawn = session.refresh().draws["seed-1"]
    assert sorted(image.image for image in drawn) == keys[:2]
    assert {(event.reason, event.draw, event.probability) for event in drawn.values()} == {("audit", "seed-1", 0.25)}
    assert [each["key"] for each in shown(client.get("/screen?kind=list&name=seed-1").text)] == keys[2:]


def test_suggestions_and_searches_are_screens(run: WrittenRun) -> None:
    rows = [{"image": "folder/050.png", "reason": "unseen region"}, {"image": "folder/003.png", "reason": None}]
    write_list(run, "suggestions/one.json", {"kind": "suggestion", "images": [*rows, {"image": "gone.png"}]})
    write_list(run, "suggestions/two.json", {"kind": "search", "query": "Blue", "images": rows, "more": 1})
    session = open_session(run)
    client = browser(session)
    run.store.put("suggestions/three.json", b"damaged")
    home = client.get("/screens").text
    assert "/screen?kind=list&amp;name=one" in home
    assert all(title in home for title in ("Suggestion of 3 images", "Search: Blue", "three"))
    page = client.get("/screen?kind=list&name=one").text
    assert [each["key"] for each in shown(page)] == ["folder/050.png", "folder/003.png"]
    assert "unseen region" in page
    search = client.get("/screen?kind=list&name=two").text
    assert "Search: Blue" in search
    assert {each["proposed"] for each in shown(search)} == {"blue"}  # The class that was searched for.
    client.post("/decide", json=decision(search))
    reasons = [event.reason for event in session.archive.ledger.events() if isinstance(event, LabelEvent)]
    assert reasons == ["search", "search"]
    assert shown(client.get("/screen?kind=list&name=one").text) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"images": [1]}', b'{"images": [{"image": 1}]}', b"{" * 100_000])
def test_a_damaged_list_is_named(run: WrittenRun, content: bytes) -> None:
    run.store.put("suggestions/one.json", content)
    answer = browser(open_session(run)).get("/screen?kind=list&name=one")
    assert answer.status_code == 400
    assert "one.json is no list of images" in answer.text


def test_least_certain_images_come_across_classes(run: WrittenRun) -> None:
    client = browser(open_session(run, size=4))
    assert [each["key"] for each in shown(client.get("/screen?kind=least").text)] == [
        f"folder/{place:03}.png" for place in (59, 58, 57, 56)
    ]
    assert [each["key"] for each in shown(client.get("/screen?kind=large").text)] == ["folder/059.png"]


def test_images_on_which_two_runs_disagree_are_a_screen(tmp_path: Path) -> None:
    images = {f"{place:03}.png": data for place, data in enumerate(pictures(30).values())}
    run = written_run(tmp_path / "one", images)
    other = written_run(tmp_path / "two", images, classes=("amber", "blue", "amber"))
    session = open_session(run, other=index_path(other))
    page = browser(session).get("/screen?kind=disagreements").text
    assert [each["key"] for each in shown(page)] == [f"{place:03}.png" for place in range(2, 30, 3)]
    assert browser(open_session(run)).get("/screen?kind=disagreements").status_code == 400


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_pictures_are_shown_from_any_archive(tmp_path: Path, kind: str) -> None:
    run = written_run(tmp_path, 8, kind=kind)
    session = open_session(run)
    client = browser(session)
    page = client.get("/screen?kind=least").text
    number = shown(page)[0]["id"]
    for size in ("picture", "large"):
        answer = client.get(f"/{size}/{session.index.name}/{number}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.content[8:12] == b"WEBP"
    assert client.get(f"/picture/other/{number}").status_code == 400
    assert client.get(f"/picture/{session.index.name}/999").status_code == 400


def test_an_image_that_cannot_be_read_is_not_labelled(run: WrittenRun) -> None:
    (run.folder / "archive/folder/003.png").write_bytes(b"no image")
    session = open_session(run)
    client = browser(session)
    page = client.get(AMBER).text
    broken = next(each["id"] for each in shown(page) if each["key"] == "folder/003.png")
    assert client.get(f"/picture/{session.index.name}/{broken}").status_code == 422
    refused = client.post("/decide", json=decision(page))
    assert refused.status_code == 400
    assert "folder/003.png" in refused.text
    assert labels(run) == {}
    answers = [{"id": int(broken), "answer": "unreadable"}]
    assert client.post("/decide", json=decision(page, answers)).json() == {"written": 1}


def test_a_start_screen_is_shown_first(run: WrittenRun) -> None:
    client = browser(open_session(run), start=ScreenAddress("class", "blue"))
    assert client.get("/").headers["location"] == "/screen?kind=class&name=blue"
    assert client.get("/screens").status_code == 200


@pytest.mark.parametrize("label", ["-1", "../x", "x" * 201, ""])
def test_a_label_that_no_class_may_have_is_refused(label):
    answer = {"id": 1, "answer": "label", "label": label}
    content = {"answers": [answer], "screen": "0" * 32, "kind": "least", "name": "", "after": "", "index": "i"}
    with pytest.raises(JobError, match="no decision about a screen") as error:
        read_decision(json.dumps(content).encode(), most=4)
    assert "ValueError" in str(error.value)
    assert read_decision(json.dumps(content | {"answers": [answer | {"label": "a"}]}).encode(), most=4).answers


@pytest.mark.parametrize("kind", ["suggestion", "audit"])
def test_lists_of_another_archive_are_not_shown(run: WrittenRun, kind: str) -> None:
    rows = [{"image": "folder/000.png", "probability": 0.5}]
    if kind == "audit":
        write_list(run, "audits/other/draw.json", {"archive": "another"})
        write_list(run, "audits/other/sample-1.json", {"draw": "other", "images": rows})
    else:
        write_list(run, "suggestions/other.json", {"archive": "another", "images": rows})
    write_list(run, "suggestions/own.json", {"images": rows})
    session = open_session(run)
    assert list(session.list_titles()) == ["own"]
    refused = browser(session).get("/screen?kind=list&name=other")
    assert refused.status_code == 400
    assert "another archive" in refused.text
