"""What the tests of jobs share: the tiny CLIP, and a place with an archive."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from torch import Tensor

from cluster import Store
from fewshot.backbones.clip import ClipBackbone
from tests.ray_jobs.place import Place
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny CLIP."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny_clip"))


@pytest.fixture
def place(tmp_path: Path, tiny_clip: Path) -> Place:
    """18 photographs of three classes, two broken files, two examples a class, and a job file."""
    return Place(tmp_path, tiny_clip).fill()


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that the backbone of this process embeds, views count."""
    counts, embed = list[int](), ClipBackbone.embed_images

    def counted(clip: ClipBackbone, images: Tensor) -> Tensor:
        counts.append(len(images))
        return embed(clip, images)

    monkeypatch.setattr(ClipBackbone, "embed_images", counted)
    return counts


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The objects that this process stores, counted by the folder of the output that they are in; no leases."""
    counts, put = Counter[str](), Store.put

    def counted(store: Store, path: str, data: bytes) -> None:
        if "lease" not in path:
            counts[path.partition("/")[0]] += 1
        put(store, path, data)

    monkeypatch.setattr(Store, "put", counted)
    return counts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Place:
    """The same with the job done. Shared: leave it as it is."""
    place = Place(tmp_path_factory.mktemp("finished"), tiny_clip).fill()
    place.write_job(archive={"labels": str(place.truth)})
    assert place.classify().code == 0
    return place


@pytest.fixture
def copied(finished: Place, tmp_path: Path) -> Place:
    """A copy of the finished place, to write labels in, with a run of its own archive."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    place = Place(tmp_path / "copy", finished.clip)
    place.write_job()
    assert place.classify().code == 0
    return place
