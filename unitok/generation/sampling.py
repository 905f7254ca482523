"""Drawing ids from logits: temperature, top-k, top-p, min-p, greedy, against loops; one random generator per row.

Pure functions over `[B, V]` logits; what is legal was decided before (`constraints.py` sets illegal ids to -inf).
Each row takes one number from its own generator per id drawn (two, where a repetition is drawn anew), so a row's draws
never depend on its neighbours.

Letters: B rows (batch), V ids to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["draw", "filter_logits", "sample", "sample_by", "uniform_numbers"]


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
    # Asked where the settings lie, mostly on the CPU: a GPU need not be waited for.
    widest = min(int(torch.as_tensor(top_k).max()), V)
    narrows, has_floor = bool((torch.as_tensor(top_p) < 1).any()), bool((torch.as_tensor(min_p) > 0).any())
    top_k, top_p = _column(top_k, logits, torch.long), _column(top_p, logits, torch.float32)
    keep = torch.ones_like(scaled, dtype=torch.bool)
    if widest > 0:
        largest = scaled.topk(widest, dim=-1).values
        smallest_kept = largest.gather(-1, (top_k.clamp(1, widest) - 1).expand(B, 1))
        keep = (scaled >= smallest_kept) | (top_k == 0) | (top_k >= V)
        first = torch.zeros_like(keep).scatter_(-1, scaled.argmax(dim=-1, keepdim=True), True)
        keep = torch.where(top_k == 1, first, keep)
    if narrows:
        # After top-k, as everyone does: the nucleus is that of the distribution that is left.
        keep = keep & _nucleus(scaled.masked_fill(~keep, -torch.inf), top_p)
    if has_floor:
        min_p = _column(min_p, logits, torch.float32)
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
    return sample_by(logits, uniform_numbers(generators).to(logits.device))


def uniform_numbers(generators: Sequence[torch.Generator]) -> Tensor:
    """Return a number from [0, 1) of each generator, `[B]`, float32, on the CPU."""
    return torch.stack([torch.rand((), generator=generator, dtype=torch.float32) for generator in generators])


def draw(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, uniform: Tensor) -> Tensor:
    """Filter and draw as `filter_logits` and `sample` do, by the same operations whatever the settings are.

    Args:
        logits: `[B, V]`.
        temperature: `[B]`, as the settings that follow.
        top_k: Whole numbers in any type.
        top_p: As `filter_logits` takes it.
        min_p: As `filter_logits` takes it.
        uniform: A number from [0, 1) for each row, `[B]`.

    Returns:
        Ids `[B]`, int64.
    """
    V = logits.shape[1]
    top_k, top_p, min_p = top_k[:, None].long(), top_p[:, None], min_p[:, None]
    scaled = logits.float() / temperature[:, None]
    falling, order = scaled.sort(dim=-1, descending=True, stable=True)
    smallest_kept = falling.gather(1, torch.where(top_k == 0, V, top_k).clamp(max=V) - 1)
    rank = torch.arange(V, device=logits.device)
    kept = torch.where(top_k == 1, rank == 0, falling >= smallest_kept)
    kept &= _reaching(falling.masked_fill(~kept, -torch.inf), top_p)
    kept &= falling >= falling[:, :1] + min_p.log()
    return sample_by(scaled.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), -torch.inf), uniform)


def sample_by(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw as `sample` does, by a number from [0, 1) for each row `[B]`, on the device of the logits.

    Returns:
        Ids `[B]`, int64.
    """
    cumulative = logits.float().softmax(dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:]
    # right=True: the first id whose cumulative probability exceeds the draw, which can never be one of probability 0.
    drawn = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last_possible = (cumulative < total).sum(dim=-1, keepdim=True)  # rounding may put the draw on the total itself
    return torch.minimum(drawn, last_possible).squeeze(-1)


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """Return a mask `[B, V]` of the most likely ids that together reach `top_p` `[B, 1]`."""
    falling, order = logits.sort(dim=-1, descending=True, stable=True)
    kept = _reaching(falling, top_p)
    return torch.zeros_like(kept).scatter_(-1, order, kept)


def _reaching(falling: Tensor, top_p: Tensor) -> Tensor:
    """Return a mask `[B, V]` of the first ids, of logits from the largest on, that together reach `top_p` `[B, 1]`."""
    probabilities = falling.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    return (before < top_p) | (top_p >= 1)


def _column(value: float | Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a setting as `[B, 1]` (or `[1, 1]`) on the logits' device."""
    return torch.as_tensor(value, dtype=dtype, device=like.device).reshape(-1, 1)
