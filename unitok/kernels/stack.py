"""What the kernels of `native/` are given: Transformer stacks and matrices, by the addresses of their weights.

Letters: B rows of the cache, s new positions of each, M = B s, D width, E width of a head, R and N of a matrix.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache, lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitok.kernels import FEW_POSITIONS, MANY_POSITIONS
from unitok.kernels.build import library
from unitok.model.rope import rope_angles

if TYPE_CHECKING:
    from unitok.model.cache import StaticCache
    from unitok.model.transformer import Transformer

__all__ = ["Linear", "NativeStack", "Stack", "attach_stacks", "described", "native_library", "native_linear", "threads"]

ONE_AT_A_TIME = Lock()
"""The kernels' threads serve one call; Python's own may make several."""
KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
"""By the type of a weight tensor; those of 4 bits lie in bytes, two in each."""


class Linear(Structure):
    """A matrix."""

    _fields_ = [
        ("weight", c_void_p), ("scale", c_void_p), ("bias", c_void_p),
        ("rows", c_int32), ("cols", c_int32), ("kind", c_int32),
    ]  # fmt: skip


MATRICES = {
    "q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj", "out": "attention.o_proj",
    "gate": "feed_forward.gate_proj", "up": "feed_forward.up_proj", "down": "feed_forward.down_proj",
}  # fmt: skip
NORMS = {
    "attention_norm": "attention_norm", "q_norm": "attention.q_norm", "k_norm": "attention.k_norm",
    "feed_forward_norm": "feed_forward_norm",
}  # fmt: skip


PARTS = ("Linear", "CompactLinear", "RMSNorm", "Identity")
"""Layers of a Transformer that the kernels know; with others (adapters, other norms) it stays with PyTorch."""


class _Layer(Structure):
    _fields_ = [
        *((name, c_void_p) for name in NORMS),
        *((name, Linear) for name in MATRICES),
        ("keys", c_void_p),
        ("values", c_void_p),
    ]


class Stack(Structure):
    """A Transformer."""

    _fields_ = [
        ("layers", POINTER(_Layer)), ("norm", c_void_p),
        ("n_layers", c_int32), ("width", c_int32), ("n_heads", c_int32), ("kv_heads", c_int32),
        ("head_width", c_int32), ("ff_width", c_int32), ("eps", c_float),
    ]  # fmt: skip


class _Positions(Structure):
    _fields_ = [
        ("n", c_int64), ("max_positions", c_int64), ("row", c_void_p), ("position", c_void_p), ("length", c_void_p),
        ("cos", c_void_p), ("sin", c_void_p),
    ]  # fmt: skip


class NativeStack:
    """The weights of one Transformer, where they lie."""

    def __init__(self, transformer: Transformer) -> None:
        config = transformer.config
        layers = (_Layer * config.n_layers)()
        for layer, block in zip(layers, transformer.blocks, strict=True):
            for name, path in NORMS.items():
                setattr(layer, name, _address(getattr(block.get_submodule(path), "weight", None)))
            for name, path in MATRICES.items():
                setattr(layer, name, described(block.get_submodule(path)))
        self.addresses = _addresses(transformer)
        self._config, self._layers = config, layers
        norm = _address(getattr(transformer.norm, "weight", None))
        self._stack = Stack(
            layers, norm, config.n_layers, config.d_model, config.n_heads,
            config.kv_heads, config.head_width, config.ff_width, config.norm_eps,
        )  # fmt: skip
        self._angles = torch.empty(2, 0, config.head_width)
        whole = all(layer.q.kind >= KINDS[torch.int8] for layer in layers)
        self._most_positions = MANY_POSITIONS if whole else FEW_POSITIONS

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copies of a model, in this process or another, have weights of their own: `attach` makes them a new one."""
        return type(None), ()

    def takes(self, x: Tensor, cache: StaticCache) -> bool:
        """Are states `[B, s, D]` few, of the type and where the kernels read them, and wanted without gradients?"""
        tensors = [x, cache.keys[0]] if cache.in_place else []
        few = x.shape[0] * x.shape[1] <= self._most_positions and not torch.is_grad_enabled()
        return few and bool(tensors) and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in tensors)

    def run(self, x: Tensor, cache: StaticCache, positions: Tensor, lengths: Tensor) -> Tensor:
        """Run new positions, each of which sees the first ones of its row, as `Transformer.forward` does.

        Args:
            x: `[B, s, D]`, float32.
            cache: Advanced to the positions already.
            positions: Where they are, `[B, s]` or `[1, s]`, int64.
            lengths: How many places of the cache each sees, `[B, s]` or `[1, s]`, int64.

        Returns:
            Normalised states `[B, s, D]`.
        """
        B, s, D = x.shape
        states = x.reshape(B * s, D).clone()
        places, lengths = (one.expand(B, s).reshape(-1).contiguous() for one in (positions, lengths))
        rows = _rows(B, s)
        cos, sin = self.angles(cache.max_positions)
        at = _Positions(
            B * s, cache.max_positions, rows.data_ptr(), places.data_ptr(), lengths.data_ptr(), cos.data_ptr(),
            sin.data_ptr(),
        )  # fmt: skip
        with ONE_AT_A_TIME:
            native_library().run_stack(threads(), self.described(cache), ctypes.byref(at), states.data_ptr())
        return states.view(B, s, D)

    def described(self, cache: StaticCache) -> Any:
        """Return a pointer to the stack, with this cache; good for one call."""
        for layer, keys, values in zip(self._layers, cache.keys, cache.values, strict=True):
            layer.keys, layer.values = keys.data_ptr(), values.data_ptr()
        return ctypes.pointer(self._stack)

    def angles(self, n: int) -> Tensor:
        """Return cosines and sines of n positions or more, `[2, n, E]`."""
        if n > self._angles.shape[1]:
            self._angles = self._all_angles(n)
        return self._angles

    def _all_angles(self, n: int) -> Tensor:
        config = self._config
        places = torch.arange(max(n, 64))[None]
        cos, sin = rope_angles(places, config.head_width, config.rope_theta, config.rope_scaling)
        return torch.stack([cos[0, 0], sin[0, 0]]).contiguous()


