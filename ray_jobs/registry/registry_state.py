"""What the moves of a journal come to: versions, the one in production, the candidate, the watch. A pure function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ray_jobs.errors import JobError
from ray_jobs.registry.moves import (
    Accepted,
    Compared,
    Confirmed,
    JournalEntry,
    Move,
    Promoted,
    Pruned,
    Refused,
    Registered,
    Rejected,
    RolledBack,
    Version,
)


@dataclass(frozen=True, slots=True)
class RegistryState:
    """The state after a number of moves.

    Attributes:
        sequence: number of the last entry; 0 before the first.
        versions: by number, in ascending order.
        production: number of the version in production; None before the first promotion.
        productions: numbers of all that were in production, in order; the last one is `production`.
        candidate: number of the version that is being decided about; None if there is none.
        candidates: number of the candidate since production changed last, from 1; those that were replaced before
            anything was compared do not count.
        is_compared: whether the candidate was compared with production, and so may have been promoted by chance.
        shadow: number of the version that was in production before those that are watched, and would be restored; None
            if none is watched. Versions that are promoted during a watch prolong it: otherwise a small harm every night
            would go unseen.
        watched: numbers of the versions that were promoted since the watch began, in order; none without one.
        rejected: numbers of rejected versions.
        fell_back: whether production is what was gone back to, automatically or by a person who restored or promoted
            an earlier one: the next version must show that it may replace it.
        refused: digest of all labels when some were refused last, unless a version was registered since.
        pruned: numbers of versions whose classifiers are gone.
    """

    sequence: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    production: int | None = None
    productions: tuple[int, ...] = ()
    candidate: int | None = None
    candidates: int = 0
    is_compared: bool = False
    shadow: int | None = None
    watched: tuple[int, ...] = ()
    rejected: frozenset[int] = frozenset()
    pruned: frozenset[int] = frozenset()
    fell_back: bool = False
    refused: str | None = None

    def version(self, number: int) -> Version:
        """Return a version.

        Raises:
            JobError: there is none with this number.
        """
        if number not in self.versions:
            known = f"it has 1 to {len(self.versions)}" if self.versions else "it has none yet"
            raise JobError([f"the registry has no version {number}; {known}"])
        return self.versions[number]

    def version_of(self, settings: str, labels: str) -> Version | None:
        """Return the version that makes it needless to train with these settings on these labels; None if none does.

        It is the one in production, the candidate or a rejected one. Another version says nothing: if labels were
        undone, what it was compared with is no longer production.
        """
        current = {self.production, self.candidate, *self.rejected} - self.pruned
        found = [each for each in self.versions.values() if (each.settings, each.labels) == (settings, labels)]
        return next((each for each in reversed(found) if each.number in current), None)

    @property
    def former(self) -> int | None:
        """What a rollback restores: the latest other production that is still there and was not taken back itself."""
        gone = {self.production, *self.pruned, *self.rejected}
        return next((each for each in reversed(self.productions) if each not in gone), None)

    def after(self, move: Move) -> RegistryState:
        """Return the state after one more move.

        Raises:
            JobError: the move cannot be made.
        """
        moved = replace(self, sequence=self.sequence + 1)
        match move:
            case Registered(version=version):
                if version.number != len(self.versions) + 1:
                    raise JobError([f"expected version {len(self.versions) + 1}, got {version.number}"])
                return replace(
                    moved,
                    versions=self.versions | {version.number: version},
                    candidate=version.number,
                    candidates=max(1, self.candidates + self.is_compared),
                    is_compared=False,
                    refused=None,
                )
            case Refused(labels=labels):
                return replace(moved, refused=labels)
            case Accepted():
                return replace(moved, refused=None)
            case Promoted(version=number, former=former, is_watched=is_watched, is_forced=is_forced):
                self._check_move(number, former)
                after = moved._with_production(number)
                if is_forced and (newer := self._later_than(number)):
                    return replace(after, rejected=(self.rejected | newer) - {number}, fell_back=True)
                if not is_watched or former is None:
                    return after
                return replace(
                    after, shadow=former if self.shadow is None else self.shadow, watched=(*self.watched, number)
                )
            case RolledBack(version=number, former=former):
                self._check_move(number, former)
                before, undone = self._watched_until(number)
                rejected = self.rejected | {former, *undone, *self._later_than(number)}
                return replace(
                    moved._with_production(number),
                    rejected=rejected - {number},
                    fell_back=True,
                    shadow=self.shadow if before else None,
                    watched=before,
                )
            case Rejected(version=number, evidence=evidence, is_forced=is_forced):
                self.version(number)
                if number == self.production:
                    raise JobError([f"version {number} is in production and cannot be rejected; roll back instead"])
                candidate = None if number == self.candidate else self.candidate
                is_decided = evidence is not None or is_forced  # Or else it is of no use now, and may come again.
                rejected = self.rejected | {number} if is_decided else self.rejected
                is_compared = self.is_compared or (number == self.candidate and evidence is not None)
                return replace(moved, candidate=candidate, rejected=rejected, is_compared=is_compared)
            case Confirmed(version=number):
                if number not in self.watched:
                    raise JobError([f"version {number} is not watched"])
                _, later = self._watched_until(number)
                return replace(moved, shadow=number if later else None, watched=later)
            case Compared(version=number, against=against):
                for each in (number, against):
                    self.version(each)
                return replace(moved, is_compared=self.is_compared or number == self.candidate)
            case Pruned(versions=numbers):
                if kept := sorted(set(numbers) & self.needed.keys()):
                    raise JobError([f"version {kept[0]} is needed and cannot be removed"])
                return replace(moved, pruned=self.pruned | set(numbers))

    @property
    def needed(self) -> dict[int, str]:
        """Versions whose classifiers must stay, and why: what a move may bring back, and all that are compared."""
        reasons = dict.fromkeys(self.watched, "watched")
        places = {
            self.shadow: "restored on evidence of harm",
            self.former: "restored by a rollback",
            self.candidate: "the candidate",
            self.production: "in production",
        }
        return reasons | {number: why for number, why in places.items() if number is not None}

    def _watched_until(self, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The watched versions up to one of them, and those after it; all are after what the watch would restore."""
        if number == self.shadow:
            return (), self.watched
        if number not in self.watched:
            return (), ()
        place = self.watched.index(number) + 1
        return self.watched[:place], self.watched[place:]

    def _later_than(self, number: int) -> set[int]:
        """Versions that were in production and are newer than one of them."""
        return {each for each in self.productions if each > number}

    def _with_production(self, number: int) -> RegistryState:
        candidate = None if self.candidate == number else self.candidate
        return replace(
            self,
            production=number,
            productions=(*self.productions, number),
            candidate=candidate,
            candidates=0 if candidate is None else 1,
            is_compared=False,
            shadow=None,
            watched=(),
            rejected=self.rejected - {number},
            fell_back=False,
        )

    def _check_move(self, number: int, former: int | None) -> None:
        self.version(number)
        if number in self.pruned:
            raise JobError([f"the classifier of version {number} was removed; train it again"])
        if number == self.production:
            raise JobError([f"version {number} is in production already"])
        if former != self.production:
            raise JobError([f"expected version {self.production} in production, got a move from {former}"])


def state_of(entries: Iterable[JournalEntry]) -> RegistryState:
    """Return the state after entries, in order.

    Raises:
        JobError: a move could not have been made, so the journal is damaged.
    """
    state = RegistryState()
    for entry in entries:
        state = state.after(entry.move)
    return state
