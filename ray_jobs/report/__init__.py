"""A run as one page that a person looks at: `report/index.html`, whole in itself."""

from ray_jobs.report.evaluation_page import render_evaluation
from ray_jobs.report.report_files import ensure_report, find_reports

__all__ = ["ensure_report", "find_reports", "render_evaluation"]
