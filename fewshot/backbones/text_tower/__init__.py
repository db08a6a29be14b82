"""The text tower of a CLIP with context vectors as input: token embeddings in, text features out."""

from fewshot.backbones.text_tower.prompt_tokens import Position, Prompts
from fewshot.backbones.text_tower.tower import TextTower

__all__ = ["Position", "Prompts", "TextTower"]
