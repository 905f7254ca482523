"""The local stage of a frame in one native call: embed, project, run, guide, draw, codebook by codebook.

Letters: n rows, R rows and their shadows, D width, Kc AR codebooks, E width of a head.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_int64, c_void_p
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unitok.kernels.drawing import described_scales
from unitok.kernels.stack import ONE_AT_A_TIME, PARTS, Linear, NativeStack, Stack, described, native_library, threads

if TYPE_CHECKING:
    from unitok.model.lm import UnitokLM

__all__ = ["NativeFrame", "native_frame"]

MOST_STATES = 16
"""At more rows and shadows the arithmetic takes the time, and PyTorch does it better."""


class _Frame(Structure):
    _fields_ = [
        ("stack", POINTER(Stack)), ("projection", Linear), ("heads", POINTER(Linear)), ("embedding", c_void_p),
        ("tokens_of_code", POINTER(c_void_p)), ("cos", c_void_p), ("sin", c_void_p), ("n_codebooks", c_int64),
        ("width", c_int64), ("n_rows", c_int64), ("n_states", c_int64), ("n_shadows", c_void_p), ("scales", c_void_p),
        ("hidden", c_void_p), ("filters", c_void_p), ("uniform", c_void_p), ("tokens", c_void_p),
        ("log_probabilities", c_void_p),
    ]  # fmt: skip


class NativeFrame:
    """The weights of a model's local stage, where they lie now."""

    def __init__(self, stack: NativeStack, lm: UnitokLM, tokens_of_code: Sequence[Tensor]) -> None:
        """Note the addresses.

        Args:
            stack: Of the local Transformer.
            lm: The model.
            tokens_of_code: Joint ids of the codes of each codebook, K times `[Vk]`, int64, on the CPU.
        """
        assert lm.local is not None, "native_frame asks before"
        self._stack, self._n_codebooks = stack, lm.n_coarse
        self._kept = [table.contiguous() for table in tokens_of_code[1 : lm.n_coarse]], lm.embedding.weight.detach()
        self._heads = (Linear * len(lm.local.heads))(*(described(head) for head in lm.local.heads))
        self._tables = (c_void_p * len(self._kept[0]))(*(table.data_ptr() for table in self._kept[0]))
        self._projection = described(lm.local.projection)
        self._transformer = lm.local.transformer

    def takes(self, hidden: Tensor) -> bool:
        """Are the states `[R, D]` few, and of the type and where the kernels read them?"""
        return hidden.dtype == torch.float32 and hidden.device.type == "cpu" and len(hidden) <= MOST_STATES

    def run(
        self,
        hidden: Tensor,
        first: Tensor,
        scales: Sequence[Sequence[float]],
        filters: Tensor,
        uniform: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Draw codebooks 1 … Kc-1 of frames.

        Args:
            hidden: States that chose codebook 0, `[R, D]`: of the rows, then of the first one's shadows, the second's …
            first: Joint ids of codebook 0, `[n]`.
            scales: Of guidance, for each row one for each of its shadows.
            filters: Temperature, top-k, top-p, min-p of each codebook and row, `[Kc-1, n, 4]`, float32.
            uniform: A number from [0, 1) for each, `[Kc-1, n]`, float32.

        Returns:
            Tokens `[n, Kc]`, and the log-probability of each drawn code, `[Kc-1, n]`, NaN where the model said NaN.
        """
        n, Kc = len(first), self._n_codebooks
        tokens = torch.zeros(n, Kc, dtype=torch.int64)
        tokens[:, 0] = first
        gained = torch.empty(Kc - 1, n)
        n_shadows, all_scales = described_scales(scales)
        hidden = hidden.contiguous()
        cache = self._transformer.new_cache(len(hidden), Kc)
        cos, sin = self._stack.angles(Kc)
        with ONE_AT_A_TIME:
            frame = _Frame(
                self._stack.described(cache), self._projection, self._heads, self._kept[1].data_ptr(), self._tables,
                cos.data_ptr(), sin.data_ptr(), Kc, hidden.shape[1], n, len(hidden), n_shadows.data_ptr(),
                all_scales.data_ptr(), hidden.data_ptr(), filters.data_ptr(), uniform.data_ptr(), tokens.data_ptr(),
                gained.data_ptr(),
            )  # fmt: skip
            native_library().run_frame(threads(), ctypes.byref(frame))
        return tokens, gained


def native_frame(lm: UnitokLM, tokens_of_code: Sequence[Tensor]) -> NativeFrame | None:
    """Return the local stage of a model whose Transformers have native code already; None where it has none.

    A class of models that computes its local stage in another way keeps it.
    """
    from unitok.model.lm import UnitokLM

    own = type(lm).local_stage is not UnitokLM.local_stage or type(lm).embed_slot is not UnitokLM.embed_slot
    if lm.local is None or lm.slot_projection is not None or own:
        return None
    stack: NativeStack | None = getattr(lm.local.transformer, "native", None)
    layers, table = [lm.local.projection, *lm.local.heads], lm.embedding.weight
    if stack is None or not all(type(layer).__name__ in PARTS and layer.weight.is_contiguous() for layer in layers):
        return None
    if (table.dtype, table.device.type, table.is_contiguous()) != (torch.float32, "cpu", True):
        return None
    return NativeFrame(stack, lm, tokens_of_code)