def attach_stacks(module: nn.Module, wanted: bool = True) -> bool:
    """Give every Transformer inside a module a `NativeStack`, or take a stale one from it; say whether any has one."""
    from unitok.model.transformer import Transformer

    transformers = [part for part in module.modules() if isinstance(part, Transformer)]
    for transformer in transformers:
        if not wanted or not _fits(transformer):
            transformer.native = None
        elif transformer.native is None or transformer.native.addresses != _addresses(transformer):
            transformer.native = NativeStack(transformer)
    return any(transformer.native is not None for transformer in transformers)


def native_linear(weight: Tensor, scale: Tensor | None, bias: Tensor | None, x: Tensor) -> Tensor | None:
    """Return `x` `[…, N]` times a matrix `[R, N]`, float32; None where there is no native code for these."""
    beside = [tensor for tensor in (scale, bias) if tensor is not None]
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in (x, *beside)):
        return None
    if torch.is_grad_enabled() and x.requires_grad:
        return None
    if weight.dtype not in KINDS or not weight.is_contiguous() or library() is None:
        return None
    n_inputs, kind = x.shape[-1], KINDS[weight.dtype]
    if weight.shape[1] != (-(-n_inputs // 64) * 32 if weight.dtype == torch.uint8 else n_inputs):
        return None  # PyTorch says what does not fit
    matrix = Linear(_address(weight), _address(scale), _address(bias), len(weight), n_inputs, kind)
    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], matrix.rows)
    with ONE_AT_A_TIME:
        native_library().run_linear(
            threads(), ctypes.byref(matrix), x.numel() // x.shape[-1], x.data_ptr(), out.data_ptr()
        )
    return out


def _fits(transformer: Transformer) -> bool:
    """Is there native code, and are the layers and their weights of a kind that it takes?"""
    if (transformer.config.norm, transformer.config.feed_forward) != ("rms", "swiglu"):
        return False
    for block in transformer.blocks:
        parts = [_part(block, path) for path in (*MATRICES.values(), *NORMS.values())]
        if not all(type(part).__name__ in PARTS for part in parts):
            return False
    named = [*transformer.named_parameters(), *transformer.named_buffers()]
    return library() is not None and all(
        weight.device.type == "cpu"
        and weight.is_contiguous()
        and weight.dtype in (KINDS if name.endswith("_proj.weight") else (torch.float32,))
        for name, weight in named
    )


def _part(block: nn.Module, path: str) -> nn.Module | None:
    return functools.reduce(lambda part, name: getattr(part, name, None), path.split("."), block)


def _addresses(transformer: Transformer) -> tuple[int, ...]:
    """Return where the weights lie: elsewhere, after they were moved, loaded anew or made compact."""
    return tuple(weight.data_ptr() for weight in (*transformer.parameters(), *transformer.buffers()))


def described(layer: Any) -> Linear:
    """Return a linear layer, or a compact one, as the kernels take it."""
    weight = layer.weight
    scale = _address(getattr(layer, "scale", None))
    return Linear(
        _address(weight), scale, _address(layer.bias), layer.out_features, layer.in_features, KINDS[weight.dtype]
    )


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=64)
def _rows(n_rows: int, n_positions: int) -> Tensor:
    return torch.arange(n_rows).repeat_interleave(n_positions)


@cache
def native_library() -> ctypes.CDLL:
    """Return the kernels, which have to be there, with the types of what their functions take."""
    found = library()
    assert found is not None, "asked for kernels that are not there"
    found.run_stack.argtypes = [c_int32, c_void_p, c_void_p, c_void_p]
    found.run_frame.argtypes = found.run_draws.argtypes = [c_int32, c_void_p]
    found.run_linear.argtypes = [c_int32, c_void_p, c_int64, c_void_p, c_void_p]
    return found


def threads() -> int:
    """Return how many threads work on a call: as many as PyTorch uses now, whose OpenMP they are."""
    return 1 if _forked else torch.get_num_threads()


def _note_fork() -> None:
    global _forked
    _forked = True


_forked = False
"""A process that was forked off has none of the threads OpenMP began before, and would wait for them."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
