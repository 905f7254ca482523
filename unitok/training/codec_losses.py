"""Losses of codec training: distances between spectra and waveforms, and reading the text from codebook 0.

B batch, N samples, T codec frames, F STFT bins, D code width, L bytes of text.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.errors import UnitokError
from unitok.model.codec import CodecConfig, CodecOutput, ConvNeXtBlock, NeuralCodec
from unitok.tokenizers.trainable import TrainableCodec

__all__ = [
    "LossWeights",
    "ReconstructionLoss",
    "SpectralDistances",
    "SpectralLoss",
    "SpectrumWeights",
    "TextReader",
    "WaveformDistances",
    "WaveformLoss",
    "WaveformWeights",
]

BLANK = 256
"""The label of CTC that is no byte."""
MEL_WINDOWS, MEL_BANDS = (32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320)
"""Of the multi-scale mel loss; DAC, section 3.5 and conf/final/44khz.yml."""
STFT_WINDOWS = (2048, 1024, 512)
"""Of the multi-resolution STFT loss; Parallel WaveGAN, section 3.2."""


@dataclass(frozen=True)
class SpectrumWeights:
    """Weights of distances between what the decoder of `codec` predicts, an STFT's magnitudes, and those wanted."""

    log: float = 0.3
    """Between log-magnitudes."""
    mel: float = 1.0
    """Between levels of mel bands."""
    peaks: float = 2.0
    """Between square roots of magnitudes, where partials count most."""


@dataclass(frozen=True)
class WaveformWeights:
    """Weights of distances between audio and what comes back."""

    time: float = 0.1
    """Mean difference of samples; EnCodec's weight."""
    mel: float = 1.0
    """Differences of log-mel spectra, summed over 7 windows from 32 to 2048 samples, as in DAC (there 15)."""
    stft: float = 0.0
    """Spectral convergence and difference of log-magnitudes, over 3 windows, as in Parallel WaveGAN."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of all losses but the adversary's."""

    spectrum: SpectrumWeights | None = None
    """For `codec` only; None: the defaults of each, or none where its phases are predicted."""
    waveform: WaveformWeights | None = None
    """None: the defaults of each, but for `codec` with phases from magnitudes none."""
    commitment: float = 0.25
    """Between latents and their codes; a mean over codebooks, DAC's a sum."""
    codebook: float = 1.0
    """The same, to move DAC's codes; other codebooks follow by themselves."""
    text: float = 0.0
    """Of a CTC loss that reads the text from codebook 0, in nats for each of its bytes: makes codebook 0 say what is
    said and leave the voice to the others. Needs `text` in the manifest."""


class ReconstructionLoss(nn.Module):
    """The distances that have a weight, by name, and their weights."""

    def __init__(self, codec: TrainableCodec, weights: LossWeights):
        """Choose the losses that suit a codec.

        Args:
            codec: What is trained.
            weights: Weights; `None` parts take the codec's defaults.

        Raises:
            ValueError: If spectra are to be compared of a codec that predicts audio.
        """
        super().__init__()
        config = codec.config if isinstance(codec, NeuralCodec) else None
        by_spectrum = config is not None and config.phases == "integrated"
        if config is None and weights.spectrum is not None:
            raise ValueError("losses.spectrum is for 'codec', whose decoder predicts spectra. Use losses.waveform.")
        none = WaveformWeights(time=0.0, mel=0.0, stft=0.0)
        spectrum = weights.spectrum or (SpectrumWeights() if by_spectrum else SpectrumWeights(0.0, 0.0, 0.0))
        waveform = weights.waveform or (none if by_spectrum else WaveformWeights())
        if not by_spectrum and not any(vars(waveform).values()):
            raise ValueError(
                "losses.waveform has no weight above 0, and nothing else tells this codec what to sound like. "
                "Set losses.waveform.mel."
            )
        self.weights: dict[str, float] = {f"spectrum.{name}": weight for name, weight in vars(spectrum).items()}
        self.weights |= vars(waveform) | {"commitment": weights.commitment, "codebook": weights.codebook}
        self.spectral = SpectralLoss(config) if config is not None and any(vars(spectrum).values()) else None
        self.waveform = WaveformLoss(codec.sample_rate_hz)

    @property
    def needs_waveform(self) -> bool:
        """Has a loss on the waveform a weight?"""
        return any(self.weights[name] for name in WaveformDistances._fields)

    def forward(self, output: CodecOutput, wanted: Tensor, got: Tensor | None) -> dict[str, Tensor]:
        """Return the distances by name.

        Args:
            output: A pass of the codec.
            wanted: The audio, padded, `[B, N]`.
            got: What comes back, `[B, N]`; None: only spectra are compared.
        """
        losses: dict[str, Tensor] = {}
        if self.spectral is not None:
            distances = self.spectral(output.log_magnitude, wanted)._asdict()
            losses |= {f"spectrum.{name}": value for name, value in distances.items()}
        if got is not None:
            losses |= self.waveform(got, wanted)._asdict()
        losses["commitment"] = output.quantized.commitment
        if output.quantized.codebook is not None:
            losses["codebook"] = output.quantized.codebook
        return losses


