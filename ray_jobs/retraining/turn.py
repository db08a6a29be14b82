"""What one turn decides, from what is known: pure functions, so that a turn that was ended goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fewshot.promotion import GateResult, Policy, decide, shows_harm, watch
from ray_jobs.registry.moves import EvidenceBasis
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.retraining.fresh_labels import LabelComparison
from ray_jobs.retraining.label_nights import Night

Step = Literal["train", "refuse", "accept", "promote", "reject", "hold", "roll back", "confirm"]
NO_EVIDENCE = (
    "waiting for labels of audits or imported tables, of which none came since (fewshot audit; or decide by hand:"
    " fewshot registry promote or reject)"
)
SHOWN = 5
"""Classes that a sentence names."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a job promotes; see [retrain].

    Attributes:
        policy: see `fewshot.promotion.gate`.
        margin: by how much a candidate may be worse under `not-worse`, in (0, 1).
        alpha: probability of a wrong decision by the first candidate after a promotion.
        watch_labels: number of labels after which a watch without evidence of harm ends.
        hold_labels: number of labels after which a candidate that is not decided yet is replaced.
    """

    policy: Policy = "watchful"
    margin: float = 0.02
    alpha: float = 0.05
    watch_labels: int = 2_000
    hold_labels: int = 2_000

    def margin_for(self, state: RegistryState) -> float:
        """By how much a frozen candidate may be worse.

        After a rollback `watchful` asks for what `not-worse` asks for: its own test let the harm pass.
        """
        return 0.0 if self.policy == "superior" else self.margin if self.is_frozen(state) else 0.0

    def is_frozen(self, state: RegistryState) -> bool:
        """Whether a candidate without new classes waits for labels that come later."""
        return self.policy != "watchful" or state.fell_back


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done next.

    Attributes:
        step: what.
        why: in a sentence, for the journal and the terminal.
        result: of the comparison that it rests on; None if on none.
        compared: that comparison.
        basis: of the comparison.
    """

    step: Step
    why: str
    result: GateResult | None = None
    compared: LabelComparison | None = None
    basis: EvidenceBasis = "fresh labels"


def decide_watch(own: LabelComparison, chain: LabelComparison | None, rules: Rules) -> tuple[Decision, Decision | None]:
    """Decide whether the watched version stays in production.

    Args:
        own: the version in production with the one before it, by labels that came to this version alone.
        chain: all versions since the watch began with the one that would be restored; None if that is the same.
        rules: of the job. Both comparisons share what may go wrong.

    Returns:
        what is found by either. Each may say to go back; the last one that there is may end a watch.
    """
    alpha = rules.alpha if chain is None else rules.alpha / 2.0
    if chain is None:
        return _watched(own, alpha, rules.watch_labels), None
    return _watched(own, alpha, None), _watched(chain, alpha, rules.watch_labels)


def _watched(compared: LabelComparison, alpha: float, enough: int | None) -> Decision:
    """Look at one comparison of a watch. Only enough labels end it, or what is shown about a single version."""
    result, counts = watch(compared.comparison, alpha=alpha), _counts(compared, "labels that came later")
    if result.decision == "reject":
        return Decision("roll back", f"evidence of harm: {counts}", result, compared)
    if fallen := compared.fallen(alpha):
        return Decision("roll back", f"evidence of harm in {some_of(fallen)}: {counts}", result, compared)
    is_single = len(set(compared.newer)) == 1
    if enough is not None and is_single and result.decision == "promote":
        return Decision("confirm", f"shown to be better: {counts}{_guarded(compared, alpha)}", result, compared)
    if enough is not None and compared.watched_enough(enough):
        return Decision("confirm", f"no evidence of harm: {counts}{_guarded(compared, alpha)}", result, compared)
    return Decision("hold", f"still watched: {counts}", result, compared)


