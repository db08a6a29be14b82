"""What can go wrong while work is spread and stored. Callers catch `ClusterError` or a leaf of it."""


class ClusterError(Exception):
    """Base of every error this package raises on purpose."""


class StorageError(ClusterError, OSError):
    """Storage did not answer as it should, also after retries. Running again later may succeed."""


class ChangedError(ClusterError, RuntimeError):
    """An object is no longer what was listed. Nothing is broken: running again lists it anew."""


class SourceError(ClusterError, ValueError):
    """An archive cannot be opened as what it claims to be. Running again will not help."""


class WorkerStartError(ClusterError, RuntimeError):
    """A step's `setup` failed or no worker could be placed: nothing can run, so the stage stops at once."""


class UnitLostError(ClusterError, RuntimeError):
    """Units took their workers down at every attempt (out of memory, native code), or no node is left for one."""


class LeaseHeldError(ClusterError, RuntimeError):
    """Somebody else is at work in the same place. Nothing was done; run again when they are through."""


class LeaseLostError(ClusterError, RuntimeError):
    """This process was silent for so long that another took over its work. It must write no more."""
