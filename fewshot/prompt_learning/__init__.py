"""Prompts whose words are learned: CoOp and CoCoOp, as trainings that any method can ask for.

A training takes images, labels and names. It does not know which images are real, and what it learns can be put before
names it has never seen.
"""

from fewshot.prompt_learning.context_rows import RowsPoint, blended_rows, class_means_of
from fewshot.prompt_learning.context_training import ContextTrainingSettings
from fewshot.prompt_learning.shared_context import context_rows, learn_context

__all__ = ["ContextTrainingSettings", "RowsPoint", "blended_rows", "class_means_of", "context_rows", "learn_context"]
