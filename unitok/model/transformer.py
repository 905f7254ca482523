"""The Transformer of the global, the local and the refining stage: pre-norm blocks, by default RMSNorm and SwiGLU.

Then the same computation as Llama, Qwen2 and Qwen3 in transformers, without their embeddings and heads; with
`norm: layer` and `feed_forward: gelu` that of GPT-2, with rotary positions.

Letters: B batch, S positions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unitok.model.attention import Attention, make_norm
from unitok.model.cache import StaticCache
from unitok.model.config import TransformerConfig
from unitok.model.rope import rope_angles

if TYPE_CHECKING:
    from unitok.kernels.stack import NativeStack

__all__ = ["Block", "FeedForward", "Transformer", "initialize"]

INIT_STD = 0.02
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": F.silu, "geglu": F.gelu, "gelu": F.gelu, "relu": F.relu}


class FeedForward(nn.Module):
    """Two matrices with GELU or ReLU between them, or three with a gate: SwiGLU and GEGLU (arXiv:2002.05202)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        D, width, bias = config.d_model, config.ff_width, config.bias
        self.activate = ACTIVATIONS[config.feed_forward]
        self.gate_proj = nn.Linear(D, width, bias=bias) if config.gated else None
        self.up_proj = nn.Linear(D, width, bias=bias)
        self.down_proj = nn.Linear(width, D, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Change each position by itself: `[B, S, D]` -> `[B, S, D]`."""
        up = self.up_proj(x)
        return self.down_proj(self.activate(up) if self.gate_proj is None else self.activate(self.gate_proj(x)) * up)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalised before and added after."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
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
        self.norm = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.recompute_activations = False
        """In training, compute the insides of blocks again in the backward pass instead of keeping them."""
        self.native: NativeStack | None = None
        """Does a few positions with a cache in one native call (`unitok.kernels.attach`)."""
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
            attn_mask: Broadcasts to `[B, 1, S, keys]`, bool, True where a query sees a key. With a cache, a single
                position of each row sees all before it.
            is_causal: Instead of a mask: each position sees itself and those before. With padding on the right that
                is all it takes. Without either, all see all.
            cache: Keys and values of earlier calls, `advance`d to these positions; `keys` is then its used prefix.
            positions: `[B, S]` or `[1, S]`, int64; None means 0 … S-1.

        Returns:
            Normalised states `[B, S, D]`.
        """
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        native = None if torch.compiler.is_compiling() else self.native
        if native is not None and cache is not None and native.takes(x, cache):
            lengths = positions + 1 if is_causal or x.shape[1] == 1 else _lengths(attn_mask)
            if lengths is not None:
                return native.run(x, cache, positions, lengths)
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
        config, weight = self.config, next(self.parameters())
        return StaticCache(
            config.n_layers,
            batch_size,
            config.kv_heads,
            max_positions,
            config.head_width,
            dtype=weight.dtype,
            device=weight.device,
        )


def _lengths(attn_mask: Tensor | None) -> Tensor | None:
    """Return how many places of the cache each new position sees, `[B, S]`; None where they are not the first ones."""
    if attn_mask is None:
        return None
    seen = attn_mask[:, 0]
    lengths = seen.sum(dim=-1)
    first = torch.arange(seen.shape[-1], device=seen.device) < lengths[..., None]
    return lengths if torch.equal(seen, first) else None


def initialize(module: nn.Module) -> None:
    """Draw all linear and embedding weights from N(0, 0.02²) and set biases to 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=INIT_STD)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
