"""Errors of spreading and storing work. Callers catch `ClusterError` or a subclass of it."""

from cluster.secrets import redacted


class ClusterError(Exception):
    """Base of every error that this package raises on purpose. Secrets in its message are redacted."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))


class StorageError(ClusterError, OSError):
    """Storage failed, also after retries. Running again later may succeed."""


class ChangedError(ClusterError, RuntimeError):
    """An object changed after it was listed. Running again makes a new listing."""


class SourceError(ClusterError, ValueError):
    """A place cannot be opened as it is named, or an archive in its declared form. Running again will not help."""


class DamagedLeaseError(StorageError):
    """The object of a lease cannot be read as one. The owner of the lease is unknown until the object is removed."""


class WorkerStartError(ClusterError, RuntimeError):
    """A step's `setup` failed or no worker could be placed: nothing can run, so the stage stops at once."""


class WorkerBrokenError(ClusterError, RuntimeError):
    """The process of a worker can do no more work, as after an error of its GPU. A new one may do its units."""


class UnitLostError(ClusterError, RuntimeError):
    """Units lost their workers at every attempt (out of memory, native code), or no node is left for them."""


class LeaseHeldError(ClusterError, RuntimeError):
    """Another live process has the lease. Nothing was done; run again when that process has ended."""


class LeaseLostError(ClusterError, RuntimeError):
    """Another process took the lease over, because this one was silent for a whole term. It must not write any more."""
