"""The interface for Python: what `import fewshot` offers beyond the library itself.

Its functions are registered in pyproject.toml as entry points of the group `fewshot.interface`; `fewshot/__init__.py`
looks them up there, so that the library does not import what is built on it. Importing this package imports neither
torch nor Ray nor pyarrow: each function imports what it needs.
"""

from ray_jobs.errors import JobError
from ray_jobs.interface.jobs import classify, evaluate
from ray_jobs.interface.stored import load_classifier, open_run

__all__ = ["JobError", "classify", "evaluate", "load_classifier", "open_run"]
