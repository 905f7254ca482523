"""The Transformer of the global, the local and the refining stage: pre-norm blocks with RMSNorm and SwiGLU.

The same computation as Llama, Qwen2 and Qwen3 in transformers, without their embeddings and heads.

Letters: B batch, S positions, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unitok.model.attention import Attention, RMSNorm
from unitok.model.cache import StaticCache
from unitok.model.config import TransformerConfig
from unitok.model.rope import rope_angles

__all__ = ["Block", "FeedForward", "Transformer", "initialize"]

INIT_STD = 0.02


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=False)
        self.up_proj = nn.Linear(d_model, d_ff, bias=False)
        self.down_proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Change each position by itself: `[B, S, D]` -> `[B, S, D]`."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalised before and added after."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.feed_forward = FeedForward(config.d_model, config.ff_width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        attn_mask: Tensor | None,
        is_causal: bool,
        cache: StaticCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run the layer on `[B, S, D]`; for the rest see `Attention.forward`."""
        mixed = self.attention(self.attention_norm(x), rope, attn_mask, is_causal, cache, positions)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class Transformer(nn.Module):
    """A stack of blocks and a last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList([Block(config, layer) for layer in range(config.n_layers)])
        self.norm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.recompute_activations = False
        """In training, compute the insides of blocks again in the backward pass instead of keeping them."""
        initialize(self)
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):  # added to the residual stream 2 n_layers times
                nn.init.normal_(weight, std=INIT_STD / math.sqrt(2 * config.n_layers))

    def forward(
        self,
        x: Tensor,
        *,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: StaticCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run all blocks.

        Args:
            x: `[B, S, D]`.
            attn_mask: Broadcasts to `[B, 1, S, keys]`, bool, True where a query sees a key.
            is_causal: Instead of a mask: each position sees itself and those before. With padding on the right that
                is all it takes. Without either, all see all.
            cache: Keys and values of earlier calls, `advance`d to these positions; `keys` is then its used prefix.
            positions: `[B, S]` or `[1, S]`, int64; None means 0 … S-1.

        Returns:
            Normalised states `[B, S, D]`.
        """
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        rope = rope_angles(positions, self.config.head_width, self.config.rope_theta, self.config.rope_scaling)
        x = self.dropout(x)
        recompute = self.recompute_activations and self.training and cache is None
        for block in self.blocks:
            if recompute:
                x = checkpoint(block, x, rope, attn_mask, is_causal, use_reentrant=False)
            else:
                x = block(x, rope, attn_mask, is_causal, cache, positions)
        return self.norm(x)

    def new_cache(self, batch_size: int, max_positions: int) -> StaticCache:
        """Return an empty cache for `batch_size` rows of up to `max_positions`."""
        config, weight = self.config, self.norm.weight
        return StaticCache(
            config.n_layers,
            batch_size,
            config.kv_heads,
            max_positions,
            config.head_width,
            dtype=weight.dtype,
            device=weight.device,
        )


def initialize(module: nn.Module) -> None:
    """Draw all linear and embedding weights from N(0, 0.02²) and set biases to 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
