"""Classifiers in storage: a folder with tensors and a card, the card written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from cluster import Storage, Store, fingerprint
from cluster.errors import ClusterError
from cluster.secrets import redacted
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.backbones import BackboneRecord, ClipSpec
from fewshot.backbones.clip_spec import spec_of_identity
from fewshot.calibration.abstention import ABSTAIN_ALWAYS
from fewshot.digests import check_digest
from fewshot.errors import FewShotError
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.output.known_examples import load_known_examples
from ray_jobs.output.label_set_examples import load_examples
from ray_jobs.output.layout import CARD, FILES, PLAN, classifier_folder, from_json, open_parent
from ray_jobs.results.classification_metrics import UnreadableExamples
from ray_jobs.results.error_limits import AuditedThreshold
from ray_jobs.results.run_plan import RunPlan

if TYPE_CHECKING:
    from fewshot.calibration.abstention import HeldOutScores
    from fewshot.calibration.calibrated_classifier import CalibratedClassifier
    from fewshot.conformal import LabelSetRule
    from fewshot.unknown import UnknownTest

TENSORS, TOKENS = "classifier.safetensors", "tokens"
"""The file of the tensors, and the folder of learned tokens."""
CARD_DAMAGE = (KeyError, TypeError, ValueError, RecursionError)
OPTIONAL = ("archive_sample", "diffusion", "validation")
"""Left out of the identity of classifiers that were trained without."""
METHODS_VERSION = 7
"""Part of every classifier's fingerprint: raised when a method or the calibration changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingIdentity:
    """All that determines a classifier: of equal ones, equal classifiers are trained.

    `max_error` is not part of it: thresholds are chosen on the held-out scores that are stored with the classifier.

    Attributes:
        clip: identity of the backbone, see `ClipSpec.identity`.
        templates: prompts; None for the backbone's own.
        method: name of the method.
        hyperparameters: given ones; the others are chosen inside the examples.
        seed: of everything random.
        support: identity of the examples.
        diffusion: identity of the diffusion model of methods that learn with one; None for all others.
        archive_sample: name of the sample of the archive, for methods that learn from it; None for all others.
        validation: identity of the images to choose hyperparameters on; None chooses inside the examples.
    """

    clip: Mapping[str, object]
    templates: tuple[str, ...] | None
    method: str
    hyperparameters: Mapping[str, object]
    seed: int
    support: str
    diffusion: Mapping[str, object] | None = None
    archive_sample: str | None = None
    validation: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the identity as it is stored in the card of the classifier, and as fingerprints are taken of it."""
        values = {"version": METHODS_VERSION} | {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if name not in OPTIONAL or value is not None}

    @property
    def folder(self) -> str:
        """Where the classifier is stored in the output."""
        return classifier_folder(self.method, self.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierRef:
    """A stored classifier: one that the job trained, or one that its file names.

    Attributes:
        store: where it lies.
        folder: its folder there.
        name: method and fingerprint of everything it was trained from, the same wherever it lies.
        method: name of the method, the selected one where methods were compared.
        classes: K names, in label order.
        identity: fingerprint; equal ones make equal predictions for equal `max_error` and `confidence`.
        examples: number of examples it was trained from; None where its card does not say.
        held_out: number of held-out examples, on which its scores are calibrated.
        unreadable_examples: examples that it was trained without.
        clip: identity of the backbone it was trained on, see `ClipSpec.identity`.
        max_error: error rate that is tolerated among labels given; None labels every image.
        confidence: with which `max_error` is to hold.
        label_set_error: probability with which a label set may lack the true label; None makes no label sets.
        unknown_rate: largest share of images of the classes that may be called unknown; None tests no image.
        audited_threshold: score below which labels are withheld, from an audit; None: held-out scores give it.
        is_own: whether the job trained it. If it is damaged, it is removed, and the next run trains it anew.
    """

    store: Store
    folder: str
    name: str
    method: str
    classes: tuple[str, ...]
    identity: str
    examples: int | None
    held_out: int
    unreadable_examples: UnreadableExamples
    clip: Mapping[str, object] = field(hash=False, repr=False)
    max_error: float | None = None
    confidence: float = 0.9
    label_set_error: float | None = None
    unknown_rate: float | None = None
    audited_threshold: float | None = None
    is_own: bool = True

    @property
    def url(self) -> str:
        """Where it lies."""
        return self.store.url(self.folder)

    def with_max_error(self, max_error: float | None, confidence: float) -> ClassifierRef:
        """Return the classifier with another maximum error rate; see the attributes."""
        return replace(self, max_error=max_error, confidence=confidence)

    def with_audited_threshold(self, audited: AuditedThreshold | None) -> ClassifierRef:
        """Return the classifier with the threshold of an audit; None leaves it to the held-out scores."""
        if audited is None:
            return replace(self, audited_threshold=None)
        return replace(self, audited_threshold=ABSTAIN_ALWAYS if audited.threshold is None else audited.threshold)

    def with_label_sets(self, label_set_error: float | None) -> ClassifierRef:
        """Return the classifier with label sets, or without; see the attributes."""
        return replace(self, label_set_error=label_set_error)

    def label_set_rule(self) -> LabelSetRule | None:
        """Load what makes label sets; None if the classifier makes none.

        Raises:
            JobError: its examples are not beside it.
            DamagedError: they are damaged.
            DataError: `label_set_error` is out of range.
        """
        if self.label_set_error is None:
            return None
        from fewshot.conformal import LabelSetRule

        examples = load_examples(self.store, self.folder, self.classes, is_own=self.is_own)
        return LabelSetRule(examples, self.label_set_error)

    def with_unknown_rate(self, unknown_rate: float | None) -> ClassifierRef:
        """Return the classifier with another test of images of no class, or without one; see the attributes."""
        return replace(self, unknown_rate=unknown_rate)

    def unknown_test(self) -> UnknownTest | None:
        """Load the test of images of no class; None if no image is tested.

        Raises:
            FileNotFoundError: its examples are not beside the classifier.
            DamagedError: they are damaged.
        """
        if self.unknown_rate is None:
            return None
        from fewshot.unknown import UnknownTest

        return UnknownTest(load_known_examples(self.store, self.folder), self.unknown_rate)

    def load(self, spec: ClipSpec) -> CalibratedClassifier:
        """Load the classifier, with the threshold for its `max_error`.

        Args:
            spec: the backbone it was trained on; loaded only if the classifier needs a part of it.

        Raises:
            FileNotFoundError: it is gone, or not complete.
            DamagedError: it is damaged.
        """
        from fewshot.backbones import load_backbone
        from fewshot.inference.classifier_files import backbone_parts, load_classifier, read_card

        files = {name: self.store.get(f"{self.folder}/{name}") for name in (CARD, TENSORS)}
        with self._checked():
            needed = backbone_parts(read_card(files)["method"])
        clip = load_backbone(spec) if needed else None
        with self._checked():
            calibrated = load_classifier(files, **{name: getattr(clip, name) for name in needed})
        if self.audited_threshold is not None:
            return calibrated.with_threshold(self.audited_threshold, confidence=self.confidence)
        return calibrated.with_max_error(self.max_error, confidence=self.confidence)

    def held_out_scores(self) -> HeldOutScores:
        """Read the scores of the held-out examples, on which thresholds are chosen; takes neither torch nor backbone.

        Raises:
            FileNotFoundError: it is gone, or not complete.
            DamagedError: it is damaged.
        """
        from fewshot.inference.held_out_scores import read_held_out_scores

        data = self.store.get(f"{self.folder}/{TENSORS}")
        with self._checked():
            return read_held_out_scores(data, file=TENSORS)

    def threshold(self) -> float | None:
        """Return the score below which labels are withheld: None withholds none, above 1 withholds all.

        Raises:
            FileNotFoundError, DamagedError: as `held_out_scores`.
        """
        if self.max_error is None or self.audited_threshold is not None:
            return self.audited_threshold
        return self.held_out_scores().guarantee(self.max_error, confidence=self.confidence).threshold

    def backbone(self, given: ClipSpec | None) -> ClipSpec:
        """Return the backbone that images must be embedded with.

        Args:
            given: what the job file says; a precision of "auto" is that of the classifier, and so is the commit of a
                repository on the hub without a revision. None takes the one that it was trained on, if it is there.

        Raises:
            JobError: it is another one, or not to be had here.
        """
        spec = self._trained_on() if given is None else self._settled(given)
        where = f"the classifier {self.url}"
        try:
            spec.check()
            spec = spec.pinned()
            found = _comparable(spec.identity())
        except (FewShotError, OSError, TypeError, ValueError) as error:
            raise JobError([f"{where} needs the CLIP {spec.model!r} it was trained on: {error}"]) from error
        expected = _comparable(self.clip)
        if found != expected:
            names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            differences = "; ".join(f"{name} {expected.get(name)!r}, here {found.get(name)!r}" for name in names)
            advice = "Name that one under [clip], or leave [clip] out" if given else "Name it under [clip]"
            raise JobError([f"{where} was trained on another CLIP: {differences}. {advice}."])
        return spec

    def _settled(self, given: ClipSpec) -> ClipSpec:
        trained_on = self._trained_on()
        if given.precision == "auto":
            given = replace(given, precision=trained_on.precision)
        known = {tower.model.partition("@")[0]: tower.model for tower in trained_on.towers if tower.is_on_hub}
        beside = given.beside and replace(given.beside, model=known.get(given.beside.model, given.beside.model))
        return replace(given, model=known.get(given.model, given.model), beside=beside)

    def _trained_on(self) -> ClipSpec:
        try:
            return spec_of_identity(self.clip)
        except (TypeError, ValueError) as error:
            raise JobError([f"{self.url}/{CARD} names no CLIP that can be loaded: {error}"]) from error

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Turn what goes wrong while files are read into a DamagedError; an own classifier loses its card."""
        try:
            yield
        except (FewShotError, KeyError) as error:
            if not self.is_own:
                raise DamagedError(f"the classifier {self.url} is damaged: {error}") from error
            raise _removed(self.store, self.folder, error) from error


