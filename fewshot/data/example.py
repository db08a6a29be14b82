"""One labelled image, by reference."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """An image, named by where it lies, and its label.

    Attributes:
        image: path or URL as it was written; "" brings a class into the label space without an example of it.
        label: the class. Unicode NFC without surrounding white space, whatever was given: the same word typed on two
            systems is one class.
        name: what people call the class, for prompts; None derives it from the label.
        description: a sentence about the class, for prompts; None if there is none.
    """

    image: str
    label: str
    name: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        """Normalise the label."""
        object.__setattr__(self, "label", unicodedata.normalize("NFC", self.label).strip())
