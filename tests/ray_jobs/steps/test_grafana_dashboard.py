"""The dashboard for Grafana asks for counters that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from cluster.on_ray.metrics import COUNTERS, exported_name
from ray_jobs.output.feature_parts import counts
from tests.sources import ROOT

DASHBOARD = ROOT / "ray_jobs" / "configs" / "grafana_dashboard.json"
OF_STEPS = (*counts([None]), "bytes_read")
"""Counts of the step that embeds."""


def queries(node: object) -> Iterator[str]:
    """All queries of a dashboard."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in ("expr", "query") and isinstance(value, str))
        node = list(node.values())
    for each in node if isinstance(node, list) else ():
        yield from queries(each)


def test_the_dashboard_names_counters_that_exist():
    known = {exported_name(name) for name in (*COUNTERS, *OF_STEPS)}
    named = {name for query in queries(json.loads(DASHBOARD.read_text())) for name in re.findall(r"\bray_\w+", query)}
    assert named <= known
    assert {exported_name(name) for name in ("images", "bytes_read", "units_retried")} <= named


def test_panels_have_titles_and_places_of_their_own():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
