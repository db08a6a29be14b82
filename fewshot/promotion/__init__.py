"""Whether a retrained classifier replaces the one in production: evidence, policies, what is too early to tell."""

from fewshot.promotion.evidence import Comparison, log_evidence, log_evidence_of_counts
from fewshot.promotion.gate import (
    POLICIES,
    Decision,
    GateResult,
    Policy,
    decide,
    log_needed,
    shows_harm,
    watch,
)
from fewshot.promotion.new_labels import NewLabels, check_new_labels
from fewshot.promotion.outlook import ClassGuard, guard_class, labels_needed
from fewshot.promotion.recalibration import RankedLabels

__all__ = [
    "POLICIES",
    "ClassGuard",
    "Comparison",
    "Decision",
    "GateResult",
    "NewLabels",
    "Policy",
    "RankedLabels",
    "check_new_labels",
    "decide",
    "guard_class",
    "labels_needed",
    "log_evidence",
    "log_evidence_of_counts",
    "log_needed",
    "shows_harm",
    "watch",
]
