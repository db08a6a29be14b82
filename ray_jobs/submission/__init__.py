"""Jobs on a running Ray cluster: submit, follow, stop and list them through Ray's Jobs API.

Ray is imported once a dashboard has responded.
"""

from ray_jobs.submission.control import list_jobs, print_log, stop_job
from ray_jobs.submission.prepare import SubmitOptions, connect, submit

__all__ = ["SubmitOptions", "connect", "list_jobs", "print_log", "stop_job", "submit"]
