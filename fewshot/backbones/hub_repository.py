"""A CLIP's repository on the Hugging Face hub, "hf-hub:org/repo" or "hf-hub:org/repo@revision".

What a branch points to changes, so the name alone stands for no weights: a job finds the commit once, and names the
features, and what its workers load, by that. Importing this loads no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fewshot.errors import BackboneError

HUB = "hf-hub:"
CLIP_CONFIG = "open_clip_config.json"
_NAME = re.compile(r"hf-hub:(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[^\s@]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at a revision.

    Attributes:
        repo: "org/repo".
        revision: a branch, a tag or a commit; None for the main branch.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Return the repository of a model's name.

        Raises:
            BackboneError: it is not of the form "hf-hub:org/repo" or "hf-hub:org/repo@revision".
        """
        if not (match := _NAME.fullmatch(name)):
            raise BackboneError(f"expected '{HUB}org/repo' or '{HUB}org/repo@revision', got {name!r}")
        return cls(match["repo"], match["revision"])

    def __str__(self) -> str:
        """Return the name of the model."""
        return f"{HUB}{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit."""
        return self.revision is not None and bool(_COMMIT.fullmatch(self.revision))

    def pinned(self) -> HubRepository:
        """Return the repository at the commit of its revision: on the hub, or if that is not reached, in its cache.

        Raises:
            BackboneError: it is neither there nor here.
        """
        if self.is_pinned:
            return self
        return HubRepository(self.repo, self.file(CLIP_CONFIG).parent.name)  # The cache has a folder for each commit.

    def file(self, name: str) -> Path:
        """Return the cached copy of a file, downloaded if necessary.

        Raises:
            BackboneError: it is neither on the hub nor in its cache.
        """
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.repo, name, revision=self.revision))
        except Exception as error:  # Of the hub, its HTTP client, the cache: no common class.
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            advice = "" if self.is_pinned else f", or name a commit that workers can load, '{HUB}{self.repo}@<commit>'"
            raise BackboneError(
                f"cannot read {name} of {self}: {reason}. Fetch the repository once on a machine that reaches the hub "
                f"and copy its cache here{advice}; or use model = 'embedded', which needs no download."
            ) from error
