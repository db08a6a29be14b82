"""Jobs on a running Ray cluster: sent through Ray's Jobs API, followed, stopped, listed.

Ray is imported when one talks to a cluster that answers.
"""

from ray_jobs.submission.control import list_jobs, print_log, stop_job
from ray_jobs.submission.prepare import Request, connect, submit

__all__ = ["Request", "connect", "list_jobs", "print_log", "stop_job", "submit"]
