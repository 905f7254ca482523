"""Native code for generation on CPUs: of the wheel, or compiled on first use where there is a compiler; never needed.

At a few positions PyTorch's products read weights at about half the speed of the memory; these read them at all of it,
and do a whole Transformer stack in one call. Importing this imports and compiles nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unitok.kernels.frame import NativeFrame
    from unitok.model.lm import UnitokLM

__all__ = [
    "FEW_POSITIONS", "MANY_POSITIONS", "attach", "draw", "linear", "native_frame", "origin", "wanted", "why_not",
    "without",
]  # fmt: skip

FEW_POSITIONS = 16
"""At more positions than these the arithmetic takes the time, and PyTorch does it better."""
MANY_POSITIONS = 512
"""The same of weights of 8 and 4 bits, which PyTorch would have to widen first."""

_wanted = True


@contextmanager
def without() -> Iterator[None]:
    """Leave everything to PyTorch, to compare with it."""
    global _wanted
    before, _wanted = _wanted, False
    try:
        yield
    finally:
        _wanted = before


def wanted() -> bool:
    """May anything but plain PyTorch be used? Not inside `without`, nor with `UNITOK_KERNELS=0` set."""
    return _wanted and os.environ.get("UNITOK_KERNELS") != "0"


def attach(module: nn.Module) -> bool:
    """Let the Transformers inside a module use native code where they can, with the weights as they are now.

    Returns:
        Whether any does.
    """
    from unitok.kernels.stack import attach_stacks

    return attach_stacks(module, _wanted)


def native_frame(lm: UnitokLM, tokens_of_code: Sequence[Tensor]) -> NativeFrame | None:
    """Return what draws the codebooks of a frame natively, after `attach`; None where PyTorch has to.

    Args:
        lm: The model.
        tokens_of_code: Joint ids of the codes of each codebook, K times `[Vk]`.
    """
    from unitok.kernels.frame import native_frame

    return native_frame(lm, tokens_of_code)


def draw(
    logits: Tensor, scales: Sequence[Sequence[float]], legal: Tensor | None, filters: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Draw one id for each row, as `generation.drawing.choose` does; None where there is no native code for it.

    Args:
        logits: Of the rows, then of the first one's shadows, the second's …, `[R, V]`.
        scales: Of guidance, for each row one for each of its shadows.
        legal: What may be drawn, bool `[n, V]`; None means all.
        filters: Temperature, top-k, top-p, min-p of each row, `[n, 4]`, float32.
        uniform: A number from [0, 1) for each row, `[n]`, float32.

    Returns:
        Ids `[n]`, int64, and their log-probabilities `[n]`, NaN where the model said NaN.
    """
    from unitok.kernels.drawing import native_draw

    return native_draw(logits, scales, legal, filters, uniform) if wanted() else None


def linear(weight: Tensor, scale: Tensor | None, bias: Tensor | None, x: Tensor) -> Tensor | None:
    """Return `x` `[…, N]` times a matrix `[R, N]`; None where there is no native code for it."""
    from unitok.kernels.stack import native_linear

    if not _wanted:
        return None
    return native_linear(weight, scale, bias, x)


def why_not() -> str:
    """Return why there is no native code; empty where there is."""
    from unitok.kernels.build import why_not

    return why_not()


def origin() -> str:
    """Return where the native code comes from, in words; empty where there is none."""
    from unitok.kernels.build import origin

    return origin()
