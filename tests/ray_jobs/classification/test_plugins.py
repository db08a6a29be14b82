"""Installing a plug-in makes its images readable: runs, features and latents of before are not taken for the same."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import tomlkit

from fewshot.backbones import ClipSpec
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.output.layout import features_folder
from ray_jobs.steps.latents import latents_folder
from tests.ray_jobs.place import CLASSES, Place, fewshot, put
from tests.strange_files import encode, photo

MODULES = {"pillow-heif": "pillow_heif", "pillow-jxl-plugin": "pillow_jxl"}


def remove(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plug-ins look as if they were not installed."""

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("fewshot.image_formats.version", missing)
    for loaded in [name for name in sys.modules if name.partition(".")[0] in MODULES.values()]:
        monkeypatch.setitem(sys.modules, loaded, None)


def test_features_and_latents_are_named_after_what_decodes(monkeypatch):
    def names() -> tuple[str, str]:
        return features_folder(ClipSpec(precision="fp32"), "archive"), latents_folder(DiffusionSpec())

    installed = names()
    with monkeypatch.context() as patched:
        patched.setattr("fewshot.image_formats.version", lambda package: "0.0.1")
        updated = names()
    with monkeypatch.context() as patched:
        patched.setattr("fewshot.image_formats.DECODING_VERSION", -1)
        changed = names()
    assert names() == installed
    for features, latents in (updated, changed):
        assert features != installed[0]
        assert latents != installed[1]


def stored_job(place: Place) -> Path:
    """A job file that labels the archive with the one classifier of the output."""
    (card,) = place.output.glob("classifiers/*/*/card.json")
    sections = {
        "job": {"name": "stored", "output": str(place.output)},
        "archive": {"uri": str(place.archive), "shard_images": 4},
        "classifier": {"from": str(card.parent)},
        "cluster": {"mode": "process"},
    }
    put(place.folder / "stored.toml", tomlkit.dumps(sections).encode())
    return place.folder / "stored.toml"


@pytest.mark.slow
def test_a_plugin_that_was_installed_since_is_used(place, monkeypatch):
    put(place.archive / "phone.heic", encode(photo(48, 40), "HEIF"))
    put(place.archive / "small.jxl", encode(photo(48, 40), "JXL"))
    with monkeypatch.context() as without:
        remove(without)
        trained = place.classify()
        job = stored_job(place)
        before = [trained, fewshot("classify", job)]
    for name, kind in (("phone.heic", "HEIC"), ("small.jxl", "JPEG XL")):
        for outcome in before:
            row = outcome.rows[name]
            assert (row["status"], row["label"]) == ("unreadable", None)
            assert row["error"].startswith(f"{kind} needs the extra formats: pip install")
    for outcome, earlier in zip((fewshot("classify", job), place.classify()), reversed(before), strict=True):
        assert outcome.run != earlier.run
        assert {outcome.rows[name]["label"] for name in ("phone.heic", "small.jxl")} <= set(CLASSES)
