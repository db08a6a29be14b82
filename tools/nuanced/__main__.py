"""Measure nuanced against prominent attributes: TiF on the embedded diffusion model, methods on the embedded CLIP.

    python -m tools.nuanced FOLDER [--model embedded] [--seeds 1 2 3]

The problems have eight classes, four examples each, of emoji kept from the diffusion model's training
(`problem_settings`). The results of each method are kept in FOLDER, so that an interrupted command continues; at the
end it writes FOLDER/report.md: accuracies, how often a prominent attribute that was tied to a class in the support
pulls an image to that class, the time-steps that decide, and the savings of races and cascades on the same errors. On
one core a seed takes a quarter of an hour.
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
from tools.nuanced.report import markdown
from tools.nuanced.trained_methods import feature_logits, tif_errors

logger = logging.getLogger("nuanced")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    settings = [Setting(task, tied, seed) for seed in arguments.seeds for task in TASKS for tied in (False, True)]
    _features(arguments.folder, settings)
    _error_tables(arguments.folder, settings, arguments.model)
    (arguments.folder / "report.md").write_text(markdown(arguments.folder, settings), encoding="utf-8")


def _features(folder: Path, settings: list[Setting]) -> None:
    glyphs, clip = load_glyphs(), load_clip(ClipSpec())
    for setting in settings:
        path = folder / f"{setting.name}.json"
        if not path.exists():
            logits = {name: values.tolist() for name, values in feature_logits(setting, glyphs, clip)}
            path.write_text(json.dumps(logits))
            logger.info("features setting=%s", setting.name)


def _error_tables(folder: Path, settings: list[Setting], model: str) -> None:
    glyphs, backbone = load_glyphs(), load_diffusion(DiffusionSpec(model=model))
    for setting in settings:
        path = folder / f"{setting.name}.safetensors"
        if not path.exists():
            table = tif_errors(setting, glyphs, backbone)
            save_file(dict(table.to_tensors()), path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
            right = (table.labels() == setting.test(glyphs).labels).double().mean()
            logger.info("tif setting=%s accuracy=%.3f", setting.name, right)


if __name__ == "__main__":
    main()
