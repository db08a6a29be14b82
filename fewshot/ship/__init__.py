"""SHIP: features for classes without examples, from a generator whose decoder is the text tower."""

from fewshot.ship.diagnostics import cosine_inside, diagnose
from fewshot.ship.loss import divergence, reconstruction
from fewshot.ship.synthesis import decode, name_latents, synthesise
from fewshot.ship.training import GeneratorSettings, learn_generator, train

__all__ = [
    "GeneratorSettings",
    "cosine_inside",
    "decode",
    "diagnose",
    "divergence",
    "learn_generator",
    "name_latents",
    "reconstruction",
    "synthesise",
    "train",
]
