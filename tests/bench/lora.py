"""Forwards and training with the adapters of many classes, beside PEFT's ways and the model alone; one thread."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import peft
import torch
from torch import Tensor

from fewshot.backbones.diffusion import DiffusionBackbone
from fewshot.diffusion.adapter_training import AdapterSettings, train_adapters
from fewshot.diffusion.lora import LoraPair, Pairs, initial_pairs, injected, merged, sites
from fewshot.diffusion.random_draws import LatentImages
from tests.bench.result import Gate, Result, medians
from tools.embedded_diffusion import networks
from tools.embedded_diffusion.caption_tokenizer import MAX_LENGTH, train_tokenizer
from tools.embedded_diffusion.vae import LATENT_CHANNELS

RANK, SCALE, TRAINING_STEPS = 8, 0.6, 2
ROUNDS = 12
"""Turns of a forward with adapters and one without, for each round of everything else."""
LATENTS = (LATENT_CHANNELS, 8, 8)
BARE, STACKED, SHUFFLED, MERGED = "no adapter", "stacked", "stacked, rows in any order", "merged, a class at a time"
LOOP, NAMED = "PEFT set_adapter, a class at a time", "PEFT adapter_names"
BLOCK, ALONE = "one block", "a class at a time"
Contender = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of a scoring batch: the same number for each class, class after class."""

    latents: Tensor
    steps: Tensor
    contexts: Tensor
    classes: Tensor

    def of_class(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of one class, as arguments of the UNet."""
        rows = self.classes == k
        return self.latents[rows], self.steps[rows], self.contexts[rows]

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.latents, self.steps, self.contexts


def run(*, images: int, repeat: int, classes: tuple[int, int, int] = (32, 8, 16)) -> Result:
    """Score many classes at one time-step and a few at many, and train a block.

    Args:
        images: time-steps of the few classes.
        repeat: rounds.
        classes: the number of classes of each of the three.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        scorings = [scoring(classes[0], 1), scoring(classes[1], images)]
        differences = [difference(contenders) for contenders in scorings]
        many, few = (cpu_s(contenders, repeat) for contenders in scorings)
        cost = relative_cost(scorings[0][STACKED], scorings[0][BARE], ROUNDS * repeat)
        trained = cpu_s(training(classes[2]), repeat)
    torch.set_num_threads(threads)
    rows = [
        *_rows(f"score {classes[0]} classes x 1 step", many),
        *_rows(f"score {classes[1]} classes x {images} steps", few),
        *_rows(f"train {classes[2]} classes", trained),
    ]
    return Result(
        "lora", "adapters of rank 8 on a UNet of the embedded one's shape", rows, gates(cost, many, differences)
    )


def gates(cost: float, many: Mapping[str, float], differences: list[float]) -> list[Gate]:
    """Return the bounds for many classes at one step, and for the differences."""
    return [
        Gate.at_most("cost of adapters: stacked / no adapter, in turns", cost, 1.15),
        Gate.at_least(f"gain: {LOOP} / stacked", many[LOOP] / many[STACKED], 3.0),
        Gate.at_least(f"gain: {NAMED} / stacked", many[NAMED] / many[STACKED], 1.3),
        Gate.at_most("largest difference between ways with adapters", max(differences), 1e-5),
    ]


def scoring(K: int, steps: int) -> dict[str, Contender]:
    """Return ways to predict noise for K classes at some time-steps; each returns [K x steps, C, h, w]."""
    unet = networks.unet().eval().requires_grad_(False)
    layers = sites(unet)
    pairs = {
        site: LoraPair(pair.A, 0.02 * torch.randn_like(pair.B))
        for site, pair in initial_pairs(layers, [str(k) for k in range(K)], rank=RANK, seed=0).items()
    }
    rows = K * steps
    batch = Batch(
        torch.randn(rows, *LATENTS),
        torch.randint(1000, (rows,)),
        torch.randn(rows, MAX_LENGTH, networks.WIDTH),
        torch.arange(K).repeat_interleave(steps),
    )
    adapted = with_peft(unet, pairs)
    return {
        BARE: lambda: unet(*batch.all).sample,
        STACKED: lambda: _stacked(unet, pairs, batch, rows_per_class=steps),
        SHUFFLED: lambda: _shuffled(unet, pairs, batch),
        MERGED: lambda: torch.cat([_merged(unet, pairs, batch, k) for k in range(K)]),
        LOOP: lambda: torch.cat([_switched(adapted, batch, k) for k in range(K)]),
        NAMED: lambda: adapted(*batch.all, adapter_names=[f"c{k}" for k in batch.classes.tolist()]).sample,
    }


def with_peft(unet: Any, pairs: Pairs) -> Any:
    """Return a copy of the UNet with every class's adapter in PEFT's way, including its scale."""
    K = len(next(iter(pairs.values())).A)
    config = peft.LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=sorted(pairs))
    adapted = peft.get_peft_model(copy.deepcopy(unet), config, adapter_name="c0")
    for k in range(1, K):
        adapted.add_adapter(f"c{k}", config)
    with torch.no_grad():
        for site, pair in pairs.items():
            layer = adapted.base_model.model.get_submodule(site)
            for k in range(K):
                layer.lora_A[f"c{k}"].weight.copy_(pair.A[k])
                layer.lora_B[f"c{k}"].weight.copy_(pair.B[k])
    return adapted.eval()