def _removed(store: Store, folder: str, error: Exception) -> DamagedError:
    """Remove the card of a damaged classifier, which makes it one that is not there, and return what to raise."""
    store.delete(f"{folder}/{CARD}")
    return DamagedError(f"the classifier {store.url(folder)} was damaged; run again to train it anew ({error})")


def put_classifier(
    store: Store,
    calibrated: CalibratedClassifier,
    identity: TrainingIdentity,
    *,
    examples: int,
    unreadable: UnreadableExamples,
    backbone: BackboneRecord | None = None,
    archive_images: int | None = None,
) -> ClassifierRef:
    """Store a classifier. A folder with a card is complete.

    Args:
        store: the output.
        calibrated: the classifier.
        identity: what it was trained from.
        examples: number of examples that were given.
        unreadable: examples that it was trained without.
        backbone: what the backbone is, for the card; None leaves it out.
        archive_images: number of unlabelled images in the sample of the archive; None for methods without one.
    """
    from fewshot.inference.classifier_files import save_classifier

    folder, tokens = identity.folder, _token_files(calibrated)
    facts = {"trained_from": identity.to_json(), "examples": examples, "unreadable_examples": unreadable.to_json()}
    facts |= {} if backbone is None else {"backbone": asdict(backbone)}
    facts |= {} if archive_images is None else {"archive_images": archive_images}
    files = {**tokens, **save_classifier(calibrated, facts, tokens)}
    for name in sorted(files, key=lambda name: name == CARD):
        store.put(f"{folder}/{name}", files[name])
    return _ref_from_card(store, folder, files[CARD])


