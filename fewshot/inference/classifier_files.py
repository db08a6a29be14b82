"""A calibrated classifier as two files: tensors in safetensors, everything else in a card that people can read.

Nothing here touches a disk: the caller stores the bytes, and the same classifier always gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
from torch import Tensor

from fewshot.calibration.calibrated_classifier import CalibratedClassifier, HeldOutReport
from fewshot.calibration.temperature import Scaling
from fewshot.errors import DataError
from fewshot.methods import METHODS, Classifier, method_named
from fewshot.model_selection.candidates import CandidateResult

if TYPE_CHECKING:
    from fewshot.backbones.pooling import Pooling
    from fewshot.backbones.text_tower import TextTower

TENSORS = "classifier.safetensors"
CARD = "card.json"
FORMAT = 3
SCALING = tuple(field.name for field in dataclasses.fields(Scaling))
"""What a card calls the numbers of a `Scaling`."""
PARTS = ("pooling", "text_tower")
"""Fields of a classifier that are parts of its backbone: not stored, put back when it is loaded."""


def save_classifier(calibrated: CalibratedClassifier, card: Mapping[str, Any]) -> dict[str, bytes]:
    """Serialise.

    Args:
        calibrated: what to store.
        card: JSON-able facts to store beside it (fingerprints, versions).

    Returns:
        file name to content.

    Raises:
        DataError: `card` uses a name that is taken.
    """
    fields = _field_values(calibrated.classifier)
    tensors = {name: value.cpu().contiguous() for name, value in _tensors(fields).items()}
    facts = {
        "format": FORMAT,
        "method": calibrated.method.name,
        "hyperparameters": _field_values(calibrated.method),
        "classifier": {name: value for name, value in fields.items() if _is_plain(value)},
        "classes": list(calibrated.class_names),
        "logit_scale": calibrated.logit_scale,
        **dataclasses.asdict(calibrated.scaling),
        "threshold": calibrated.threshold,
        "held_out": dataclasses.asdict(calibrated.report),
    }
    if taken := sorted(facts.keys() & card.keys()):
        raise DataError(f"the card may not set {', '.join(taken)}: the classifier does")
    text = json.dumps({**facts, **card}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {TENSORS: safetensors.torch.save(tensors), CARD: (text + "\n").encode()}


def read_card(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The card of a stored classifier, the caller's facts included.

    Raises:
        DataError: there is none, or it is not one this version can read.
    """
    if CARD not in files:
        raise DataError(f"no {CARD} among {sorted(files)}")
    try:
        card = json.loads(files[CARD])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{CARD} is not JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(f"{CARD} is not a classifier card of format {FORMAT}")
    if not isinstance(card.get("method"), str):
        raise DataError(f"{CARD} names no method")
    return card


def load_classifier(
    files: Mapping[str, bytes], *, text_tower: TextTower | None = None, pooling: Pooling | None = None
) -> CalibratedClassifier:
    """The inverse of `save_classifier`, bit for bit, on the CPU.

    Args:
        files: file name to content; other files are ignored.
        text_tower: of the backbone it was fitted on, for a classifier that needs it (`backbone_parts`).
        pooling: likewise.

    Raises:
        DataError: a file is missing, damaged, or does not fit the method; or a part of the backbone is missing.
        UnknownNameError: a method this version does not have.
    """
    card = read_card(files)
    if TENSORS not in files:
        raise DataError(f"no {TENSORS} among {sorted(files)}")
    _check_kinds(card)
    try:
        tensors = safetensors.torch.load(files[TENSORS])
        parts = {"text_tower": text_tower, "pooling": pooling}
        method = method_named(card["method"], **card["hyperparameters"])
        return CalibratedClassifier(
            method=method,
            classifier=_classifier(card["method"], {**card["classifier"], **_nested(tensors)}, parts),
            class_names=tuple(card["classes"]),
            logit_scale=card["logit_scale"],
            scaling=Scaling(**{name: card[name] for name in SCALING}),
            threshold=card["threshold"],
            report=_report(card["held_out"]),
        )
    except safetensors.SafetensorError as error:
        raise DataError(f"{TENSORS} is damaged: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{CARD} is incomplete: {error}") from error


def _check_kinds(card: Mapping[str, Any]) -> None:
    """Raise DataError unless the numbers of a card are numbers, and its names texts."""
    classes = card.get("classes")
    numbers = [card.get(name) for name in ("logit_scale", *SCALING)] + [card.get("threshold") or 0.0]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{CARD}: classes must be a list of texts")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise DataError(f"{CARD}: logit_scale, {', '.join(SCALING)} and threshold must be numbers")


def backbone_parts(method: str) -> frozenset[str]:
    """Which parts of the backbone the classifier of a method needs: of "text_tower", "pooling"."""
    return frozenset(PARTS) & {field.name for field in dataclasses.fields(METHODS[method].classifier_type)}


def _classifier(method: str, values: dict[str, Any], parts: Mapping[str, Any]) -> Classifier:
    kind = METHODS[method].classifier_type
    needed = {name: parts[name] for name in backbone_parts(method)}
    if missing := sorted(name for name, part in needed.items() if part is None):
        raise DataError(f"a {method} classifier needs the backbone's {', '.join(missing)} to be loaded")
    expected = {field.name for field in dataclasses.fields(kind)} - needed.keys()
    if expected != values.keys():
        raise DataError(f"a {method} classifier consists of {sorted(expected)}, the files hold {sorted(values)}")
    classifier: Classifier = kind(**values, **needed)
    return classifier


def _report(values: Mapping[str, Any]) -> HeldOutReport:
    candidates = values.get("candidates")
    return HeldOutReport(
        **{
            **values,
            "candidates": None if candidates is None else tuple(CandidateResult(**result) for result in candidates),
        }
    )


def _field_values(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _tensors(fields: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensor fields by name, and those of mappings as "field/name"."""
    found = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{key}": tensor for key, tensor in value.items()}
    return found


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_tensors`."""
    values: dict[str, Any] = {}
    for name, tensor in tensors.items():
        field, separator, key = name.partition("/")
        if separator:
            values.setdefault(field, {})[key] = tensor
        else:
            values[field] = tensor
    return values
