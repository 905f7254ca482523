"""Optimizers: AdamW, or Muon for the matrices of Transformer blocks with AdamW for the rest, as one `Optimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from unitok.model.adapter import trained_rows
from unitok.training.muon import Muon

__all__ = ["ChainedOptimizer", "OptimizerConfig", "build_optimizer", "parameter_groups"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights are updated."""

    name: Literal["adamw", "muon"] = "adamw"
    """`adamw` for all weights, or `muon` for the matrices of Transformer blocks and AdamW for the rest."""
    lr: float = 3e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates."""
    weight_decay: float = 0.1
    """Decay of matrices; embeddings, norms and biases have none."""
    muon_lr: float | None = None
    """Peak learning rate of Muon's matrices; None: `lr`."""
    muon_momentum: float = 0.95
    """Muon's momentum."""


class ChainedOptimizer(Optimizer):
    """Several optimizers that step together, seen by a trainer, a scheduler and a checkpoint as one."""

    def __init__(self, optimizers: Sequence[Optimizer]):
        """Chain.

        Args:
            optimizers: Each with its own parameters.
        """
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.optimizers = list(optimizers)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step each part; the loss is computed once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states of the parts."""
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        # The parts have new group dicts now; schedulers must see those, or the rates they set would not reach them.
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]


def parameter_groups(
    module: nn.Module, matrices: Iterable[nn.Module] = ()
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Sort the trainable parameters of `module`.

    Args:
        module: The model.
        matrices: Modules whose two-dimensional parameters are hidden matrices.

    Returns:
        Hidden matrices; other weights that decay; weights that do not (embeddings, norms, biases). Each parameter is in
        one list.
    """
    hidden = {id(p) for part in matrices for p in part.parameters() if p.ndim == 2}
    fixed = {
        id(p) for part in module.modules() if isinstance(part, nn.Embedding) for p in part.parameters(recurse=False)
    } | {id(p) for p in module.parameters() if trained_rows(p) is not None}  # the other rows must stay as they are
    groups: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for parameter in module.parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and id(parameter) not in fixed
            groups[0 if id(parameter) in hidden else 1 if decays else 2].append(parameter)
    return groups


def build_optimizer(module: nn.Module, config: OptimizerConfig, matrices: Iterable[nn.Module] = ()) -> Optimizer:
    """Make the optimizer of a model.

    Args:
        module: The model.
        config: Which optimizer, and its rates.
        matrices: Modules, such as Transformer blocks, whose two-dimensional parameters Muon updates.
    """
    hidden, decaying, plain = parameter_groups(module, matrices)
    if config.name == "adamw":
        decaying, hidden = hidden + decaying, []
    groups = [{"params": decaying, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers: list[Optimizer] = []
    if hidden:
        muon_lr = config.lr if config.muon_lr is None else config.muon_lr
        optimizers.append(Muon(hidden, lr=muon_lr, weight_decay=config.weight_decay, momentum=config.muon_momentum))
    if decaying or plain or not hidden:
        adamw = AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True)
        # Lightning refuses to clip gradients for optimizers that unscale them on their own, which only matters in
        # float16; so scaled gradients are unscaled before this one sees them.
        adamw._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        optimizers.append(adamw)
    return optimizers[0] if len(optimizers) == 1 else ChainedOptimizer(optimizers)
