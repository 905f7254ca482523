"""Losses of codec training: distances between spectra at several resolutions, and reading the text from codebook 0.

B batch, N samples, T codec frames, D code width, L bytes of text.
Sources: multi-resolution STFT loss (Parallel WaveGAN, arXiv:1910.11480); multi-scale mel loss (DAC, arXiv:2306.06546).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.model.codec import ConvNeXtBlock

__all__ = ["SpectralLoss", "TextReader"]

BLANK = 256
"""The label of CTC that is no byte."""


class SpectralLoss(nn.Module):
    """Mean over resolutions of L1 between log-mels plus L1 between log-magnitudes and spectral convergence."""

    def __init__(
        self,
        sample_rate_hz: int,
        windows: Sequence[int] = (256, 512, 1024, 2048),
        mel_bins: Sequence[int] = (20, 40, 80, 80),
        stft_weight: float = 0.25,
        floor: float = 1e-4,
    ):
        super().__init__()
        if len(windows) != len(mel_bins):
            raise ValueError(
                f"windows has {len(windows)} entries and mel_bins {len(mel_bins)}. Give one mel size per window."
            )
        from torchaudio.functional import melscale_fbanks

        self.windows = list(windows)
        self.stft_weight = stft_weight
        self.floor = floor
        for window, bins in zip(windows, mel_bins, strict=True):
            bank = melscale_fbanks(
                window // 2 + 1, 0.0, sample_rate_hz / 2, bins, sample_rate_hz, norm="slaney", mel_scale="slaney"
            )
            self.register_buffer(f"mel_{window}", bank * bins, persistent=False)
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)

    def forward(self, wav: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mel loss and the STFT loss (unweighted) between `wav [B, N]` and `target [B, N]`."""
        mel_loss, stft_loss = wav.new_zeros(()), wav.new_zeros(())
        for window in self.windows:
            got, wanted = self._magnitude(wav, window), self._magnitude(target, window)
            mel = self.get_buffer(f"mel_{window}")
            mel_loss = mel_loss + F.l1_loss(self._log(got @ mel), self._log(wanted @ mel))
            convergence = (wanted - got).norm() / wanted.norm().clamp_min(1e-6)
            stft_loss = stft_loss + F.l1_loss(self._log(got), self._log(wanted)) + convergence
        return mel_loss / len(self.windows), stft_loss / len(self.windows)

    def _magnitude(self, wav: Tensor, window: int) -> Tensor:
        frames = F.pad(wav, (window // 2, window // 2)).unfold(-1, window, window // 4)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.get_buffer(f"window_{window}")))
        return (spectrum.square().sum(-1) + 1e-9).sqrt()  # the epsilon keeps the gradient finite in silence

    def _log(self, x: Tensor) -> Tensor:
        return (x + self.floor * self.windows[-1] ** 0.5).log()


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
