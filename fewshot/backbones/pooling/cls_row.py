"""ViTs that read the class token: the class token's row of the last residual block is an attention pool.

The query is the class token, keys and values are all tokens that enter the block. The other rows never reach the
feature and are not computed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fewshot.backbones.pooling.attention import attend

SCOPES = {
    "attn": ("attn.",),
    "attn+proj": ("attn.", "proj"),
    "block": ("ln_1.", "attn.", "ls_1.", "ln_2.", "mlp.", "ls_2.", "ln_post.", "proj"),
}


class ClsPool(nn.Module):
    """Pools [B, T, C], the class token first, to [B, D].

    Args:
        block: `open_clip.transformer.ResidualAttentionBlock`, the last one.
        ln_post: norm after it.
        proj: [C, D].
    """

    def __init__(self, block: Any, ln_post: nn.Module, proj: Tensor) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2
        self.ln_post = ln_post
        self.proj = nn.Parameter(proj.detach())

    def forward(self, dense: Tensor) -> Tensor:
        """See the class."""
        normed = self.ln_1(dense)
        query_weight, key, value = self.attn.in_proj_weight.chunk(3)
        query_bias, _, value_bias = self.attn.in_proj_bias.chunk(3)
        query = nn.functional.linear(normed[:, 0], query_weight, query_bias).view(
            len(dense), self.attn.num_heads, self.attn.head_dim
        )
        row = dense[:, 0] + self.ls_1(self.attn.out_proj(attend(query, normed, key, value) + value_bias))
        row = row + self.ls_2(self.mlp(self.ln_2(row)))
        pooled: Tensor = self.ln_post(row) @ self.proj
        return pooled
