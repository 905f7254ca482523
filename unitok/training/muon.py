"""Muon: momentum whose update is made orthogonal, for the hidden matrices of a network.

Keller Jordan (https://kellerjordan.github.io/posts/muon/); the update has the size of AdamW's (arXiv:2502.16982,
section 2.2), so that AdamW's learning rates and decays serve. Same rule as
`torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, but matrices of one shape go through together, and in float32 on a
CPU: PyTorch's always works in bfloat16, which takes several times as long on CPUs without units for it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Muon", "orthogonalize"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration, chosen by its author for the steepest rise at 0."""


class Muon(Optimizer):
    """Muon for two-dimensional parameters."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        n_iterations: int = 5,
    ):
        """Set up.

        Args:
            params: Matrices, or groups of them.
            lr: Learning rate, of the size of AdamW's.
            weight_decay: Decoupled decay.
            momentum: Nesterov momentum.
            n_iterations: Newton-Schulz iterations.

        Raises:
            ValueError: If a parameter is not two-dimensional.
        """
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "n_iterations": n_iterations}
        )
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.ndim != 2:
                raise ValueError(
                    f"Muon updates matrices, got a parameter of shape {list(parameter.shape)}. Give it to AdamW."
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update all matrices that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, torch.device], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape, parameter.device].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        grads = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum"] for parameter in parameters]
        for buffer, grad in zip(buffers, grads, strict=True):
            buffer.lerp_(grad, 1 - group["momentum"])
        nesterov = [grad.lerp(buffer, group["momentum"]) for grad, buffer in zip(grads, buffers, strict=True)]
        updates = orthogonalize(torch.stack(nesterov), group["n_iterations"])
        scale = 0.2 * math.sqrt(max(parameters[0].shape))
        for parameter, update in zip(parameters, updates.to(parameters[0].dtype), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def orthogonalize(matrices: Tensor, n_iterations: int = 5) -> Tensor:
    """Return the nearest orthogonal matrices, about: singular values between 0.7 and 1.2.

    Args:
        matrices: `[n, rows, columns]`.
        n_iterations: Newton-Schulz iterations.

    Returns:
        `[n, rows, columns]`, bfloat16 on a GPU, float32 on a CPU.
    """
    a, b, c = COEFFICIENTS
    x = matrices.float() if matrices.device.type == "cpu" else matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
