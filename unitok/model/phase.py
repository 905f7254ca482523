"""Phases of an STFT from its magnitudes: no network has to learn them, and no code has to carry them.

Where magnitudes come from a Hann window, their slopes tell how phases go: the slope over frequency tells how a phase
turns from frame to frame (which frequency a bin really holds), the slope over time tells how it turns from bin to bin
(where in the frame a click is). Each frame goes on from the one before; where it is new, from bin to bin.
One pass forward in time with a state of one frame, so it can stream.

B batch, T frames, F bins.
Source: phase gradient heap integration (Průša, Balazs, Søndergaard, arXiv:1609.00291), here without its heap: the
louder of a bin's neighbours in the frame before leads by its weight.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["follow_phases", "integrate_phases", "phase_steps"]

GAUSSIAN = 0.25645
"""Time-frequency ratio of the Gaussian nearest to a Hann window of length 1; Průša et al., table I."""
STEEPEST = 6.0
"""Slopes beyond this, in nats over two bins or frames, are of no sound but of a floor."""
NEIGHBOURS = (0.25, 0.75, 1.0, 0.75, 0.25)
"""Weight with which bins of the frame before lead a bin: those of one partial, which a Hann window spreads over 4."""
ONSET_WEIGHT = 0.2
"""Weight of a phase by itself beside one that goes on, at equal magnitude."""


def integrate_phases(log_magnitude: Tensor, hop: int) -> Tensor:
    """Return a spectrum with the given magnitudes and phases that fit them.

    Args:
        log_magnitude: Natural logarithm of the magnitudes of an STFT of window and FFT length `2 (F - 1)`, `[B, T, F]`.
        hop: Samples from frame to frame, a quarter of the window or less.

    Returns:
        Complex spectra `[B, T, F]`, of frames that begin at their first sample (as `torch.fft.irfft` expects).
    """
    steps = phase_steps(log_magnitude, hop)
    return follow_phases(*steps)[0]


def phase_steps(log_magnitude: Tensor, hop: int) -> tuple[Tensor, Tensor]:
    """Return what `follow_phases` goes by; of a frame it depends on the frame and its two neighbours.

    Returns:
        How each frame's phases turn from the frame before, and each frame by itself, complex `[B, T, F]`: its
        magnitudes, with phases that go from bin to bin.
    """
    bins = log_magnitude.shape[-1]
    window = 2 * (bins - 1)
    spread = GAUSSIAN * window**2
    number = torch.arange(bins, device=log_magnitude.device)
    over_bins, over_frames = _slope(log_magnitude, dim=-1), _slope(log_magnitude, dim=-2)
    turn = hop * window / (2 * spread) * over_bins + 2 * math.pi * hop / window * number
    turns = _unit(_midway(turn, dim=-2))
    alone = _unit(_midway(-spread / (2 * hop * window) * over_frames, dim=-1).cumsum(dim=-1))
    return turns, log_magnitude.exp() * alone


def follow_phases(turns: Tensor, alone: Tensor, frame: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Let each frame go on from the one before.

    Args:
        turns: How phases turn, `[B, T, F]`, from `phase_steps`.
        alone: Frames by themselves, `[B, T, F]`, from `phase_steps`.
        frame: The state after the frame before the first, `[B, F]`; None where there is none.

    Returns:
        Complex spectra `[B, T, F]`, and the state after the last frame.
    """
    magnitude = alone.abs()
    weights = magnitude.new_tensor(NEIGHBOURS)
    frame, frames = torch.zeros_like(alone[:, 0]) if frame is None else frame, []
    for t in range(alone.shape[1]):
        lead = _smooth(frame * turns[:, t], weights) + ONSET_WEIGHT * alone[:, t]
        frame = magnitude[:, t] * lead / lead.abs().clamp_min(1e-9)
        frames.append(frame)
    # So far time 0 was the middle of each frame, where a partial's bins all have the same phase.
    number = torch.arange(alone.shape[-1], device=alone.device)
    return torch.stack(frames, dim=1) * (1 - 2 * (number % 2)), frame


def _slope(x: Tensor, dim: int) -> Tensor:
    """Return the difference between both neighbours along `dim`."""
    padded = torch.cat([x.narrow(dim, 0, 1), x, x.narrow(dim, -1, 1)], dim=dim)
    n = x.shape[dim]
    return (padded.narrow(dim, 2, n) - padded.narrow(dim, 0, n)).clamp(-STEEPEST, STEEPEST)


def _midway(x: Tensor, dim: int) -> Tensor:
    """Return the mean of each entry and the one before: a step between two follows the slope of both."""
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, x.shape[dim] - 1)], dim=dim)
    return (x + before) / 2


def _unit(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)


def _smooth(frame: Tensor, weights: Tensor) -> Tensor:
    """Sum each bin's neighbours `[B, F]`, weighted."""
    reach = len(weights) // 2
    padded = F.pad(frame, (reach, reach))
    return sum((w * padded[:, i : i + frame.shape[1]] for i, w in enumerate(weights)), torch.zeros_like(frame))
