"""Losses of codec training: distances between spectra, and reading the text from codebook 0.

B batch, N samples, T codec frames, F STFT bins, D code width, L bytes of text.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.model.codec import CodecConfig, ConvNeXtBlock

__all__ = ["SpectralDistances", "SpectralLoss", "TextReader"]

BLANK = 256
"""The label of CTC that is no byte."""


class SpectralDistances(NamedTuple):
    """How far a spectrum is from the one wanted; 0 where they are the same."""

    log: Tensor
    """Mean difference of log-magnitudes, in nats."""
    mel: Tensor
    """The same of mel bands, so that the level of noise is right even where its every wiggle is not."""
    peaks: Tensor
    """Difference of the square roots of magnitudes, relative to the whole: partials count, not the floor."""


class SpectralLoss(nn.Module):
    """Distances between log-magnitudes of an STFT, as a codec's decoder predicts them, and those of audio."""

    window: Tensor
    bank: Tensor

    def __init__(self, codec: CodecConfig, mel_bands: int = 64, floor: float = 0.02):
        """Set up.

        Args:
            codec: The codec's sizes: the rate, the STFT.
            mel_bands: Number of mel bands; fewer where the STFT has few bins.
            floor: Magnitude below which differences fade; an STFT frame of a loud tone has 100 and more.
        """
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        self.codec, self.floor = codec, floor
        rate, n_bins = codec.sample_rate_hz, codec.window // 2 + 1
        self.register_buffer("window", torch.hann_window(codec.window), persistent=False)
        bank = melscale_fbanks(n_bins, 0.0, rate / 2, min(mel_bands, n_bins // 5), rate)
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, log_magnitude: Tensor, wav: Tensor) -> SpectralDistances:
        """Compare `log_magnitude [B, frames, F]` with that of `wav [B, N]`, a whole number of codec frames."""
        with torch.no_grad():
            wanted = self.codec.magnitudes(wav, self.window)
        got = log_magnitude.float().exp()
        root, wanted_root = (log_magnitude.float() / 2).exp(), wanted.sqrt()
        size = wanted_root.sum(dim=(1, 2)).clamp_min(1.0)  # of each row, or loud audio would be all that counts
        return SpectralDistances(
            log=((got + self.floor).log() - (wanted + self.floor).log()).abs().mean(),
            mel=(self._level(got) - self._level(wanted)).abs().mean(),
            peaks=((root - wanted_root).abs().sum(dim=(1, 2)) / size).mean(),
        )

    def _level(self, magnitude: Tensor) -> Tensor:
        """Return log-amplitudes of mel bands."""
        return (magnitude.square() @ self.bank + self.floor**2).log() / 2


class TextReader(nn.Module):
    """Reads UTF-8 bytes from the vectors of codebook 0, by CTC (Graves et al. 2006); of use in training only.

    It sees few frames on either side: what is said must be in the codes, not in what a strong reader makes of them.
    """

    def __init__(self, code_dim: int, width: int = 192, layers: int = 2, kernel_size: int = 5, per_frame: int = 2):
        """Set up.

        Args:
            code_dim: D.
            width: Width of its layers.
            layers: Convolutional blocks.
            kernel_size: Frames that a block sees, odd.
            per_frame: Labels for each frame; fast speech has more letters than a slow codec has frames.
        """
        super().__init__()
        self.per_frame = per_frame
        self.project = nn.Linear(code_dim, width)
        self.blocks = nn.Sequential(*[ConvNeXtBlock(width, kernel_size) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, per_frame * (BLANK + 1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits of bytes and blank, `[B, T, D]` -> `[B, T * per_frame, 257]`."""
        logits = self.head(self.norm(self.blocks(self.project(vectors))))
        return logits.unflatten(-1, (self.per_frame, -1)).flatten(1, 2)

    def loss(self, vectors: Tensor, text: Tensor, text_lengths: Tensor) -> Tensor:
        """Return the CTC loss of the rows that have a text, in nats for each byte; 0 where none has.

        Args:
            vectors: What codebook 0 gives, `[B, T, D]`.
            text: Bytes `[B, L]`, int64.
            text_lengths: `[B]`, int64; 0 for no text.
        """
        log_probabilities = self(vectors).float().log_softmax(dim=-1)
        known = text_lengths > 0
        if not bool(known.any()):
            return 0.0 * log_probabilities.sum()
        lengths = text.new_full((int(known.sum()),), log_probabilities.shape[1])
        return F.ctc_loss(
            log_probabilities[known].transpose(0, 1),
            text[known],
            lengths,
            text_lengths[known],
            BLANK,
            zero_infinity=True,
        )
