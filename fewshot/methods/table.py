"""The table of methods: what each is called, where it is, what it needs. Importing it imports no method and no torch.

A new method is a folder in `fewshot/methods/`, an entry here and a test. Everything else reads the table: job files and
`fewshot methods` (names, summaries, sources), the planning of a run (needs), `fewshot.methods.building` (the class) and
the contract in `tests/contract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Family = Literal[
    "adapter",
    "attention pooling",
    "diffusion",
    "feature synthesis",
    "linear classifier",
    "method selection",
    "prompt learning",
    "token learning",
    "training-free",
]
Need = Literal["dense", "diffusion", "text_tower"]
"""What a method needs beside features: `Labelled.dense` with `Problem.pooling`, `Labelled.latents` with
`Problem.diffusion`, or `Problem.text_tower`."""


MAX_PROBE_CLASSES = 2000
"""Classes among which `auto` compares logistic regressions. They are solved some 600 times for it, at a cost of the
square of the classes, and what is kept of that grows with them: with 10,000 classes to 15 to 20 GB."""
VIEWS = 10
"""Augmented views of each example for methods that draw one of them in each step of their training."""


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method was published.

    Attributes:
        title: of the paper.
        year: of its first version.
        identifier: "arXiv:2304.01195" or "doi:10.1000/182".
    """

    title: str
    year: int
    identifier: str

    @property
    def url(self) -> str:
        """The page of the paper."""
        scheme, _, number = self.identifier.partition(":")
        return {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}[scheme] + number


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """An entry of the table.

    Attributes:
        name: in job files, stored classifiers and messages; the class has it as `name`, too.
        target: "package.module:Class" of the method.
        family: of methods that learn in the same way.
        summary: one line for `fewshot methods`.
        paper: where it was published; None for a method of this project.
        needs: what it needs beside features, see `Need`.
        folds: how many of the four folds of the examples it is calibrated on; the class has it as `folds`, too.
        views: augmented views of each example to embed for it, unless a job says otherwise: `VIEWS` for methods that
            train on them, none for all others (docs/evaluation.md has what they gain).
        scores_images: whether it is a diffusion scorer, which scores archive images with a diffusion model for
            [escalate] (`fewshot.method`), and not a method that learns from features.
        uses_text: whether it uses text embeddings of the classes; a method without works with any image tower.
        learns_from_archive: whether it learns from `Problem.archive`, a sample of unlabelled images.
        compared_up_to: largest number of classes among which `auto` compares it; None for any number.
    """

    name: str
    target: str
    family: Family
    summary: str
    paper: Paper | None
    needs: frozenset[Need] = frozenset()
    folds: int = 4
    views: int = 0
    scores_images: bool = False
    uses_text: bool = True
    learns_from_archive: bool = False
    compared_up_to: int | None = None

    def load(self) -> type[Any]:
        """Import the class, and with it torch."""
        module, _, name = self.target.partition(":")
        loaded: type[Any] = getattr(import_module(module), name)
        return loaded


APE = Paper("Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement", 2023, "arXiv:2304.01195")
CLIP = Paper("Learning Transferable Visual Models From Natural Language Supervision", 2021, "arXiv:2103.00020")
SAFE = Paper("Enhancing Few-shot CLIP with Semantic-Aware Fine-Tuning", 2023, "arXiv:2311.04464")
SHIP = Paper("Improving Zero-Shot Generalization for CLIP with Synthesized Prompts", 2023, "arXiv:2307.07397")
TIP_ADAPTER = Paper("Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", 2022, "arXiv:2207.09519")

