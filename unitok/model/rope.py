"""Rotary position embedding in Hugging Face's layout, so that Llama-like weights copy over unchanged.

A head's width E is two halves; pair i is (x[i], x[i + E/2]), turned by the angle position * theta**(-2i/E).
Letters: B batch, S positions, H heads, E width of a head.
Source: RoFormer (arXiv:2104.09864), section 3.2; halves as in transformers' `rotate_half`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unitok.model.config import RopeScaling

__all__ = ["rope_angles", "rotate"]


def rope_angles(
    positions: Tensor, head_dim: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `rotate` multiplies with at every position.

    Computed at each forward pass, once for all layers: a table kept as a buffer would lose its precision in
    `model.bfloat16()`.

    Args:
        positions: `[B, S]` or `[1, S]`, integer.
        head_dim: Width of a head, even.
        theta: Base of the angles.
        scaling: Stretching of slow waves; None for none.

    Returns:
        Cosines, and sines that are negated in the first half; `[B, 1, S, E]`, float32, the 1 is for the heads.
    """
    frequencies = theta ** (torch.arange(0, head_dim, 2, device=positions.device) / -head_dim)
    if scaling is not None:
        frequencies = _stretched(frequencies, scaling)
    angles = positions[:, None, :, None] * frequencies  # [B, 1, S, E/2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn `[B, H, S, E]` by the angles of `rope_angles`; keeps the type of `x`."""
    swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return x * cos.to(x.dtype) + swapped * sin.to(x.dtype)


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow the slow waves down, as Llama 3 does.

    Source: `_compute_llama3_parameters` in transformers' modeling_rope_utils.py.
    """
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # over the original training length
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - scaling.low_freq_factor) / span).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / scaling.factor
