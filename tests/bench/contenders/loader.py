"""A plain PyTorch loop: `python -m tests.bench.contenders.loader IMAGES OUTPUT [--workers N]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tests.bench.contenders.stub import BATCH, Stub, usual_preprocessing


class Folder(Dataset):
    """The usual dataset: opens, converts and transforms a file."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).iterdir())
        self.transform = usual_preprocessing()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Stub()
    loader = DataLoader(Folder(options.images), batch_size=BATCH, num_workers=options.workers)
    features = torch.cat([model.encode_image(batch).clone() for batch in loader])
    Path(options.output).mkdir()
    np.save(Path(options.output) / "features.npy", features.numpy())
    sys.stdout.write(f"{len(features)}\n")


if __name__ == "__main__":
    main()
