"""Write problems for measuring `mcti` and `textual_inversion` with `fewshot evaluate`.

    python -m tools.tokens emoji FOLDER
    python -m tools.tokens subjects FOLDER --photographs bench/dreambooth

`emoji`: eight emoji kept from the training of the embedded diffusion model, with 16 training and 15 test pictures of
each. `subjects`: the DreamBooth photographs, some of each subject for training and the others for testing; the
photographs stay where they are. Each problem is a folder with a `splits.json` and a `job.toml`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import tomlkit
import torch
from torchvision.transforms.functional import to_pil_image

from fewshot.demo.scenes import draw_scenes, load_glyphs, render

CLASSES, TRAIN, TEST = 8, 16, 15
SIDE = 128
SUBJECT_SHOTS = 3
"""Training photographs of a subject, of its four to six: always the first ones, so that one seed is enough."""
METHODS = ("zero_shot", "nearest_mean", "textual_inversion", "mcti")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=["emoji", "subjects"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=Path, help="folder of the DreamBooth photographs, with a splits.json")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.problem == "emoji":
        splits, images, shots, seeds = emoji(arguments.folder), arguments.folder, 4, [1, 2, 3]
    else:
        if arguments.photographs is None:
            parser.error("subjects needs --photographs FOLDER")
        splits, images, shots, seeds = subjects(arguments.photographs), arguments.photographs, SUBJECT_SHOTS, [1]
    (arguments.folder / "splits.json").write_text(json.dumps(splits, indent=1))
    job = {
        "job": {"name": arguments.problem, "output": str(arguments.folder / "runs")},
        "support": {"uri": str(arguments.folder / "splits.json"), "views": 0},
        "evaluate": {
            "splits": str(arguments.folder / "splits.json"),
            "images": str(images),
            "methods": list(METHODS),
            "shots": [shots],
            "seeds": seeds,
        },
    }
    (arguments.folder / "job.toml").write_text(tomlkit.dumps(job))


def emoji(folder: Path) -> dict[str, object]:
    """Draw pictures into a folder and return their splits."""
    glyphs, generator = load_glyphs(), torch.Generator().manual_seed(0)
    chosen = torch.tensor(glyphs.held_out)[torch.randperm(len(glyphs.held_out), generator=generator)[:CLASSES]]
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for split, count in (("train", TRAIN), ("test", TEST)):
        labels = torch.arange(CLASSES).repeat_interleave(count)
        pictures = render(draw_scenes(chosen[labels], generator=generator), glyphs, side=SIDE)
        for number, (label, picture) in enumerate(zip(labels.tolist(), pictures, strict=True)):
            path = folder / split / f"{number:03}.png"
            path.parent.mkdir(exist_ok=True)
            to_pil_image(picture).save(path)
            splits[split].append((f"{split}/{path.name}", label))
    return {"classes": [glyphs.names[i] for i in chosen.tolist()], **splits}


def subjects(photographs: Path) -> dict[str, object]:
    """Return splits in which the first photographs of each subject are for training."""
    listing = json.loads((photographs / "splits.json").read_text())
    images_by_label: dict[int, list[str]] = defaultdict(list)
    for image, label in sorted(listing["all"]):
        images_by_label[label].append(image)
    train = [(image, label) for label, images in images_by_label.items() for image in images[:SUBJECT_SHOTS]]
    test = [(image, label) for label, images in images_by_label.items() for image in images[SUBJECT_SHOTS:]]
    return {"classes": listing["classes"], "train": train, "test": test}


if __name__ == "__main__":
    main()
