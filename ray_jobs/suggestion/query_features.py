"""Features of what is searched for, by the backbone of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster import Storage
from cluster.secrets import redacted
from fewshot.errors import UnreadableImageError
from ray_jobs.errors import JobError
from ray_jobs.inputs.image_file import embed_content, read_image_file
from ray_jobs.job_file.sections import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from fewshot.backbones import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A text or an image to search for, one of both.

    Attributes:
        text: put into the prompt templates of the job, as the name of a class is.
        image: path or URL of an image file.
    """

    text: str | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        """Check that there is one of both.

        Raises:
            JobError: there is none or both, or the text is empty.
        """
        if (self.text is None) == (self.image is None):
            raise JobError(['expected a text or an image to search for, such as "oat milk" or --image FILE'])
        if self.text is not None and not self.text.strip():
            raise JobError(["expected a text to search for, got an empty one"])


def embed_query(query: Query, job: Job, storage: Storage) -> NDArray[np.float32]:
    """Embed a query.

    Args:
        query: a text or an image.
        job: of the run, with its backbone and its templates.
        storage: how S3 is reached, if the image lies there.

    Returns:
        [D] float32 of length 1.

    Raises:
        JobError: the backbone embeds images only, and the query is a text; or it gives the query no direction.
        UnreadableImageError: the image cannot be read.
        BackboneError: the backbone cannot be loaded.
    """
    try:
        row = _embedded(query, job, storage)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"--image {redacted(query.image or '')}: {error}") from None
    length = row.norm()
    if not (length.isfinite() and length > 0):
        raise JobError(["the model's features of this query are not finite numbers, or zero: nothing is similar to it"])
    direction: NDArray[np.float32] = (row / length).numpy()
    return direction


def _embedded(query: Query, job: Job, storage: Storage) -> Tensor:
    """[D]; what is wrong with a query is found before the backbone is loaded, as far as possible."""
    from fewshot.backbones import load_backbone

    data = None if query.image is None else read_image_file(query.image, storage)
    if data is None and not job.clip.spec.has_text:
        raise JobError([f"{job.clip.spec.title} embeds images only, no texts; search with --image FILE"])
    clip = load_backbone(job.clip.spec)
    return _embed_text(clip, query.text or "", job.clip.templates) if data is None else embed_content(clip, data)


def _embed_text(clip: Backbone, text: str, templates: tuple[str, ...] | None) -> Tensor:
    """[D]: the row of a class of this name in the zero-shot classifier, which takes at least two classes."""
    from fewshot.classes import LabelSpace

    return clip.prototypes(LabelSpace(("query", "none"), (text, ""), ("", "")), templates)[0]