TABLE = (
    MethodInfo(
        name="ape",
        target="fewshot.methods.ape:Ape",
        family="training-free",
        summary="Tip-Adapter on the channels that separate the classes best, with more weight on hard examples",
        paper=APE,
    ),
    MethodInfo(
        name="ape_t",
        target="fewshot.methods.ape_t:ApeT",
        family="adapter",
        summary="Tip-Adapter with a trained shift of each class, on the channels that separate the classes best",
        paper=APE,
        views=VIEWS,
    ),
    MethodInfo(
        name="archive_linear_probe",
        target="fewshot.methods.archive_heads:ArchiveLinearProbe",
        family="linear classifier",
        summary="linear_probe, on examples that unlabelled images of the archive have moved where that helps",
        paper=None,
        uses_text=False,
        learns_from_archive=True,
        compared_up_to=MAX_PROBE_CLASSES,
    ),
    MethodInfo(
        name="archive_nearest_mean",
        target="fewshot.methods.archive_heads:ArchiveNearestMean",
        family="training-free",
        summary="nearest_mean, of examples that unlabelled images of the archive have moved where that helps",
        paper=None,
        uses_text=False,
        learns_from_archive=True,
    ),
    MethodInfo(
        name="archive_rla",
        target="fewshot.methods.archive_heads:ArchiveRla",
        family="adapter",
        summary="rla, on examples that unlabelled images of the archive have moved where that helps",
        paper=None,
        learns_from_archive=True,
    ),
    MethodInfo(
        name="auto",
        target="fewshot.methods.auto:Auto",
        family="method selection",
        summary="the simplest of the methods that do best on held-out examples, by nested cross-validation",
        paper=None,
        views=VIEWS,
    ),
    MethodInfo(
        name="clip_adapter",
        target="fewshot.methods.clip_adapter:ClipAdapter",
        family="adapter",
        summary="a small trained network on the image features, blended with them",
        paper=Paper("CLIP-Adapter: Better Vision-Language Models with Feature Adapters", 2021, "arXiv:2110.04544"),
        views=VIEWS,
    ),
    MethodInfo(
        name="cocoop",
        target="fewshot.methods.cocoop:Cocoop",
        family="prompt learning",
        summary="CoOp with prompts that depend on the image; runs the text tower for every image",
        paper=Paper("Conditional Prompt Learning for Vision-Language Models", 2022, "arXiv:2203.05557"),
        needs=frozenset({"text_tower"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="coop",
        target="fewshot.methods.coop:Coop",
        family="prompt learning",
        summary="the words around the class names, learned through the text tower",
        paper=Paper("Learning to Prompt for Vision-Language Models", 2021, "arXiv:2109.01134"),
        needs=frozenset({"text_tower"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="diffusion_classifier",
        target="fewshot.methods.diffusion_classifier:DiffusionClassifier",
        family="diffusion",
        summary="the class name with which a text-to-image model predicts the noise of an image best; learns nothing",
        paper=Paper("Your Diffusion Model is Secretly a Zero-Shot Classifier", 2023, "arXiv:2303.16203"),
        scores_images=True,
    ),
    MethodInfo(
        name="gda",
        target="fewshot.methods.gda:Gda",
        family="training-free",
        summary="Gaussian classes with one covariance, beside the class names; one solution in closed form",
        paper=Paper("A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", 2024, "arXiv:2402.04087"),
        uses_text=False,
    ),
    MethodInfo(
        name="gda_u",
        target="fewshot.methods.gda_u:GdaU",
        family="training-free",
        summary="gda, with class means that also learn from unlabelled images of the archive where that helps",
        paper=None,
        uses_text=False,
        learns_from_archive=True,
    ),
    MethodInfo(
        name="linear_probe",
        target="fewshot.methods.linear_probe:LinearProbe",
        family="linear classifier",
        summary="logistic regression on the examples; ignores the class names unless told otherwise",
        paper=CLIP,
        uses_text=False,
        compared_up_to=MAX_PROBE_CLASSES,
    ),
    MethodInfo(
        name="mcti",
        target="fewshot.methods.token_learning:Mcti",
        family="token learning",
        summary="a learned token for each class that reconstructs its examples and separates the classes; slow",
        paper=Paper(
            "Multi-Class Textual-Inversion Secretly Yields a Semantic-Agnostic Classifier", 2024, "arXiv:2410.22317"
        ),
        needs=frozenset({"diffusion"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="nearest_mean",
        target="fewshot.methods.nearest_mean:NearestMean",
        family="training-free",
        summary="the class whose mean example (and name) is nearest; training-free",
        paper=Paper("Prototypical Networks for Few-shot Learning", 2017, "arXiv:1703.05175"),
        uses_text=False,
    ),
    MethodInfo(
        name="rla",
        target="fewshot.methods.rla:Rla",
        family="adapter",
        summary="one linear map of the image features for all classes, held near the identity",
        paper=Paper("CLIP's Visual Embedding Projector is a Few-shot Cornucopia", 2024, "arXiv:2410.05270"),
    ),
    MethodInfo(
        name="safe",
        target="fewshot.methods.safe:Safe",
        family="attention pooling",
        summary="the pooling layer of the image tower, fine-tuned and blended with the frozen one",
        paper=SAFE,
        needs=frozenset({"dense"}),
        folds=2,
    ),
    MethodInfo(
        name="safe_a",
        target="fewshot.methods.safe_a:SafeA",
        family="attention pooling",
        summary="SAFE, with a key-value cache or a small network on its features",
        paper=SAFE,
        needs=frozenset({"dense"}),
        folds=2,
    ),
    MethodInfo(
        name="ship_clip_adapter",
        target="fewshot.methods.ship:ShipClipAdapter",
        family="feature synthesis",
        summary="CLIP-Adapter, with synthetic features for classes without examples",
        paper=SHIP,
        needs=frozenset({"text_tower"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="ship_coop",
        target="fewshot.methods.ship:ShipCoop",
        family="feature synthesis",
        summary="CoOp, with synthetic features for classes without examples",
        paper=SHIP,
        needs=frozenset({"text_tower"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="ship_tip_adapter_f",
        target="fewshot.methods.ship:ShipTipAdapterF",
        family="feature synthesis",
        summary="Tip-Adapter-F, with synthetic features for classes without examples",
        paper=SHIP,
        needs=frozenset({"text_tower"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="textual_inversion",
        target="fewshot.methods.token_learning:TextualInversion",
        family="token learning",
        summary="a learned token for each class that reconstructs its examples; ignores the class names; slow",
        paper=Paper(
            "An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion",
            2022,
            "arXiv:2208.01618",
        ),
        needs=frozenset({"diffusion"}),
        folds=1,
        views=VIEWS,
    ),
    MethodInfo(
        name="tif",
        target="fewshot.methods.tif:Tif",
        family="diffusion",
        summary="adapters of a text-to-image model for each class, compared at the time-steps that lose details",
        paper=Paper("Few-shot Learner Parameterization by Diffusion Time-steps", 2024, "arXiv:2403.02649"),
        scores_images=True,
    ),
    MethodInfo(
        name="tip_adapter",
        target="fewshot.methods.tip_adapter:TipAdapter",
        family="training-free",
        summary="the class names, and votes of similar examples; training-free",
        paper=TIP_ADAPTER,
    ),
    MethodInfo(
        name="tip_adapter_f",
        target="fewshot.methods.tip_adapter_f:TipAdapterF",
        family="adapter",
        summary="Tip-Adapter with trained examples (the keys of its cache)",
        paper=TIP_ADAPTER,
        views=VIEWS,
    ),
    MethodInfo(
        name="tip_x",
        target="fewshot.methods.tip_x:TipX",
        family="training-free",
        summary="Tip-Adapter that also compares images by their similarities to the class names",
        paper=Paper("SuS-X: Training-Free Name-Only Transfer of Vision-Language Models", 2022, "arXiv:2211.16198"),
    ),
    MethodInfo(
        name="zero_shot",
        target="fewshot.methods.zero_shot:ZeroShot",
        family="training-free",
        summary="the class names alone; ignores the examples",
        paper=CLIP,
    ),
)

METHODS = {info.name: info for info in TABLE if not info.scores_images}
"""Methods that learn a classifier from features (`fewshot.method.Method`), by name."""
DIFFUSION_SCORERS = {info.name: info for info in TABLE if info.scores_images}
"""Methods that score archive images with a diffusion model, by name."""


def needs_of(name: str, hyperparameters: Mapping[str, Any]) -> frozenset[Need]:
    """Return what a method, or any candidate given to `auto`, needs beside features.

    A name that is not in the table needs nothing: it is refused where the method is built.

    Args:
        name: of a method.
        hyperparameters: those given, as they are in the job file; they may be wrong.
    """
    candidates = hyperparameters.get("candidates", ())
    names = [name, *(candidates if isinstance(candidates, list | tuple) else ())]
    known = [METHODS[each].needs for each in names if isinstance(each, str) and each in METHODS]
    return frozenset[Need]().union(*known)


def uses_text(name: str, hyperparameters: Mapping[str, Any]) -> bool:
    """Return whether a method, or any candidate that `auto` compares, uses text embeddings of the classes.

    Args:
        name: of a method; one that is not in the table uses none, as it is refused where it is built.
        hyperparameters: those given, as they are in the job file; they may be wrong.
    """
    return any(METHODS[each].uses_text for each in _compared(name, hyperparameters) if each in METHODS)


def learns_from_archive(name: str, hyperparameters: Mapping[str, Any]) -> bool:
    """Return whether a method, or any candidate that `auto` compares, learns from a sample of the archive.

    Args:
        name: of a method, or of none, which is refused where the method is built.
        hyperparameters: those given, as they are in the job file; they may be wrong.
    """
    return any(METHODS[each].learns_from_archive for each in _compared(name, hyperparameters) if each in METHODS)


def comparable(candidates: Sequence[str], *, classes: int) -> list[str]:
    """Return the candidates that `auto` compares among so many classes, in their order; all of them if none is left.

    Args:
        candidates: names of methods.
        classes: K.
    """
    fitting = [name for name in candidates if classes <= (METHODS[name].compared_up_to or classes)]
    return fitting or list(candidates)


def views_of(name: str, hyperparameters: Mapping[str, Any]) -> int:
    """Return how many augmented views of each example a method gains from; of candidates of `auto`, the most.

    Args:
        name: of a method, or of none, which is refused where the method is built.
        hyperparameters: those given, as they are in the job file; they may be wrong.
    """
    return max(METHODS[each].views if each in METHODS else 0 for each in _compared(name, hyperparameters))


def folds_of(name: str, hyperparameters: Mapping[str, Any]) -> int:
    """Return on how many of the four folds of the examples a method is calibrated; of candidates of `auto`, the most.

    Args:
        name: of a method, or of none, which is refused where the method is built.
        hyperparameters: those given, as they are in the job file; they may be wrong.
    """
    return max(METHODS[each].folds if each in METHODS else 1 for each in _compared(name, hyperparameters))


def _compared(name: str, hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the candidates given to a method, or its own; they may be of no method."""
    candidates = hyperparameters.get("candidates")
    return [str(each) for each in candidates] if isinstance(candidates, list | tuple) and candidates else [name]
