"""Filling the codebooks Kc … K-1 of frames whose first Kc are known: of whole targets, or of a stretch of one.

Masked refinement takes several passes over the first of them, and keeps the surest codes of each. What is known of a
codebook before (in a stretch, the frames that were filled earlier) stays as it is.

Letters: n stretches, T frames, K codebooks, Kc AR codebooks, D width, Vk size of codebook k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unitok.errors import GenerationError
from unitok.generation.guidance import guide
from unitok.generation.sampling import filter_logits, sample
from unitok.model.lm import UnitokLM
from unitok.model.refiner import masked_counts
from unitok.tasks.settings import Sampling

__all__ = ["RefineWindow", "Stretch", "refine"]


class RefineWindow(NamedTuple):
    """How frames are refined while a target is still being made; the refiner was trained on whole ones."""

    chunk: int = 25
    """Frames filled at once."""
    ahead: int = 12
    """Frames after them that the refiner sees, with the codebooks below Kc alone."""
    past: int = 100
    """Frames before them that it sees, with all codebooks."""

    def check(self) -> None:
        """Refuse what makes no window.

        Raises:
            GenerationError: If it fills nothing, or sees fewer than no frames.
        """
        for name, least in (("chunk", 1), ("ahead", 0), ("past", 0)):
            if (value := getattr(self, name)) < least:
                raise GenerationError(f"refine window: {name} is {value} frames; it must be {least} or more.")


@dataclass(frozen=True)
class Stretch:
    """Frames to be filled."""

    grid: Tensor
    """Joint ids `[T, K]`, `<empty>` where a code is asked for."""
    states: Sequence[Tensor]
    """Global states of the frames `[T, D]`: of the row itself, then of its shadows."""
    scales: Sequence[float]
    """Guidance by each shadow."""
    sampling: Sampling
    """How codes are drawn in masked refinement; else the likeliest are taken."""
    generator: torch.Generator
    """Of those drawings."""


def refine(lm: UnitokLM, tokens_of_code: Sequence[Tensor], stretches: Sequence[Stretch]) -> list[Tensor]:
    """Return the grids `[T, K]` with all codebooks filled, on the CPU.

    Args:
        lm: The model; it has a refiner.
        tokens_of_code: Joint ids of the codes of each codebook, K times `[Vk]`.
        stretches: What to fill, side by side; each gets what it would get alone.
    """
    device, empty = tokens_of_code[0].device, lm.empty_id
    own = list(range(len(stretches))) + [i for i, one in enumerate(stretches) for _ in one.states[1:]]
    states = [one.states[0] for one in stretches] + [state for one in stretches for state in one.states[1:]]
    scales = [list(one.scales) for one in stretches]
    hidden = pad_sequence(states, batch_first=True)
    tokens = pad_sequence([one.grid for one in stretches], batch_first=True).to(device)
    lengths = torch.tensor([len(one.grid) for one in stretches], device=device)
    valid_mask = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
    for level in range(lm.n_coarse, lm.n_codebooks):
        masked = lm.config.refinement == "masked"
        n_passes = [one.sampling.refine_passes if masked and level == lm.n_coarse else 1 for one in stretches]
        asked = unknown = valid_mask & (tokens[:, :, level] == empty)
        for i in range(max(n_passes)):
            logits = lm.refine_logits(hidden, tokens[own], level, valid_mask[own])
            logits = guide(logits[: len(stretches)], logits[len(stretches) :], scales)
            n_asked = asked.sum(dim=1).tolist()
            codes, unknown = _surest(stretches, logits, unknown, level if masked else None, i, n_passes, n_asked)
            filled = valid_mask & ~unknown & (tokens[:, :, level] == empty)
            tokens[:, :, level] = torch.where(filled, tokens_of_code[level][codes], tokens[:, :, level])
    return [grid[:n] for grid, n in zip(tokens.cpu(), lengths.tolist(), strict=True)]


def _surest(
    stretches: Sequence[Stretch],
    logits: Tensor,
    unknown: Tensor,
    level: int | None,
    index: int,
    n_passes: Sequence[int],
    n_asked: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Choose codes `[n, T]` from logits `[n, T, Vk]`, and say where `[n, T]` they are to be left for a later pass.

    Args:
        stretches: Whose settings and random numbers are used.
        logits: Of one codebook.
        unknown: Frames that had no code before, `[n, T]`.
        level: The codebook, for its temperature; None takes the likeliest code everywhere.
        index: Number of this pass.
        n_passes: How many there are for each stretch.
        n_asked: Frames that had no code before the first pass.
    """
    if level is None:
        return logits.argmax(dim=-1), torch.zeros_like(unknown)
    codes, later = logits.argmax(dim=-1), torch.zeros_like(unknown)
    for i, one in enumerate(stretches):
        asked = unknown[i].nonzero()[:, 0]
        if not len(asked):
            continue
        temperature, top_k, top_p, min_p = one.sampling.filters(level)
        of_row = filter_logits(logits[i, asked], temperature, top_k, top_p, min_p)
        drawn = sample(of_row, [one.generator] * len(asked))
        codes[i, asked] = drawn
        n_left = masked_counts(n_asked[i], n_passes[i])[index]
        sureness = logits[i, asked].float().log_softmax(dim=-1).gather(1, drawn[:, None])[:, 0]
        if top_k != 1:  # noise that fades, so that not only the commonest codes come first
            uniform = torch.rand(len(asked), generator=one.generator).clamp(1e-6, 1 - 1e-6).to(sureness.device)
            sureness = sureness - temperature * (1 - (index + 1) / n_passes[i]) * (-uniform.log()).log()
        later[i, asked[sureness.argsort()[:n_left]]] = True
    return codes, later
