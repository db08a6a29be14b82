"""The choice of a diffusion model and the settings that fix its numbers, as a value. Importing this loads no torch."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

from fewshot.backbones.clip_spec import EMBEDDED, file_digest, precision_on
from fewshot.errors import BackboneError

DiffusionPrecision = Literal["auto", "fp32", "bf16", "fp16"]
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
INDEX = "model_index.json"
PROJECTION = "text_projection.safetensors"
"""An optional file beside the pipeline's: "text_projection.weight" [D, width], see `DiffusionBackbone.projection`."""
CPU_BATCH, GPU_BATCH = 16, 32
"""Rows in one forward of the UNet, by default."""
CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt")
IDENTIFYING_SUFFIXES = (".safetensors", ".json", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSpec:
    """A diffusion model of Stable Diffusion's shape and the settings that fix its numbers.

    Attributes:
        model: "embedded"; a local folder in diffusers' layout (with a `model_index.json`); or a hub's "org/name".
        revision: branch, tag or commit of a hub's model; None takes its main branch, and for the other two.
        precision: arithmetic of text encoder and UNet: "auto" is bf16 on a GPU that computes in it, and fp32 elsewhere.
            Latents, noise levels, errors and trained adapters are float32 whatever it is.
        batch_size: rows in one forward of the UNet; None takes 16 on a CPU, 32 on a GPU.
        threads: CPU threads of one worker's forward, >= 1. Other numbers of threads sum in another order and give other
            bits.
        device: "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a GPU if there is one.
        image_size: side in pixels of the square that images are resized and cropped to; None is the size that the model
            was trained for (the UNet's sample size times the factor of the VAE).
    """

    model: str = EMBEDDED
    revision: str | None = None
    precision: DiffusionPrecision = "auto"
    batch_size: int | None = None
    threads: int = 1
    device: str = "auto"
    image_size: int | None = None

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: a number is out of range, or a revision is given for a model without revisions.
        """
        numbers = {"batch_size": self.batch_size, "threads": self.threads, "image_size": self.image_size}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.revision and self.folder is not None:
            raise ValueError(f"model {self.model!r} has no revisions; remove revision = {self.revision!r}")

    @property
    def max_batch_size(self) -> int:
        """Rows in one forward of the UNet, at most: for plans, which are made before the worker's device is known."""
        return self.batch_size or GPU_BATCH

    @property
    def folder(self) -> Path | None:
        """The folder of the files; None for a model on the hub."""
        if self.model == EMBEDDED:
            return EMBEDDED_FOLDER
        return Path(self.model) if Path(self.model).is_dir() else None

    def check(self) -> None:
        """Check the model as far as possible without loading torch; a hub's name is checked when weights are loaded.

        Raises:
            BackboneError: there is no such folder, or it is not in diffusers' layout.
        """
        folder = self.folder
        if folder is None:
            if Path(self.model).is_file():
                raise BackboneError(_conversion(Path(self.model)))
            if len(self.model.split("/")) != 2:
                raise BackboneError(
                    f"no folder {self.model!r} on this machine; expected 'embedded', a folder with a {INDEX}, "
                    "or a hub's 'org/name'"
                )
        elif not (folder / INDEX).is_file():
            checkpoints = sorted(path for path in folder.iterdir() if path.suffix in CHECKPOINT_SUFFIXES)
            if checkpoints:
                raise BackboneError(_conversion(checkpoints[0]))
            raise BackboneError(
                f"{self._folder_description} has no {INDEX}; expected a folder as diffusers' `save_pretrained` writes "
                f"it: {INDEX}, scheduler, text_encoder, tokenizer, unet, vae"
            )

    def identity(self) -> dict[str, object]:
        """Return everything that determines latents, contexts and errors, as JSON: equal values give equal numbers.

        Files in a folder are identified by their content, a hub's model by its name and revision.

        Raises:
            BackboneError: there is no such folder, or it is not in diffusers' layout.
        """
        self.check()
        settings = asdict(self) | {"device": self.device.split(":")[0]}
        return settings | {"weights": self._weights()}

    def settled(self, capability: tuple[int, int] | None) -> Self:
        """Return the spec with a precision in place of "auto"; never fp16, in which adapters are not trained.

        Args:
            capability: compute capability of the GPU that it will run on; None for a CPU.
        """
        if self.precision != "auto":
            return self
        return replace(self, precision="bf16" if precision_on(capability) == "bf16" else "fp32")

    @property
    def _folder_description(self) -> str:
        """The folder, for messages."""
        if self.model == EMBEDDED:
            return "this installation has no embedded diffusion model: its folder"
        return f"folder {self.model!r}"

    def _weights(self) -> object:
        folder = self.folder
        if folder is None:
            return [self.model, self.revision]
        files = sorted(path for path in folder.rglob("*") if path.suffix in IDENTIFYING_SUFFIXES and path.is_file())
        return [[path.relative_to(folder).as_posix(), file_digest(path)] for path in files]


def _conversion(path: Path) -> str:
    """Return why a single file is not read, and how to convert it."""
    expected = f"expected a folder in diffusers' layout, with a {INDEX}"
    if path.suffix not in CHECKPOINT_SUFFIXES:
        return f"{str(path)!r} is a file; {expected}"
    if (reason := _no_checkpoint(path)) is not None:
        return f"{str(path)!r} {reason}; {expected}"
    code = (
        "from diffusers import StableDiffusionPipeline as P; "
        f"P.from_single_file({json.dumps(str(path))}).save_pretrained({json.dumps(str(path.with_suffix('')))})"
    )
    trust = " A .ckpt is a pickle, which could run code: convert one only if you trust it." * (path.suffix == ".ckpt")
    return (
        f"{str(path)!r} is a single file; {expected}. Convert it once, on a machine that reaches the Hugging Face hub "
        f"(for the configurations and the tokenizer, which are not in the file): python -c {shlex.quote(code)}.{trust}"
    )


def _no_checkpoint(path: Path) -> str | None:
    """Return what is wrong with a file as a checkpoint in Stable Diffusion's original layout; None if nothing is."""
    import safetensors

    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (safetensors.SafetensorError, OSError) as error:
        return f"is no valid safetensors file: {error}"
    if any(name.startswith("model.diffusion_model.") for name in names):
        return None
    found = repr(min(names))[:80] if names else "nothing"
    return f"holds no Stable Diffusion in its original layout: no model.diffusion_model.*, but {found}"
