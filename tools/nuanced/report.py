"""Tables of what the learners said."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewshot.demo.scenes import load_glyphs
from fewshot.diffusion.error_gaps import BINS
from tools.nuanced.cost_tables import CHEAP, cascade_rows, race_rows
from tools.nuanced.problem_settings import CLASSES, TASKS, TESTS, Pictures, Setting
from tools.nuanced.trained_methods import FEATURE_METHODS, Answers

EARLY = 500
"""Time-steps below this are also scored alone."""


def written(folder: Path, settings: Sequence[Setting]) -> str:
    """The report, in Markdown."""
    glyphs = load_glyphs()
    tests = {setting: setting.test(glyphs) for setting in settings}
    answers = {setting: _answers(folder, setting) for setting in settings}
    logits = {setting: _features(folder, setting) for setting in settings}
    labels = {s: {name: given.argmax(dim=1) for name, given in logits[s].items()} for s in settings}
    given = {setting: labels[setting] | _by_weights(answers[setting]) for setting in settings}
    return "\n".join(
        [
            _headline(settings),
            "",
            *_accuracies(given, tests),
            "",
            *_curves(answers, tests),
            "",
            *race_rows(answers, tests),
            "",
            *cascade_rows(answers, tests, {setting: logits[setting][CHEAP] for setting in settings}),
            "",
        ]
    )


def _headline(settings: Sequence[Setting]) -> str:
    seeds = len({setting.seed for setting in settings})
    return (
        f"{CLASSES} classes, {TESTS * CLASSES} test pictures a seed; accuracy in %, mean ± standard deviation over "
        f"{seeds} seeds. In brackets the pull: of the pictures with another class's prominent attribute, the share "
        "that is given to that class."
    )


def _answers(folder: Path, setting: Setting) -> Answers:
    return Answers(**load_file(folder / f"{setting.name}.safetensors"))


def _features(folder: Path, setting: Setting) -> dict[str, Tensor]:
    logits = json.loads((folder / f"{setting.name}.json").read_text())
    return {name: torch.tensor(logits[name]) for name in FEATURE_METHODS}


def _by_weights(answers: Answers) -> dict[str, Tensor]:
    early = (answers.steps < EARLY).double()
    return {
        "TiF, its weights": answers.labels(answers.weights),
        "TiF, all time-steps alike": answers.labels(),
        f"TiF, t < {EARLY}": answers.labels(early),
        f"TiF, t ≥ {EARLY}": answers.labels(1 - early),
    }


def _accuracies(given: Mapping[Setting, Mapping[str, Tensor]], tests: Mapping[Setting, Pictures]) -> Iterator[str]:
    columns = [(task, tied) for task in TASKS for tied in (False, True)]
    yield "| method | " + " | ".join(f"{task}, {'tied' if tied else 'free'}" for task, tied in columns) + " |"
    yield "| --- |" + " --- |" * len(columns)
    for method in next(iter(given.values())):
        cells = []
        for task, tied in columns:
            of_seeds = [s for s in given if (s.task, s.tied) == (task, tied)]
            right = [_share(given[s][method] == tests[s].labels) for s in of_seeds]
            pulled = [_pull(given[s][method], tests[s]) for s in of_seeds]
            cells.append(f"{_spread(right)} ({statistics.mean(pulled):.0f})")
        yield f"| {method if ',' in method else f'`{method}`'} | " + " | ".join(cells) + " |"


def _share(mask: Tensor) -> float:
    return 100 * mask.double().mean().item()


def _pull(labels: Tensor, test: Pictures) -> float:
    conflicting = test.prominent != test.labels
    return _share(labels[conflicting] == test.prominent[conflicting])


def _spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def _curves(answers: Mapping[Setting, Answers], tests: Mapping[Setting, Pictures]) -> Iterator[str]:
    """Per bin of time, how much better than the other classes' adapters those of two classes predict the noise."""
    yield "By time-step, how much smaller the error is than the other classes', in thousandths; conflicting pictures:"
    yield ""
    edges = [1000 * i // BINS for i in range(BINS + 1)]
    yield "| | " + " | ".join(f"{a}–{b}" for a, b in pairwise(edges)) + " |"
    yield "| --- |" + " --- |" * BINS
    for task in TASKS:
        tied = [s for s in answers if s.task == task and s.tied]
        for who in ("labels", "prominent"):
            owner = "the picture's class" if who == "labels" else "the class that owned its prominent attribute"
            curve = torch.stack([_advantage(answers[s], tests[s], getattr(tests[s], who)) for s in tied]).mean(dim=0)
            yield f"| {task}: {owner} | " + " | ".join(f"{1000 * value:.1f}" for value in curve.tolist()) + " |"


def _advantage(answers: Answers, test: Pictures, owner: Tensor) -> Tensor:
    """[BINS] float64."""
    conflicting = test.prominent != test.labels
    errors, owner = answers.errors[conflicting].double(), owner[conflicting]
    involved = torch.zeros(errors.shape[:2], dtype=torch.bool)
    for column in (test.labels[conflicting], test.prominent[conflicting]):
        involved.scatter_(1, column[:, None], True)
    others = errors.masked_fill(involved[..., None], 0.0).sum(dim=1) / (~involved).sum(dim=1)[:, None]
    own = errors[torch.arange(len(errors)), owner]
    by_step = (others - own).mean(dim=0)  # [GRID]
    bins = answers.steps * BINS // 1000
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, by_step)
    return sums / torch.bincount(bins, minlength=BINS).clamp(min=1)
