"""Audits of a run: which images to label, and what their labels say about the whole archive."""

from ray_jobs.audit.audit import DEFAULT_IMAGES, Audit, audit, table_to_label

__all__ = ["DEFAULT_IMAGES", "Audit", "audit", "table_to_label"]
