"""EnCodec's loss balancer: weights say what share of the gradient each loss has, whatever the losses' own scales.

B batch, N samples.
Source: EnCodec (arXiv:2210.13438), section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Balancer"]


class Balancer(nn.Module):
    """Scales gradients of losses with respect to what they all depend on by a moving average of their norms."""

    norms: Tensor
    steps: Tensor

    def __init__(self, weights: Mapping[str, float], decay: float = 0.999):
        """Set up.

        Args:
            weights: Of each loss; their share in the sum is the loss's share in the gradient.
            decay: Of the moving averages.
        """
        super().__init__()
        self.weights, self.decay = dict(weights), decay
        self.register_buffer("norms", torch.zeros(len(weights)))
        self.register_buffer("steps", torch.zeros(len(weights)))

    def forward(self, losses: Mapping[str, Tensor], wav: Tensor) -> Tensor:
        """Return a loss whose gradient with respect to `wav [B, N]` is the balanced one; its value means nothing.

        Args:
            losses: Some or all of those that have weights.
            wav: What they depend on.
        """
        places = [place for place, name in enumerate(self.weights) if name in losses]
        gradients = [
            torch.autograd.grad(losses[name], wav, retain_graph=True)[0] for name in self.weights if name in losses
        ]
        norms = torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in gradients])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(norms)
            norms = norms / dist.get_world_size()
        self.norms[places] = self.decay * self.norms[places] + (1 - self.decay) * norms
        self.steps[places] += 1
        means = self.norms[places] / (1 - self.decay ** self.steps[places])  # as if the first norms went on before
        weights = self.norms.new_tensor(list(self.weights.values()))[places]
        scales = weights / weights.sum() / means.clamp_min(1e-12)
        balanced = sum((s * g for s, g in zip(scales, gradients, strict=True)), torch.zeros_like(wav))
        return (wav * balanced.detach()).sum()
