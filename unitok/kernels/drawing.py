"""Ids drawn from logits in one native call: guide, leave out what is illegal, filter, draw.

Letters: n rows, R rows and their shadows, V ids.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from unitok.kernels.build import library
from unitok.kernels.stack import native_library, threads

__all__ = ["described_scales", "native_draw"]


class _Draws(Structure):
    _fields_ = [
        ("logits", c_void_p), ("legal", c_void_p), ("n_shadows", c_void_p), ("scales", c_void_p),
        ("filters", c_void_p), ("uniform", c_void_p), ("n", c_int64), ("V", c_int64), ("ids", c_void_p),
        ("log_probabilities", c_void_p),
    ]  # fmt: skip


def described_scales(scales: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Return how many scales of guidance each row has `[n]`, and all of them `[R - n]`, as the kernels take them."""
    n_shadows = torch.tensor([len(of_row) for of_row in scales], dtype=torch.int64)
    return n_shadows, torch.tensor([scale for of_row in scales for scale in of_row], dtype=torch.float32)


def native_draw(
    logits: Tensor, scales: Sequence[Sequence[float]], legal: Tensor | None, filters: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Return ids `[n]` and their log-probabilities `[n]`, as `kernels.draw` says; None where PyTorch has to."""
    if (logits.dtype, logits.device.type) != (torch.float32, "cpu") or library() is None:
        return None
    n, logits = len(scales), logits.contiguous()
    n_shadows, all_scales = described_scales(scales)
    legal = None if legal is None else legal.contiguous()
    ids, gained = torch.empty(n, dtype=torch.int64), torch.empty(n)
    draws = _Draws(
        logits.data_ptr(), None if legal is None else legal.data_ptr(), n_shadows.data_ptr(), all_scales.data_ptr(),
        filters.data_ptr(), uniform.data_ptr(), n, logits.shape[1], ids.data_ptr(), gained.data_ptr(),
    )  # fmt: skip
    native_library().run_draws(threads(), ctypes.byref(draws))
    return ids, gained
