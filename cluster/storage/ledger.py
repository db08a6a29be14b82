"""What is done."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.storage.store import Store


@dataclass(frozen=True, slots=True)
class Ledger:
    """The record of committed parts, which is nothing but the parts themselves.

    One atomic object is the commit. There is no second "done" mark that could disagree with it, for two reasons: the
    path carries a fingerprint of all that determines the bytes, so an object of that name can be no other result; and
    the bytes are a function of the unit, so when two workers commit the same unit (a slow one that was given up, a
    second run beside the first), the second write replaces the object by itself. A write is whole or absent, so a
    kill at any point leaves a unit done or not done, and listing the folder tells which.
    """

    store: Store

    def done(self, prefix: str) -> frozenset[str]:
        """Paths, relative to the store, of all parts committed below a folder; always asked anew."""
        return frozenset(self.store.list(prefix))

    def commit(self, path: str, data: bytes) -> None:
        """Make a part durable and visible.

        Raises:
            StorageError: it could not be written; there is no such part then, or it is this one.
        """
        self.store.put(path, data)

    def remove_stale_files(self, folder: str) -> None:
        """Remove what killed writers left in a folder; see `Store.remove_stale_files`."""
        self.store.remove_stale_files(folder)
