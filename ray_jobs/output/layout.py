"""Paths in an output. Everything that determines an artefact is in its path."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cluster import Retry, Storage, Store, fingerprint
from fewshot.backbones import ClipSpec
from fewshot.digests import check_json, seal_json
from fewshot.image_formats import decoding_identity
from ray_jobs.output.feature_parts import FEATURES_VERSION

JOB, PLAN, METRICS, FAILURES = "job.toml", "plan.json", "metrics.json", "failures.parquet"
PER_CLASS = "per_class.parquet"
"""Of an evaluation: the accuracy of each class."""
LOAD, WORK, WORK_PAGE = "load.json", "work.json", "report/work.html"
"""How busy the workers were, and what the stages took, with a page of both: measured, so not the same whenever a run is
made. All other objects are."""
PREDICTIONS, CHEAP_PREDICTIONS, GAPS = "predictions", "cheap-predictions", "gaps.parquet"
"""With [escalate], the classifier makes the cheap predictions, and the gaps keep how escalated images were decided."""
EXAMPLES = "examples-"
"""Begins the names of folders with features of examples."""
REPORT, LEASE, RUNS = "report/index.html", "lease", "runs"
CLASS_PAGES, CLASS_TABLE = "report/classes", "report/classes/index.html"
"""The folder of the pages of the classes, and the table of all of them, which is written last."""
CHURN, CHURN_PAGE = "churn.json", "report/churn.html"
"""Of a run that was compared with an earlier one: the labels that changed, written last, and a page of them."""
CARD = "card.json"
"""Of a classifier or an adapter. Written last, so that a folder with a card is complete."""
LABEL_SET_EXAMPLES = "examples.safetensors"
"""Beside the card of a classifier, where a job makes label sets."""
UNKNOWN_TEST = "unknown.safetensors"
"""Beside the card of a classifier, where a job tests for images of no class."""
LABELS, EVENTS, KEPT_IMAGES = "labels", "events", "images"
"""The folder of the ledger of labels; in it, the folders of the batches of events and of copies of labelled images."""
AUDITS, AUDIT_RESULT = "audits", "result.json"
"""The folder of the audits of an output, a folder for each draw, and what the answers to a draw show."""
REGISTRY = "registry"
"""The folder of the registries of an output, one for each job."""
SCHEDULES = "schedule"
"""The folder of the records of schedulers in an output, a folder for each job."""
SUGGESTIONS = "suggestions"
"""The folder of lists of images to look at: suggestions of what to label next, and searches."""
FILES = "files"
"""Key of a card: by name, the digest of each file beside it."""
INTERACTIVE = Retry(deadline_s=10.0, throttled_deadline_s=60.0)
"""Interactive: give up quickly on storage that is down, but wait for storage that limits the rate of requests."""


def open_parent(url: str, storage: Storage) -> tuple[Store, str]:
    """Open the store that a folder lies in.

    Args:
        url: of the folder, any fsspec URL or path.
        storage: how S3 is reached.

    Returns:
        the store, and the folder's name there.

    Raises:
        FileNotFoundError: the URL is the root of a bucket or of a file system, which lies in no folder.
        StorageError: the URL carries a password.
    """
    whole = Store(url, storage=storage)
    parent, _, name = whole.root.rpartition("/")
    if not name or parent.endswith(":/"):
        raise FileNotFoundError(f"{whole.root} lies in no folder")
    return Store(parent or "/", storage=storage, retry=INTERACTIVE), name


def features_folder(spec: ClipSpec, of: str) -> str:
    """Return the folder of features.

    Args:
        spec: the backbone.
        of: names what is embedded: an archive's fingerprint, or "examples-" and the number of views.
    """
    return f"features/{fingerprint([FEATURES_VERSION, decoding_identity(), spec.identity()])}/{of}"


def examples_folder(spec: ClipSpec, views: int) -> str:
    """Return the folder of features of examples, each with so many augmented views."""
    return features_folder(spec, f"{EXAMPLES}{views}")


def present_parts(store: Store, parts: Collection[str]) -> list[str]:
    """Return the parts that are in storage, in the given order; their folders are listed."""
    folders = {posixpath.dirname(part) for part in parts}
    present = {path for folder in folders for path in store.list(folder)}
    return [part for part in parts if part in present]


def dense_folder(features: str) -> str:
    """Return the folder of the same features with dense tokens beside them."""
    return f"{features}-dense"


def feature_part(folder: str, shard: str) -> str:
    """Return the part of features of one shard."""
    return f"{folder}/part-{shard}.parquet"


def classifier_folder(method: str, identity: Any) -> str:
    """Return the folder of a trained classifier."""
    return f"classifiers/{method}/{fingerprint(identity)}"


def run_folder(name: str, identity: Any) -> str:
    """Return the folder of a run."""
    return f"{RUNS}/{name}-{fingerprint(identity)[:12]}"


def labels_folder(identity: Any) -> str:
    """Return the folder of predictions of one classifier, which runs share.

    Args:
        identity: all that determines a part beside the shard, see `Classification.labels`.
    """
    return f"{PREDICTIONS}/{fingerprint(identity)}"


def prediction_parts(folder: str, features: Sequence[str]) -> list[str]:
    """Return the parts of predictions in a folder, in order, each named like the part of features of its shard."""
    return [f"{folder}/{posixpath.basename(part)}" for part in features]


class Spot(NamedTuple):
    """Where the record of an image lies.

    Attributes:
        shard: fingerprint of its shard, see `shard_of`.
        row: position in the shard, and so in its parts of features and predictions, from 0.
    """

    shard: str
    row: int


def shard_of(part: str) -> str:
    """Return the fingerprint of the shard of a part of features or predictions."""
    return posixpath.basename(part).removeprefix("part-").removesuffix(".parquet")


def to_json(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object as it is stored, readable for people, with its digest."""
    return (json.dumps(seal_json(value), indent=2, ensure_ascii=False) + "\n").encode()


def from_json(data: bytes) -> dict[str, Any]:
    """Read what `to_json` returned.

    Raises:
        DigestError: it is damaged.
        ValueError, RecursionError: it is not JSON, or no object.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return check_json(value)
