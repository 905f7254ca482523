"""Drawing ids from logits: temperature, top-k, top-p, min-p, greedy, against loops; one random generator per row.

Pure functions over `[B, V]` logits; what is legal was decided before (`constraints.py` sets illegal ids to -inf).
Each row takes one number from its own generator per id drawn (two, where a repetition is drawn anew), so a row's draws
never depend on its neighbours.

Letters: B rows (batch), V ids to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unitok.errors import GenerationError

__all__ = ["Filters", "Sampling", "filter_logits", "sample"]


class Filters(NamedTuple):
    """What `filter_logits` takes, each one number or one per row `[B]`."""

    temperature: float | Tensor
    top_k: int | Tensor
    top_p: float | Tensor
    min_p: float | Tensor


@dataclass(frozen=True)
class Sampling:
    """How the ids of one row are drawn."""

    temperature: float = 0.8
    """Divides the logits: below 1 is safer, above 1 is wilder; 0 is the same as `greedy`."""
    top_k: int = 50
    """Only the k most likely ids are drawn; 0 means all."""
    top_p: float = 1.0
    """Only the most likely ids that together hold this much probability are drawn; 1 means all."""
    greedy: bool = False
    """Always take the most likely id."""
    min_p: float = 0.0
    """Only ids at least this likely, relative to the likeliest, are drawn; 0 means all (arXiv:2407.01082)."""
    repetition_window: int = 0
    """Of audio and semantic tokens: look this many positions back for repetitions; 0 is off (`is_repeated`)."""
    repetition_threshold: float = 0.1
    """Share of the window that an id may fill before it counts as repeated."""
    codebook_temperatures: tuple[float, ...] = ()
    """Temperatures of codebooks 0, 1, … of audio in place of `temperature`; the last stands for all after it."""
    refine_passes: int = 16
    """Passes of a refiner with masked refinement over its first codebook; the others take one (arXiv:2305.09636)."""

    beams: int = 1
    """Of a task that makes one text: follow so many and take the likeliest (beam search); 1 draws."""
    length_penalty: float = 1.0
    """Texts of a beam search are compared by log-probability / length ** length_penalty."""

    def __post_init__(self) -> None:
        """Check types and ranges (settings come from manifests too).

        Raises:
            GenerationError: If a setting cannot be used.
        """
        for name, kind, wanted in (
            ("temperature", (int, float), "a number"),
            ("top_k", int, "a whole number"),
            ("top_p", (int, float), "a number"),
            ("min_p", (int, float), "a number"),
            ("repetition_window", int, "a whole number"),
            ("repetition_threshold", (int, float), "a number"),
            ("refine_passes", int, "a whole number"),
            ("beams", int, "a whole number"),
            ("length_penalty", (int, float), "a number"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise GenerationError(f"{name} is {value!r}; it must be {wanted}.")
        if not isinstance(self.codebook_temperatures, (list, tuple)):
            raise GenerationError(f"codebook_temperatures is {self.codebook_temperatures!r}; it must be a list.")
        object.__setattr__(self, "codebook_temperatures", tuple(self.codebook_temperatures))
        for temperature in (self.temperature, *self.codebook_temperatures):
            if not isinstance(temperature, (int, float)) or not 0 <= temperature < float("inf"):
                raise GenerationError(f"temperature is {temperature}; it must be 0 (greedy) or more, for example 0.8.")
        if self.top_k < 0:
            raise GenerationError(f"top_k is {self.top_k}; it must be 0 (all ids) or more, for example 50.")
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}; it must be above 0 and at most 1 (all ids).")
        if not 0 <= self.min_p <= 1:
            raise GenerationError(f"min_p is {self.min_p}; it must be 0 (all ids) to 1, for example 0.05.")
        if self.beams < 1:
            raise GenerationError(f"beams is {self.beams}; it must be 1 (no beam search) or more, for example 4.")
        if self.refine_passes < 1:
            raise GenerationError(f"refine_passes is {self.refine_passes}; it must be 1 or more, for example 16.")
        if self.repetition_window < 0:
            raise GenerationError(f"repetition_window is {self.repetition_window}; it must be 0 (off) or more.")
        if not 0 <= self.repetition_threshold <= 1:
            raise GenerationError(f"repetition_threshold is {self.repetition_threshold}; it must be 0 to 1.")

    def filters(self, codebook: int | None = None) -> Filters:
        """Return what `filter_logits` takes, with greedy written as top-1; of a codebook, with its own temperature."""
        temperature = self.temperature
        if codebook is not None and self.codebook_temperatures:
            temperature = self.codebook_temperatures[min(codebook, len(self.codebook_temperatures) - 1)]
        if self.greedy or temperature == 0:
            return Filters(1.0, 1, 1.0, 0.0)
        return Filters(temperature, self.top_k, self.top_p, self.min_p)

    def is_repeated(self, drawn: int, past: Sequence[int]) -> bool:
        """Is an id drawn too often of late, so that it has to be drawn anew, from all ids at this temperature?

        A loop is left that way, and what is likely in itself may still come again. Greedy rows take what they take.

        Args:
            drawn: The id.
            past: Those before it.

        Source: repetition-aware sampling of VALL-E 2 (arXiv:2406.05370), section 3.2.
        """
        window = self.repetition_window
        if not window or len(past) < window or self.filters().top_k == 1:
            return False
        return list(past[-window:]).count(drawn) / window > self.repetition_threshold


def filter_logits(
    logits: Tensor,
    temperature: float | Tensor,
    top_k: int | Tensor = 0,
    top_p: float | Tensor = 1.0,
    min_p: float | Tensor = 0.0,
) -> Tensor:
    """Scale logits and set those that may not be drawn to -inf.

    Args:
        logits: `[B, V]`, -inf where an id is illegal.
        temperature: Divides the logits; above 0. One number, or one per row `[B]`.
        top_k: Keep the k largest (all that tie with the k-th); 0 keeps all. With 1 exactly one is kept, the first.
        top_p: Keep the smallest set of most likely ids whose probability reaches `top_p`; 1 keeps all.
        min_p: Keep ids whose probability is at least this share of the likeliest one's; 0 keeps all.

    Returns:
        Logits `[B, V]`, float32. At least one id per row stays.

    Source: top-p is nucleus sampling (arXiv:1904.09751), section 3.1.
    """
    B, V = logits.shape
    scaled = logits.float() / _column(temperature, logits, torch.float32)
    top_k, top_p = _column(top_k, logits, torch.long), _column(top_p, logits, torch.float32)
    keep = torch.ones_like(scaled, dtype=torch.bool)
    widest = min(int(top_k.max()), V)
    if widest > 0:
        largest, order = scaled.topk(widest, dim=-1)
        smallest_kept = largest.gather(-1, (top_k.clamp(1, widest) - 1).expand(B, 1))
        keep = (scaled >= smallest_kept) | (top_k == 0) | (top_k >= V)
        first = torch.zeros_like(keep).scatter_(-1, order[:, :1], True)
        keep = torch.where(top_k == 1, first, keep)
    if bool((top_p < 1).any()):
        # After top-k, as everyone does: the nucleus is that of the distribution that is left.
        keep = keep & _nucleus(scaled.masked_fill(~keep, -torch.inf), top_p)
    min_p = _column(min_p, logits, torch.float32)
    if bool((min_p > 0).any()):
        keep = keep & (scaled >= scaled.amax(dim=-1, keepdim=True) + min_p.log())
    return scaled.masked_fill(~keep, -torch.inf)


def sample(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one id per row from the softmax of `logits`.

    Args:
        logits: `[B, V]`, as returned by `filter_logits`.
        generators: One per row, on the CPU whatever the logits' device, so that a seed means the same everywhere.

    Returns:
        Ids `[B]`, int64.
    """
    uniform = torch.stack([torch.rand((), generator=generator) for generator in generators]).to(logits.device)
    cumulative = logits.float().softmax(dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:]
    # right=True: the first id whose cumulative probability exceeds the draw, which can never be one of probability 0.
    drawn = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last_possible = (cumulative < total).sum(dim=-1, keepdim=True)  # rounding may put the draw on the total itself
    return torch.minimum(drawn, last_possible).squeeze(-1)


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Return a mask `[B, V]` of the most likely ids that together reach `top_p` `[B, 1]`."""
    sorted_logits, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = sorted_logits.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = (before < top_p) | (top_p >= 1)
    return torch.zeros_like(kept).scatter_(-1, order, kept)


def _column(value: float | Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a setting as `[B, 1]` (or `[1, 1]`) on the logits' device."""
    return torch.as_tensor(value, dtype=dtype, device=like.device).reshape(-1, 1)
