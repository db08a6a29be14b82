"""What moves come to, and moves that cannot be made."""

from __future__ import annotations

import pytest

from ray_jobs.errors import JobError
from ray_jobs.registry.moves import (
    Compared,
    Confirmed,
    Move,
    Promoted,
    Pruned,
    Refused,
    Registered,
    Rejected,
    RolledBack,
)
from ray_jobs.registry.registry_state import RegistryState
from tests.ray_jobs.registry.registered import EVIDENCE, version


def after(*moves: Move) -> RegistryState:
    state = RegistryState()
    for move in moves:
        state = state.after(move)
    return state


FIRST = (Registered(version=version(1)), Promoted(version=1, former=None))
SECOND = (*FIRST, Registered(version=version(2)))
WATCHED = (*SECOND, Promoted(version=2, former=1, is_watched=True))


def test_a_registered_version_is_the_candidate_until_it_is_decided_about() -> None:
    assert after(*SECOND).candidate == 2
    assert after(*SECOND).production == 1
    assert after(*SECOND, Compared(version=2, against=1, evidence=EVIDENCE)).candidate == 2
    assert after(*SECOND, Rejected(version=2)).candidate is None
    assert after(*SECOND, Rejected(version=2, evidence=EVIDENCE)).rejected == {2}
    promoted = after(*SECOND, Promoted(version=2, former=1, evidence=EVIDENCE))
    assert (promoted.candidate, promoted.production, promoted.former) == (None, 2, 1)


def test_candidates_that_were_compared_are_counted_since_production_changed() -> None:
    compared = [Compared(version=number, against=1, evidence=EVIDENCE) for number in (2, 3)]
    state = after(*SECOND, compared[0], Registered(version=version(3)), compared[1], Registered(version=version(4)))
    assert (state.candidates, state.candidate) == (3, 4)
    not_compared = after(*SECOND, Registered(version=version(3)), Registered(version=version(4)))
    assert (not_compared.candidates, not_compared.candidate) == (1, 4)
    for rejected, number in ((Rejected(version=2), 1), (Rejected(version=2, evidence=EVIDENCE), 2)):
        assert after(*SECOND, rejected, Registered(version=version(3))).candidates == number
    assert after(*SECOND, compared[0], Rejected(version=2), Registered(version=version(3))).candidates == 2
    assert state.after(Promoted(version=4, former=1)).candidates == 0
    # A candidate that is still being decided about meets the new production as its first.
    assert state.after(Promoted(version=2, former=1)).candidates == 1
    assert state.after(Rejected(version=4)).candidates == 3


def test_an_earlier_version_that_a_person_promotes_takes_back_what_came_after_it() -> None:
    """Otherwise the next turn would train the same version again, and promote it."""
    state = after(*SECOND, Promoted(version=2, former=1), Registered(version=version(3)), Promoted(version=3, former=2))
    back = state.after(Promoted(version=1, former=3, is_forced=True))
    assert (back.production, back.rejected, back.fell_back, back.watched) == (1, {2, 3}, True, ())
    assert back.version_of(version(3).settings, version(3).labels) is not None  # Known, so not trained again.
    again = back.after(Promoted(version=3, former=1, is_forced=True))
    assert (again.production, again.rejected, again.fell_back) == (3, {2}, False)


def test_a_watch_lasts_until_it_is_confirmed_rolled_back_or_a_person_decides() -> None:
    state = after(*WATCHED)
    assert (state.production, state.shadow, state.watched) == (2, 1, (2,))
    confirmed = state.after(Confirmed(version=2, evidence=EVIDENCE))
    assert (confirmed.production, confirmed.shadow, confirmed.watched) == (2, None, ())
    back = state.after(RolledBack(version=1, former=2, is_automatic=True, evidence=EVIDENCE))
    assert (back.production, back.shadow, back.rejected) == (1, None, frozenset({2}))
    forced = state.after(Registered(version=version(3))).after(Promoted(version=3, former=2, is_forced=True))
    assert (forced.production, forced.shadow) == (3, None)


