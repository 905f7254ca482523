"""How much of each codebook is used.

B batch, K codebooks, T codec frames, V codes in a codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CodebookUsage", "Usage"]


class Usage(NamedTuple):
    """Of one codebook."""

    perplexity: float
    """Codes it seems to have: e to the entropy of how often each is used; V where all are used alike."""
    used: float
    """Share of its codes that were used at least once; of the frames, where there were fewer than codes."""


class CodebookUsage:
    """Counts codes until asked."""

    def __init__(self, n_codebooks: int, codebook_size: int):
        """Start at 0.

        Args:
            n_codebooks: K.
            codebook_size: V.
        """
        self.shape = (n_codebooks, codebook_size)
        self._clear()

    @torch.no_grad()
    def add(self, codes: Tensor, resets: Tensor | None = None) -> None:
        """Count `codes [B, K', T]`, those of the first K' codebooks, and the resets `[K']` that came with them."""
        K = codes.shape[1]
        if self.counts.device != codes.device:
            self.counts = self.counts.to(codes.device)
        rows = codes.transpose(0, 1).flatten(1) + self.shape[1] * torch.arange(K, device=codes.device)[:, None]
        counted = torch.bincount(rows.flatten(), minlength=K * self.shape[1]).view(K, self.shape[1])
        self.counts[:K] += counted
        if resets is not None:
            self.resets[:K] += resets

    def take(self, reduce: Callable[[Tensor], Tensor] = lambda counts: counts) -> tuple[list[Usage | None], int]:
        """Return the usage of each codebook (None: no code was seen) and all resets, and start again at 0.

        Args:
            reduce: Sums `[K, V]` over processes.
        """
        counts, resets = reduce(self.counts), int(self.resets.sum())
        self._clear()
        return [_usage(row) if int(row.sum()) else None for row in counts], resets

    def _clear(self) -> None:
        self.counts = torch.zeros(self.shape, dtype=torch.int64)
        self.resets = torch.zeros(self.shape[0], dtype=torch.int64)


def _usage(counts: Tensor) -> Usage:
    share = counts.double() / counts.sum()
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    return Usage(float(entropy.exp()), int((counts > 0).sum()) / min(len(counts), int(counts.sum())))
