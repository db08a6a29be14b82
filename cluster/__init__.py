"""Spread work over machines, retry it and store its results, independently of images and models.

Importing this package does not import Ray: that happens when a `RayExecutor` is entered.
"""

from cluster.errors import (
    ClusterError,
    LeaseHeldError,
    LeaseLostError,
    SourceError,
    StorageError,
    UnitLostError,
    WorkerBrokenError,
    WorkerStartError,
)
from cluster.execution.events import Event, UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady
from cluster.execution.executor import Executor
from cluster.execution.local_executor import LocalExecutor
from cluster.execution.stage import StageReport, run_stage
from cluster.execution.step import Helpers, Part, SplitStep, Step, Unit, Workers
from cluster.fingerprint import fingerprint
from cluster.on_ray.ray_executor import RayExecutor
from cluster.storage.lease import Lease, LeaseState, acquire_lease, lease_state
from cluster.storage.retry import Retry
from cluster.storage.settings import Storage
from cluster.storage.store import Ledger, Store

__all__ = [
    "ClusterError",
    "Event",
    "Executor",
    "Helpers",
    "Lease",
    "LeaseHeldError",
    "LeaseLostError",
    "LeaseState",
    "Ledger",
    "LocalExecutor",
    "Part",
    "RayExecutor",
    "Retry",
    "SourceError",
    "SplitStep",
    "StageReport",
    "Step",
    "Storage",
    "StorageError",
    "Store",
    "Unit",
    "UnitDone",
    "UnitFailed",
    "UnitLostError",
    "UnitSkipped",
    "WorkerBrokenError",
    "WorkerLost",
    "WorkerStartError",
    "Workers",
    "WorkersReady",
    "acquire_lease",
    "fingerprint",
    "lease_state",
    "run_stage",
]
