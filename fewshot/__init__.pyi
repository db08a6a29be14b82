# The types of the interface, for type checkers and editors; nothing of this is imported at run time.
# See __init__.py for where the functions come from.

from collections.abc import Callable

from fewshot.methods.table import MethodInfo
from ray_jobs.interface import JobError as JobError
from ray_jobs.interface import classify as classify
from ray_jobs.interface import evaluate as evaluate
from ray_jobs.interface import load_classifier as load_classifier
from ray_jobs.interface import open_run as open_run

__version__: str

methods: Callable[[], tuple[MethodInfo, ...]]
