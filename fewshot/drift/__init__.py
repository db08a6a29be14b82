"""Whether the images that come in are still like those at promotion: samples, effects, p-values, levels of nights."""

from fewshot.drift.alarm_budget import Spent, next_level
from fewshot.drift.compare import (
    LEAST,
    SAMPLE,
    STATISTICS,
    Finding,
    Floors,
    Sample,
    Statistic,
    compare,
    permutations_for,
    windows,
)
from fewshot.drift.counts import SharesTest, compare_shares, rate_p_value
from fewshot.drift.discriminant import TAIL, Discriminant, Separation

__all__ = [
    "LEAST",
    "SAMPLE",
    "STATISTICS",
    "TAIL",
    "Discriminant",
    "Finding",
    "Floors",
    "Sample",
    "Separation",
    "SharesTest",
    "Spent",
    "Statistic",
    "compare",
    "compare_shares",
    "next_level",
    "permutations_for",
    "rate_p_value",
    "windows",
]