def _stacked(unet: Any, pairs: Pairs, batch: Batch, *, rows_per_class: int = 1) -> Tensor:
    with injected(unet, pairs, scale=SCALE, rows_per_class=rows_per_class) as set_classes:
        set_classes(batch.classes)
        return unet(*batch.all).sample


def _shuffled(unet: Any, pairs: Pairs, batch: Batch) -> Tensor:
    order = torch.randperm(len(batch.classes), generator=torch.Generator().manual_seed(1))
    mixed = Batch(batch.latents[order], batch.steps[order], batch.contexts[order], batch.classes[order])
    return _stacked(unet, pairs, mixed)[order.argsort()]


def _merged(unet: Any, pairs: Pairs, batch: Batch, k: int) -> Tensor:
    with merged(unet, pairs, k, scale=SCALE):
        return unet(*batch.of_class(k)).sample


def _switched(adapted: Any, batch: Batch, k: int) -> Tensor:
    adapted.set_adapter(f"c{k}")
    return adapted(*batch.of_class(k)).sample


def training(K: int) -> dict[str, Contender]:
    """Return ways to run a few steps of TiF's training for K classes with four images each."""
    tokenizer = train_tokenizer(["a photo of a thing"])
    parts = [networks.unet(), networks.text_encoder(tokenizer)]
    unet, text_encoder = (part.eval().requires_grad_(False) for part in parts)
    backbone = DiffusionBackbone(
        vae=None,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        alphas_cumprod=torch.linspace(0.999, 0.005, 1000, dtype=torch.float64),
        prediction_type="epsilon",
        image_size=32,
        latent_shape=LATENTS,
        batch_size=16,
        device=torch.device("cpu"),
    )
    (ids,) = backbone.token_ids(["a photo of a thing"])
    classes = [LatentImages(str(k), torch.randn(4, *LATENTS), torch.zeros(4, *LATENTS), ids) for k in range(K)]
    settings = AdapterSettings(steps=TRAINING_STEPS, rank=RANK)
    return {
        BLOCK: lambda: train_adapters(backbone, classes, settings, block_size=K, seed=0),
        ALONE: lambda: [train_adapters(backbone, [one], settings, block_size=1, seed=0) for one in classes],
    }


@torch.inference_mode()
def difference(contenders: Mapping[str, Contender]) -> float:
    """Return the largest difference between outputs of the ways with adapters."""
    outputs = [contender() for name, contender in contenders.items() if name != BARE]
    return max(float((output - outputs[0]).abs().max()) for output in outputs)


def cpu_s(contenders: Mapping[str, Contender], repeat: int) -> dict[str, float]:
    """Run the contenders in turns, and return the median of each in CPU-seconds."""
    samples = defaultdict(list)
    for _ in range(repeat + 1):
        for name, contender in contenders.items():
            started = time.process_time()
            with torch.inference_mode(name not in (BLOCK, ALONE)):
                contender()
            samples[name].append(time.process_time() - started)
    return medians({name: values[1:] for name, values in samples.items()})  # The first round warms up.


@torch.inference_mode()
def relative_cost(contender: Contender, base: Contender, rounds: int) -> float:
    """Return the CPU time of a contender as a multiple of the base's: the median over rounds in which they take turns.

    Both take a tenth of a second, and the speed of a shared machine changes within seconds: adjacent runs are compared.
    """

    def measure(each: Contender) -> float:
        started = time.process_time()
        each()
        return time.process_time() - started

    ratios = [measure(contender) / measure(base) for _ in range(rounds + 1)]
    return median(ratios[1:])


def _rows(what: str, seconds: Mapping[str, float]) -> list[dict[str, str | float]]:
    first = next(iter(seconds.values()))
    return [
        {"what": what, "how": name, "CPU ms": 1000 * each, "times the first": each / first}
        for name, each in seconds.items()
    ]
