"""Checks of weights from other people: folders and repositories are data, and may neither contain nor fetch code.

Libraries that load models run code that a configuration names: modules beside it (`auto_map` with `trust_remote_code`),
compiled kernels of a hub (`_attn_implementation`), quantisers. A configuration that names any of it is refused before
a library reads it. What the libraries warn of while they load is logged.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewshot.errors import BackboneError

logger = logging.getLogger(__name__)

MAX_CONFIG_BYTES = 1 << 20
"""Size of the largest configuration that is read; usual ones have kilobytes."""

TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language"})
"""Options that an open_clip configuration may set for its tokenizer: those that open_clip's own configurations set.
Others would reach `AutoTokenizer.from_pretrained`, `trust_remote_code` included."""

FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""Kinds that concern the code of a library and not the weights that it loads."""

CODE_KEYS = ("trust_remote_code", "quantization_config", "attn_implementation", "_attn_implementation")


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration in JSON.

    Raises:
        BackboneError: the file is larger than `MAX_CONFIG_BYTES` or no JSON object, or the configuration names code.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise BackboneError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes, the limit of a configuration")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is not JSON: {error}") from error
    return checked_config(config, str(path))


def checked_config(config: Any, where: str) -> dict[str, Any]:
    """Return the configuration if it is an object that names no code.

    Args:
        config: parsed JSON.
        where: its path or name, for errors.

    Raises:
        BackboneError: otherwise.
    """
    if not isinstance(config, dict):
        raise BackboneError(f"{where} must hold a JSON object, got {type(config).__name__}")
    if found := sorted(name for name in CODE_KEYS if config.get(name)):
        raise BackboneError(
            f"{where} needs code besides the weights ({', '.join(found)}), which is never run. Save the model without "
            "it, as plain weights of its architecture."
        )
    return config


def check_clip_config(config: Mapping[str, Any], where: str) -> None:
    """Check an `open_clip_config.json`.

    Raises:
        BackboneError: it describes no CLIP, or sets options of its tokenizer that could make it run code.
    """
    match config.get("model_cfg"):
        case {"vision_cfg": dict(), "text_cfg": dict(text)}:
            options = text.get("tokenizer_kwargs") or {}
        case _:
            raise BackboneError(f"{where}: expected model_cfg with vision_cfg and text_cfg, as open_clip writes it")
    if odd := sorted(set(options) - TOKENIZER_OPTIONS):
        raise BackboneError(
            f"{where} sets tokenizer options {', '.join(odd)}, which can make it run code; remove them. Allowed: "
            f"{', '.join(sorted(TOKENIZER_OPTIONS))}."
        )


def refuse_pickles(folder: Path, parts: Sequence[str]) -> None:
    """Refuse a folder from which a library would load anything but its own safetensors.

    Args:
        folder: in diffusers' layout.
        parts: its folders with weights.

    Raises:
        BackboneError: there is an index whose shards are not safetensors of the same folder, or an adapter over the
            weights, whose configuration can name another repository.
    """
    for part in parts:
        if (adapter := folder / part / "adapter_config.json").exists():
            raise BackboneError(f"{adapter}: adapters over a model's weights are not read; merge them into the weights")
        for index in (folder / part).glob("*.index*.json"):
            shards = read_config(index).get("weight_map")
            names = shards.values() if isinstance(shards, dict) else [shards]
            if odd := [name for name in names if not _is_shard(name)]:
                raise BackboneError(
                    f"{index} names {str(odd[0])[:80]!r}; expected .safetensors files beside it (pickled files are not "
                    "read, as they could run code)"
                )


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


@contextmanager
def remote_code_refused() -> Iterator[None]:
    """Make transformers raise where it would prompt in the terminal whether to run a repository's code."""
    from transformers import dynamic_module_utils

    timeout = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = timeout


@contextmanager
def library_warnings_logged(loading: str) -> Iterator[None]:
    """Log each warning that is raised inside, once, except those `FOR_DEVELOPERS`.

    Args:
        loading: name of the model that is being loaded.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            messages = [str(each.message) for each in caught if not issubclass(each.category, FOR_DEVELOPERS)]
            for message in dict.fromkeys(messages):
                logger.warning("loading=%r warning=%r", loading, " ".join(message.split())[:500])
