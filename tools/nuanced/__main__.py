"""Nuanced against prominent attributes: TiF on the embedded diffusion model, and methods on the embedded CLIP.

    python -m tools.nuanced FOLDER [--model embedded] [--seeds 1 2 3]

Problems of eight classes, four examples each, with emoji that the diffusion model was never shown (`settings`). What
each learner says is kept in FOLDER, so the command can be interrupted and goes on; when all is there it writes
FOLDER/report.md: accuracies, how often a prominent attribute that was tied to a class in the support pulls an image to
that class, at which time-steps either is decided, and what races and cascades would have saved on the same errors.
On one core a seed takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from safetensors.torch import save_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.diffusion import DiffusionSpec, load_diffusion
from fewshot.demo.scenes import load_glyphs
from tools.nuanced.problem_settings import TASKS, Setting
from tools.nuanced.report import written
from tools.nuanced.trained_methods import by_features, by_tif

logger = logging.getLogger("nuanced")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    settings = [Setting(task, tied, seed) for seed in arguments.seeds for task in TASKS for tied in (False, True)]
    _features(arguments.folder, settings)
    _answers(arguments.folder, settings, arguments.model)
    (arguments.folder / "report.md").write_text(written(arguments.folder, settings), encoding="utf-8")


def _features(folder: Path, settings: list[Setting]) -> None:
    glyphs, clip = load_glyphs(), load_clip(ClipSpec())
    for setting in settings:
        path = folder / f"{setting.name}.json"
        if not path.exists():
            logits = {name: given.tolist() for name, given in by_features(setting, glyphs, clip)}
            path.write_text(json.dumps(logits))
            logger.info("features setting=%s", setting.name)


def _answers(folder: Path, settings: list[Setting], model: str) -> None:
    glyphs, backbone = load_glyphs(), load_diffusion(DiffusionSpec(model=model))
    for setting in settings:
        path = folder / f"{setting.name}.safetensors"
        if not path.exists():
            answers = by_tif(setting, glyphs, backbone)
            save_file(dict(answers.to_tensors()), path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
            right = (answers.labels() == setting.test(glyphs).labels).double().mean()
            logger.info("tif setting=%s accuracy=%.3f", setting.name, right)


if __name__ == "__main__":
    main()
