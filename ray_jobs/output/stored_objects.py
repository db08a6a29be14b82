"""The objects of an output by their names, and whether one is as it was written.

Only objects with names that this program gives are read. All other files in an output (notes, copies, files of a file
system) are neither counted nor touched. A folder with a card is one object.
"""

from __future__ import annotations

import errno
import posixpath
import re

from cluster import Store
from cluster.errors import StorageError
from fewshot.digests import check_digest, check_seal
from ray_jobs.output.feature_parts import DAMAGE, read_parquet
from ray_jobs.output.layout import AUDITS, CARD, FILES, LABELS, PREDICTIONS, REGISTRY, RUNS, from_json

_HASH = "[0-9a-f]{16}"
_PART = rf"part-{_HASH}\.parquet"
_RUN = (
    r"(?:plan|metrics|load|work|probe|churn)\.json|job\.toml|report/(?:index|work|churn|classes/(?:index|\d+-\d+))\.html"
    r"|(?:failures|escalated|gaps|table|cells|per_class|cascades)\.parquet"
    rf"|predictions/{_PART}|(?:noise|calibration)-errors/round-\d+/part-{_HASH}\.npy"
)
_OF_A_RUN = re.compile(_RUN)
_SHARED = re.compile(
    rf"latest\.json|archive-samples/{_HASH}\.(?:parquet|json)|features/{_HASH}/[^/]+/{_PART}|predictions/{_HASH}/{_PART}"
    rf"|suggestions/{_HASH}\.json|evaluations/[^/]+/[^/]+/\d+-shots-seed-\d+-{_HASH}\.json"
    rf"|classifiers/[^/]+/{_HASH}/(?:card\.json|(?:examples|unknown)\.safetensors)"
    rf"|trainings/{_HASH}/[^/]+-[0-9a-f]{{32}}\.safetensors"
    rf"|fold-pretrainings/[^/]+/\d+-shots-seed-\d+-fold-\d+-{_HASH}\.json"
    rf"|latents/{_HASH}/(?:support|archive/[^/]+|prior/{_HASH})/part-[0-9a-f-]+\.safetensors"
    rf"|adapters/[^/]+/(?:{_HASH}/card\.json|blocks/{_HASH}\.json)"
    rf"|cascades/[^/]+/[^/]+/(?:cascade\.json|cheap-predictions/{_PART}|of-\d+/(?:{_RUN}))"
)
_BESIDE_CARD = re.compile(
    r"(?:classifier|context)\.safetensors|tokens/\d+\.safetensors|(?:unet|text_encoder)/adapter_(?:config\.json|model\.safetensors)"
)
_TABLE = re.compile(r"[a-z_]+\.(?:csv|md|parquet)")
SHARED_FOLDERS = (
    "archive-samples",
    "classifiers",
    "trainings",
    "fold-pretrainings",
    "latents",
    "adapters",
    "cascades",
    "suggestions",
)
"""Folders of an output with objects that several runs may have, beside the features."""
KEPT_FOLDERS = ("features", PREDICTIONS, "evaluations", RUNS, LABELS, AUDITS, REGISTRY, *SHARED_FOLDERS)
"""All folders of an output that jobs and commands keep results in."""


def is_of_one_object(error: StorageError) -> bool:
    """Return whether an error concerns one object alone: a folder is in its place, or its disk sectors are lost."""
    cause = error.__cause__
    return isinstance(cause, IsADirectoryError) or getattr(cause, "errno", None) == errno.EIO


def is_of_run(path: str) -> bool:
    """Return whether a run has an object of this name; the path is relative to its folder."""
    return _OF_A_RUN.fullmatch(path) is not None


def is_shared(path: str) -> bool:
    """Return whether an output has an object of this name that runs share; the path is relative to the output."""
    return _SHARED.fullmatch(path) is not None


def is_table(name: str) -> bool:
    """Return whether a run has a table of this name whose digest is in its metrics."""
    return _TABLE.fullmatch(name) is not None


def is_object(path: str, run: str) -> bool:
    """Return whether a run has, or shares, an object of this name; paths are relative to the output."""
    name = path.removeprefix(f"{run}/")
    return is_shared(path) or (name != path and (is_of_run(name) or is_table(name)))


def find_problem(store: Store, path: str) -> str | None:
    """Read an object, or a card with all of its files, and return what is wrong with it; None if nothing is.

    Raises:
        StorageError: storage does not respond.
    """
    return read_and_check(store, path)[1]


def read_and_check(store: Store, path: str) -> tuple[int, str | None]:
    """Read an object as `find_problem` does.

    Returns:
        the number of bytes that were read, and what is wrong; None if nothing is.
    """
    size = 0
    try:
        data = store.get(path)
        size = len(data)
        if posixpath.basename(path) == CARD:
            size += _check_card(store, posixpath.dirname(path), data)
        else:
            _check(path, data)
    except FileNotFoundError:
        return size, "it is missing"
    except PermissionError as error:
        return size, str(error)
    except StorageError as error:
        if not is_of_one_object(error):
            raise
        return size, str(error)
    except DAMAGE as error:
        return size, str(error)
    return size, None


def _check(path: str, data: bytes) -> None:
    """Raise one of `DAMAGE` unless an object is as it was written."""
    match posixpath.splitext(path)[1]:
        case ".parquet":
            read_parquet(data)
        case ".json":
            from_json(data)
        case _:
            check_seal(data)


def _check_card(store: Store, folder: str, data: bytes) -> int:
    """Check a card and the files that it lists; return their length."""
    size = 0
    for name, expected in from_json(data)[FILES].items():
        if not _BESIDE_CARD.fullmatch(name):
            raise ValueError(f"it lists {name!r:.80}, which is no file of a classifier or an adapter")
        try:
            content = store.get(f"{folder}/{name}")
            check_digest(content, expected)
        except FileNotFoundError as error:
            raise ValueError(f"{name} is missing") from error
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        size += len(content)
    return size
