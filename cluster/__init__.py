"""How work is spread over machines, tried again and stored. Knows nothing of images or models.

Importing this package does not import Ray: that happens when a `RayExecutor` is entered.
"""

from cluster.errors import (
    ClusterError,
    LeaseHeldError,
    LeaseLostError,
    SourceError,
    StorageError,
    UnitLostError,
    WorkerStartError,
)
from cluster.events import Event, UnitDone, UnitFailed, UnitSkipped, WorkerLost, WorkersReady
from cluster.executor import Executor
from cluster.fingerprint import fingerprint
from cluster.lease import Lease, hold, who_holds
from cluster.ledger import Ledger
from cluster.local import LocalExecutor
from cluster.ray_executor import RayExecutor
from cluster.retry import Retry
from cluster.stage import StageReport, run_stage
from cluster.step import Helpers, Part, SplitStep, Step, Unit, Workers
from cluster.storage import Storage
from cluster.store import Store

__all__ = [
    "ClusterError",
    "Event",
    "Executor",
    "Helpers",
    "Lease",
    "LeaseHeldError",
    "LeaseLostError",
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
    "WorkerLost",
    "WorkerStartError",
    "Workers",
    "WorkersReady",
    "fingerprint",
    "hold",
    "run_stage",
    "who_holds",
]
