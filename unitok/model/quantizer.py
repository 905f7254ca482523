"""Residual vector quantisation with moving-average codebooks: each codebook codes what the ones before it left over.

B batch, T frames, K codebooks, D code width, V codes in a codebook.
Source: SoundStream (arXiv:2107.03312), section III-C; dead codes are replaced by vectors of the batch, as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Codebook", "QuantizerOutput", "ResidualVectorQuantizer"]


@dataclass(frozen=True)
class QuantizerOutput:
    """What quantising gave."""

    vectors: Tensor
    """Quantised vectors `[B, T, D]`; gradients pass straight through to the input."""
    codes: Tensor
    """Codes `[B, K, T]`, int64."""
    coarsest: Tensor
    """What codebook 0 alone gives, `[B, T, D]`; gradients pass straight through to the input."""
    commitment: Tensor
    """Mean squared distance between residuals and their codes, scalar."""
    resets: Tensor
    """Codes of each codebook that were hardly used and start anew from vectors of the batch, `[K]`, int64."""
    codebook: Tensor | None = None
    """The same distance, to move the codes: of codebooks that are trained by gradients (DAC); None: they follow."""


class Codebook(nn.Module):
    """One codebook of `size` vectors that follow the mean of what is assigned to them; no gradient reaches it."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    ready: Tensor

    def __init__(self, size: int, dim: int, decay: float = 0.98, dead_fraction: float = 0.03):
        super().__init__()
        self.decay = decay
        self.dead_fraction = dead_fraction
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("sums", torch.zeros(size, dim))
        self.register_buffer("ready", torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Return the nearest code `[n]` of each row of `x [n, D]`."""
        return (self.vectors.square().sum(-1) - 2 * x @ self.vectors.t()).argmin(-1)

    @torch.no_grad()
    def update(self, x: Tensor, codes: Tensor) -> int:
        """Move codes towards the rows assigned to them; replace codes that are hardly used by rows drawn from `x`.

        Returns:
            How many were replaced.
        """
        counts = torch.bincount(codes, minlength=len(self.counts)).to(x.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, x)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.vectors.copy_(self.sums / self.counts.clamp_min(1e-5)[:, None])
        dead = self.counts < self.dead_fraction * self.counts.mean()
        n_dead = int(dead.sum())
        if n_dead:
            self.place(dead, x)
        return n_dead

    @torch.no_grad()
    def place(self, where: Tensor, x: Tensor) -> None:
        """Put rows drawn from `x [n, D]`, slightly jittered, at the codes `where [V]`."""
        rows = x[torch.randint(len(x), (int(where.sum()),), device=x.device)]
        rows = rows + 0.01 * x.std() * torch.randn_like(rows)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(rows, 0)
        mean_count = self.counts.mean().clamp_min(1e-2)
        self.vectors[where] = rows
        self.counts[where] = mean_count
        self.sums[where] = rows * mean_count

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Start from vectors of the first batch."""
        self.place(torch.ones_like(self.counts, dtype=torch.bool), x)
        self.ready.fill_(1.0)


class ResidualVectorQuantizer(nn.Module):
    """K codebooks in sequence."""

    def __init__(
        self, dim: int, n_codebooks: int, codebook_size: int, decay: float = 0.98, dead_fraction: float = 0.03
    ):
        """Make codebooks that wait for their first batch.

        Args:
            dim: D.
            n_codebooks: K.
            codebook_size: V.
            decay: How slowly the codes follow the means of what is assigned to them.
            dead_fraction: A code that is used less than this share of the mean use, by moving averages, starts anew.
        """
        super().__init__()
        self.codebooks: nn.ModuleList = nn.ModuleList(
            Codebook(codebook_size, dim, decay, dead_fraction) for _ in range(n_codebooks)
        )

    def forward(self, x: Tensor, n_codebooks: int | None = None) -> QuantizerOutput:
        """Quantise `x [B, T, D]` with the first `n_codebooks` codebooks; in training mode, also move the codebooks."""
        B, T, D = x.shape
        with torch.autocast(x.device.type, enabled=False):
            flat = x.float().reshape(B * T, D)
            residual, total = flat, torch.zeros_like(flat)
            codes, resets, commitment = [], [], flat.new_zeros(())
            for codebook in self._first(n_codebooks):
                frozen = residual.detach()
                if self.training and not codebook.ready:
                    codebook.initialise(frozen)
                code = codebook.encode(frozen)
                quantized = codebook.vectors[code]
                resets.append(codebook.update(frozen, code) if self.training else 0)
                commitment = commitment + (residual - quantized).square().mean()
                total = total + quantized
                residual = residual - quantized
                codes.append(code.view(B, T))
            coarsest = self._first(1)[0].vectors[codes[0].flatten()]
            vectors, coarsest = ((flat + (x - flat).detach()).view(B, T, D) for x in (total, coarsest))
        return QuantizerOutput(
            vectors, torch.stack(codes, dim=1), coarsest, commitment / len(codes), torch.tensor(resets)
        )

    @torch.no_grad()
    def start_anew(self) -> None:
        """Let the codebooks go on learning from their present vectors, as if each code had been used equally."""
        for codebook in self._first(None):
            codebook.counts.fill_(1.0)
            codebook.sums.copy_(codebook.vectors)

    def encode(self, x: Tensor, n_codebooks: int | None = None) -> Tensor:
        """Return codes `[B, K, T]` of `x [B, T, D]`."""
        B, T, D = x.shape
        residual, codes = x.float().reshape(B * T, D), []
        for codebook in self._first(n_codebooks):
            code = codebook.encode(residual)
            residual = residual - codebook.vectors[code]
            codes.append(code.view(B, T))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors `[B, T, D]` that codes `[B, K', T]` stand for."""
        return torch.stack([book.vectors[codes[:, k]] for k, book in enumerate(self._first(codes.shape[1]))]).sum(0)

    def _first(self, n: int | None) -> list[Codebook]:
        if n is not None and not 1 <= n <= len(self.codebooks):
            raise ValueError(
                f"n_codebooks={n} is not between 1 and {len(self.codebooks)}, the codebooks of this quantiser."
            )
        return list(self.codebooks)[:n]  # type: ignore[arg-type]
