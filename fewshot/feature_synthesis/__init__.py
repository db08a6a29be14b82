"""SHIP: synthetic features for classes without examples, by a generator whose decoder is the text tower."""

from fewshot.feature_synthesis.diagnostics import mean_cosine_within_classes, measure_generator
from fewshot.feature_synthesis.synthesis import decode, draw_latents, synthesise
from fewshot.feature_synthesis.vae import divergence, reconstruction
from fewshot.feature_synthesis.vae_training import GeneratorSettings, learn_generator, train

__all__ = [
    "GeneratorSettings",
    "decode",
    "divergence",
    "draw_latents",
    "learn_generator",
    "mean_cosine_within_classes",
    "measure_generator",
    "reconstruction",
    "synthesise",
    "train",
]
