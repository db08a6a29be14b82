"""How many keys the scripted reviewer presses a label in a review of 500 images, over the application itself.

    python -m tests.ray_jobs.review.counted_keys

Classes of 25 images, each with a screen of its own; of wrong predictions 55 % have the truth in second place.
"""

from __future__ import annotations

import html
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from ray_jobs.review.screens import PLANTED_SHARE
from tests.ray_jobs.review.reviewed_run import browser, decision, open_session, written_run
from tests.ray_jobs.review.scripted_reviewer import SeenImage, demo_classes, keys_of_screen, pressed

IMAGES, LABELS = 500, demo_classes()[:20]


def random_truths(purity: float, seed: int) -> dict[str, str]:
    """By key, what the images of a written run of `IMAGES` and `LABELS` show; a share `purity` what is predicted."""
    random, truths = Random(seed), {}
    for place in range(IMAGES):
        second = LABELS[(place + 1) % len(LABELS)] if random.random() < 0.55 else random.choice(LABELS)
        truths[f"folder/{place:03}.png"] = LABELS[place % len(LABELS)] if random.random() < purity else second
    return truths


def seen(items: Sequence[Mapping[str, str]], truths: Mapping[str, str]) -> list[SeenImage]:
    """The images of a screen, from the data of its items."""
    return [SeenImage(truths[each["key"]], tuple(name for name, _ in json.loads(each["top"]))) for each in items]


def count_keys(folder: Path, *, purity: float, planted: float, seed: int) -> tuple[float, float]:
    """Keys a label, without and with Shift as a key."""
    truths, keys = random_truths(purity, seed), list[str]()
    client = browser(open_session(written_run(folder, IMAGES, classes=LABELS), size=26, planted=planted))
    for label in LABELS:
        while items := _items(page := client.get("/screen", params={"kind": "class", "name": label}).text):
            keys += keys_of_screen(seen(items, truths), LABELS)
            answers = [{"id": int(each["id"]), "answer": "label", "label": truths[each["key"]]} for each in items]
            assert client.post("/decide", json=decision(page, answers)).status_code == 200
    return len(keys) / IMAGES, pressed(keys) / IMAGES


def _items(page: str) -> list[dict[str, str]]:
    found = re.findall(r'data-id="(\d+)" data-key="([^"]*)" data-proposed="[^"]*" data-top="([^"]*)"', page)
    return [{"id": number, "key": key, "top": html.unescape(top)} for number, key, top in found]


if __name__ == "__main__":
    for purity in (0.95, 0.8):
        for planted in (PLANTED_SHARE, 0.0):
            for seed in range(3):
                with tempfile.TemporaryDirectory() as name:
                    plain, with_shift = count_keys(Path(name), purity=purity, planted=planted, seed=seed)
                sys.stdout.write(f"purity {purity}, planted {planted}: {plain:.3f}, with Shift {with_shift:.3f}\n")
