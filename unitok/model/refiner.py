"""The refiner: codebooks Kc … K-1 of a whole target, one codebook (level) at a pass, all frames at once.

It sees all frames in both directions: their global states, the codebooks known so far, and which level is asked for.

With `refinement: masked` it learns to fill any part of a codebook from the rest of it, and a codebook takes several
passes in generation: each keeps the codes that are surest, and the next one sees them (`masked_counts`).

Letters: B targets, T frames, D width of the global stage, K codebooks, Kc AR codebooks, Vk size of codebook k.
Sources: the non-autoregressive stage of VALL-E (arXiv:2301.02111), section 4.2.2, given states of the AR stage besides;
masked decoding of SoundStorm (arXiv:2305.09636), section 3.2, and MaskGIT (arXiv:2202.04200), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from unitok.model.attention import RMSNorm
from unitok.model.config import TransformerConfig
from unitok.model.transformer import Transformer, initialize

__all__ = ["Refiner", "masked_counts"]


class Refiner(nn.Module):
    """Projections, bidirectional Transformer over frames, one head per level."""

    def __init__(
        self, config: TransformerConfig, d_input: int, codebook_sizes: Mapping[int, int], masked: bool = False
    ) -> None:
        """Build for the levels that are the keys of `codebook_sizes` (level -> size)."""
        super().__init__()
        self.first_level = min(codebook_sizes)
        self.state_projection = nn.Linear(d_input, config.d_model, bias=False)
        # Embeddings are some fifty times smaller than states; unnormalised, they would drown in the sum.
        self.code_norm = RMSNorm(d_input, eps=config.norm_eps)
        self.code_projection = nn.Linear(d_input, config.d_model, bias=False)
        self.level_embedding = nn.Embedding(len(codebook_sizes), config.d_model)
        self.mask_embedding = nn.Embedding(len(codebook_sizes), config.d_model) if masked else None
        self.heads = nn.ModuleList(
            [nn.Linear(config.d_model, codebook_sizes[level], bias=False) for level in sorted(codebook_sizes)]
        )
        initialize(self)
        self.transformer = Transformer(config)

    def forward(
        self,
        hidden: Tensor,
        known: Tensor,
        level: int,
        valid_mask: Tensor | None = None,
        unknown_mask: Tensor | None = None,
    ) -> Tensor:
        """Return logits of one level.

        Args:
            hidden: Global states of the frames, `[B, T, D]`.
            known: Sum of the embeddings of codebooks 0 … level-1, and of `level` where it is known, `[B, T, D]`.
            level: Which codebook, Kc … K-1.
            valid_mask: `[B, T]`, False at padding; at least one frame of each row is valid. None means no padding.
            unknown_mask: `[B, T]`, where the code of `level` itself is not known; looked at in masked refinement only.

        Returns:
            Logits `[B, T, Vk]`.
        """
        index = level - self.first_level
        states = self.state_projection(hidden) + self.code_projection(self.code_norm(known))
        states = states + self.level_embedding.weight[index]
        if self.mask_embedding is not None and unknown_mask is not None:
            states = states + unknown_mask[..., None] * self.mask_embedding.weight[index]
        attn_mask = None if valid_mask is None else valid_mask[:, None, None, :]
        return self.heads[index](self.transformer(states, attn_mask=attn_mask))


def masked_counts(n_frames: int, n_passes: int) -> list[int]:
    """Return how many of T frames are still masked after each pass: a cosine, slow first, and none after the last."""
    shares = [math.cos(math.pi / 2 * i / n_passes) for i in range(1, n_passes)]
    return [*(math.floor(n_frames * share) for share in shares), 0]
