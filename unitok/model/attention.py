"""Self-attention (grouped-query, rotary positions, optional QK-norm and biases) and the norms of blocks.

Projections carry the names of Llama-like models in transformers, so that their weights copy over one to one.
Letters: B batch, S positions (queries), D width, H heads, E width of a head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from unitok.model.cache import StaticCache
from unitok.model.config import TransformerConfig
from unitok.model.rope import rotate

__all__ = ["Attention", "LayerNorm", "RMSNorm", "make_norm"]


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm that gives back the type it gets, under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        weight = self.weight.to(x.dtype)  # mixed types take PyTorch's slow path, with a warning
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


class LayerNorm(nn.LayerNorm):
    """Layer norm that gives back the type it gets, under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def make_norm(config: TransformerConfig, width: int | None = None) -> nn.Module:
    """Return a norm of the config's kind, over `width` (None: its d_model)."""
    width = config.d_model if width is None else width
    if config.norm == "layer":
        return LayerNorm(width, eps=config.norm_eps, bias=config.bias)
    return RMSNorm(width, eps=config.norm_eps)


class Attention(nn.Module):
    """Self-attention of one layer."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_width
        self.grouped = config.kv_heads != config.n_heads
        query_width, key_width = config.n_heads * self.head_dim, config.kv_heads * self.head_dim
        qkv_bias = config.qkv_bias or config.bias
        self.q_proj = nn.Linear(config.d_model, query_width, bias=qkv_bias)
        self.k_proj = nn.Linear(config.d_model, key_width, bias=qkv_bias)
        self.v_proj = nn.Linear(config.d_model, key_width, bias=qkv_bias)
        self.o_proj = nn.Linear(query_width, config.d_model, bias=config.bias)
        self.q_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        attn_mask: Tensor | None,
        is_causal: bool,
        cache: StaticCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Mix positions.

        Args:
            x: `[B, S, D]`.
            rope: What `rope_angles` returns.
            attn_mask: Broadcasts to `[B, 1, S, keys]`, bool, True where the query sees the key; None for no limit.
            is_causal: Instead of a mask, queries see keys up to themselves.
            cache: Where keys and values of earlier positions are, and these are put.
            positions: Where in the cache, `[B, S]`.

        Returns:
            `[B, S, D]`.
        """
        query, key, value = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        query, key = rotate(self.q_norm(query), *rope), rotate(self.k_norm(key), *rope)
        if cache is not None:
            assert positions is not None, "a cache needs positions"
            key, value = cache.update(self.layer, key, value, positions)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attn_mask, is_causal=is_causal, enable_gqa=self.grouped
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, H, S, E]
