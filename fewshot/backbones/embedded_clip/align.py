"""Compute the projections of the embedded CLIP: `python -m fewshot.backbones.embedded_clip.align`.

No image and no training is needed. The rows of EfficientNet-Lite2's classifier are directions, among its 1280 channels,
of the images of ImageNet's 1000 classes. One ridge regression maps the sentence embeddings of the classes' names to
them, and a PCA of the rows keeps the 512 directions in which the classes differ most. With
X [4·1000, 384] the embeddings of four phrasings of each class, Y [4·1000, 1280] the classifier's rows repeated, and
P [1280, 512] the PCA:

    A = (XᵀX + λI)⁻¹ XᵀY        text projection  A P  [384, 512]        image projection  P  [1280, 512]

The names, synonyms and definitions of the classes are WordNet's, as timm ships them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import timm.data
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel

from fewshot.backbones.clip_spec import PROJECTIONS
from fewshot.backbones.embedded_clip.assemble import DIM, tokenize
from fewshot.backbones.embedded_clip.packaged_weights import image_weights, text_folder

RIDGE = 10.0
"""λ for each phrasing of the 1000 classes."""


def phrasings() -> list[list[str]]:
    """Return four phrasings of each of the 1000 classes, in the order of the classifier's rows: 4 x 1000 strings."""
    folder = Path(timm.data.__file__).parent / "_info"
    synsets = (folder / "imagenet_synsets.txt").read_text().split()
    synonyms, definitions = (_table(folder / f"imagenet_synset_to_{name}.txt") for name in ("lemma", "definition"))
    first = [synonyms[s].split(",")[0].strip() for s in synsets]
    return [
        first,
        [synonyms[s] for s in synsets],
        [f"{synonyms[s]}: {definitions[s]}" for s in synsets],
        [f"a photo of a {name}" for name in first],
    ]


def projections() -> dict[str, Tensor]:
    """Compute the two projections.

    Returns:
        "image": [1280, 512] float16, orthonormal columns; "text": [384, 512] float16.
    """
    rows = image_weights()["classifier.weight"].double()  # [1000, 1280]
    texts = phrasings()
    X = torch.cat([_embed(t) for t in texts]).double()
    text = ridge(X, rows.repeat(len(texts), 1), penalty=RIDGE * len(texts))
    basis = torch.linalg.svd(rows, full_matrices=False).Vh[:DIM].T  # [1280, 512]
    basis = basis * basis.sum(dim=0).sign()  # The signs of an SVD are arbitrary.
    return {"image": basis.half().contiguous(), "text": (text @ basis).half().contiguous()}


def ridge(X: Tensor, Y: Tensor, *, penalty: float) -> Tensor:
    """Solve a ridge regression without intercept.

    Args:
        X: [N, A] inputs.
        Y: [N, B] targets.
        penalty: λ > 0, in units of XᵀX.

    Returns:
        [A, B]: the minimiser of ‖X·R − Y‖² + λ‖R‖² over R.
    """
    gram = X.T @ X + penalty * torch.eye(X.shape[1], dtype=X.dtype)
    solution: Tensor = torch.linalg.solve(gram, X.T @ Y)
    return solution


def _table(path: Path) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in path.read_text().splitlines())


def _embed(texts: list[str]) -> Tensor:
    return torch.cat(list(_mean_pooled(texts)))


@torch.inference_mode()
def _mean_pooled(texts: list[str]) -> Iterator[Tensor]:
    tower = AutoModel.from_config(AutoConfig.from_pretrained(text_folder()), add_pooling_layer=False).eval()
    weights = load_file(text_folder() / "model.safetensors")
    tower.load_state_dict({k: v for k, v in weights.items() if not k.startswith("pooler.")}, strict=False)
    for ids in tokenize(texts):
        mask = (ids != 0).long()
        hidden = tower(input_ids=ids[None], attention_mask=mask[None]).last_hidden_state[0]
        yield (hidden * mask[:, None]).sum(dim=0, keepdim=True) / mask.sum()


if __name__ == "__main__":
    save_file(projections(), PROJECTIONS)
