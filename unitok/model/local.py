"""The local stage: codebooks 1 … Kc-1 of one frame, one after the other, from the global state that chose codebook 0.

    place      0         1        2       …   Kc-1
    input    state     E[c0]    E[c1]     …   E[c_{Kc-2}]      each through one projection D -> D_local
    predicts   -         c1       c2      …   c_{Kc-1}         one head per codebook

Letters: n frames, D width of the global stage, Kc AR codebooks, Vk size of codebook k.
Source: the depth decoder of CSM (`CsmDepthDecoderForCausalLM` in transformers), whose weights give the same logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unitok.model.config import TransformerConfig
from unitok.model.transformer import Transformer, initialize

__all__ = ["LocalStage", "LocalTransformer"]


class LocalTransformer(nn.Module):
    """Projection, causal Transformer over places, heads."""

    def __init__(self, config: TransformerConfig, d_input: int, codebook_sizes: Sequence[int]) -> None:
        """Build for codebooks 1 … Kc-1, whose sizes are `codebook_sizes`."""
        super().__init__()
        self.projection = nn.Linear(d_input, config.d_model, bias=False)
        self.heads = nn.ModuleList([nn.Linear(config.d_model, size, bias=False) for size in codebook_sizes])
        initialize(self)
        self.transformer = Transformer(config)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return logits of codebooks 1 … Kc-1, each `[n, Vk]`, from the inputs of all places `[n, Kc, D]`."""
        states = self.transformer(self.projection(inputs), is_causal=True)
        return [head(states[:, place]) for place, head in enumerate(self.heads, start=1)]


class LocalStage:
    """The local stage of frames that are being generated, with its own small cache: one codebook at a call."""

    def __init__(self, local: LocalTransformer, embed: Callable[[Tensor, int], Tensor], hidden: Tensor) -> None:
        """Start frames.

        Args:
            local: The weights.
            embed: Turns tokens `[n, 1]` of a slot into embeddings `[n, 1, D]`.
            hidden: Global states `[n, D]` that chose codebook 0.
        """
        self._local = local
        self._embed = embed
        self._hidden = hidden
        self._place = 0
        self._cache = local.transformer.new_cache(len(hidden), len(local.heads) + 1)

    def logits(self, tokens: Tensor) -> Tensor:
        """Take codebook k as chosen and return logits of codebook k+1; the first call takes codebook 0.

        Args:
            tokens: Joint ids `[n]`, int64.

        Returns:
            Logits `[n, Vk]`.

        Raises:
            ValueError: If all codebooks are there already.
        """
        if self._place > len(self._local.heads):
            raise ValueError(f"the local stage has no codebook after {self._place - 1}: start a new one per frame.")
        first = self._place == 0
        inputs = self._embed(tokens[:, None], max(0, self._place - 1))
        if first:
            inputs = torch.cat([self._hidden[:, None].to(inputs.dtype), inputs], dim=1)
        start, stop = self._place, self._place + inputs.shape[1]
        positions = torch.arange(start, stop, device=inputs.device).expand(len(inputs), -1)
        # All rows are at the same place, so no mask is needed: the first two see causally, a later one all there is.
        self._cache.advance(positions, used=stop)
        states = self._local.transformer(
            self._local.projection(inputs), is_causal=first, cache=self._cache, positions=positions
        )
        self._place = stop
        return self._local.heads[stop - 2](states[:, -1])