class WaveformDistances(NamedTuple):
    """How far audio is from the one wanted; 0 where they are the same."""

    time: Tensor
    """Mean difference of samples."""
    mel: Tensor
    """Mean difference of decimal logarithms of mel bands, summed over windows."""
    stft: Tensor
    """Spectral convergence plus mean difference of log-magnitudes in nats, averaged over windows."""


class WaveformLoss(nn.Module):
    """Distances between waveforms.

    Sources: EnCodec (arXiv:2210.13438), section 3.4, for `time`; DAC (arXiv:2306.06546), section 3.5, for `mel`;
    Parallel WaveGAN (arXiv:1910.11480), section 2.2, for `stft`.
    """

    def __init__(self, sample_rate_hz: int, floor: float = 1e-5):
        """Set up.

        Args:
            sample_rate_hz: Rate of the audio.
            floor: Magnitude below which nothing is compared.
        """
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        self.sample_rate_hz, self.floor = sample_rate_hz, floor
        for window, bands in zip(MEL_WINDOWS, MEL_BANDS, strict=True):
            scale = {"norm": "slaney", "mel_scale": "slaney"}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # narrow bands between two bins are empty, as in DAC
                bank = melscale_fbanks(window // 2 + 1, 0.0, sample_rate_hz / 2, bands, sample_rate_hz, **scale)
            self.register_buffer(f"bank_{window}", bank, persistent=False)

    def forward(self, got: Tensor, wanted: Tensor) -> WaveformDistances:
        """Compare `got [B, N]` with `wanted [B, N]`.

        Raises:
            UnitokError: If they are shorter than the longest window.
        """
        longest = max(MEL_WINDOWS)
        if wanted.shape[-1] < longest:
            raise UnitokError(
                f"stretches have {wanted.shape[-1]} samples, the losses need {longest}. Set data.seconds to "
                f"{math.ceil(100 * longest / self.sample_rate_hz) / 100:g} or more."
            )
        with torch.autocast(got.device.type, enabled=False):
            got, wanted = got.float(), wanted.float()
            pairs = {w: (self._stft(got, w), self._stft(wanted, w)) for w in MEL_WINDOWS}
            mel = [(self._mel(g, w) - self._mel(t, w)).abs().mean() for w, (g, t) in pairs.items()]
            stft = [self._distance(*pairs[w]) for w in STFT_WINDOWS]
            return WaveformDistances((got - wanted).abs().mean(), torch.stack(mel).sum(), torch.stack(stft).mean())

    def _stft(self, wav: Tensor, window: int) -> Tensor:
        """Return magnitudes `[B, frames, F]`, a quarter of a window apart."""
        hann = torch.hann_window(window, device=wav.device)
        spectrum = torch.stft(wav, window, window // 4, window=hann, return_complex=True)
        return spectrum.abs().transpose(1, 2)

    def _mel(self, magnitude: Tensor, window: int) -> Tensor:
        return (magnitude @ self.get_buffer(f"bank_{window}")).clamp_min(self.floor).log10()

    def _distance(self, got: Tensor, wanted: Tensor) -> Tensor:
        convergence = (got - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2)).clamp_min(self.floor)
        return convergence.mean() + (got.clamp_min(self.floor).log() - wanted.clamp_min(self.floor).log()).abs().mean()


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