def find_classifier(store: Store, folder: str) -> ClassifierRef | None:
    """Return a classifier of the output by its card, which is all that is read; None if it is not there.

    Raises:
        DamagedError: its card is damaged, and was removed.
    """
    path = f"{folder}/{CARD}"
    try:
        data = store.get(path)
    except FileNotFoundError:
        return None
    try:
        return _ref_from_card(store, folder, data)
    except CARD_DAMAGE as error:
        raise _removed(store, folder, error) from error


def open_classifier(url: str, storage: Storage = DEFAULT_STORAGE) -> ClassifierRef:
    """Open a stored classifier, wherever it lies; it is never changed.

    Args:
        url: its folder, with `card.json` and `classifier.safetensors` in it: any fsspec URL or path.
        storage: how S3 is reached.

    Raises:
        JobError: there is none, or it is damaged.
    """
    try:
        store, folder = open_parent(url, storage)
        files = [store.get(f"{folder}/{name}") for name in (CARD, TENSORS)]
    except FileNotFoundError as error:
        raise JobError([_missing(url, storage)]) from error
    except (ClusterError, OSError, ValueError) as error:
        raise JobError([f"cannot read the classifier {redacted(url)}: {error}"]) from error
    try:
        _check_tensors(files[1])
        check_digest(files[1], from_json(files[0])[FILES][TENSORS])
        ref = _ref_from_card(store, folder, files[0])
    except (*CARD_DAMAGE, SafetensorError) as error:
        raise JobError([f"the classifier {store.url(folder)} is damaged: {type(error).__name__}: {error}"]) from error
    digest = hashlib.blake2b(b"".join(hashlib.blake2b(data).digest() for data in files), digest_size=8).hexdigest()
    return replace(ref, store=Store(store.root, storage=storage), identity=digest, is_own=False)