def decide_frozen(compared: LabelComparison, state: RegistryState, rules: Rules) -> Decision:
    """Decide about a frozen candidate by labels that came after it and production.

    Args:
        compared: the candidate with production.
        state: of the registry, which counts candidates.
        rules: of the job.
    """
    margin = rules.margin_for(state)
    result = decide(compared.comparison, margin=margin, candidate=state.candidates, alpha=rules.alpha)
    counts = _counts(compared)
    if result.decision == "reject":
        return Decision("reject", f"production is shown to be better: {counts}", result, compared)
    if fallen := compared.fallen(rules.alpha):
        return Decision("reject", f"production is shown to be better in {some_of(fallen)}: {counts}", result, compared)
    if result.decision == "promote":
        shown = "better" if not margin else f"not worse by {100 * margin:g} points"
        why = f"shown to be {shown}: {counts}{_guarded(compared, rules.alpha)}"
        return Decision("promote", why, result, compared)
    if len(compared.labels) >= rules.hold_labels:
        return Decision("reject", f"not decided by {counts}; the next version learns from them", result, compared)
    why = f"not decided yet: {counts}" if compared.labels else NO_EVIDENCE
    return Decision("hold", why, result, compared)


def decide_by_held_back(
    compared: LabelComparison, state: RegistryState, rules: Rules, new_classes: Sequence[str] = ()
) -> Decision:
    """Decide about a candidate by twins of it and of production, on examples that neither of them learned from.

    Args:
        compared: the twins.
        state: of the registry. Where a candidate waits for labels, but none came, held-back examples must show what
            these would have to show: they are looked at once for each candidate.
        rules: of the job.
        new_classes: that production does not know: they cannot wait.
    """
    better, worse, count = compared.comparison.better, compared.comparison.worse, len(compared.labels)
    counts = _counted(better, worse, count, "held-back examples")
    basis: EvidenceBasis = "held-back examples"
    if rules.is_frozen(state) and not new_classes:
        margin = rules.margin_for(state)
        result = decide(compared.comparison, margin=margin, candidate=state.candidates, alpha=rules.alpha)
        step: Step = "promote" if result.decision == "promote" else "hold"
        return Decision(step, counts if step == "promote" else f"{NO_EVIDENCE}; {counts}", result, compared, basis)
    result = decide(compared.comparison, alpha=rules.alpha)
    if shows_harm(better, worse):
        return Decision("reject", f"worse on examples that were held back: {counts}", result, compared, basis)
    why = f"no harm on examples that were held back: {counts}" if count else "no example could be held back to compare"
    if new_classes:
        why = f"{some_of(new_classes)}: new, and not waiting; on the other classes {why}"
    return Decision("promote", why, result, compared, basis)


def decide_nights(nights: Sequence[Night]) -> Decision:
    """Say why labels are not learned from; there is a night at least."""
    wrong = sum(each.found.wrong * each.found.labels for each in nights)
    why = f"about {wrong:,.0f} new labels seem to be wrong ({agreement_of(nights)})"
    return Decision("refuse", f"{why}; look at the labels of {some_of(classes_of(nights))}")


def agreement_of(nights: Sequence[Night]) -> str:
    """Return with how many of the labels that were compared production agrees; empty if there are none."""
    found = [each.found for each in nights]
    agreeing, labels = sum(each.agreeing for each in found), sum(each.labels for each in found)
    expected = sum(each.expected for each in found)
    return f"production agrees with {agreeing:,} of {labels:,} new labels, {expected:,.0f} expected" if labels else ""


def classes_of(nights: Sequence[Night]) -> tuple[str, ...]:
    """Return the classes to look at, each once, those of the first night first."""
    return tuple(dict.fromkeys(name for night in nights for name in night.found.classes))


def _counts(compared: LabelComparison, what: str = "labels") -> str:
    found = compared.comparison
    return _counted(found.better, found.worse, len(compared.labels), what)


def _guarded(compared: LabelComparison, alpha: float) -> str:
    """Say that no class fell, and of how many one could tell."""
    can_tell = sum(compared.guard(label, alpha).state == "held" for label in set(compared.labels))
    return f"; no class is shown to be worse ({can_tell:,} of {compared.classes:,} have enough labels to tell)"


def _counted(better: int, worse: int, count: int, what: str) -> str:
    """Return on how many labels, or examples, only one of both versions is right."""
    return f"of {count} {what}, the newer version alone is right on {better}, the older one alone on {worse}"


def some_of(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