def test_a_promotion_during_a_watch_prolongs_it() -> None:
    state = after(*WATCHED, Registered(version=version(3)), Promoted(version=3, former=2, is_watched=True))
    assert (state.production, state.shadow, state.watched) == (3, 1, (2, 3))
    more = state.after(Registered(version=version(4))).after(Promoted(version=4, former=3, is_watched=True))
    assert more.needed.keys() == {1, 2, 3, 4}  # All of them are compared with the first.
    assert more.after(RolledBack(version=1, former=4)).watched == ()


def test_the_first_version_has_nothing_to_be_watched_against() -> None:
    state = after(Registered(version=version(1)), Promoted(version=1, former=None, is_watched=True))
    assert (state.shadow, state.watched, state.former) == (None, (), None)


def test_a_rollback_restores_the_latest_other_production() -> None:
    state = after(*WATCHED, Registered(version=version(3)), Promoted(version=3, former=2))
    assert state.former == 2
    back = state.after(RolledBack(version=2, former=3))
    assert (back.production, back.former) == (2, 1)  # Not 3, which was taken back.
    assert back.after(RolledBack(version=1, former=2)).former is None


def test_a_rolled_back_version_can_be_promoted_again() -> None:
    state = after(*WATCHED, RolledBack(version=1, former=2), Promoted(version=2, former=1, is_forced=True))
    assert (state.production, state.rejected) == (2, frozenset())


def test_what_is_needed_is_not_pruned() -> None:
    more = [Registered(version=version(number)) for number in (3, 4, 5)]
    state = after(*WATCHED, *more, Rejected(version=3))
    assert state.needed == {1: "restored by a rollback", 2: "in production", 5: "the candidate"}
    assert state.after(Pruned(versions=(3, 4))).pruned == {3, 4}
    for number in (1, 2, 5):
        with pytest.raises(JobError, match=f"version {number} is needed"):
            state.after(Pruned(versions=(3, number)))
    with pytest.raises(JobError, match="was removed; train it again"):
        state.after(Pruned(versions=(3,))).after(Promoted(version=3, former=2))


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (Registered(version=version(2)), "expected version 3, got 2"),
        (Promoted(version=9, former=1), "no version 9; it has 1 to 2"),
        (Promoted(version=1, former=1), "in production already"),
        (Promoted(version=2, former=None), "expected version 1 in production"),
        (RolledBack(version=2, former=2), "expected version 1 in production"),
        (RolledBack(version=7, former=1), "no version 7"),
        (Rejected(version=7), "no version 7"),
        (Rejected(version=1), "in production and cannot be rejected; roll back instead"),
        (Compared(version=7, against=1, evidence=EVIDENCE), "no version 7"),
        (Compared(version=2, against=7, evidence=EVIDENCE), "no version 7"),
        (Confirmed(version=1, evidence=EVIDENCE), "not watched"),
        (Confirmed(version=2, evidence=EVIDENCE), "not watched"),
    ],
)
def test_moves_that_cannot_be_made_are_refused(move: Move, message: str) -> None:
    with pytest.raises(JobError, match=message):
        after(*SECOND).after(move)


def night(number: int) -> list[Move]:
    """A version with labels of its own that is promoted and watched."""
    former = number - 1 or None
    labels = f"{number:016x}"
    promoted = Promoted(version=number, former=former, is_watched=True)
    return [Registered(version=version(number, labels=labels)), promoted]


def chain(count: int) -> RegistryState:
    return after(*(move for number in range(1, count + 1) for move in night(number)))


def test_the_watch_over_the_first_versions_can_end_before_that_over_later_ones() -> None:
    state = chain(5)
    assert (state.shadow, state.watched) == (1, (2, 3, 4, 5))
    later = state.after(Confirmed(version=3, evidence=EVIDENCE))
    assert (later.production, later.shadow, later.watched) == (5, 3, (4, 5))
    done = later.after(Confirmed(version=5, evidence=EVIDENCE))
    assert (done.shadow, done.watched) == (None, ())
    with pytest.raises(JobError, match="not watched"):
        later.after(Confirmed(version=3, evidence=EVIDENCE))


