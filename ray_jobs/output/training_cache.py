"""Trainings in shared storage: what one worker trained, every later one finds, also after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster import Store, fingerprint
from fewshot.backbones import ClipSpec
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from fewshot.digests import PLACEHOLDER, DigestError, check_seal, seal

if TYPE_CHECKING:
    from fewshot.optimization.training_cache import State

TRAININGS_VERSION = 2
"""Part of every training's path: raised when training changes."""

logger = logging.getLogger(__name__)


def trainings_folder(spec: ClipSpec, templates: Sequence[str] | None, diffusion: DiffusionSpec | None = None) -> str:
    """Return the folder of trainings on a backbone, and with a diffusion model if there is one."""
    backbones = [spec.identity(), templates, *([] if diffusion is None else [diffusion.identity()])]
    return f"trainings/{fingerprint([TRAININGS_VERSION, *backbones])}"


@dataclass
class StoredTrainingCache:
    """A training cache that stores each training as a safetensors object, and keeps what it read in this process.

    Attributes:
        store: the output.
        folder: from `trainings_folder`.
        made: keys of the trainings that were not found and made here.
    """

    store: Store
    folder: str
    made: list[str] = field(default_factory=list)
    _seen: dict[str, State] = field(default_factory=dict)

    @property
    def requested(self) -> frozenset[str]:
        """Keys of all trainings that were requested."""
        return frozenset(self._seen)

    def __call__(self, key: str, make: Callable[[], State]) -> State:
        """See `fewshot.optimization.training_cache.TrainingCache`. A damaged object is made anew."""
        if key not in self._seen:
            self._seen[key] = self._found(key) or self._made(key, make)
        return self._seen[key]

    def _found(self, key: str) -> State | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            data = self.store.get(self._path(key))
            check_seal(data)
            return load(data)
        except FileNotFoundError:
            return None
        except (DigestError, SafetensorError) as error:
            path = self._path(key)
            logger.warning("training was damaged and is made anew path=%s error=%s", self.store.url(path), error)
            self.store.delete(path)
            return None

    def _made(self, key: str, make: Callable[[], State]) -> State:
        from safetensors.torch import save

        state = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
        self.store.put(self._path(key), seal(save(state, {"digest": PLACEHOLDER})))
        self.made.append(key)
        return state

    def _path(self, key: str) -> str:
        return f"{self.folder}/{key}.safetensors"
