"""How busy the workers were is noted with a run that embeds something, and stays as it is otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cluster import Store
from ray_jobs.output.layout import LOAD
from ray_jobs.output.runs import read_load, record_load
from ray_jobs.results.stage_load import StageLoad

FIRST = StageLoad(reading=0.2, decoding=0.9, device=0.5, writing=0.1)
LAST = StageLoad(reading=0.2, decoding=0.3, device=0.8, writing=0.1)


def test_the_load_of_the_last_embedding_stays(tmp_path):
    store, said = Store(str(tmp_path)), []
    assert read_load(store, "runs/a") is None
    for load in (FIRST, LAST, None):
        record_load(store, "runs/a", load, SimpleNamespace(say=said.append))
    assert read_load(store, "runs/a") == LAST
    assert said == [FIRST.sentence(), LAST.sentence()]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"embedding": 1}'])
def test_a_damaged_load_is_none(tmp_path, damage):
    store = Store(str(tmp_path))
    store.put(f"runs/a/{LOAD}", damage)
    assert read_load(store, "runs/a") is None
