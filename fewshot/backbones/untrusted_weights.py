"""Folders and repositories of weights made by somebody else: they are data, and may not bring or fetch code.

Libraries that load models run code that a configuration asks for: modules beside it (`auto_map` with
`trust_remote_code`), compiled kernels of a hub (`_attn_implementation`), quantisers. What asks for any of it is refused
before a library sees it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewshot.errors import BackboneError

MAX_CONFIG_BYTES = 1 << 20
"""Configurations have kilobytes."""

TOKENIZER_OPTIONS = frozenset({"clean", "strip_sep_token", "language"})
"""What an open_clip configuration may tell its tokenizer: all that open_clip's own ones do. Others reach
`AutoTokenizer.from_pretrained`, `trust_remote_code` included."""

CODE_KEYS = ("trust_remote_code", "quantization_config", "attn_implementation", "_attn_implementation")


def read_config(path: Path) -> dict[str, Any]:
    """A configuration in JSON.

    Raises:
        BackboneError: larger than `MAX_CONFIG_BYTES`, or no JSON object.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise BackboneError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: expected a configuration")
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is not JSON: {error}") from error
    return checked_config(config, str(path))


def checked_config(config: Any, where: str) -> dict[str, Any]:
    """The configuration, if it is an object that asks for no code.

    Args:
        config: parsed JSON.
        where: what to call it in errors.

    Raises:
        BackboneError: otherwise.
    """
    if not isinstance(config, dict):
        raise BackboneError(f"{where} must hold a JSON object, got {type(config).__name__}")
    if asked := sorted(name for name in CODE_KEYS if config.get(name)):
        raise BackboneError(
            f"{where} asks for code beside the weights ({', '.join(asked)}), which is never run. Save the model "
            "without it, as plain weights of its architecture."
        )
    return config


def check_clip_config(config: Mapping[str, Any], where: str) -> None:
    """Look at an `open_clip_config.json`.

    Raises:
        BackboneError: it describes no CLIP, or hands options to its tokenizer that could make it run code.
    """
    match config.get("model_cfg"):
        case {"vision_cfg": dict(), "text_cfg": dict(text)}:
            options = text.get("tokenizer_kwargs") or {}
        case _:
            raise BackboneError(f"{where}: expected model_cfg with vision_cfg and text_cfg, as open_clip writes it")
    if odd := sorted(set(options) - TOKENIZER_OPTIONS):
        raise BackboneError(
            f"{where} gives its tokenizer {', '.join(odd)}; only {', '.join(sorted(TOKENIZER_OPTIONS))} are passed on, "
            "as others can make it run code. Remove them."
        )


def refuse_pickles(folder: Path, parts: Sequence[str]) -> None:
    """Look for what would lead a library from the safetensors of a folder to something else.

    Args:
        folder: in diffusers' layout.
        parts: its folders with weights.

    Raises:
        BackboneError: an index whose shards are no safetensors of the same folder, or an adapter over the weights,
            whose configuration can send the library to another repository.
    """
    for part in parts:
        if (adapter := folder / part / "adapter_config.json").exists():
            raise BackboneError(f"{adapter}: adapters over a model's weights are not read; merge them into it")
        for index in (folder / part).glob("*.index*.json"):
            shards = read_config(index).get("weight_map")
            names = shards.values() if isinstance(shards, dict) else [shards]
            if odd := [name for name in names if not _is_shard(name)]:
                raise BackboneError(
                    f"{index} names {str(odd[0])[:80]!r}; expected .safetensors files beside it (a pickled file is not "
                    "read, as it could run code)"
                )


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


@contextmanager
def code_declined() -> Iterator[None]:
    """While a library loads: where it would ask the terminal whether to run a repository's code, it raises instead."""
    from transformers import dynamic_module_utils

    patience = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = patience
