"""What one turn decides, from what is known: a pure function, so that a turn that was ended goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fewshot.promotion import Comparison, GateResult, NewLabels, Policy, decide, shows_harm, watch
from ray_jobs.registry.registry_state import RegistryState

Step = Literal["nothing", "train", "promote", "reject", "hold", "roll back", "confirm"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a job promotes; see [retrain].

    Attributes:
        policy: see `fewshot.promotion.gate`.
        margin: by how much a candidate may be worse under `not-worse`, in (0, 1).
        alpha: probability of a wrong decision by the first candidate after a promotion.
        watch_labels: number of labels after which a watch without evidence of harm ends.
    """

    policy: Policy = "watchful"
    margin: float = 0.02
    alpha: float = 0.05
    watch_labels: int = 500

    @property
    def margin_of_policy(self) -> float:
        """By how much a candidate may be worse under the policy."""
        return self.margin if self.policy == "not-worse" else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done next.

    Attributes:
        step: what.
        why: in a sentence, for the journal and the terminal.
        result: of the comparison that it rests on; None if on none.
    """

    step: Step
    why: str
    result: GateResult | None = None


def decide_watch(comparison: Comparison, rules: Rules) -> Decision:
    """Decide whether the watched version stays in production.

    Args:
        comparison: of the productions since the watch began with the version that would be restored.
        rules: of the job.
    """
    result, labels = watch(comparison, alpha=rules.alpha), len(comparison.gains)
    counts = f"{comparison.better} better, {comparison.worse} worse of {labels} labels that came later"
    if result.decision == "reject":
        return Decision("roll back", f"evidence of harm: {counts}", result)
    if result.decision == "promote":
        return Decision("confirm", f"shown to be better: {counts}", result)
    if labels >= rules.watch_labels:
        return Decision("confirm", f"no evidence of harm: {counts}", result)
    return Decision("hold", f"still watched: {counts}", result)


def decide_candidate(comparison: Comparison, state: RegistryState, rules: Rules) -> Decision:
    """Decide about a frozen candidate, under the policies `superior` and `not-worse`.

    Args:
        comparison: of the candidate with production, by labels that came after both.
        state: of the registry, which counts candidates.
        rules: of the job.
    """
    margin = rules.margin_of_policy
    result = decide(comparison, margin=margin, candidate=max(1, state.candidates), alpha=rules.alpha)
    counts = f"{comparison.better} better, {comparison.worse} worse of {len(comparison.gains)} labels"
    if result.decision == "promote":
        shown = "better" if not margin else f"not worse by {100 * margin:g} points"
        return Decision("promote", f"shown to be {shown}: {counts}", result)
    if result.decision == "reject":
        return Decision("reject", f"production is shown to be better: {counts}", result)
    return Decision("hold", f"not decided yet: {counts}", result)


def decide_new(new_labels: NewLabels | None, held_back: Comparison | None, rules: Rules) -> Decision:
    """Decide about a candidate that was just trained.

    Args:
        new_labels: what its new labels look like to production; None if there is no production.
        held_back: of twins of both that did not learn from a part of the examples, on that part; None likewise.
        rules: of the job.
    """
    if new_labels is None or held_back is None:
        return Decision("promote", "the first version")
    if new_labels.is_suspicious:
        wrong = f"production agrees with {new_labels.agreeing} of {new_labels.labels} new labels, where it expects"
        classes = ", ".join(new_labels.classes[:5])
        return Decision("reject", f"{wrong} {new_labels.expected:.0f}; look at the labels of {classes}")
    if rules.policy != "watchful":
        return Decision("hold", "frozen until labels that come later decide")
    counts = f"{held_back.better} better, {held_back.worse} worse of {len(held_back.gains)} held-back examples"
    if shows_harm(held_back.better, held_back.worse):
        return Decision("reject", f"worse on examples that were held back: {counts}")
    return Decision("promote", f"no harm on examples that were held back: {counts}")
