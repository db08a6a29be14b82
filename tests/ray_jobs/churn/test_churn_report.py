"""What changed between two runs: counted as a plain comparison counts it, and written in a way that can be resumed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster import Store
from ray_jobs.churn import churn_counts, churn_report, paired_rows, read_churn, write_churn
from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.labels.label_ledger import new_label, open_ledger
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import CHURN, CHURN_PAGE, LABELS
from ray_jobs.results.churn_result import Churn, ClassChurn, FlippedPair, KnownFlips, StatusChange
from ray_jobs.results.json_format import NewerFormatError
from tests.ray_jobs.churn.test_registered_runs import FIRST, with_registry
from tests.ray_jobs.churn.two_runs import FORMER, PRESENT, Row, TwoRuns, in_shards, row

OUTCOMES = ("amber", "blue", "cyan", "abstained", "unknown", "unreadable")
RENAMED = {"amber": "gold"}


def outcome(each: Row, renamed: dict[str, str] | None = None) -> str:
    label = each["label"]
    return str(each["status"] if label is None else (renamed or {}).get(label, label))


def counted_plainly(before: list[Row], after: list[Row], renamed: dict[str, str]) -> dict[str, Any]:
    """Compare two runs in which no key occurs twice, a dictionary of all images each."""
    one = {each["image"]: outcome(each, renamed) for each in before}
    other = {each["image"]: outcome(each) for each in after}
    both = [(one[key], other[key]) for key in other if key in one]
    read = [pair for pair in both if "unreadable" not in pair]
    flips = Counter(pair for pair in read if pair[0] != pair[1] and not {*pair} & {"abstained", "unknown"})
    names = sorted({name for pair in read for name in pair} - {"abstained", "unknown"})
    status = [tuple(name if name in ("abstained", "unknown") else "ok" for name in pair) for pair in read]
    return {
        "images": len(read),
        "flipped": flips.total(),
        "share": flips.total() / len(read) if read else 0.0,
        "unreadable": len(both) - len(read),
        "new": len(other.keys() - one.keys()),
        "gone": len(one.keys() - other.keys()),
        "pairs": dict(flips),
        "withheld": {pair: count for pair, count in Counter(status).items() if pair[0] != pair[1]},
        "classes": {
            name: (
                sum(pair == (name, name) for pair in read),
                sum(pair[1] == name != pair[0] for pair in read),
                sum(pair[0] == name != pair[1] for pair in read),
            )
            for name in names
        },
    }


def as_counted(churn: Churn) -> dict[str, Any]:
    """The counts of a churn in the shape of those of `counted_plainly`."""
    names = ("images", "flipped", "share", "unreadable", "new", "gone")
    return {name: getattr(churn, name) for name in names} | {
        "pairs": {(pair.before, pair.after): pair.images for pair in churn.pairs},
        "withheld": {(change.before, change.after): change.images for change in churn.withheld},
        "classes": {each.label: (each.kept, each.gained, each.lost) for each in churn.classes},
    }


OUTCOME = st.sampled_from(OUTCOMES)


@pytest.mark.slow
@given(
    images=st.lists(
        st.tuples(OUTCOME, OUTCOME, st.sampled_from(["both", "both", "both", "former", "present"])), max_size=30
    ),
    size=st.integers(1, 9),
    is_cut_anew=st.booleans(),
    order=st.randoms(use_true_random=False),
    is_renamed=st.booleans(),
    at_a_time=st.integers(1, 12),
)
@example([("amber", "blue", "both")] * 9, 4, False, random.Random(0), False, 3)
def test_counts_are_those_of_a_plain_comparison(
    images: list[tuple[str, str, str]],
    size: int,
    is_cut_anew: bool,
    order: random.Random,
    is_renamed: bool,
    at_a_time: int,
) -> None:
    before = [row(f"{n:02}.png", one) for n, (one, _, where) in enumerate(images) if where != "present"]
    after = [row(f"{n:02}.png", other) for n, (_, other, where) in enumerate(images) if where != "former"]
    renamed = RENAMED if is_renamed else {}
    after = [each | {"label": renamed.get(each["label"], each["label"])} for each in after]
    if is_cut_anew:
        order.shuffle(after)
    shards = in_shards(after, size + is_cut_anew)
    expected = counted_plainly(before, after, renamed)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired_rows, "MATCHED_ROWS", at_a_time)
        patch.setattr(churn_counts, "BATCH", at_a_time)
        runs = TwoRuns(Path(folder))
        former = runs.write(FORMER, in_shards(before, size), number=1)
        present = runs.write(PRESENT, shards, number=2)
        if expected["images"] + expected["unreadable"] == 0:
            with pytest.raises(JobError, match="have no image in common"):
                write_churn(former, present, renamed=renamed)
            return
        churn = write_churn(former, present, renamed=renamed)
    assert as_counted(churn) == expected
    assert [pair.images for pair in churn.pairs] == sorted((pair.images for pair in churn.pairs), reverse=True)
    assert [each.label for each in churn.classes] == sorted(each.label for each in churn.classes)
    assert (churn.before.images, churn.after.images) == (len(before), len(after))
    assert sorted(flip.image for flip in churn.sample) == sorted(
        each["image"]
        for each in after
        for old in before
        if old["image"] == each["image"]
        and old["status"] == each["status"] == "ok"
        and outcome(old, renamed) != each["label"]
    )


def test_a_renamed_class_is_no_change_and_has_its_present_name(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    before = [row("a.png", "amber"), row("b.png", "amber"), row("c.png", "blue"), row("d.png", "cyan")]
    after = [row("a.png", "gold"), row("b.png", "blue"), row("c.png", "gold"), row("d.png", "mauve")]
    former = runs.write(FORMER, in_shards(before, 4), number=1)
    present = runs.write(PRESENT, in_shards(after, 4), number=2, classes=("gold", "blue", "mauve"))
    churn = write_churn(former, present, renamed=RENAMED)
    assert churn.renamed == (("amber", "gold"),)
    assert churn.pairs == (
        FlippedPair(before="blue", after="gold", images=1),
        FlippedPair(before="cyan", after="mauve", images=1),
        FlippedPair(before="gold", after="blue", images=1),
    )
    assert churn.classes[2] == ClassChurn(label="gold", kept=1, gained=1, lost=1)
    assert (churn.new_classes, churn.removed_classes, churn.to_new_classes) == (("mauve",), ("cyan",), 1)


def test_withheld_labels_are_counted_apart(tmp_path: Path) -> None:
    before = [row("a.png", "amber"), row("b.png", "abstained"), row("c.png", "unknown"), row("d.png", "unknown")]
    after = [row("a.png", "unknown"), row("b.png", "blue"), row("c.png", "abstained"), row("d.png", "unknown")]
    churn = write_churn(*TwoRuns(tmp_path).both(before, after))
    assert (churn.images, churn.flipped, churn.share, churn.pairs) == (4, 0, 0.0, ())
    assert churn.withheld == (
        StatusChange(before="ok", after="unknown", images=1),
        StatusChange(before="abstained", after="ok", images=1),
        StatusChange(before="unknown", after="abstained", images=1),
    )
    assert churn.sentence() == "0 of 4 labels changed (0.0\u00a0%)"


def test_images_of_the_same_key_are_matched_by_their_files(tmp_path: Path) -> None:
    before = [row("a.png", "amber", source="one.tar"), row("a.png", "blue", source="two.tar")]
    after = [
        row("a.png", "blue", source="two.tar"),
        row("a.png", "amber", source="one.tar"),
        row("a.png", "cyan", source="zoo.tar"),
    ]
    churn = write_churn(*TwoRuns(tmp_path).both(before, after))
    assert (churn.images, churn.flipped, churn.new, churn.gone) == (2, 0, 1, 0)


def test_images_of_the_same_key_are_matched_as_often_as_both_runs_have_it(tmp_path: Path) -> None:
    before = [
        row(key, label, source="old.tar") for key, label in zip("aabb", ("amber", "blue", "cyan", "amber"), strict=True)
    ]
    after = [
        row(key, label, source="new.tar")
        for key, label in zip("baabba", ("cyan", "amber", "blue", "blue", "cyan", "cyan"), strict=True)
    ]
    churn = write_churn(*TwoRuns(tmp_path).both(before, after))
    assert (churn.images, churn.new, churn.gone) == (4, 2, 0)
    assert churn.pairs == (FlippedPair(before="amber", after="blue", images=1),)


def test_a_file_that_is_gone_does_not_shift_the_others(tmp_path: Path) -> None:
    before = [row("a.png", "amber", source="one.tar"), row("a.png", "blue", source="two.tar"), row("b.png", "cyan")]
    after = [row("b.png", "cyan"), row("a.png", "blue", source="two.tar")]
    churn = write_churn(*TwoRuns(tmp_path).both(before, after))
    assert (churn.images, churn.flipped, churn.new, churn.gone) == (2, 0, 0, 1)


def test_scores_stay_with_their_runs_where_images_are_matched_by_key(tmp_path: Path) -> None:
    before = [row("a.png", "amber", 0.25), row("b.png", "amber", 0.5)]
    after = [row("b.png", "blue", 0.75), row("a.png", "blue", None)]
    churn = write_churn(*TwoRuns(tmp_path).both(before, after))
    scores = {flip.image: (flip.before_score, flip.after_score) for flip in churn.sample}
    assert scores == {"a.png": (0.25, None), "b.png": (0.5, 0.75)}


def test_runs_of_two_outputs_are_compared(tmp_path: Path) -> None:
    one, other = TwoRuns(tmp_path / "one"), TwoRuns(tmp_path / "two")
    former = one.write(FORMER, in_shards([row("a.png", "amber")], 4), number=1)
    present = other.write(PRESENT, in_shards([row("a.png", "blue")], 4), number=1)
    for runs in (one, other):
        with_registry(runs, {1: FIRST}, 1)
    churn = write_churn(former, present)
    assert (churn.flipped, churn.before.version, churn.after.version) == (1, None, None)


def test_a_part_of_the_same_name_with_other_rows_is_matched_by_key(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    before, after = [row("a.png", "amber"), row("b.png", "blue")], [row("b.png", "blue"), row("a.png", "amber")]
    former = runs.write(FORMER, {"0" * 16: before}, number=1)
    present = runs.write(PRESENT, {"0" * 16: after}, number=2)
    assert write_churn(former, present).flipped == 0


def test_without_scores_labels_alone_are_compared(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    churn = write_churn(*runs.both([row("a.png", "amber", None)], [row("a.png", "blue", 0.25)]))
    (flip,) = churn.sample
    assert (flip.before_score, flip.after_score) == (None, 0.25)
    page = runs.store.get(f"{PRESENT}/{CHURN_PAGE}").decode()
    assert '<span class="when">before </span><bdi>amber</bdi></span>' in page


def test_parts_that_both_runs_share_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, rows = TwoRuns(tmp_path), [row(f"{n}.png", "amber") for n in range(8)]
    former = runs.write(FORMER, in_shards(rows, 2), number=1)
    present = runs.write(PRESENT, in_shards(rows, 2), number=1)
    read: list[str] = []

    def view(store: Store, part: str, *, columns: list[str]) -> pa.Table:
        read.append(part)
        return view_table(store, part, columns=columns)

    monkeypatch.setattr(paired_rows, "view_table", view)
    assert write_churn(former, present).images == 8
    assert sorted(read) == sorted(present.prediction_parts())


def test_images_that_people_labelled_became_right_or_wrong(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for name in "abcdefgh":
        (tmp_path / "archive" / f"{name}.png").write_bytes(b"")
    runs = TwoRuns(tmp_path)
    before = [row(f"{name}.png", "amber") for name in "abcdefgh"]
    after = [row(f"{name}.png", "blue") for name in "abcdefg"] + [row("h.png", "amber")]
    said = {"a": "blue", "b": "blue", "c": "amber", "d": "cyan", "e": None, "f": "blue", "h": "amber"}
    identity = open_archive(runs.archive).identity
    ledger = open_ledger(runs.store.url(LABELS))
    ledger.append(
        [
            new_label(
                by="ann",
                archive=identity,
                image=f"{name}.png",
                answer="label" if label else "unknown",
                label=label,
                reason="review",
            )
            for name, label in said.items()
        ]
    )
    former = runs.write(FORMER, in_shards(before, 4), number=1, learned_from=("f.png",))
    present = runs.write(PRESENT, in_shards(after, 4), number=2)
    churn = write_churn(former, present)
    assert churn.known == KnownFlips(right=2, wrong=1, neither=2)
    assert churn.learned == KnownFlips(right=1, wrong=0, neither=0)
    assert write_churn(former, present, learned=("c.png", "d.png")).learned == KnownFlips(right=0, wrong=1, neither=1)
    names = {"blue": "gold", "amber": "amber"}
    gold = runs.write(PRESENT, in_shards([each | {"label": names[each["label"]]} for each in after], 4), number=2)
    assert write_churn(former, gold, renamed={"blue": "gold"}).known == KnownFlips(right=2, wrong=1, neither=2)


def test_an_archive_that_is_gone_costs_pictures_and_known_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    churn = write_churn(*TwoRuns(tmp_path).both([row("a.png", "amber")], [row("a.png", "blue")]))
    assert (churn.flipped, churn.known, churn.learned) == (1, None, None)
    assert "churn without known labels" in caplog.text


def test_the_sample_follows_from_the_keys_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{n:03}.png" for n in range(60)]
    turned = {"amber": "blue", "blue": "cyan", "cyan": "amber"}
    before = [row(name, ("amber", "blue", "amber", "cyan")[n % 4]) for n, name in enumerate(names)]
    after = [each | {"label": turned[each["label"]]} for each in before]
    first = write_churn(*TwoRuns(tmp_path / "one").both(before, after))
    assert Counter((flip.before, flip.after) for flip in first.sample) == {
        ("amber", "blue"): 12,
        ("blue", "cyan"): 12,
        ("cyan", "amber"): 12,
    }
    assert [flip.before for flip in first.sample] == ["amber"] * 12 + ["blue"] * 12 + ["cyan"] * 12
    monkeypatch.setattr(churn_counts, "BATCH", 5)
    again = write_churn(*TwoRuns(tmp_path / "two").both(before[::-1], after[::-1], size=7))
    assert again.sample == first.sample
    monkeypatch.setattr(churn_counts, "SAMPLED", 20)
    few = write_churn(*TwoRuns(tmp_path / "three").both(before, after))
    assert few.sample == first.sample[:20]


def test_only_the_most_frequent_pairs_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(churn_report, "PAIRS", 1)
    before = [row("a.png", "amber"), row("b.png", "blue"), row("c.png", "blue"), row("d.png", "cyan")]
    after = [row("a.png", "cyan"), row("b.png", "amber"), row("c.png", "amber"), row("d.png", "cyan")]
    churn = write_churn(*TwoRuns(tmp_path).both(before, after))
    assert churn.pairs == (FlippedPair(before="blue", after="amber", images=2),)
    assert (churn.more_pairs, churn.flipped, churn.share) == (1, 3, 0.75)


def stored(runs: TwoRuns) -> tuple[bytes, bytes]:
    return runs.store.get(f"{PRESENT}/{CHURN}"), runs.store.get(f"{PRESENT}/{CHURN_PAGE}")


def test_the_same_runs_give_the_same_bytes_also_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = TwoRuns(tmp_path)
    former, present = runs.both([row("a.png", "amber")], [row("a.png", "blue")])
    assert write_churn(former, present) == read_churn(present)
    first, put = stored(runs), Store.put
    for cut in (CHURN_PAGE, CHURN):
        for path in (CHURN, CHURN_PAGE):
            runs.store.delete(f"{PRESENT}/{path}")

        def stop(store: Store, path: str, data: bytes, *, cut: str = cut) -> None:
            if path.endswith(cut):
                raise KeyboardInterrupt
            put(store, path, data)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "put", stop)
            with pytest.raises(KeyboardInterrupt):
                write_churn(former, present, keep=True)
        assert read_churn(present) is None
        write_churn(former, present, keep=True)
        assert stored(runs) == first


def test_a_comparison_of_the_same_runs_may_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = TwoRuns(tmp_path)
    former, present = runs.both([row("a.png", "amber")], [row("a.png", "blue")])
    kept = write_churn(former, present)
    other = runs.write("runs/groceries-000000000003", in_shards([row("a.png", "blue")], 4), number=3)
    with monkeypatch.context() as patch:
        patch.setattr(paired_rows, "view_table", lambda *_, **__: pytest.fail("nothing is read"))
        assert write_churn(former, present, keep=True) == kept
    assert write_churn(other, present, keep=True).before.run == other.name
    assert write_churn(former, present, keep=True) == kept
    assert write_churn(former, present, renamed={"amber": "blue"}, keep=True).flipped == 0
    runs.store.put(f"{PRESENT}/{CHURN}", b"{}")
    assert read_churn(present) is None
    assert write_churn(former, present, keep=True) == kept


def test_what_a_newer_version_wrote_is_not_written_over(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former, present = runs.both([row("a.png", "amber")], [row("a.png", "blue")])
    runs.store.put(f"{PRESENT}/{CHURN}", b'{"format_version": 99}')
    with pytest.raises(NewerFormatError):
        write_churn(former, present, keep=True)


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    runs = TwoRuns(tmp_path)
    former, present = runs.both([row("a.png", "amber")], [row("a.png", "blue")])
    with pytest.raises(JobError, match="name two runs of the archive"):
        write_churn(present, present)
    half = runs.write("runs/groceries-000000000003", in_shards([row("a.png", "blue")], 4), number=3, complete=False)
    with pytest.raises(JobError, match="000003 is not complete: run its job again"):
        write_churn(former, half)
    with pytest.raises(JobError, match="000003 is not complete: run its job again"):
        write_churn(half, former)
    runs.store.put(present.plan.predictions[0], b"no table")
    with pytest.raises(JobError, match="damaged"):
        write_churn(former, present)


@pytest.mark.parametrize(
    ("flipped", "images", "told"),
    [
        (0, 7, "0 of 7 labels changed (0.0 %)"),
        (1, 1, "1 of 1 label changed (100.0 %)"),
        (1204, 100_000, "1,204 of 100,000 labels changed (1.2 %)"),
        (1, 1_000_000, "1 of 1,000,000 labels changed (<0.1 %)"),
        (999_999, 1_000_000, "999,999 of 1,000,000 labels changed (>99.9 %)"),
        (1, 2000, "1 of 2,000 labels changed (0.1 %)"),
    ],
)
def test_the_headline_is_exact_at_both_ends(flipped: int, images: int, told: str, tmp_path: Path) -> None:
    churn = write_churn(*TwoRuns(tmp_path).both([row("a.png", "amber")], [row("a.png", "blue")]))
    sentence = replace(churn, flipped=flipped, images=images, share=flipped / images).sentence()
    assert sentence.replace("\u00a0", " ") == told
