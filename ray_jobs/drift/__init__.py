"""`fewshot drift`: whether the images that come in are still like those at promotion."""

from ray_jobs.drift.check_drift import DriftCheck, DriftRules, check_drift, keep_reference

__all__ = ["DriftCheck", "DriftRules", "check_drift", "keep_reference"]
