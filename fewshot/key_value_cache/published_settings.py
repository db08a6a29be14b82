"""The authors' settings of Tip-Adapter and APE on each data set of CoOp's benchmark, for `recipe = "published"`.

They are those of the published configuration files for RN50. How ranges, channels, lambda and epochs were found on a
data set is not reported. APE keeps a number of the 1024 channels of RN50, here a share, so that it fits any backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BenchmarkDataSet = Literal[
    "caltech101",
    "dtd",
    "eurosat",
    "fgvc_aircraft",
    "flowers102",
    "food101",
    "imagenet",
    "oxford_pets",
    "stanford_cars",
    "sun397",
    "ucf101",
]
SEARCH_START = 0.1
"""The least alpha and beta of every search."""
ALPHA_STEPS, BETA_STEPS, GAMMA_STEPS = 20, 200, 20
IMAGENET_GAMMA_STEPS = 5
RN50_CHANNELS = 1024
TRAINING_BETA = 1.0
"""beta while training, and before any search."""
START_GAMMA = 0.1


@dataclass(frozen=True, slots=True)
class TipAdapterRun:
    """Settings of Tip-Adapter and Tip-Adapter-F on a data set.

    Attributes:
        max_beta: end of the search of beta, itself not tried.
        max_alpha: likewise of alpha.
        start_alpha: alpha while training.
        epochs: of the training.
    """

    max_beta: float
    max_alpha: float
    start_alpha: float
    epochs: int = 20


@dataclass(frozen=True, slots=True)
class ApeRun:
    """Settings of APE and APE-T on a data set.

    Attributes:
        max_beta, max_alpha, max_gamma: ends of the searches, themselves not tried.
        start_alpha: alpha while training, and before any search.
        channels: channels of RN50 that APE keeps.
        trained_channels: channels of RN50 that APE-T moves.
        similarity_weight: lambda of APE's channel criterion; that of APE-T is 0.2 everywhere.
        learning_rate: of AdamW.
        epsilon: of AdamW.
        epochs: of the training.
        few_shot_epsilon: of AdamW with one or two shots a class; None is `epsilon`.
    """

    max_beta: float
    max_alpha: float
    max_gamma: float
    start_alpha: float
    channels: int
    trained_channels: int
    similarity_weight: float
    learning_rate: float
    epsilon: float
    epochs: int
    few_shot_epsilon: float | None = None

    def epsilon_for(self, shots: float) -> float:
        """Return the epsilon of AdamW for a number of shots a class."""
        return self.few_shot_epsilon if self.few_shot_epsilon is not None and shots <= 2 else self.epsilon


TIP_ADAPTER_RUNS: Mapping[BenchmarkDataSet, TipAdapterRun] = {
    "imagenet": TipAdapterRun(7.0, 3.0, 1.17),
    "caltech101": TipAdapterRun(12.0, 5.0, 3.0),
    "dtd": TipAdapterRun(13.0, 13.0, 2.0),
    "eurosat": TipAdapterRun(12.0, 10.0, 2.0, epochs=100),
    "fgvc_aircraft": TipAdapterRun(30.0, 30.0, 5.0),
    "food101": TipAdapterRun(10.0, 10.0, 1.17),
    "flowers102": TipAdapterRun(50.0, 50.0, 10.0),
    "oxford_pets": TipAdapterRun(7.0, 3.0, 1.17),
    "stanford_cars": TipAdapterRun(20.0, 10.0, 3.0),
    "sun397": TipAdapterRun(12.0, 10.0, 1.17),
    "ucf101": TipAdapterRun(7.0, 3.0, 3.0),
}
APE_RUNS: Mapping[BenchmarkDataSet, ApeRun] = {
    "imagenet": ApeRun(7.0, 7.0, 0.5, 2.0, 500, 500, 0.7, 1e-4, 1e-3, 20),
    "caltech101": ApeRun(7.0, 7.0, 1.0, 1.0, 800, 900, 0.5, 1e-3, 1e-3, 30),
    "dtd": ApeRun(7.0, 7.0, 1.0, 3.0, 400, 700, 0.5, 1e-3, 1e-3, 20),
    "eurosat": ApeRun(30.0, 5.0, 1.5, 1.0, 700, 900, 0.9, 1e-3, 1e-3, 200),
    "fgvc_aircraft": ApeRun(20.0, 10.0, 1.0, 5.0, 800, 900, 0.1, 1e-3, 1e-3, 30),
    "flowers102": ApeRun(7.0, 7.0, 1.0, 3.0, 700, 800, 0.4, 1e-3, 1e-3, 60),
    "food101": ApeRun(7.0, 7.0, 1.0, 0.8, 700, 900, 0.3, 1e-4, 1e-3, 30, few_shot_epsilon=1e-2),
    "oxford_pets": ApeRun(7.0, 7.0, 1.0, 2.0, 800, 800, 0.7, 1e-4, 2e-3, 30),
    "stanford_cars": ApeRun(10.0, 7.0, 1.0, 1.0, 500, 800, 0.6, 1e-3, 5e-3, 30),
    "sun397": ApeRun(10.0, 7.0, 1.0, 1.0, 800, 800, 0.7, 1e-4, 1e-3, 30),
    "ucf101": ApeRun(10.0, 7.0, 1.5, 2.0, 700, 800, 0.3, 1e-3, 2e-3, 30),
}


def search_axis(end: float, *, steps: int, start: float = SEARCH_START) -> list[float]:
    """Return the values of a published search, ascending: `steps` of equal distance from `start`, without the end."""
    return [start + i * (end - start) / steps for i in range(steps)]
