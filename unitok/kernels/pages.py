"""Weights side by side in large pages of memory, in the order in which they are read.

What reads weights at the speed of the memory waits at the end of each page for the next one to be found; of 4 KiB pages
there are hundreds in each matrix, of 2 MiB pages a few in a model.
"""

from __future__ import annotations

import mmap

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["lay_out"]

PAGE = 2 << 20
LINE = 64
"""Bytes that weights begin at multiples of."""
LEAST = 4 * PAGE
"""Bytes of a model that is worth it."""


def lay_out(module: nn.Module) -> bool:
    """Move the weights of a module on the CPU next to one another, into large pages; values stay as they are.

    Returns:
        Whether they were moved: they are not where there are few, some are elsewhere, or the system has no such pages.
    """
    weights = list({tensor.data_ptr(): tensor for tensor in (*module.parameters(), *module.buffers())}.values())
    n_bytes = sum(_room(weight) for weight in weights)
    if not hasattr(mmap, "MADV_HUGEPAGE") or n_bytes < LEAST or any(weight.device.type != "cpu" for weight in weights):
        return False
    try:
        memory = mmap.mmap(-1, n_bytes + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        whole = np.frombuffer(memory, np.uint8)
        start = -whole.ctypes.data % PAGE
        memory.madvise(mmap.MADV_HUGEPAGE, start, n_bytes // PAGE * PAGE)
    except OSError:  # there is no room for both, or the kernel was built without such pages
        return False
    for weight in weights:
        if weight.numel():
            weight.data = _copied(weight.data, whole[start : start + weight.numel() * weight.element_size()])
            start += _room(weight)
    return True


def _room(weight: Tensor) -> int:
    return -(-weight.numel() * weight.element_size() // LINE) * LINE


def _copied(weight: Tensor, place: np.ndarray) -> Tensor:
    # From numpy each has a storage of its own, so that saving one does not save all.
    moved = torch.from_numpy(place).view(weight.dtype).view(weight.shape)
    return moved.copy_(weight)
