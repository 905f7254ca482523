"""Discriminators that codecs are trained against, from the packages of the codecs they were published with.

B batch, N samples.
Sources: multi-scale STFT (EnCodec, arXiv:2210.13438, section 3.4); multi-period (HiFi-GAN, arXiv:2010.05646);
multi-band complex spectrograms (DAC, arXiv:2306.06546, section 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unitok.tokenizers.weights import quiet_build

__all__ = ["DiscriminatorName", "Discriminators"]

DiscriminatorName = Literal["stft", "periods", "bands"]


class Discriminators(nn.Module):
    """One or more of the three families; each member sees the audio at another scale, period or window."""

    def __init__(
        self,
        names: Sequence[DiscriminatorName],
        sample_rate_hz: int,
        *,
        filters: int = 32,
        windows: Sequence[int] = (2048, 1024, 512),
        periods: Sequence[int] = (2, 3, 5, 7, 11),
    ):
        """Build them, with weights drawn from torch's generator.

        Args:
            names: Families: `stft` (EnCodec), `periods` (HiFi-GAN, DAC), `bands` (DAC).
            sample_rate_hz: Rate of the audio.
            filters: Channels of `stft`; the others have those of their papers.
            windows: STFT windows of `stft` and `bands`, in samples.
            periods: Periods of `periods`, in samples.

        Raises:
            MissingDependencyError: If a package cannot be imported.
        """
        super().__init__()
        families: dict[str, nn.Module] = {}
        if "stft" in names:
            families["stft"] = _stft(filters, windows)
        if "periods" in names or "bands" in names:
            families["dac"] = _dac(
                periods if "periods" in names else (), windows if "bands" in names else (), sample_rate_hz
            )
        self.families = nn.ModuleDict(families)

    def forward(self, wav: Tensor) -> list[list[Tensor]]:
        """Judge `wav [B, N]`: of each member its features, layer by layer, and last its logits."""
        out: list[list[Tensor]] = []
        for name, family in self.families.items():
            if name == "dac":
                out += family(wav[:, None])
            else:
                logits, features = family(wav[:, None])
                out += [[*maps, last] for maps, last in zip(features, logits, strict=True)]
        return out


def _stft(filters: int, windows: Sequence[int]) -> nn.Module:
    from unitok.tokenizers.encodec import import_encodec

    import_encodec()
    from encodec.msstftd import MultiScaleSTFTDiscriminator

    hops = [window // 4 for window in windows]
    with quiet_build(int(torch.randint(2**31, ()))):
        return MultiScaleSTFTDiscriminator(filters, n_ffts=list(windows), hop_lengths=hops, win_lengths=list(windows))


def _dac(periods: Sequence[int], windows: Sequence[int], sample_rate_hz: int) -> Any:
    from unitok.tokenizers.dac import import_dac

    dac = import_dac()
    with quiet_build(int(torch.randint(2**31, ()))):
        return dac.model.Discriminator(periods=list(periods), fft_sizes=list(windows), sample_rate=sample_rate_hz)
