"""The classes of a problem, as a value; importing this module does not load torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fewshot.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The classes, in label order.

    Attributes:
        names: K unique class names, as reported with predictions.
        prompt_names: K names as inserted into prompts (underscores become spaces).
        descriptions: K texts for the prompts, a sentence a line; "" for classes without a description.
    """

    names: tuple[str, ...]
    prompt_names: tuple[str, ...]
    descriptions: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the lists.

        Raises:
            DataError: there are fewer than two classes, a name is repeated, or the lists differ in length.
        """
        if len(self.names) < 2:
            raise DataError(f"expected at least 2 classes, got {len(self.names)}: {list(self.names)}")
        if len(set(self.names)) != len(self.names):
            repeated = [name for name, times in Counter(self.names).items() if times > 1]
            raise DataError(f"class names must be unique, got {repeated[:5]} more than once")
        if not len(self.names) == len(self.prompt_names) == len(self.descriptions):
            lengths = [len(part) for part in (self.names, self.prompt_names, self.descriptions)]
            raise DataError(f"names, prompt_names and descriptions must have one length, got {lengths}")

    def __len__(self) -> int:
        """K."""
        return len(self.names)

    def prompt_names_of(self, labels: Iterable[int]) -> list[str]:
        """Return the prompt names of some labels, in their order."""
        return [self.prompt_names[label] for label in labels]
