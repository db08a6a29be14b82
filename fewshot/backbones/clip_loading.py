"""Load the CLIP of a `ClipSpec`; errors name what is missing and how to get it.

Local weights are read from safetensors only: a pickled checkpoint can run code. Weights that open_clip itself fetches
under one of its tags may be pickled; they are read with `weights_only`, which creates nothing but tensors. Activation
and preprocessing are those of the weights, see `weight_conventions`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile, ZipFile

import open_clip
import torch
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from fewshot.backbones.backbone import Backbone
from fewshot.backbones.clip import ClipBackbone
from fewshot.backbones.clip_spec import EMBEDDED, ClipSpec
from fewshot.backbones.determinism import DTYPES, compute_capability, find_device, fix_arithmetic
from fewshot.backbones.hub_repository import CLIP_CONFIG, HUB, HubRepository
from fewshot.backbones.image_crop import Preprocessing
from fewshot.backbones.two_towers import TwoTowers
from fewshot.backbones.untrusted_weights import (
    check_clip_config,
    library_warnings_logged,
    read_config,
    remote_code_refused,
)
from fewshot.backbones.weight_conventions import Conventions, conventions_of_checkpoint, conventions_of_tag
from fewshot.errors import BackboneError, FewShotError, UnknownNameError
from fewshot.prompt_templates import IMAGENET_TEMPLATES, PLAIN_TEMPLATES

if TYPE_CHECKING:
    from fewshot.backbones.text_tower.prompt_tokens import Tokenize

CPU_BATCH, GPU_BATCH = 4, 128
CLIP_WEIGHTS, OLD_CLIP_WEIGHTS = "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"

logger = logging.getLogger(__name__)

_Second = TypeVar("_Second")


def load_backbone(spec: ClipSpec) -> Backbone:
    """Load a CLIP, or two side by side, for inference; see `load_clip`.

    Raises:
        BackboneError, UnknownNameError: as `load_clip`.
    """
    first, *others = (load_clip(tower) for tower in spec.towers)
    return TwoTowers(first, *others) if others else first


def load_clip(spec: ClipSpec) -> ClipBackbone:
    """Load a CLIP for inference.

    This also sets the process's number of torch threads to `spec.threads`, allows TF32 or forbids it, and makes cuDNN
    use deterministic kernels: with the batch size they decide the last bits of every feature. A precision of "auto" is
    that of the device.

    Args:
        spec: of one model.

    Raises:
        BackboneError: packages, weights or a device are missing; the message says how to get them.
        UnknownNameError: open_clip has no such model.
    """
    assert spec.beside is None
    device = find_device(spec.device)
    spec = spec.settled(compute_capability(device))
    assert spec.precision != "auto"
    fix_arithmetic(threads=spec.threads, tf32=spec.tf32)
    model, preprocessing, tokenize, templates = _loaded(spec)
    if spec.compile:
        model.visual.compile(dynamic=False)
    return ClipBackbone(
        model=_to(device, DTYPES[spec.precision], model),
        tokenize=tokenize,
        crop=preprocessing.crop,
        mean=preprocessing.mean,
        std=preprocessing.std,
        input_size=preprocessing.input_size,
        batch_size=spec.batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH),
        templates=templates,
        device=device,
        dtype=DTYPES[spec.precision],
        is_compiled=spec.compile,
        spec=spec.pinned(),
    )


def _loaded(spec: ClipSpec) -> tuple[Any, Preprocessing, Tokenize, tuple[str, ...]]:
    if spec.is_image_only:
        spec.check()
        return *_guarded(spec, _image_tower), _without_text, PLAIN_TEMPLATES
    model, tokenize, templates = _embedded() if spec.model == EMBEDDED else _from_open_clip(spec)
    return model, Preprocessing.from_open_clip(model.visual.preprocess_cfg), tokenize, templates


def _image_tower(spec: ClipSpec) -> tuple[Any, Preprocessing]:
    from fewshot.backbones.image_tower import load_image_tower

    return load_image_tower(spec)


def _without_text(_: list[str]) -> list[torch.Tensor]:
    raise BackboneError("this model embeds images only; it has no text tower")


def _to(device: torch.device, dtype: torch.dtype, model: Any) -> Any:
    """Return the model on a device; the scale of its logits, e to the power of a number, stays in float32."""
    scale = model.logit_scale.detach().float().to(device)
    if not 0.0 < float(scale.exp()) < math.inf:
        raise BackboneError(
            f"the model's logit_scale is {float(scale):g}, of which e to the power is no scale of logits"
        )
    model = model.to(device, dtype)
    model.logit_scale = torch.nn.Parameter(scale, requires_grad=False)
    return model


def _embedded() -> tuple[Any, Tokenize, tuple[str, ...]]:
    ClipSpec().check()  # Raises with the remedy if a package is missing.
    from fewshot.backbones.embedded_clip import assemble, tokenize

    return assemble(), tokenize, PLAIN_TEMPLATES


def _from_open_clip(spec: ClipSpec) -> tuple[Any, Tokenize, tuple[str, ...]]:
    spec.check()
    _refuse_pickles(spec)
    model, tokenizer = _guarded(spec, _load)
    return model.eval().requires_grad_(False), tokenizer, IMAGENET_TEMPLATES


def _guarded(spec: ClipSpec, load: Callable[[ClipSpec], tuple[Any, _Second]]) -> tuple[Any, _Second]:
    """Load with a library: its warnings are logged, and its errors come with a remedy."""
    try:
        with library_warnings_logged(spec.model), remote_code_refused():
            return load(spec)
    except FewShotError:
        raise
    except Exception as error:  # Libraries that read untrusted files raise anything.
        raise BackboneError(_remedy(spec, error)) from error


def _load(spec: ClipSpec) -> tuple[Any, Tokenize]:
    if spec.is_folder:
        folder = Path(spec.model).resolve()
        text = _read_clip_config(folder / CLIP_CONFIG)["text_cfg"]
        load_tokenizer = partial(open_clip.get_tokenizer, f"local-dir:{folder}")
        return _create(f"local-dir:{folder}"), _tokenizer(load_tokenizer, text, folder)
    if spec.model.startswith(HUB):
        return _from_hub(HubRepository.from_name(spec.model).pinned())
    assert spec.pretrained is not None
    conventions = _conventions(spec.model, spec.pretrained)
    model = _create(
        spec.model,
        pretrained=spec.pretrained,
        force_quick_gelu=conventions.quick_gelu,
        force_preprocess_cfg=dict(conventions.preprocessing),
    )
    text = (open_clip.get_model_config(spec.model) or {}).get("text_cfg", {})
    return model, _tokenizer(partial(open_clip.get_tokenizer, spec.model), text)


def _tokenizer(load: Callable[[], Tokenize], text: Mapping[str, Any], folder: Path | None = None) -> Tokenize:
    """Load a tokenizer; one of the hub may be missing where the weights are there.

    Args:
        load: loads it.
        text: configuration of the text tower.
        folder: which it comes from; None for the hub.

    Raises:
        BackboneError: it is not there; the message says which one is expected, and where.
    """
    name = text.get("hf_tokenizer_name")
    try:
        return load()
    except Exception as error:
        if name is None:
            raise
        where, advice = f"the folder {str(folder)!r} has no tokenizer", "Copy the tokenizer's files into it"
        if folder is None:
            where = "the tokenizer is not on this machine and could not be fetched"
            advice = "Fetch it once on a machine that reaches the hub, and copy its cache here"
        raise BackboneError(
            f'the weights are here, but {where}: {_reason(error)}. {advice}: `python -c "from transformers import '
            f"AutoTokenizer; AutoTokenizer.from_pretrained('{name}').save_pretrained('FOLDER')\"` fetches it and "
            f"writes its files. A folder with these files, the weights as {CLIP_WEIGHTS} and an {CLIP_CONFIG} needs no "
            "hub."
        ) from error


def _create(name: str, **options: Any) -> Any:
    return open_clip.create_model(name, require_pretrained=True, weights_only=True, **options)


def _conventions(name: str, pretrained: str) -> Conventions:
    """Return what weights for a name expect; log what is only assumed."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained in tags:
        return conventions_of_tag(name, pretrained)
    if not Path(pretrained).is_file():
        raise UnknownNameError(f"weights of {name}", pretrained, tags)
    found = conventions_of_checkpoint(name)
    if found.assumed:
        reason = "differ in" if tags else "do not exist, so nothing is known of"
        logger.warning(
            "checkpoint=%r assumed=%r advice=%r",
            pretrained,
            str(found),
            f"open_clip's tags of {name} {reason} {', '.join(found.assumed)}. For QuickGELU, use the name with "
            f"-quickgelu at its end; for other preprocessing, a folder with the weights as {CLIP_WEIGHTS} and an "
            f"{CLIP_CONFIG}, whose preprocess_cfg has it.",
        )
    return found


