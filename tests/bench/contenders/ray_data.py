"""Ray Data as in its guide to batch inference: `python -m tests.bench.contenders.ray_data IMAGES OUTPUT`.

It reads images, preprocesses each row in tasks, runs one actor with the model, and writes Parquet.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

import numpy as np
from PIL import Image

from tests.bench.contenders.stub import BATCH, Stub, usual_preprocessing


def preprocess(row: dict) -> dict:
    return {"path": row["path"], "image": usual_preprocessing()(Image.fromarray(row["image"])).numpy()}


class Predictor:
    """The model, in an actor."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.model = Stub()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        return {"path": batch["path"], "features": self.model.encode_image(torch.from_numpy(batch["image"])).numpy()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("output")
    options = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        one = ray.data.ActorPoolStrategy(size=1)
        images = ray.data.read_images(options.images, mode="RGB", include_paths=True)
        images.map(preprocess).map_batches(Predictor, batch_size=BATCH, compute=one).write_parquet(options.output)
        ray.shutdown()
    import pyarrow.parquet as pq

    sys.stdout.write(f"{len(pq.read_table(options.output))}\n")


if __name__ == "__main__":
    main()
