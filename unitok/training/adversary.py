"""The adversary of codec training: what its discriminators learn, and what a generator learns from them.

B batch, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unitok.tokenizers.discriminators import DiscriminatorName, Discriminators

__all__ = ["Adversary", "AdversaryConfig"]


@dataclass(frozen=True)
class AdversaryConfig:
    """Which discriminators, and how much they count."""

    discriminators: list[DiscriminatorName]
    """One or more of `stft` (EnCodec), `periods` (HiFi-GAN, DAC) and `bands` (DAC)."""
    weight: float = 1.0
    """Weight of the generator's adversarial loss."""
    feature_weight: float = 2.0
    """Weight of feature matching."""
    form: Literal["encodec", "dac"] = "encodec"
    """encodec: hinge, means over discriminators, features relative to their size. dac: least squares, sums."""
    start_step: int = 0
    """Step at which the discriminators begin."""
    update_share: float = 1.0
    """Share of the steps in which the discriminators learn, drawn at random; EnCodec: 0.67 at 24 kHz."""
    lr: float | None = None
    """Their peak learning rate; None: that of the generator."""
    filters: int = 32
    """Channels of `stft`."""
    windows: tuple[int, ...] = (2048, 1024, 512)
    """STFT windows of `stft` and `bands`, in samples."""
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Periods of `periods`, in samples."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not self.discriminators:
            raise ValueError("adversary: discriminators is empty, allowed: one or more of stft, periods, bands.")
        if not 0.0 < self.update_share <= 1.0:
            raise ValueError(f"adversary: update_share={self.update_share}, allowed: above 0, up to 1.")


class Adversary(nn.Module):
    """Discriminators with the losses of both sides.

    Sources: EnCodec (arXiv:2210.13438), section 3.4; DAC (arXiv:2306.06546), section 3.5, and its GANLoss.
    """

    def __init__(self, config: AdversaryConfig, sample_rate_hz: int):
        """Build the discriminators.

        Args:
            config: The settings.
            sample_rate_hz: Rate of the audio.
        """
        super().__init__()
        self.config = config
        self.discriminators = Discriminators(
            config.discriminators,
            sample_rate_hz,
            filters=config.filters,
            windows=config.windows,
            periods=config.periods,
        )

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return how badly `real [B, N]` and `fake [B, N]` are told apart; no gradient goes to `fake`."""
        judged = zip(self.discriminators(real), self.discriminators(fake.detach()), strict=True)
        if self.config.form == "dac":
            return _sum([(1 - r[-1]).square().mean() + f[-1].square().mean() for r, f in judged])
        return _mean([torch.relu(1 - r[-1]).mean() + torch.relu(1 + f[-1]).mean() for r, f in judged])

    def generator_losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Return `adversarial` and `features` of `fake [B, N]`, whose gradients go to `fake` alone."""
        frozen = [p for p in self.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            with torch.no_grad():
                wanted = self.discriminators(real)
            got = self.discriminators(fake)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        layers = [(w, g) for ws, gs in zip(wanted, got, strict=True) for w, g in zip(ws[:-1], gs[:-1], strict=True)]
        if self.config.form == "dac":
            adversarial = _sum([(1 - judged[-1]).square().mean() for judged in got])
            return {"adversarial": adversarial, "features": _sum([(w - g).abs().mean() for w, g in layers])}
        adversarial = _mean([torch.relu(1 - judged[-1]).mean() for judged in got])
        relative = [(w - g).abs().mean() / w.abs().mean().clamp_min(1e-5) for w, g in layers]
        return {"adversarial": adversarial, "features": _mean(relative)}


def _sum(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).sum()


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()
