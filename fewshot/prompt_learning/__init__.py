"""Prompts with trained words: the trainings of CoOp and CoCoOp, for any method to use.

A training takes images, real or synthetic, labels and names. Its context can be used with names that were not part of
the training.
"""

from fewshot.prompt_learning.context_rows import RowsPoint, blended_rows, class_means_of
from fewshot.prompt_learning.context_training import ContextTrainingSettings
from fewshot.prompt_learning.shared_context import context_rows, learn_context

__all__ = ["ContextTrainingSettings", "RowsPoint", "blended_rows", "class_means_of", "context_rows", "learn_context"]
