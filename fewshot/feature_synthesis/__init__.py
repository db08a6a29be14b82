"""SHIP: features for classes without examples, from a generator whose decoder is the text tower."""

from fewshot.feature_synthesis.diagnostics import cosine_inside, diagnose
from fewshot.feature_synthesis.synthesis import decode, name_latents, synthesise
from fewshot.feature_synthesis.vae import divergence, reconstruction
from fewshot.feature_synthesis.vae_training import GeneratorSettings, learn_generator, train

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
