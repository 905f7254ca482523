"""A prior of attention in training: a target looks first at what is as far along in the aligned conditions as itself.

Text and speech run side by side, but a language model has to find that out, from a loss that its own past explains
almost as well. Near the diagonal it finds it in a fraction of the steps; then the prior fades out: generation has none.
Sources: guided attention (arXiv:1710.08969), a prior of alignment (arXiv:2108.10447) and its use in language models of
speech (arXiv:2406.17957). Letters: B batch, S positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unitok.sequence import SequenceBatch

__all__ = ["AlignmentPrior", "attention_bias"]

FLOOR = -6.0
"""Lowest bias, in nats: far from the diagonal attention is unlikely, never forbidden."""


@dataclass(frozen=True)
class AlignmentPrior:
    """How strong the prior is over the steps of a training, and how wide its diagonal."""

    hold_steps: int
    """Full strength until here."""
    end_steps: int
    """Gone from here on, after falling linearly."""
    width: float = 0.12
    """Standard deviation of the diagonal, as a share of the whole."""

    def __post_init__(self) -> None:
        if not 0 <= self.hold_steps <= self.end_steps:
            raise ValueError(
                f"alignment_prior: hold_steps={self.hold_steps}, end_steps={self.end_steps}, allowed: 0 or more, and "
                "hold_steps not above end_steps."
            )
        if self.width <= 0:
            raise ValueError(f"alignment_prior: width={self.width}, allowed: above 0.")

    def strength(self, step: int) -> float:
        """Return the factor of the prior at a step, 1 to 0."""
        if step < self.hold_steps:
            return 1.0
        return max(0.0, (self.end_steps - step) / max(1, self.end_steps - self.hold_steps))


def attention_bias(batch: SequenceBatch, width: float, strength: Tensor | float = 1.0) -> Tensor:
    """Return what to add to the logits of attention, `[B, S, S]`, 0 or less: queries, then keys.

    Args:
        batch: Sequences; only pairs of a target's content and an aligned condition's get a bias.
        width: Standard deviation of the diagonal, as a share of the whole.
        strength: 0 to 1; of all sequences, or of each, `[B]`.
    """
    aligned = batch.place >= 0
    pairs = (aligned & ~batch.prefix_mask)[:, :, None] & (aligned & batch.prefix_mask)[:, None, :]
    distance = (batch.place[:, :, None] - batch.place[:, None, :]) / width
    bias = (distance.square() / -2).clamp(min=FLOOR).masked_fill(~pairs, 0.0)
    return bias * torch.as_tensor(strength, device=bias.device).reshape(-1, 1, 1)