def _missing(url: str, storage: Storage) -> str:
    """What to write instead of a folder without a classifier; of a run's folder, its classifier."""
    expected = f"no classifier in {redacted(url)}: expected a folder with {CARD} and {TENSORS}"
    with suppress(ClusterError, OSError, ValueError, JobError):
        store, folder = open_parent(url, storage)
        plan = RunPlan.from_json(store.get(f"{folder}/{PLAN}"), where=url)
        return f"{expected}. This is the folder of a run; its classifier is {plan.classifier} in the output."
    return f"{expected}, such as OUTPUT/classifiers/METHOD/FINGERPRINT; plan.json of a run names its classifier"


def _check_tensors(data: bytes) -> None:
    """Raise SafetensorError unless the file is whole; reads no torch."""
    from safetensors import deserialize

    deserialize(data)  # type: ignore[no-untyped-call]


def _ref_from_card(store: Store, folder: str, data: bytes) -> ClassifierRef:
    """A classifier by its card.

    Raises:
        KeyError, TypeError, ValueError, RecursionError: the card is damaged (`CARD_DAMAGE`).
    """
    card = from_json(data)
    trained_from, unreadable = card["trained_from"], card["unreadable_examples"]
    examples, fingerprint_ = card.get("examples"), fingerprint(trained_from)
    return ClassifierRef(
        store=store,
        folder=folder,
        name=f"{trained_from['method']}/{fingerprint_}",
        method=_text(card["method"]),
        classes=tuple(map(_text, card["classes"])),
        identity=fingerprint_,
        examples=None if examples is None else int(examples),
        held_out=int(card["held_out"]["images"]),
        unreadable_examples=UnreadableExamples(
            examples=int(unreadable["examples"]),
            such_as=tuple(map(_text, unreadable["such_as"])),
            classes=tuple(map(_text, unreadable["classes"])),
        ),
        clip=dict(trained_from["clip"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _comparable(identity: Mapping[str, object]) -> dict[str, object]:
    """A backbone's identity as JSON; where files say what it is, their place does not."""
    plain: dict[str, object] = json.loads(json.dumps(identity))
    if isinstance(beside := plain.get("beside"), dict):
        plain["beside"] = _comparable(beside)
    weights = plain.get("weights")
    if isinstance(weights, list) and all(isinstance(file, list) for file in weights):
        return plain | {"model": "a folder"}
    return plain | {"pretrained": "a file"} if isinstance(weights, str) else plain


def _token_files(calibrated: CalibratedClassifier) -> dict[str, bytes]:
    """Learned tokens, one file a class in the order of the card's classes, as diffusers and its users read them."""
    from fewshot.diffusion.tokens import TokenClassifier, placeholder, token_file

    if not isinstance(classifier := calibrated.classifier, TokenClassifier):
        return {}
    return {
        f"{TOKENS}/{label:04d}.safetensors": token_file(placeholder(label), classifier.tokens[label])
        for label in classifier.tokens.any(dim=1).nonzero().flatten().tolist()
    }
