"""A moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of a module's weights, kept beside them and swapped in for validation and export."""

    def __init__(self, module: nn.Module, decay: float):
        """Begin with the present weights.

        Args:
            module: The model.
            decay: How slowly the average follows, in (0, 1); smaller in the first steps.

        Raises:
            ValueError: If `decay` is not in (0, 1).
        """
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema_decay={decay}, allowed: between 0 and 1, such as 0.999; 0 turns it off.")
        self.module, self.decay, self.steps = module, decay, 0
        self.average = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights after an optimizer step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in self._trained():
            if self.average[name].device != parameter.device:
                self.average[name] = self.average[name].to(parameter.device)
            self.average[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their average; a second call exchanges them back."""
        for name, parameter in self._trained():
            kept = self.average[name].to(parameter.device)
            self.average[name] = parameter.detach().clone()
            parameter.copy_(kept)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return the average and the number of steps in it."""
        return {"steps": self.steps, **self.average}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore the average."""
        self.steps = int(state["steps"])
        self.average = {name: torch.as_tensor(state[name]) for name in self.average}

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
