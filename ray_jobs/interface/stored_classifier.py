"""A trained classifier in this process: images in, predictions out, equal to those of a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, overload

from cluster import Storage
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.errors import UnreadableImageError
from ray_jobs.inputs.image_file import read_image_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from fewshot.backbones import Backbone
    from fewshot.calibration.calibrated_classifier import CalibratedClassifier
    from fewshot.conformal import LabelSetRule
    from fewshot.inference.predict import Predictions
    from fewshot.problem import Labelled
    from fewshot.unknown import Decisions, UnknownTest

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray"
"""A path or URL, the bytes of a file, a Pillow image, or an array [H, W], [H, W, 3] or [H, W, 4] of uint8."""
IMAGES_AT_ONCE = 256
"""Decoded images held in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The prediction of one image: what a row of a run's predictions holds.

    Attributes:
        image: the path or URL as it was given; None for pixels and bytes.
        label: the predicted class; None where the image is unreadable or unknown, or the label is withheld.
        score: calibrated probability of the first class, in [0, 1]; None where the image is unreadable, or where the
            classifier could not be calibrated, as with one example of each class.
        margin: lead over the second class, in [0, 1]; None where the image is unreadable. Where `score` is None, its
            order still ranks images by certainty, and its size says nothing.
        top_labels: the most probable classes, the most probable first, also where `label` is withheld.
        top_scores: their probabilities; empty where `score` is None.
        status: "ok", "abstained" (the classifier is not certain enough for `max_error`, or the label is not the only
            one of its set), "unknown" (of no class) or "unreadable".
        error: why the image could not be read or scored; None otherwise.
        label_set: the classes of which the true one is with the promised probability, in label order; None without
            label sets, or where the image is unreadable.
        unknown_p_value: p-value of "is of one of the classes", in (0, 1], a low one speaks against all classes; None
            where the image is unreadable, or the classifier tests no images.
    """

    image: str | None
    label: str | None
    score: float | None
    margin: float | None
    top_labels: tuple[str, ...]
    top_scores: tuple[float, ...]
    status: Literal["ok", "abstained", "unknown", "unreadable"]
    error: str | None = None
    label_set: tuple[str, ...] | None = None
    unknown_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class StoredClassifier:
    """A classifier and its backbone, loaded. Made by `fewshot.load_classifier`.

    Attributes:
        calibrated: the classifier, its temperature and its threshold.
        clip: the backbone that it was trained on.
        storage: how S3 URLs are reached.
        label_set_rule: makes the label sets; None makes none.
        unknown_test: the test of images of no class; None tests no image.
    """

    calibrated: CalibratedClassifier
    clip: Backbone
    storage: Storage = DEFAULT_STORAGE
    label_set_rule: LabelSetRule | None = None
    unknown_test: UnknownTest | None = None

    def __repr__(self) -> str:
        """Return a line with what the classifier is."""
        return f"StoredClassifier({self.method}, {len(self.classes)} classes)"

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class labels."""
        return self.calibrated.class_names

    @property
    def method(self) -> str:
        """The method that it was trained with."""
        return type(self.calibrated.method).name

    @property
    def threshold(self) -> float | None:
        """The probability below which labels are withheld, in [0, 1]; None if none ever is, above 1 if all are."""
        return self.calibrated.threshold

    @overload
    def predict(self, images: ImageLike, *, top: int = 5) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload  # A path is an iterable of paths to type checkers; the first signature takes it.
    def predict(self, images: Iterable[ImageLike], *, top: int = 5) -> list[Prediction]: ...
    def predict(self, images: ImageLike | Iterable[ImageLike], *, top: int = 5) -> Prediction | list[Prediction]:
        """Predict the class of one image, or of many.

        Scores are those that a run gives to the same file, bit for bit on the same machine.

        Args:
            images: one image or an iterable of images: paths, URLs, bytes of files, Pillow images, uint8 arrays; also a
                pandas or polars Series, or an Arrow array, of paths, URLs or bytes. A generator is read as it goes; at
                most `IMAGES_AT_ONCE` decoded images are held in memory.
            top: number of classes to list for each image, >= 1.

        Returns:
            A prediction for one image; a list of predictions, in order, for an iterable. An image that cannot be read
            is a prediction with status "unreadable" and a reason, never an exception.

        Raises:
            TypeError: an image is none of these kinds.
            ValueError: `top` is below 1, or an array has another shape or dtype.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        if _is_one(images):
            return next(self._predictions([_from_arrow(cast("ImageLike", images))], top))
        many = map(_from_arrow, cast("Iterable[ImageLike]", images))
        return [
            prediction
            for batch in iter(lambda: list(islice(many, IMAGES_AT_ONCE)), [])
            for prediction in self._predictions(batch, top)
        ]

    def _predictions(self, images: Sequence[ImageLike], top: int) -> Iterator[Prediction]:
        import torch

        decoded = [self._decoded(image) for image in images]
        pixels = [item for item in decoded if not isinstance(item, str)]
        scored, label_sets, tested = self._scored(torch.stack(pixels), top) if pixels else (None, None, None)
        row = 0
        for image, item in zip(images, decoded, strict=True):
            name = os.fspath(image) if isinstance(image, str | os.PathLike) else None
            if isinstance(item, str) or scored is None:
                yield _unreadable(name, str(item))
                continue
            label_set = None if label_sets is None else label_sets[row].nonzero().flatten().tolist()
            yield self._prediction(name, scored, tested, row, label_set)
            row += 1

    def _scored(self, pixels: Tensor, top: int) -> tuple[Predictions, Tensor | None, Decisions | None]:
        """Return what is predicted of N images, their label sets [N, K] bool, and which of them are of no class.

        None for label sets and a test that the classifier does not have.
        """
        from fewshot.inference.predict import predict, with_label_sets
        from fewshot.method import features_for

        images = self._embedded(pixels)
        views = images.views[:, 0].cpu()
        scored = predict(self.calibrated, features_for(self.calibrated.classifier, images), top=top)
        tested = None if self.unknown_test is None else self.unknown_test(views)
        return (*with_label_sets(scored, self.label_set_rule, views), tested)

    def _prediction(
        self,
        image: str | None,
        scored: Predictions,
        tested: Decisions | None,
        row: int,
        label_set: Sequence[int] | None,
    ) -> Prediction:
        from fewshot.inference.predict import NOT_FINITE

        if not scored.finite[row]:
            return _unreadable(image, NOT_FINITE)
        labels = tuple(self.classes[label] for label in scored.top_labels[row].tolist())
        status: Literal["ok", "abstained", "unknown"] = "abstained" if scored.abstained[row] else "ok"
        if tested is not None and tested.unknown[row]:
            status = "unknown"
        return Prediction(
            image=image,
            label=labels[0] if status == "ok" else None,
            score=float(scored.score[row]) if self.calibrated.has_scores else None,
            margin=float(scored.margin[row]),
            top_labels=labels,
            top_scores=tuple(scored.top_scores[row].tolist()) if self.calibrated.has_scores else (),
            status=status,
            label_set=None if label_set is None else tuple(self.classes[label] for label in label_set),
            unknown_p_value=None if tested is None else float(tested.p_values[row]),
        )

    def _decoded(self, image: ImageLike) -> Tensor | str:
        """[3, H, W] uint8, or the reason why the image cannot be read."""
        try:
            return self.clip.crop(_pixels(image, side=self.clip.longer_side, storage=self.storage))
        except UnreadableImageError as error:
            return str(error)

    def _embedded(self, pixels: Tensor) -> Labelled:
        """Return the features of N images, without labels; NaN where a length overflows."""
        import torch

        from fewshot.method import PoolingClassifier
        from fewshot.problem import Labelled

        dense = None
        if isinstance(self.calibrated.classifier, PoolingClassifier):
            views, dense = self.clip.embed_dense(pixels)
        else:
            views = self.clip.embed_images(pixels)
        finite = views.square().sum(dim=1).isfinite()  # A length that overflows would make all features 0.
        views = views.masked_fill(~finite[:, None], torch.nan)
        labels = torch.zeros(len(pixels), dtype=torch.int64)
        return Labelled(views[:, None], labels, dense)


def _is_one(images: object) -> bool:
    """Whether this is one image. An array of four dimensions is many, and so is a column of any library."""
    if isinstance(images, str | bytes | os.PathLike) or hasattr(images, "as_py"):
        return True
    if hasattr(images, "__array_interface__") and not hasattr(images, "ndim"):
        return True  # a Pillow image
    if getattr(images, "ndim", 4) == 1:
        return getattr(getattr(images, "dtype", None), "kind", "") in "biufc"  # Numbers, which are no image.
    return getattr(images, "ndim", 4) < 4


def _from_arrow(image: ImageLike) -> ImageLike:
    """Return the value of an item of an Arrow array; other values as they are."""
    return cast("ImageLike", image.as_py()) if hasattr(image, "as_py") else image


def _pixels(image: ImageLike, *, side: int, storage: Storage) -> NDArray[np.uint8]:
    """Decode an image of any kind to RGB [H, W, 3] uint8, for a shorter side of `side` pixels.

    Raises:
        UnreadableImageError: there is no such file, or it cannot be decoded.
        TypeError: the value is no image.
        ValueError: an array has another shape or dtype.
    """
    from PIL import Image

    from fewshot.images import decode_pixels, side_before_resizing

    if isinstance(image, str | os.PathLike):
        image = read_image_file(os.fspath(image), storage)
    if isinstance(image, bytes):
        return decode_pixels(image, min_side=side_before_resizing(side))
    if isinstance(image, Image.Image):
        return _converted(image)
    return _converted(_from_array(image))


def _converted(image: Image.Image) -> NDArray[np.uint8]:
    """Upright RGB pixels, as `decode_pixels` returns them."""
    from PIL import ImageOps

    from fewshot.images.limits import check_size, crop_extreme
    from fewshot.images.rgb_conversion import to_array, to_rgb

    check_size(*image.size, max_pixels=sys.maxsize)
    try:
        return crop_extreme(to_array(to_rgb(ImageOps.exif_transpose(image))))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow decodes on first use, and may find damage then.
        raise UnreadableImageError(f"the Pillow image cannot be read: {error}") from error


def _from_array(array: object) -> Image.Image:
    import numpy as np
    from PIL import Image

    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"expected a path, bytes, a Pillow image or a numpy array, got {type(array).__name__}; convert it first,"
            " e.g. by numpy.asarray; of a table, pass the column with the images"
        )
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"expected uint8 [H, W], [H, W, 3] or [H, W, 4], got {array.dtype} {list(array.shape)}")
    if not array.size:
        raise ValueError(f"expected an image with an area, got {list(array.shape)}")
    return Image.fromarray(array)


def _unreadable(name: str | None, reason: str) -> Prediction:
    return Prediction(
        image=name, label=None, score=None, margin=None, top_labels=(), top_scores=(), status="unreadable", error=reason
    )
