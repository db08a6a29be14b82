"""Screens of images: which images a person sees next, in which order, and what Enter would say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from random import Random
from typing import Literal, get_args

from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import Reason
from ray_jobs.review.prediction_index import MOST_IMAGES, Cursor, IndexedImage

ScreenKind = Literal["class", "least", "large", "list", "disagreements", "skipped"]
KINDS: tuple[ScreenKind, ...] = get_args(ScreenKind)
PLANTED_SHARE = 0.02
"""Share of images on screens of a class whose label is known to be another one."""


@dataclass(frozen=True, slots=True)
class ScreenAddress:
    """What a screen is asked for by.

    Attributes:
        kind: of the screen.
        name: of the class or of the list; "" for other kinds.
        after: end of the screen before, see `Cursor`; of lists, a `Cursor` with the position in the list. None begins.
    """

    kind: ScreenKind
    name: str = ""
    after: Cursor | None = None

    @property
    def after_text(self) -> str:
        """`after` in an address of the browser; "" for None."""
        return "" if self.after is None else f"{self.after.certainty!r}:{self.after.id}"

    @classmethod
    def parse(cls, kind: str, name: str, after: str) -> ScreenAddress:
        """Read an address.

        Raises:
            JobError: it is wrong.
        """
        if kind not in KINDS:
            raise JobError([f"no screen {kind!r}; known: {', '.join(KINDS)}"])
        if not after:
            return cls(kind, name)
        certainty, _, number = after.partition(":")
        try:
            cursor = Cursor(float(certainty), int(number))
        except ValueError as error:
            raise JobError([f"no place {after!r} in the pages"]) from error
        if not (isfinite(cursor.certainty) and 0 <= cursor.id <= MOST_IMAGES):
            raise JobError([f"no place {after!r} in the pages"])
        return cls(kind, name, cursor)


@dataclass(frozen=True, slots=True)
class ScreenImage:
    """An image on a screen.

    Attributes:
        image: the row of the predictions.
        proposed: the class that Enter gives it; None where nothing is proposed.
        why: it is shown; "" where that is clear.
        probability: of an audit: with which it was drawn; None otherwise.
        is_planted: whether its label is known to be another one than is proposed.
    """

    image: IndexedImage
    proposed: str | None
    why: str = ""
    probability: float | None = None
    is_planted: bool = False


@dataclass(frozen=True, slots=True)
class Screen:
    """Images that are shown together.

    Attributes:
        address: of the screen.
        title: heading.
        images: in order.
        reason: why its images are shown.
        draw: name of the draw of an audit; None otherwise.
        following: address of the next screen.
    """

    address: ScreenAddress
    title: str
    images: tuple[ScreenImage, ...]
    reason: Reason
    draw: str | None
    following: ScreenAddress

    @property
    def is_blind(self) -> bool:
        """Whether predictions are not shown, because answers must not depend on them."""
        return self.reason == "audit"


def with_planted(
    screen: Screen, known: Sequence[tuple[IndexedImage, str]], random: Random, *, share: float = PLANTED_SHARE
) -> Screen:
    """Return a screen of a class with images among it whose label is known to be another one.

    They take the places of the last images, which the next screen has; on average, they are that share of the screen.

    Args:
        screen: of a class.
        known: images with their labels; those whose label or prediction is the class are passed over.
        random: decides how many, which ones, and where.
        share: of the images, in [0, 1].
    """
    images = list(screen.images)
    count = int(share * len(images) + random.random())
    shown = {each.image.id for each in images}
    wrong = [
        image for image, label in known if screen.address.name not in (label, image.label) and image.id not in shown
    ]
    chosen = random.sample(wrong, min(count, len(wrong), max(0, len(images) - 1)))
    if not chosen:
        return screen
    images = images[: len(images) - len(chosen)]
    following = replace(screen.following, after=images[-1].image.cursor)
    for image in chosen:
        planted = ScreenImage(image, screen.address.name, is_planted=True)
        images.insert(random.randrange(len(images) + 1), planted)
    return replace(screen, images=tuple(images), following=following)
