"""The local stage: codebooks 1 … Kc-1 of one frame, one after the other, from the global state that chose codebook 0.

    place      0         1        2       …   Kc-1
    input    state     E[c0]    E[c1]     …   E[c_{Kc-2}]      each through one projection D -> D_local
    predicts   -         c1       c2      …   c_{Kc-1}         one head per codebook

All places share one Transformer, or each has its own (`local_weights: per_codebook`): they meet in attention, where
the queries of a place read the keys and values that the Transformers of earlier places made.

Letters: n frames, D width of the global stage, Kc AR codebooks, Vk size of codebook k.
Sources: the depth decoder of CSM (`CsmDepthDecoderForCausalLM` in transformers), whose weights give the same logits;
weights per place: Moshi (arXiv:2410.00037), section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unitok.model.cache import GrowingCache, StaticCache
from unitok.model.config import TransformerConfig
from unitok.model.transformer import Transformer, initialize

__all__ = ["LocalStage", "LocalTransformer", "PlaceTransformers"]


class PlaceTransformers(nn.Module):
    """A Transformer of its own for each place, called like one for all of them."""

    def __init__(self, config: TransformerConfig, n_places: int) -> None:
        super().__init__()
        self.config = config
        self.places = nn.ModuleList([Transformer(config) for _ in range(n_places)])

    def forward(
        self,
        x: Tensor,
        *,
        is_causal: bool = True,
        cache: StaticCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Run places one after the other, `[n, P, D]` -> `[n, P, D]`; always causal.

        Args:
            x: Inputs of places that follow each other.
            is_causal: As `Transformer.forward` has it; places cannot see later ones.
            cache: Keys and values of the places before, `advance`d to these; None: `x` begins with the first place.
            positions: Numbers of the places, `[n, P]`, where there is a cache.
        """
        n_new = x.shape[1]
        first = 0 if cache is None else cache.used - n_new
        if positions is None:
            positions = torch.arange(n_new, device=x.device)[None]
        seen = GrowingCache(self.config.n_layers) if cache is None else cache
        states = []
        for i in range(n_new):
            place = positions[:, i : i + 1]
            attn_mask = seen.advance(place, used=first + i + 1)
            states.append(self.places[first + i](x[:, i : i + 1], attn_mask=attn_mask, cache=seen, positions=place))
        return torch.cat(states, dim=1)

    def new_cache(self, batch_size: int, max_positions: int) -> StaticCache:
        """Return an empty cache that all places share."""
        return self.places[0].new_cache(batch_size, max_positions)  # type: ignore[operator]


class LocalTransformer(nn.Module):
    """Projection, causal Transformer over places, heads."""

    def __init__(
        self, config: TransformerConfig, d_input: int, codebook_sizes: Sequence[int], per_place: bool = False
    ) -> None:
        """Build for codebooks 1 … Kc-1, whose sizes are `codebook_sizes`; `per_place`: with weights for each place."""
        super().__init__()
        self.projection = nn.Linear(d_input, config.d_model, bias=False)
        self.heads = nn.ModuleList([nn.Linear(config.d_model, size, bias=False) for size in codebook_sizes])
        initialize(self)
        self.transformer: Transformer | PlaceTransformers = (
            PlaceTransformers(config, len(codebook_sizes) + 1) if per_place else Transformer(config)
        )

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
