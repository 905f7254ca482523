"""DAC's network in training: all of it is the package's, codebooks included, which learn by gradients.

B batch, N samples, T codec frames, D code width.
Source: Kumar et al. 2023 (arXiv:2306.06546), section 3.3; descript-audio-codec 1.0.0.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.model.codec import CodecOutput
from unitok.model.quantizer import QuantizerOutput
from unitok.tokenizers.dac import DacTokenizer, build
from unitok.tokenizers.settings import DacSettings
from unitok.tokenizers.trainable import exported_settings

__all__ = ["TrainableDac"]


class TrainableDac(nn.Module):
    """A DAC; satisfies `TrainableCodec`."""

    def __init__(self, settings: DacSettings, network: Any, fingerprint: str = ""):
        """Take the parts of a network over.

        Args:
            settings: Its card.
            network: A `dac.model.DAC`.
            fingerprint: Of the tokenizer whose network it was.
        """
        super().__init__()
        self.settings, self._fingerprint = settings, fingerprint
        self.sample_rate_hz, self.hop = settings.sample_rate_hz, int(network.hop_length)
        self.n_codebooks, self.codebook_size = settings.codebooks, settings.codebook_size
        self.code_dim = int(network.latent_dim)
        self.encoder, self.quantizer, self.decoder = network.encoder, network.quantizer, network.decoder
        self.train()

    def train(self, mode: bool = True) -> TrainableDac:
        """Set the mode; the quantiser's stays: in training mode it would use all codebooks, whatever it is told."""
        super().train(mode)
        self.quantizer.eval()
        return self

    def pad(self, wav: Tensor) -> Tensor:
        """Pad `wav [B, N]` with zeros to a whole number of codec frames."""
        return F.pad(wav, (0, -wav.shape[-1] % self.hop))

    def forward(self, wav: Tensor, n_codebooks: int | None = None) -> CodecOutput:
        """Code `wav [B, N]` with the first `n_codebooks` codebooks (default: those in use) and decode it."""
        padded = self.pad(wav)
        latents = self.encoder(padded[:, None])
        with torch.autocast(wav.device.type, enabled=False):
            quantized = self._quantize(latents.float(), n_codebooks or self.n_codebooks)
        decoded = self.decoder(quantized.vectors.transpose(1, 2))[:, 0]
        # Decoders with an odd stride end some samples early.
        return CodecOutput(F.pad(decoded, (0, padded.shape[-1] - decoded.shape[-1])), quantized, is_audio=True)

    def waveform(self, output: CodecOutput) -> Tensor:
        """Return the audio of a pass."""
        return output.decoded

    def to_tokenizer(self, name: str, same_codes: bool = False) -> DacTokenizer:
        """Return a tokenizer with a copy of the present weights; arguments as of `trainable.to_tokenizer`."""
        network = build(self.settings)  # anew: modules with weight_norm cannot be copied once they have run
        for part in ("encoder", "quantizer", "decoder"):
            getattr(network, part).load_state_dict(getattr(self, part).state_dict())
        tokenizer = DacTokenizer(exported_settings(self.settings, name), network)
        if not same_codes:
            return tokenizer
        return DacTokenizer(exported_settings(self.settings, name, tokenizer, self._fingerprint), network)

    def _quantize(self, latents: Tensor, n_codebooks: int) -> QuantizerOutput:
        vectors, codes, _, commitment, codebook = self.quantizer(latents, n_codebooks)
        first: Any = self.quantizer.quantizers[0]  # type: ignore[index]
        return QuantizerOutput(
            vectors.transpose(1, 2),
            codes,
            first(latents)[0].transpose(1, 2),
            commitment,
            torch.zeros(n_codebooks, dtype=torch.int64),
            codebook,
        )