def _from_hub(repository: HubRepository) -> tuple[Any, Tokenize]:
    """Load a repository at its commit; a tokenizer of another repository comes from the main branch of that."""
    path = repository.file(CLIP_CONFIG)
    config = _read_clip_config(path)
    download_pretrained_from_hf(repository.repo, revision=repository.revision)
    load_tokenizer = partial(_hub_tokenizer, config["text_cfg"], repository)
    return _create(f"local-dir:{path.parent}"), _tokenizer(load_tokenizer, config["text_cfg"])


def _hub_tokenizer(text: Mapping[str, Any], repository: HubRepository) -> Tokenize:
    options: dict[str, Any] = {"context_length": text.get("context_length", 77)} | (text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    tokenizer: Callable[..., Any] = HFTokenizer if name else SimpleTokenizer
    if name:
        options |= {"tokenizer_name": name, "tokenizer_mode": text.get("tokenizer_mode")}
        options |= {"revision": repository.revision} if name == repository.repo else {}
    found: Tokenize = tokenizer(**options)
    return found


def _read_clip_config(path: Path) -> dict[str, Any]:
    """Check a configuration from other people before open_clip follows it, and return its model's part.

    open_clip takes the normalisation of OpenAI's models where a configuration has none: that is logged.
    """
    config = read_config(path)
    check_clip_config(config, str(path))
    if missing := [name for name in ("mean", "std") if not (config.get("preprocess_cfg") or {}).get(name)]:
        logger.warning(
            "config=%r missing=%r assumed=%r advice=%r",
            str(path),
            missing,
            "the normalisation of OpenAI's models",
            "add preprocess_cfg with mean, std, interpolation and resize_mode, if the model was trained with others",
        )
    found: dict[str, Any] = config["model_cfg"]
    return found


def _refuse_pickles(spec: ClipSpec) -> None:
    """Refuse pickled weights: open_clip would take any that it finds in a folder."""
    if spec.is_folder and not any((Path(spec.model) / name).is_file() for name in (CLIP_WEIGHTS, OLD_CLIP_WEIGHTS)):
        where, then = f"folder {spec.model!r} has no {CLIP_WEIGHTS}", f"rename the new file {CLIP_WEIGHTS}"
    elif spec.pretrained and Path(spec.pretrained).is_file() and not spec.pretrained.endswith(".safetensors"):
        where, then = f"cannot load a CLIP from {spec.pretrained}", "set pretrained to the new file"
    else:
        return
    is_script = spec.pretrained is not None and _is_torchscript(Path(spec.pretrained))
    if is_script:
        where += " (TorchScript, as OpenAI published its weights; pretrained = 'openai' downloads the same)"
        then += f", and model to '{spec.model.removesuffix('-quickgelu')}-quickgelu' if they are OpenAI's"
    raise BackboneError(
        f"{where}: weights are read from safetensors only, as other files can run code. If you trust the file, convert "
        f"it once, with its path in place of FILE: `{conversion('FILE', is_script=is_script)}`. Then {then}."
    )


def conversion(path: str, *, is_script: bool) -> str:
    """Return the command that copies the tensors of a checkpoint to a safetensors file beside it.

    Args:
        path: of the checkpoint, pickled by torch.
        is_script: whether it is a TorchScript archive; reading one can run code, reading tensors alone cannot.
    """
    return (
        'python -c "from open_clip.factory import load_state_dict; from safetensors.torch import save_file; '
        f"file = '{path}'; found = load_state_dict(file, weights_only={not is_script}); "
        "save_file({name: each.clone().contiguous() for name, each in found.items()}, file + '.safetensors')\""
    )


def _is_torchscript(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (BadZipFile, OSError, ValueError):
        return False


def _remedy(spec: ClipSpec, error: Exception) -> str:
    reason = _reason(error)
    if spec.timm_folder:
        return f"cannot load {spec.model}: {reason}. The weights must fit the architecture that its config.json names."
    if spec.is_folder or (spec.pretrained and Path(spec.pretrained).is_file()):
        return (
            f"cannot load a CLIP from {spec.pretrained or spec.model}: {reason}. A folder needs {CLIP_CONFIG} and "
            f"{CLIP_WEIGHTS}; a checkpoint must fit the named model."
        )
    name = " ".join(filter(None, [spec.model, spec.pretrained]))
    return (
        f"the weights of {name} are not on this machine and could not be fetched: {reason}. Fetch them once on a"
        " machine that reaches the hub and copy its cache here, or set a local folder or checkpoint, or use"
        " model = 'embedded', which needs no download."
    )


def _reason(error: Exception) -> str:
    """Return what an error says, in one line; of a missing key, that it is one."""
    text = " ".join(str(error).split()).rstrip(". ")
    return f"{type(error).__name__}: {text}"[:300] if isinstance(error, KeyError) or not text else text[:300]
