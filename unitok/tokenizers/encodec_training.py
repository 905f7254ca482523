"""EnCodec's network in training: the package's SEANet, with codebooks that follow the data.

The package brings no training. Its quantiser would move codebooks, but what it puts in place of dead codes is lost in
the same step (`EuclideanCodebook.forward` overwrites it from its sums), and the commitment loss of all codebooks but
the first has no gradient. So in training `unitok.model.quantizer` stands in for it, whose vectors go back into the
package's codebooks afterwards.

B batch, N samples, T codec frames, D code width.
Source: Défossez et al. 2022 (arXiv:2210.13438), section 3.2; encodec 0.1.1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.errors import TokenizerError
from unitok.model.codec import CodecOutput
from unitok.model.quantizer import ResidualVectorQuantizer
from unitok.tokenizers.encodec import EncodecTokenizer, build
from unitok.tokenizers.settings import EncodecSettings
from unitok.tokenizers.trainable import exported_settings

__all__ = ["TrainableEncodec", "even_out"]

DECAY = 0.99
"""Of the codebooks' moving averages, as in the paper."""
DEAD_FRACTION = 0.4
"""Codes used less than 2 times in a batch start anew (SoundStream, section III-C); in batches of 64 x 1 s at 75 Hz a
code of 1024 is used 4.7 times on average."""


@torch.no_grad()
def even_out(network: Any, loudness: float = 0.1) -> None:
    """Scale the convolutions of a new network so that each gives out signals of size 1, and the last of `loudness`.

    As PyTorch draws them, signals fade from layer to layer: audio of 0.1 gave latents that vary by 0.003, and these
    moved 1 % of what was decoded. Such codecs gave all frames one code, and 200 steps did not help.

    Source: layer-sequential unit-variance initialisation (arXiv:1511.06422), from noise and in one pass.
    """

    def scale_output(conv: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        factor = (loudness if conv is convs[-1] else 1.0) / output.std().clamp_min(1e-6)
        for name, parameter in conv.named_parameters(recurse=False):
            if name != "weight_v":  # the direction only
                parameter.mul_(factor)
        return output * factor

    convs = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    hooks = [conv.register_forward_hook(scale_output) for conv in convs]
    network.decoder(network.encoder(0.1 * torch.randn(1, 1, network.sample_rate)))
    for hook in hooks:
        hook.remove()


class TrainableEncodec(nn.Module):
    """A mono EnCodec without segments; satisfies `TrainableCodec`."""

    def __init__(self, settings: EncodecSettings, network: Any, fingerprint: str = ""):
        """Take the parts of a network over.

        Args:
            settings: Its card.
            network: An `encodec.EncodecModel`; its codebooks are taken over where they hold something.
            fingerprint: Of the tokenizer whose network it was.

        Raises:
            TokenizerError: If it has two channels or codes segments.
        """
        super().__init__()
        if settings.channels != 1 or settings.segment_length:
            raise TokenizerError(
                f"'{settings.name}' has {settings.channels} channel(s) and "
                f"{'segments' if settings.segment_length else 'no segments'}; trained are mono codecs without segments "
                "(segment_seconds, normalize). For stereo, train a mono codec and use it in a card of kind: stereo."
            )
        self.settings, self._fingerprint = settings, fingerprint
        self.sample_rate_hz, self.hop = settings.sample_rate_hz, settings.hop
        self.n_codebooks, self.codebook_size = settings.codebooks, settings.codebook_size
        self.code_dim = settings.model.dimension
        self.encoder, self.decoder = network.encoder, network.decoder
        self.quantizer = ResidualVectorQuantizer(
            self.code_dim, settings.model.n_codebooks, self.codebook_size, DECAY, DEAD_FRACTION
        )
        self._take_codebooks(network)
        self.train()

    def pad(self, wav: Tensor) -> Tensor:
        """Pad `wav [B, N]` with zeros to a whole number of codec frames."""
        return F.pad(wav, (0, -wav.shape[-1] % self.hop))

    def forward(self, wav: Tensor, n_codebooks: int | None = None) -> CodecOutput:
        """Code `wav [B, N]` with the first `n_codebooks` codebooks (default: those in use) and decode it."""
        padded = self.pad(wav)
        latents = self.encoder(padded[:, None]).transpose(1, 2)
        quantized = self.quantizer(latents, n_codebooks or self.n_codebooks)
        decoded = self.decoder(quantized.vectors.transpose(1, 2))[:, 0, : padded.shape[-1]]
        return CodecOutput(decoded, quantized, is_audio=True)

    def waveform(self, output: CodecOutput) -> Tensor:
        """Return the audio of a pass."""
        return output.decoded

    def to_tokenizer(self, name: str, same_codes: bool = False) -> EncodecTokenizer:
        """Return a tokenizer with a copy of the present weights; arguments as of `trainable.to_tokenizer`."""
        network = build(self.settings)  # anew: modules with weight_norm cannot be copied once they have run
        network.encoder.load_state_dict(self.encoder.state_dict())
        network.decoder.load_state_dict(self.decoder.state_dict())
        for mine, theirs in self._pairs(network):
            theirs.embed.copy_(mine.vectors)
            theirs.embed_avg.copy_(mine.sums)
            theirs.cluster_size.copy_(mine.counts)
            theirs.inited.fill_(float(mine.ready))
        settings = exported_settings(self.settings, name)
        tokenizer = EncodecTokenizer(settings, network)
        if not same_codes:
            return tokenizer
        return EncodecTokenizer(exported_settings(self.settings, name, tokenizer, self._fingerprint), network)

    def _take_codebooks(self, network: Any) -> None:
        filled = all(bool(theirs.inited) and bool(theirs.embed.any()) for _, theirs in self._pairs(network))
        if filled:
            for mine, theirs in self._pairs(network):
                mine.vectors.copy_(theirs.embed)
                mine.ready.fill_(1.0)
            self.quantizer.start_anew()

    def _pairs(self, network: Any) -> list[tuple[Any, Any]]:
        layers = network.quantizer.vq.layers
        return [(mine, layer._codebook) for mine, layer in zip(self.quantizer.codebooks, layers, strict=True)]
