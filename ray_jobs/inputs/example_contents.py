"""The contents of examples: each example is read once, for its digest, and decoded once before the job starts."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cluster.records import content_digest
from cluster.records.names import printable
from fewshot.errors import SHOWN
from ray_jobs.errors import JobError
from ray_jobs.inputs.examples import LABEL_AGAIN, Labels
from ray_jobs.inputs.unreadable_examples import skipped_summary, stop_at_unreadable

DECODED_BYTES = 128 << 20
"""Bytes of examples that are decoded before a job begins, the first of them; embedding finds damage in the others."""
DECODED_SIDE = 64
"""Pixels: decoding only tests whether an image can be read, so JPEGs are decoded at a reduced scale."""
_THREADS = 4

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ExampleContents:
    """The contents of the examples of a job.

    Attributes:
        labels: the examples.
        digests: image -> digest of its content; "" where it cannot be read.
        reasons: image -> why it cannot be read.
        kept: image -> content, of the first `DECODED_BYTES`; empty after `check`.
    """

    labels: Labels
    digests: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict, repr=False)
    _kept_bytes: int = 0

    @classmethod
    def read(cls, labels: Labels) -> ExampleContents:
        """Read examples, several at a time.

        Raises:
            StorageError: storage does not answer, also after retries.
        """
        contents, images = cls(labels), sorted(set(labels.images))
        for image, record in zip(images, labels.selection.read(images), strict=True):
            contents._add(image, record.data, record.error)
        return contents

    def _add(self, image: str, data: bytes | None, error: str | None) -> None:
        self.digests[image] = "" if data is None else content_digest(data)
        if data is None:
            self.reasons[image] = str(error)
        elif self._kept_bytes + len(data) <= DECODED_BYTES:
            self.kept[image] = data
            self._kept_bytes += len(data)

    def check(self, *, skip: bool) -> None:
        """Decode the examples, as far as they were kept, and stop at those that cannot be read.

        Args:
            skip: only warn of them, unless a class has no other example.

        Raises:
            JobError: with a list of them.
        """
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="examples") as pool:
            for image, reason in zip(self.kept, pool.map(problem_with_image, self.kept.values()), strict=True):
                if reason is not None:
                    self.reasons[image] = reason
        self.kept.clear()
        stop_at_unreadable(self.labels, self.reasons, skip=skip)
        if self.reasons:
            logger.warning("%s", skipped_summary(self.labels, self.reasons))

    def check_labels(self) -> None:
        """Stop at images that are examples of two classes, under two names; those that cannot be read do not count.

        Raises:
            JobError: with a list of them.
        """
        first: dict[str, tuple[str, int]] = {}
        problems = []
        for image, label in zip(self.labels.images, self.labels.labels, strict=True):
            if (digest := self.digests[image]) and image not in self.reasons:
                other, known = first.setdefault(digest, (image, label))
                if known != label:
                    problems.append(f"  {self._named(other, known)} and {self._named(image, label)}")
        if problems:
            shown = problems[:SHOWN] + [f"  … and {len(problems) - SHOWN} more"] * (len(problems) > SHOWN)
            found = "[support] the same image, byte for byte, is an example of two classes:"
            of_ledger = "" if self.labels.beside is None else f" {LABEL_AGAIN}"
            raise JobError(["\n".join([found, *shown, f"Remove it from one of them.{of_ledger}"])])

    def _named(self, image: str, label: int) -> str:
        return f"{printable(image)} ({printable(self.labels.space.names[label])})"


def problem_with_image(data: bytes) -> str | None:
    """Decode an image at a reduced scale, and return why it cannot be read; None if it can."""
    from fewshot.errors import UnreadableImageError
    from fewshot.images import decode

    try:
        decode(data, min_side=DECODED_SIDE)
    except UnreadableImageError as error:
        return str(error)
    return None
