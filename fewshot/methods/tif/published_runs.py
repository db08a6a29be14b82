"""The settings of the published runs of TiF, by data set, from the authors' commands and configurations."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PublishedDataSet = Literal["fgvc", "isic2019", "dukemtmc", "veri"]
PRIOR_IMAGES = 100


@dataclass(frozen=True, slots=True)
class PublishedRuns:
    """The runs on one data set.

    Attributes:
        rank: of the adapters.
        template: of the prompts.
        use_names: whether prompts contain class names. Identities of people and cars have none.
        prior_prompt: of the prior images.
        steps: by shots: the step of the checkpoint that was evaluated, and the one of the first checkpoint, from which
            on adapters were trained with the scales of inference.
    """

    rank: int
    template: str
    use_names: bool
    prior_prompt: str
    steps: Mapping[int, tuple[int, int]]

    def steps_for(self, shots: int) -> tuple[int, int]:
        """Return an entry of `steps`: that of so many shots, or of the next smaller published number."""
        known = sorted(self.steps)
        return self.steps[known[max(0, bisect.bisect_right(known, shots) - 1)]]


PUBLISHED_RUNS: Mapping[PublishedDataSet, PublishedRuns] = {
    "fgvc": PublishedRuns(
        rank=16,
        template="a photo of a {}, a type of aircraft.",
        use_names=True,
        prior_prompt="a photo of an aircraft",
        steps={1: (60, 60), 2: (100, 100), 4: (200, 200), 8: (700, 300), 16: (1000, 400)},
    ),
    "isic2019": PublishedRuns(
        rank=8,
        template="a high quality dermoscopic image of {}.",
        use_names=True,
        prior_prompt="a high quality dermoscopic image.",
        steps={1: (150, 50), 2: (200, 100), 4: (500, 200), 8: (700, 200), 16: (800, 400)},
    ),
    "dukemtmc": PublishedRuns(
        rank=16,
        template="a photo of person {} captured by surveillance camera.",
        use_names=False,
        prior_prompt="a photo of a person captured by surveillance camera.",
        steps={1: (200, 50), 2: (250, 100), 4: (400, 200), 8: (700, 400), 16: (1000, 400)},
    ),
    "veri": PublishedRuns(
        rank=16,
        template="a photo of car {} captured by surveillance camera.",
        use_names=False,
        prior_prompt="a photo of a car captured by surveillance camera.",
        steps={1: (150, 50), 2: (200, 100), 4: (400, 200), 8: (500, 400), 16: (1000, 400)},
    ),
}
