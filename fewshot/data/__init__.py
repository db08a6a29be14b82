"""Examples, label spaces, shots and splits as values, parsed from bytes that the caller has read."""

from fewshot.data.class_prompts import parse_class_prompts, with_prompts
from fewshot.data.example import Example
from fewshot.data.label_space import label_space, problem_with_label
from fewshot.data.shot_sampling import sample_shots
from fewshot.data.split_names import SplitChoice
from fewshot.data.splits import Splits, parse_splits
from fewshot.data.tables import COLUMNS, parse_examples

__all__ = [
    "COLUMNS",
    "Example",
    "SplitChoice",
    "Splits",
    "label_space",
    "parse_class_prompts",
    "parse_examples",
    "parse_splits",
    "problem_with_label",
    "sample_shots",
    "with_prompts",
]
