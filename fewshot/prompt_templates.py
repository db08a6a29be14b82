"""Prompt templates, and the prompts of each class for the text tower.

The ensemble of seven templates is recommended for ImageNet by CLIP's authors and used by Tip-Adapter and APE. The 27
templates of objects are for learned tokens, which must come last; their wording and number follow the lists of textual
inversion (arXiv 2208.01618) and MC-TI (arXiv 2410.22317).
"""

from __future__ import annotations

from collections.abc import Sequence

from fewshot.classes import LabelSpace
from fewshot.errors import DataError

IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
DATA_SET_TEMPLATES = {
    "caltech101": ("a photo of a {}.",),
    "dtd": ("{} texture.",),
    "eurosat": ("a centered satellite photo of {}.",),
    "fgvc_aircraft": ("a photo of a {}, a type of aircraft.",),
    "flowers102": ("a photo of a {}, a type of flower.",),
    "food101": ("a photo of {}, a type of food.",),
    "imagenet": ("a photo of a {}.",),
    "imagenet_ensemble": IMAGENET_TEMPLATES,
    "oxford_pets": ("a photo of a {}, a type of pet.",),
    "stanford_cars": ("a photo of a {}.",),
    "sun397": ("a photo of a {}.",),
    "taxonomy": ("a photo of {}.",),
    "ucf101": ("a photo of a person doing {}.",),
}
"""Templates by data set, those of CoOp (arXiv 2109.01134). BioCLIP (arXiv 2311.18803) was trained with captions as of
"taxonomy", around names such as "Animalia Chordata Aves Corvidae Corvus corax with common name raven"."""
PLAIN_TEMPLATES = ("{}", "a photo of a {}")
PICTURE_TEMPLATES = ("a {}", "a picture of a {}")
"""For the embedded diffusion model, whose captions have this wording."""
OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a photo of the {}",
    "a photo of one {}",
    "a photo of my {}",
    "a photo of a nice {}",
    "a photo of the nice {}",
    "a photo of a clean {}",
    "a photo of the clean {}",
    "a photo of a dirty {}",
    "a photo of the dirty {}",
    "a photo of a cool {}",
    "a photo of the cool {}",
    "a photo of a weird {}",
    "a photo of the weird {}",
    "a photo of a small {}",
    "a photo of a large {}",
    "a good photo of a {}",
    "a good photo of the {}",
    "a bad photo of a {}",
    "a bad photo of the {}",
    "a bright photo of the {}",
    "a dark photo of the {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a cropped photo of a {}",
    "a cropped photo of the {}",
    "a rendition of the {}",
)


def fill_templates(label_space: LabelSpace, templates: Sequence[str]) -> list[list[str]]:
    """Return the prompts of each class.

    Args:
        label_space: K classes.
        templates: at least one, each with exactly one "{}".

    Returns:
        K lists: the filled templates, then the sentences of the description if there is one.

    Raises:
        DataError: there is no template, or one without exactly one "{}".
    """
    bad = [t for t in templates if t.count("{}") != 1]
    if bad or not templates:
        raise DataError(
            "expected at least one template, each with exactly one {}, e.g. 'a photo of a {}.'; "
            f"got {list(bad or templates)}"
        )
    classes = zip(label_space.prompt_names, label_space.descriptions, strict=True)
    return [[t.replace("{}", name) for t in templates] + (d.split("\n") if d else []) for name, d in classes]
