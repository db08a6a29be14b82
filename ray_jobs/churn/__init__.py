"""Which labels changed between two classifications of an archive: counts, pictures, and how to undo it."""

from ray_jobs.churn.churn_report import churn_page, ensure_churn, read_churn, write_churn
from ray_jobs.churn.registered_runs import find_run, run_of_version, split_version

__all__ = ["churn_page", "ensure_churn", "find_run", "read_churn", "run_of_version", "split_version", "write_churn"]
