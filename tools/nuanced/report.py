"""The report: tables of accuracies, of time-steps and of costs."""

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
from tools.nuanced.trained_methods import FEATURE_METHODS, ErrorTable

EARLY = 500
"""Time-steps below and from this one are also evaluated alone."""


def markdown(folder: Path, settings: Sequence[Setting]) -> str:
    """Return the report in Markdown."""
    glyphs = load_glyphs()
    tests = {setting: setting.test(glyphs) for setting in settings}
    tables = {setting: _error_table(folder, setting) for setting in settings}
    logits = {setting: _features(folder, setting) for setting in settings}
    labels = {s: {name: values.argmax(dim=1) for name, values in logits[s].items()} for s in settings}
    predicted = {setting: labels[setting] | _by_weights(tables[setting]) for setting in settings}
    return "\n".join(
        [
            _headline(settings),
            "",
            *_accuracies(predicted, tests),
            "",
            *_curves(tables, tests),
            "",
            *race_rows(tables, tests),
            "",
            *cascade_rows(tables, tests, {setting: logits[setting][CHEAP] for setting in settings}),
            "",
        ]
    )


def _headline(settings: Sequence[Setting]) -> str:
    seeds = len({setting.seed for setting in settings})
    return (
        f"{CLASSES} classes, {TESTS * CLASSES} test pictures a seed; accuracy in %, mean ± standard deviation over "
        f"{seeds} seeds. In brackets the pull: of the pictures with another class's prominent attribute, the share "
        "labelled as that class."
    )


def _error_table(folder: Path, setting: Setting) -> ErrorTable:
    return ErrorTable(**load_file(folder / f"{setting.name}.safetensors"))


def _features(folder: Path, setting: Setting) -> dict[str, Tensor]:
    logits = json.loads((folder / f"{setting.name}.json").read_text())
    return {name: torch.tensor(logits[name]) for name in FEATURE_METHODS}


def _by_weights(table: ErrorTable) -> dict[str, Tensor]:
    early = (table.steps < EARLY).double()
    return {
        "TiF, its weights": table.labels(table.weights),
        "TiF, equal weights": table.labels(),
        f"TiF, t < {EARLY}": table.labels(early),
        f"TiF, t ≥ {EARLY}": table.labels(1 - early),
    }


def _accuracies(predicted: Mapping[Setting, Mapping[str, Tensor]], tests: Mapping[Setting, Pictures]) -> Iterator[str]:
    columns = [(task, tied) for task in TASKS for tied in (False, True)]
    yield "| method | " + " | ".join(f"{task}, {'tied' if tied else 'free'}" for task, tied in columns) + " |"
    yield "| --- |" + " --- |" * len(columns)
    for method in next(iter(predicted.values())):
        cells = []
        for task, tied in columns:
            of_seeds = [s for s in predicted if (s.task, s.tied) == (task, tied)]
            right = [_share(predicted[s][method] == tests[s].labels) for s in of_seeds]
            pulled = [_pull(predicted[s][method], tests[s]) for s in of_seeds]
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


def _curves(tables: Mapping[Setting, ErrorTable], tests: Mapping[Setting, Pictures]) -> Iterator[str]:
    """Yield the table of advantages by time-step: how much better than others the adapters of two classes predict."""
    yield "How much smaller than the other classes' the error is, in thousandths, by time-step; conflicting pictures:"
    yield ""
    edges = [1000 * i // BINS for i in range(BINS + 1)]
    yield "| | " + " | ".join(f"{a}–{b}" for a, b in pairwise(edges)) + " |"
    yield "| --- |" + " --- |" * BINS
    for task in TASKS:
        tied = [s for s in tables if s.task == task and s.tied]
        for field in ("labels", "prominent"):
            owner = "the picture's class" if field == "labels" else "the class of its prominent attribute"
            curve = torch.stack([_advantage(tables[s], tests[s], getattr(tests[s], field)) for s in tied]).mean(dim=0)
            yield f"| {task}: {owner} | " + " | ".join(f"{1000 * value:.1f}" for value in curve.tolist()) + " |"


def _advantage(table: ErrorTable, test: Pictures, owner: Tensor) -> Tensor:
    """[BINS] float64."""
    conflicting = test.prominent != test.labels
    errors, owner = table.errors[conflicting].double(), owner[conflicting]
    involved = torch.zeros(errors.shape[:2], dtype=torch.bool)
    for column in (test.labels[conflicting], test.prominent[conflicting]):
        involved.scatter_(1, column[:, None], True)
    others = errors.masked_fill(involved[..., None], 0.0).sum(dim=1) / (~involved).sum(dim=1)[:, None]
    own = errors[torch.arange(len(errors)), owner]
    by_step = (others - own).mean(dim=0)  # [GRID]
    bins = table.steps * BINS // 1000
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, by_step)
    return sums / torch.bincount(bins, minlength=BINS).clamp(min=1)
