"""A small neural codec: log-STFT -> ConvNeXt encoder -> residual vector quantiser -> ConvNeXt decoder -> log-STFT.

Codes tell magnitudes only; phases are made to fit them (`phase.py`), and an inverse STFT makes the audio.

Working on spectra keeps every layer at the frame rate instead of the sample rate, so it trains an order of magnitude
faster on a CPU than a SEANet (EnCodec, DAC). Receptive fields are finite: long audio can be coded in chunks with enough
overlap (`CodecConfig.context_frames`).

B batch, N samples, T codec frames, K codebooks, D width, F STFT bins.
Sources: ConvNeXt (arXiv:2201.03545), Vocos (arXiv:2306.00814), residual vector quantisation with moving-average
codebooks (SoundStream, arXiv:2107.03312; EnCodec, arXiv:2210.13438).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from unitok.model.phase import integrate_phases
from unitok.model.quantizer import QuantizerOutput, ResidualVectorQuantizer

__all__ = ["CodecConfig", "CodecOutput", "ConvNeXtBlock", "NeuralCodec", "SpectralDecoder", "SpectralEncoder"]


@dataclass
class CodecConfig:
    """Sizes of a `NeuralCodec`."""

    sample_rate_hz: int = 16000
    """Rate of the audio, in Hz."""
    hop: int = 160
    """Samples between STFT frames, in the encoder and in the decoder."""
    frame_stride: int = 4
    """STFT frames merged into one codec frame: frame rate = sample_rate_hz / (hop * frame_stride)."""
    window: int = 640
    """STFT window and FFT length, in samples."""
    encoder_dim: int = 256
    """Width of the encoder."""
    encoder_layers: int = 6
    """ConvNeXt blocks of the encoder, shared out over the STFT rate, half of it, and the codec rate."""
    decoder_dim: int = 288
    """Width of the decoder."""
    decoder_layers: int = 8
    """ConvNeXt blocks of the decoder: a quarter at the codec rate, the rest at the STFT rate."""
    kernel_size: int = 7
    """Taps of the depthwise convolutions, odd."""
    n_codebooks: int = 8
    """Codebooks K of the residual quantiser."""
    codebook_size: int = 512
    """Codes in one codebook."""
    code_dim: int = 96
    """Width of the quantised vectors."""
    phases: Literal["integrated", "predicted"] = "integrated"
    """From the magnitudes, or by the decoder, which learns them from losses on the waveform (as Vocos)."""

    def __post_init__(self) -> None:
        if self.window < self.hop:
            raise ValueError(
                f"window={self.window} is shorter than hop={self.hop}: samples would be lost. Use window >= 2 * hop."
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} is even. Use an odd number of taps.")
        if self.frame_stride not in (1, 2, 4, 8):
            raise ValueError(f"frame_stride={self.frame_stride} is not 1, 2, 4 or 8.")

    @property
    def frame_length(self) -> int:
        """Samples in one codec frame."""
        return self.hop * self.frame_stride

    @property
    def frame_rate_hz(self) -> float:
        """Codec frames in one second."""
        return self.sample_rate_hz / self.frame_length

    @property
    def context_frames(self) -> int:
        """Codec frames on either side that can influence a frame (encoder and decoder each stay within it)."""
        reach = self.kernel_size // 2
        decoder = sum(self.decoder_reaches)
        fine, coarse = self.encoder_layers - self.encoder_layers // 2, self.encoder_layers // 2
        encoder = (
            reach * coarse + 2 + -(-(reach * fine + 2) // self.frame_stride) + -(-self.window // self.frame_length)
        )
        return max(encoder, decoder)

    @property
    def decoder_reaches(self) -> tuple[int, int]:
        """Codec frames on either side that a frame of the spectrum depends on, and spectra that audio depends on.

        For phases that are integrated, the first has one frame of the spectrum more: their slopes over time.
        """
        reach = self.kernel_size // 2
        at_codec_rate, at_stft_rate = split_layers(self.decoder_layers)
        fast = reach * at_stft_rate + (self.phases == "integrated")
        overlap = -(-(self.window - self.hop) // (2 * self.hop))  # STFT frames
        spectrum = 1 + reach * at_codec_rate + -(-fast // self.frame_stride)  # 1: `project` has 3 taps
        return spectrum, -(-overlap // self.frame_stride)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)

    def magnitudes(self, wav: Tensor, window: Tensor) -> Tensor:
        """Return the STFT's magnitudes `[B, frames, F]` of `wav [B, N]`; frame i is centred on its hop."""
        pad = self.window - self.hop
        padded = F.pad(wav.float(), (pad // 2, pad - pad // 2))
        return torch.fft.rfft(padded.unfold(-1, self.window, self.hop) * window).abs()


def split_layers(n: int) -> tuple[int, int]:
    """Share decoder blocks out: a quarter (at least one) at the codec rate, the rest at the STFT rate."""
    slow = max(1, n // 4)
    return slow, n - slow


@dataclass(frozen=True)
class CodecOutput:
    """Result of a training pass."""

    decoded: Tensor
    """What the decoder says: log-magnitudes `[B, frames, F]`, complex where it predicts phases; or audio `[B, N]`."""
    quantized: QuantizerOutput
    """Codes, commitment loss and resets."""
    is_audio: bool = False
    """Is `decoded` audio?"""

    @property
    def log_magnitude(self) -> Tensor:
        """Log-magnitudes `[B, frames, F]`, where the decoder says a spectrum."""
        return self.decoded.abs().clamp_min(1e-5).log() if self.decoded.is_complex() else self.decoded


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP; residual, `[B, T, D]` in and out."""

    def __init__(self, dim: int, kernel_size: int = 7, expansion: int = 3, scale: float = 0.25):
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, expansion * dim)
        self.down = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Mix time, then channels."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.down(F.gelu(self.up(self.norm(y))))


class SpectralEncoder(nn.Module):
    """Log-magnitude STFT `[B, N]` to latent vectors `[B, T, code_dim]` at the codec rate."""

    window: Tensor

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config = config
        dim, k = config.encoder_dim, config.kernel_size
        fine, coarse = config.encoder_layers - config.encoder_layers // 2, config.encoder_layers // 2
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        self.project = nn.Linear(config.window // 2 + 1, dim)
        self.fine = nn.Sequential(*[ConvNeXtBlock(dim, k) for _ in range(fine)])
        self.merge = nn.Linear(dim * config.frame_stride, dim)
        self.coarse = nn.Sequential(*[ConvNeXtBlock(dim, k) for _ in range(coarse)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.code_dim)

    def forward(self, wav: Tensor) -> Tensor:
        """Encode audio whose length is a whole number of codec frames."""
        with torch.autocast(wav.device.type, enabled=False):
            spectrum = self.config.magnitudes(wav, self.window).clamp_min(1e-4).log()
        x = self.fine(self.project(spectrum * 0.3))
        x = self.merge(rearrange(x, "b (t s) d -> b t (s d)", s=self.config.frame_stride))
        return self.head(self.norm(self.coarse(x)))


class SpectralDecoder(nn.Module):
    """Quantised vectors `[B, T, code_dim]` to the magnitudes of an STFT, and those to audio `[B, T * frame_length]`."""

    window: Tensor

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config = config
        dim, k = config.decoder_dim, config.kernel_size
        slow, fast = split_layers(config.decoder_layers)
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        self.project = nn.Conv1d(config.code_dim, dim, 3, padding=1)
        self.slow = nn.Sequential(*[ConvNeXtBlock(dim, k) for _ in range(slow)])
        self.spread = nn.Linear(dim, dim * config.frame_stride)
        self.fast = nn.Sequential(*[ConvNeXtBlock(dim, k) for _ in range(fast)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, (config.window // 2 + 1) * (2 if config.phases == "predicted" else 1))

    def forward(self, quantized: Tensor) -> Tensor:
        """Return log-magnitudes `[B, T * frame_stride, F]`, or a complex spectrum where phases are predicted."""
        x = self.slow(self.project(quantized.transpose(1, 2)).transpose(1, 2))
        x = rearrange(self.spread(x), "b t (s d) -> b (t s) d", s=self.config.frame_stride)
        spectrum = self.head(self.norm(self.fast(x))).float()
        if self.config.phases == "integrated":
            return spectrum.clamp(max=6.0)
        log_magnitude, phase = spectrum.chunk(2, dim=-1)
        return torch.polar(log_magnitude.clamp(max=6.0).exp(), phase)

    def synthesize(self, spectrum: Tensor) -> Tensor:
        """Turn what `forward` returns, `[B, frames, F]`, into audio `[B, frames * hop]`."""
        with torch.autocast(spectrum.device.type, enabled=False):
            if self.config.phases == "integrated":
                spectrum = integrate_phases(spectrum, self.config.hop)
            return self.overlap_add(spectrum)

    def overlap_add(self, spectrum: Tensor) -> Tensor:
        """Invert the STFT `[B, frames, F]` with the window's power normalised away; returns `[B, frames * hop]`."""
        config = self.config
        B, frames, _ = spectrum.shape
        pieces = torch.fft.irfft(spectrum, n=config.window) * self.window  # [B, frames, window]
        length = (frames - 1) * config.hop + config.window
        power = self.window.square().expand(1, frames, -1)
        wav, norm = (
            F.fold(p.transpose(1, 2), (1, length), (1, config.window), stride=(1, config.hop))[:, 0, 0]
            for p in (pieces, power)
        )
        start = (config.window - config.hop) // 2
        kept = slice(start, start + frames * config.hop)
        return wav[:, kept] / norm[:, kept].clamp_min(1e-3)


class NeuralCodec(nn.Module):
    """The whole codec; `encode` and `decode` are what a tokenizer needs, `forward` what training needs."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config = config
        self.encoder = SpectralEncoder(config)
        self.quantizer = ResidualVectorQuantizer(config.code_dim, config.n_codebooks, config.codebook_size)
        self.decoder = SpectralDecoder(config)

    def pad(self, wav: Tensor) -> Tensor:
        """Pad `wav [B, N]` with zeros to a whole number of codec frames."""
        return F.pad(wav, (0, -wav.shape[-1] % self.config.frame_length))

    def forward(self, wav: Tensor, n_codebooks: int | None = None, given: Tensor | None = None) -> CodecOutput:
        """Code `wav [B, N]` with the first `n_codebooks` codebooks (default: all) and say what it sounded like.

        Args:
            wav: The audio.
            n_codebooks: How many codebooks.
            given: Codes `[B, K, T]` for the decoder in place of those of `wav`; -1 where there are none.
        """
        quantized = self.quantizer(self.encoder(self.pad(wav)), n_codebooks)
        vectors = quantized.vectors
        if given is not None:
            vectors = torch.where(given[:, 0, :, None] < 0, vectors, self.quantizer.decode(given.clamp(min=0)))
        return CodecOutput(self.decoder(vectors), quantized)

    def waveform(self, output: CodecOutput) -> Tensor:
        """Return the audio `[B, T * frame_length]` of a training pass; gradients pass.

        Where phases are integrated, to the magnitudes only: each frame's phases go on from those before, so gradients
        through them grow without bound (2e-2 for these, 6e10 for those, after 2 s of speech).
        """
        decoded = output.decoded
        if decoded.is_complex():
            return self.decoder.synthesize(decoded)
        with torch.autocast(decoded.device.type, enabled=False):
            spectrum = integrate_phases(decoded.detach(), self.config.hop) * (decoded - decoded.detach()).exp()
            return self.decoder.overlap_add(spectrum)

    def encode(self, wav: Tensor, n_codebooks: int | None = None) -> Tensor:
        """Turn `wav [B, N]` at the codec's rate into codes `[B, K, T]`, `T = ceil(N / frame_length)`."""
        return self.quantizer.encode(self.encoder(self.pad(wav)), n_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Turn codes `[B, K', T]` (the first K' codebooks) into audio `[B, T * frame_length]`."""
        return self.decoder.synthesize(self.decode_spectrum(codes))

    def decode_spectrum(self, codes: Tensor) -> Tensor:
        """Turn codes `[B, K', T]` into what `decoder.synthesize` takes; a frame depends on `context_frames` only."""
        return self.decoder(self.quantizer.decode(codes))

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the audio, in Hz."""
        return self.config.sample_rate_hz

    @property
    def n_codebooks(self) -> int:
        """Codebooks K."""
        return self.config.n_codebooks

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        return self.config.codebook_size

    @property
    def code_dim(self) -> int:
        """Width of the quantised vectors, D."""
        return self.config.code_dim
