"""The classes, as a value. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fewshot.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The classes, in label order.

    Attributes:
        names: K unique class names; predictions are reported with them.
        descriptions: K sentences for the prompts, "" where there is none.
        prompt_names: K names as they are put into prompts (underscores become spaces).
    """

    names: tuple[str, ...]
    prompt_names: tuple[str, ...]
    descriptions: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the three agree.

        Raises:
            DataError: fewer than two classes, a repeated name, or lists of different lengths.
        """
        if len(self.names) < 2:
            raise DataError(f"expected at least 2 classes, got {len(self.names)}: {list(self.names)}")
        if len(set(self.names)) != len(self.names):
            raise DataError("class names are not unique")
        if not len(self.names) == len(self.prompt_names) == len(self.descriptions):
            raise DataError("names, prompt_names and descriptions differ in length")

    def __len__(self) -> int:
        """K."""
        return len(self.names)

    def prompt_names_of(self, labels: Iterable[int]) -> list[str]:
        """The prompt names of some classes, in the order given."""
        return [self.prompt_names[label] for label in labels]