def test_going_back_to_a_watched_version_keeps_the_watch_over_it() -> None:
    back = chain(5).after(RolledBack(version=4, former=5, is_automatic=True))
    assert (back.production, back.shadow, back.watched, back.rejected) == (4, 1, (2, 3, 4), frozenset({5}))
    assert back.former == 3


def test_going_back_to_before_a_watch_takes_all_its_versions_back() -> None:
    back = chain(5).after(RolledBack(version=1, former=5, is_automatic=True))
    assert (back.production, back.shadow, back.watched) == (1, None, ())
    assert back.rejected == {2, 3, 4, 5}
    assert back.former is None  # None of them is gone back to by the next rollback.


def test_after_a_rollback_the_next_version_must_show_that_it_may_go() -> None:
    assert not after(*WATCHED).fell_back
    for is_automatic in (True, False):
        back = after(*WATCHED, RolledBack(version=1, former=2, is_automatic=is_automatic))
        assert back.fell_back
        assert back.after(Registered(version=version(3))).fell_back
        assert not back.after(Registered(version=version(3))).after(Promoted(version=3, former=1)).fell_back


def test_nothing_is_trained_for_labels_of_production_the_candidate_or_a_rejected_version() -> None:
    state = after(*night(1), *night(2), *night(3))
    known = version(1).settings

    def found(labels: int, at: RegistryState = state) -> int | None:
        version = at.version_of(known, f"{labels:016x}")
        return None if version is None else version.number

    assert [found(labels) for labels in (1, 2, 3, 4)] == [None, None, 3, None]  # Undone labels are looked at again.
    assert state.version_of("other settings", f"{3:016x}") is None
    back = state.after(RolledBack(version=1, former=3))
    assert [found(labels, back) for labels in (1, 2, 3, 4)] == [1, 2, 3, None]
    waiting = back.after(Registered(version=version(4, labels=f"{4:016x}")))
    assert found(4, waiting) == 4
    rejected = waiting.after(Rejected(version=4, evidence=EVIDENCE))
    assert [found(labels, rejected) for labels in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert found(4, waiting.after(Rejected(version=4, is_forced=True))) == 4
    assert found(4, waiting.after(Rejected(version=4))) is None  # It was of no use any more, and may be again.
    assert found(4, rejected.after(Pruned(versions=(4,)))) is None
    with pytest.raises(JobError, match="it has none"):
        RegistryState().version(1)


def test_a_rollback_never_leads_to_a_later_version() -> None:
    state = after(*night(1), *night(2), *night(3))
    assert state.after(RolledBack(version=1, former=3)).former is None
    unwatched = after(
        *(
            move
            for number in (1, 2, 3)
            for move in (night(number)[0], Promoted(version=number, former=number - 1 or None))
        )
    )
    assert unwatched.former == 2
    assert unwatched.after(RolledBack(version=1, former=3)).former is None


def test_a_rollback_never_leads_to_a_version_whose_classifier_is_gone() -> None:
    moves = [night(number)[0] for number in (1, 2, 3)]
    promoted = [Promoted(version=number, former=number - 1 or None) for number in (1, 2, 3)]
    state = after(*moves, *promoted, Pruned(versions=(1,)))
    assert state.former == 2
    assert state.after(RolledBack(version=2, former=3)).former is None


def test_of_versions_of_the_same_labels_the_newest_one_counts() -> None:
    state = after(*night(1), Registered(version=version(2, labels=f"{1:016x}")))
    found = state.version_of(version(1).settings, f"{1:016x}")
    assert found is not None
    assert found.number == 2


def test_refused_labels_are_known_until_a_version_is_registered() -> None:
    refused = Refused(labels="f" * 16, days=("examples",), images=10, agreeing=2, expected=9.5, classes=("amber",))
    state = after(*night(1), refused)
    assert (state.refused, state.production, state.candidate) == ("f" * 16, 1, None)
    assert state.after(night(2)[0]).refused is None
