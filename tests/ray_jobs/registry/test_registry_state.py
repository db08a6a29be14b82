"""What moves come to, and moves that cannot be made."""

from __future__ import annotations

import pytest

from ray_jobs.errors import JobError
from ray_jobs.registry.moves import Compared, Confirmed, Move, Promoted, Pruned, Registered, Rejected, RolledBack
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
    assert after(*SECOND, Rejected(version=2)).rejected == {2}
    promoted = after(*SECOND, Promoted(version=2, former=1, evidence=EVIDENCE))
    assert (promoted.candidate, promoted.production, promoted.former) == (None, 2, 1)


def test_candidates_are_counted_since_production_changed() -> None:
    more = [Registered(version=version(number)) for number in (3, 4)]
    state = after(*SECOND, *more)
    assert (state.candidates, state.candidate) == (3, 4)
    assert state.after(Promoted(version=4, former=1)).candidates == 0
    # A candidate that is still being decided about meets the new production as its first.
    assert state.after(Promoted(version=2, former=1)).candidates == 1
    assert state.after(Rejected(version=4)).candidates == 3


def test_a_watch_lasts_until_it_is_confirmed_rolled_back_or_a_person_decides() -> None:
    state = after(*WATCHED)
    assert (state.production, state.shadow, state.watched_since) == (2, 1, 4)
    confirmed = state.after(Confirmed(version=2, evidence=EVIDENCE))
    assert (confirmed.production, confirmed.shadow, confirmed.watched_since) == (2, None, None)
    back = state.after(RolledBack(version=1, former=2, is_automatic=True, evidence=EVIDENCE))
    assert (back.production, back.shadow, back.rejected) == (1, None, frozenset({2}))
    forced = state.after(Registered(version=version(3))).after(Promoted(version=3, former=2, is_forced=True))
    assert (forced.production, forced.shadow) == (3, None)


def test_a_promotion_during_a_watch_prolongs_it() -> None:
    state = after(*WATCHED, Registered(version=version(3)), Promoted(version=3, former=2, is_watched=True))
    assert (state.production, state.shadow, state.watched_since, state.watched) == (3, 1, 4, (2, 3))
    more = state.after(Registered(version=version(4))).after(Promoted(version=4, former=3, is_watched=True))
    assert more.needed.keys() == {1, 2, 3, 4}  # All of them are compared with the first.
    assert more.after(RolledBack(version=1, former=4)).watched == ()


def test_the_first_version_has_nothing_to_be_watched_against() -> None:
    state = after(Registered(version=version(1)), Promoted(version=1, former=None, is_watched=True))
    assert (state.shadow, state.watched_since, state.former) == (None, None, None)


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


def test_versions_are_found_by_classifier_and_labels() -> None:
    state = after(*SECOND)
    assert state.version_of(version(2).classifier, version(2).labels) == version(2)
    assert state.version_of(version(2).classifier, "other") is None
    with pytest.raises(JobError, match="it has none"):
        RegistryState().version(1)
