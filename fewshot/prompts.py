"""Prompts: the sentences a class is described with to the text tower.

Source: the ensemble of seven templates is the one CLIP's authors recommend for ImageNet and Tip-Adapter and APE use.
"""

from __future__ import annotations

from collections.abc import Sequence

from fewshot.errors import DataError
from fewshot.problem import LabelSpace

IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
PLAIN_TEMPLATES = ("{}", "a photo of a {}")


def prompts(label_space: LabelSpace, templates: Sequence[str]) -> list[list[str]]:
    """The prompts of each class.

    Args:
        label_space: K classes.
        templates: at least one, each with exactly one "{}".

    Returns:
        K lists: the templates filled in, then the description where there is one.

    Raises:
        DataError: no template, or one without exactly one "{}".
    """
    bad = [t for t in templates if t.count("{}") != 1]
    if bad or not templates:
        raise DataError(f"a template needs exactly one {{}}, e.g. 'a photo of a {{}}.'; got {list(bad or templates)}")
    classes = zip(label_space.prompt_names, label_space.descriptions, strict=True)
    return [[t.replace("{}", name) for t in templates] + [d] * bool(d) for name, d in classes]
