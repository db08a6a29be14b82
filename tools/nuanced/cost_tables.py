"""The costs of races and cascades, replayed on errors that were all computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fewshot.diffusion import elimination, racing
from tools.nuanced.problem_settings import Pictures, Setting
from tools.nuanced.trained_methods import ErrorTable

CHEAP, CANDIDATES = "nearest_mean", 5
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def race_rows(tables: Mapping[Setting, ErrorTable], tests: Mapping[Setting, Pictures]) -> Iterator[str]:
    """Yield the table of forwards an image and agreement with the whole grid, over all settings."""
    errors = torch.cat([a.errors for a in tables.values()])
    N, K, n = errors.shape
    labels = torch.cat([tests[s].labels for s in tables])
    whole = errors.double().sum(dim=2).argmin(dim=1)
    yield f"{N} pictures, {K} classes, {n} time-steps of equal weight. Agreement is with the exhaustive schedule."
    yield ""
    yield "| schedule | forwards an image | of | agreement % | accuracy % |"
    yield "| --- | --- | --- | --- | --- |"
    runs = {"exhaustive": (whole, torch.full((N,), K * n))}
    for name in elimination.PUBLISHED:
        plan = elimination.plan_rounds(elimination.scale_schedule(name, num_classes=K, steps=n), K)
        found = elimination.eliminate(lambda classes, entries: _scored(errors, classes, entries), plan, images=N)
        runs[f"published stages of {name}, scaled"] = found, torch.full((N,), elimination.count_forwards(plan))
    for rate in (0.05, 0.01):
        runs[f"racing, error rate {rate:g}"] = raced(errors, torch.ones(N, K, dtype=torch.bool), error_rate=rate)
    for name, (found, forwards) in runs.items():
        mean = forwards.double().mean().item()
        agreement, accuracy = ((found == other).double().mean().item() for other in (whole, labels))
        yield f"| {name} | {mean:.0f} | {K * n / mean:.1f} × fewer | {100 * agreement:.1f} | {100 * accuracy:.1f} |"


def raced(errors: Tensor, candidates: Tensor, *, error_rate: float) -> tuple[Tensor, Tensor]:
    """Run races on known errors.

    Args:
        errors: [N, K, n] float32.
        candidates: [N, K] bool.
        error_rate: see `racing.make_race_plan`.

    Returns:
        labels [N] and forwards [N], int64.
    """
    plan = racing.make_race_plan(errors.shape[2], error_rate=error_rate)
    race = racing.start_race(plan, candidates)
    while len((queries := racing.next_queries(plan, race)).image):
        race = racing.advance(plan, race, errors[queries.image, queries.label, queries.entry])
    return race.labels, race.forwards


def cascade_rows(
    tables: Mapping[Setting, ErrorTable], tests: Mapping[Setting, Pictures], logits: Mapping[Setting, Tensor]
) -> Iterator[str]:
    """Yield the table of cascades: a cheap method labels all, races decide the least certain share of the images."""
    errors = torch.cat([a.errors for a in tables.values()])
    labels = torch.cat([tests[s].labels for s in tables])
    cheap = torch.cat([logits[s].softmax(dim=1) for s in tables])
    N, K, n = errors.shape
    top = cheap.topk(CANDIDATES, dim=1).indices
    possible = torch.zeros(N, K, dtype=torch.bool).scatter(1, top, True)
    best = errors.double().sum(dim=2).masked_fill(~possible, torch.inf).argmin(dim=1)
    found, forwards = raced(errors, possible, error_rate=0.01)
    certainty = cheap.max(dim=1).values.argsort(stable=True)
    yield f"Cascades: `{CHEAP}` labels all; races among its best {CANDIDATES} classes decide the least certain share."
    yield ""
    yield "| share escalated | forwards an image | fewer than exhaustive | agreement of the races % | accuracy % |"
    yield "| --- | --- | --- | --- | --- |"
    for share in SHARES:
        escalated = certainty[: round(share * N)]
        decided = cheap.argmax(dim=1).index_copy(0, escalated, found[escalated])
        mean = forwards[escalated].sum().item() / N
        fewer = f"{K * n / mean:.0f} ×" if mean else "–"
        agrees = (found[escalated] == best[escalated]).double()
        agreement = f"{100 * agrees.mean().item():.1f}" if len(escalated) else "–"
        accuracy = 100 * (decided == labels).double().mean().item()
        yield f"| {100 * share:.0f} % | {mean:.0f} | {fewer} | {agreement} | {accuracy:.1f} |"


def _scored(errors: Tensor, classes: Tensor, entries: Tensor) -> Tensor:
    return errors[torch.arange(len(errors))[:, None, None], classes[..., None], entries]
