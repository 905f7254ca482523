"""Linear layers with weights of 4, 8 or 16 bits, for generation: at batch 1 a model takes the time of reading them.

`int8`: each row of a matrix has a scale of its own, `weight[r] = round(float_weight[r] / scale[r])`, whole numbers from
-127 to 127. `int4`: each `GROUP` of a row has one, whole numbers from -7 to 7, packed as `native/products.h` says.
`bfloat16`: no scale. Inputs and outputs are float32. Letters: R rows (outputs), N columns (inputs), G groups of a row.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.errors import UnitokError, suggest
from unitok.kernels import FEW_POSITIONS, MANY_POSITIONS, linear

__all__ = ["WEIGHT_TYPES", "CompactLinear", "WeightType", "compact", "weight_type"]

WeightType = Literal["float32", "bfloat16", "int8", "int4"]
GROUP = 64
"""Weights of 4 bits that share a scale."""
KINDS: dict[torch.dtype, WeightType] = {torch.bfloat16: "bfloat16", torch.int8: "int8", torch.uint8: "int4"}
KEPT = ("slot_projection", "feature_inputs")
"""Parts of a language model that stay as they are: one is used in pieces, the others belong to encoders."""
WEIGHT_TYPES: tuple[WeightType, ...] = get_args(WeightType)


class CompactLinear(nn.Module):
    """A linear layer that is not trained and takes little memory."""

    def __init__(self, n_inputs: int, n_outputs: int, bias: bool, kind: WeightType) -> None:
        """Make a layer of zeros; `of` rounds a trained one."""
        super().__init__()
        self.in_features, self.out_features = n_inputs, n_outputs
        self.weight: Tensor
        self.scale: Tensor | None
        self.bias: Tensor | None
        n_groups = -(-n_inputs // GROUP)
        if kind == "int4":
            weight, scale = torch.zeros(n_outputs, n_groups * GROUP // 2, dtype=torch.uint8), (n_outputs, n_groups)
        else:
            weight, scale = torch.zeros(n_outputs, n_inputs, dtype=getattr(torch, kind)), (n_outputs,)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", torch.ones(scale) if kind in ("int8", "int4") else None)
        self.register_buffer("bias", torch.zeros(n_outputs) if bias else None)

    @classmethod
    def of(cls, layer: nn.Linear, kind: WeightType) -> CompactLinear:
        """Return a trained layer with its weights rounded."""
        weight = layer.weight.detach().float()
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, kind)
        if made.scale is not None:
            most = 127 if kind == "int8" else 7
            grouped = weight[:, None] if kind == "int8" else _in_groups(weight)  # [R, 1, N] or [R, G, GROUP]
            scale = grouped.abs().amax(dim=-1).clamp_min(1e-12) / most
            made.scale.copy_(scale.view_as(made.scale))
            whole = (grouped / scale[..., None]).round().clamp(-most, most)
            weight = whole[:, 0] if kind == "int8" else _packed(whole)
        made.weight.copy_(weight)
        if made.bias is not None:
            made.bias.copy_(layer.bias.detach())
        return made.to(layer.weight.device)

    @property
    def kind(self) -> WeightType:
        """What its weights are."""
        return KINDS[self.weight.dtype]

    def float_weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the matrix `[R, N]` as numbers that PyTorch multiplies."""
        if self.scale is None:
            return self.weight.to(dtype)
        if self.kind == "int8":
            return (self.weight * self.scale[:, None]).to(dtype)
        grouped = _unpacked(self.weight) * self.scale[..., None]
        return grouped.flatten(1)[:, : self.in_features].to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` `[…, N]` times the matrix, `[…, R]`."""
        if torch.compiler.is_compiling():
            return self._many(x)  # fused, no whole matrix of floats is ever made
        n_positions = x.numel() // x.shape[-1]
        if n_positions <= (FEW_POSITIONS if self.scale is None else MANY_POSITIONS):
            y = linear(self.weight, self.scale, self.bias, x)
            if y is not None:
                return y
        differentiated = torch.is_grad_enabled() and x.requires_grad
        return self._few(x) if n_positions <= FEW_POSITIONS and not differentiated else self._many(x)

    def _few(self, x: Tensor) -> Tensor:
        """Without native code: PyTorch multiplies whole numbers, on CPUs fast with inputs of 16 bits."""
        R, N = self.weight.shape
        # Its rows have to begin at multiples of 64 bytes: with others it reads where it must not.
        if self.kind != "int8" or self.scale is None or x.device.type != "cpu" or R % 16 or N % 64:
            return self._many(x)
        rows, ones = x.reshape(-1, x.shape[-1]).bfloat16(), torch.ones_like(self.scale, dtype=torch.bfloat16)
        y = torch.ops.aten._weight_int8pack_mm(rows, self.weight, ones).to(x.dtype) * self.scale
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)

    def _many(self, x: Tensor) -> Tensor:
        """Where the arithmetic takes the time: turn the weights into the numbers that PyTorch multiplies fast."""
        if x.device.type == "cuda":
            return self._in_bfloat16(x)
        return F.linear(x, self.float_weight(x.dtype), self.bias)

    def _in_bfloat16(self, x: Tensor) -> Tensor:
        """As GPUs do it fast: both factors in bfloat16, which holds whole numbers of 8 bits, sums in float32."""
        if self.scale is None or self.kind == "int4":
            y = F.linear(x.bfloat16(), self.float_weight(torch.bfloat16)).to(x.dtype)
        else:
            y = F.linear(x.bfloat16(), self.weight.bfloat16()).to(x.dtype) * self.scale
        return y if self.bias is None else y + self.bias


def compact(module: nn.Module, kind: str) -> None:
    """Put a `CompactLinear` in the place of the linear layers inside a module; `float32` leaves it as it is.

    Raises:
        UnitokError: If there is no such type, or the layers are compact already.
    """
    if kind not in WEIGHT_TYPES:
        raise UnitokError(f"weights of type '{kind}', allowed: {', '.join(WEIGHT_TYPES)}.{suggest(kind, WEIGHT_TYPES)}")
    now = weight_type(module)
    if now not in ("float32", kind):
        raise UnitokError(f"the weights are {now} already: load the model with float32 weights to make them {kind}.")
    if kind != now:
        _replace(module, kind)


def weight_type(module: nn.Module) -> WeightType:
    """Return the type of the linear layers' weights."""
    layer = next((part for part in module.modules() if isinstance(part, CompactLinear)), None)
    return "float32" if layer is None else layer.kind


def _replace(module: nn.Module, kind: WeightType) -> None:
    for name, child in module.named_children():
        if name in KEPT:
            continue
        if isinstance(child, nn.Linear):
            setattr(module, name, CompactLinear.of(child, kind))
        else:
            _replace(child, kind)


def _in_groups(weight: Tensor) -> Tensor:
    """Return a matrix `[R, N]` as `[R, G, GROUP]`, filled up with zeros."""
    return F.pad(weight, (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))


def _packed(whole: Tensor) -> Tensor:
    """Return whole numbers `[R, G, GROUP]` as bytes `[R, G * GROUP / 2]`, two numbers in each."""
    # Two halves of four rows of eight: bits 4k ... 4k+3 of a half's 16-bit word i are number i of row k.
    rows = (whole.to(torch.int16) & 15).unflatten(2, (2, 4, 8))
    words = torch.stack([rows[:, :, :, 0] | rows[:, :, :, 1] << 4, rows[:, :, :, 2] | rows[:, :, :, 3] << 4], dim=-1)
    return words.flatten(1).to(torch.uint8)


def _unpacked(weight: Tensor) -> Tensor:
    """Return what `_packed` packed, int16."""
    words = weight.to(torch.int16).unflatten(1, (-1, 2, 8, 2))
    low, high = words[..., 0], words[..., 1]
    bits = torch.stack([low & 15, low >> 4, high & 15, high >> 4], dim=3)  # [R, G, 2, 4, 8]
    return torch.where(bits < 8, bits, bits - 16).flatten(2)
