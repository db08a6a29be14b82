"""The moves of a turn: each goes into the journal with its evidence, and is told to the person who took the turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_jobs.registry.moves import Compared, Evidence, Move, Registered, RolledBack
from ray_jobs.retraining.fresh_labels import LabelComparison
from ray_jobs.retraining.turn import Decision
from ray_jobs.retraining.turn_facts import TurnFacts


@dataclass
class TurnRecord:
    """Makes moves, and keeps what was decided.

    Attributes:
        facts: whose state each move changes.
        by: who or what takes the turn.
        decisions: in order, each with the version that it is about; None where it is about labels.
        comparison: of a candidate that waits with production; None without one.
        trained: number of classifiers that were trained.
    """

    facts: TurnFacts
    by: str
    decisions: list[tuple[int | None, Decision]] = field(default_factory=list)
    comparison: LabelComparison | None = None
    trained: int = 0

    def append(self, move: Move, decision: Decision) -> None:
        """Make a move."""
        self._write(move, decision)
        self.tell(_version_of(move), decision)

    def note(self, version: int, against: int, decision: Decision) -> None:
        """Note a comparison of two versions that decides nothing, unless it repeats the last one, or has no label."""
        move = Compared(version=version, against=against, evidence=evidence_of(decision))
        if move.evidence.images and not self._is_known(move):
            self.append(move, decision)
        elif self.comparison is not None:
            self.tell(version, decision)

    def tell(self, version: int | None, decision: Decision) -> None:
        """Tell what was decided without a move."""
        self.decisions.append((version, decision))

    def _write(self, move: Move, decision: Decision) -> None:
        facts = self.facts
        facts.state = facts.journal.append(move, by=self.by, why=decision.why, after=facts.state)

    def _is_known(self, move: Compared) -> bool:
        """Whether the last comparison with a version came to the same, so that no label came since."""
        watched = self.facts.state.watched
        same = {move.version, *watched} if move.version in watched else {move.version}
        moves = [found for each in self.facts.journal.entries() if isinstance(found := each.move, Compared)]
        compared = (each for each in reversed(moves) if each.against == move.against and each.version in same)
        last = next(compared, None)
        return last is not None and _counts_of(last.evidence) == _counts_of(move.evidence)


def evidence_of(decision: Decision) -> Evidence:
    """Return the evidence of a decision, for the journal.

    Raises:
        ValueError: it rests on none.
    """
    result, compared = decision.result, decision.compared
    if result is None or compared is None:
        raise ValueError(f"no evidence for: {decision.why}")
    return Evidence(
        images=len(compared.labels),
        better=compared.comparison.better,
        worse=compared.comparison.worse,
        log_evidence=result.log_evidence,
        log_harm=result.log_harm,
        log_needed=result.log_needed,
        basis=decision.basis,
    )


def _counts_of(evidence: Evidence) -> tuple[object, ...]:
    return evidence.images, evidence.better, evidence.worse, evidence.basis


def _version_of(move: Move) -> int | None:
    """The version that a move is about; of a rollback, the one that was taken back."""
    if isinstance(move, RolledBack):
        return move.former
    return move.version.number if isinstance(move, Registered) else getattr(move, "version", None)
