"""What runs and commands come to, as typed values: stored as JSON with a format version, and printed."""

from ray_jobs.results.classification_metrics import (
    STATUSES,
    CandidateMethod,
    ClassificationMetrics,
    GivenLabels,
    HeldOut,
    Measured,
    Reliability,
    ScoreHistogram,
    Status,
    UnreadableExamples,
)
from ray_jobs.results.cost_plan import BackboneFacts, BackboneProbe, BlockMemory, CostPlan, EscalationCost, PlannedStage
from ray_jobs.results.error_limits import ErrorLimitPlan, LabelledShare
from ray_jobs.results.escalation_summary import CalibrationSummary, CostPoint, EscalationSummary, MeasuredEscalation
from ray_jobs.results.evaluation_result import CascadeRow, CascadeTable, EvaluationResult, EvaluationRow
from ray_jobs.results.json_format import FormatError, Json, JsonObject, NewerFormatError, SupportsJson
from ray_jobs.results.label_sets import LabelSetPlan, LabelSetSummary
from ray_jobs.results.output_status import OutputReports, OutputStatus, RunReport, RunState, RunStatus
from ray_jobs.results.run_plan import ArchiveSummary, RunKind, RunPlan
from ray_jobs.results.unknown_images import MeasuredUnknown, UnknownImages, UnknownTestPlan

__all__ = [
    "STATUSES",
    "ArchiveSummary",
    "BackboneFacts",
    "BackboneProbe",
    "BlockMemory",
    "CalibrationSummary",
    "CandidateMethod",
    "CascadeRow",
    "CascadeTable",
    "ClassificationMetrics",
    "CostPlan",
    "CostPoint",
    "ErrorLimitPlan",
    "EscalationCost",
    "EscalationSummary",
    "EvaluationResult",
    "EvaluationRow",
    "FormatError",
    "GivenLabels",
    "HeldOut",
    "Json",
    "JsonObject",
    "LabelSetPlan",
    "LabelSetSummary",
    "LabelledShare",
    "Measured",
    "MeasuredEscalation",
    "MeasuredUnknown",
    "NewerFormatError",
    "OutputReports",
    "OutputStatus",
    "PlannedStage",
    "Reliability",
    "RunKind",
    "RunPlan",
    "RunReport",
    "RunState",
    "RunStatus",
    "ScoreHistogram",
    "Status",
    "SupportsJson",
    "UnknownImages",
    "UnknownTestPlan",
    "UnreadableExamples",
]
