"""DAC, the Descript Audio Codec, at 16, 24 or 44.1 kHz, mono, through the package `descript-audio-codec`.

Codes are those of `DAC.encode(DAC.preprocess(wav))`, bit for bit. Loudness is left alone (the package's `compress`
shifts it to -16 dB first and stores the shift; a language model of the codes has nowhere to keep that).

All convolutions have a finite reach, so long audio is coded in pieces with the codes of one pass. The decoders for 16
and 24 kHz (an odd stride) end 8 samples early; those samples are zeros here, so that a frame is always `hop` samples.

Source: Kumar et al. 2023 (arXiv:2306.06546), https://github.com/descriptinc/descript-audio-codec 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unitok.tokenizers.chunking import Reach, chunked, conv_layers, reach
from unitok.tokenizers.codec import PublishedCodec, load_network
from unitok.tokenizers.settings import DacSettings
from unitok.tokenizers.weights import check_download_allowed, missing_official, missing_package, quiet_build, read_state

__all__ = ["DacTokenizer"]


class DacTokenizer(PublishedCodec):
    """DAC; see the module's docstring for what its codes are."""

    kind = "dac"
    decoder_reach: Reach

    def __init__(self, settings: DacSettings, model: Any):
        """Wrap a network.

        Args:
            settings: The card.
            model: A `dac.model.DAC` of the sizes in `settings.model`.
        """
        super().__init__(settings, model)
        self._dac = model
        self.hop = int(model.hop_length)
        self.encoder_reach = reach(conv_layers(model.encoder))
        self.decoder_reach = reach(conv_layers(model.decoder))

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> DacTokenizer:
        """Build the network and load its weights.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the weights are not here and cannot be downloaded.
        """
        settings = DacSettings.from_card(card)
        return cls(settings, load_network(settings, folder, build, official_weights))

    def _encode_row(self, wav: Tensor) -> Tensor:
        def network(piece: Tensor) -> Tensor:
            return self._dac.encode(piece[None].to(self.device), self.n_codebooks)[1][0]

        wav = F.pad(wav, (0, -wav.shape[-1] % self.hop))  # what DAC.preprocess does
        return chunked(wav, network, steps=(self.hop, 1), chunk=self._chunk_frames, context=self.encoder_reach)

    def _decode_row(self, codes: Tensor) -> Tensor:
        def network(piece: Tensor) -> Tensor:
            return self._dac.decode(self._dac.quantizer.from_codes(piece[None].to(self.device))[0])[0]

        return chunked(codes, network, steps=(1, self.hop), chunk=self._chunk_frames, context=self.decoder_reach)

    def _vectors(self, k: int) -> Tensor:
        quantizer = self._dac.quantizer.quantizers[k]
        codes = torch.arange(self.codebook_size, device=self.device)[None]
        return quantizer.out_proj(quantizer.decode_code(codes))[0].T


def build(settings: DacSettings) -> Any:
    """Return the network with weights drawn from the card's seed.

    Raises:
        MissingDependencyError: If the package cannot be imported.
    """
    with quiet_build(settings.seed):
        dac = import_dac()
        sizes = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings.model).items()
        }
        return dac.DAC(sample_rate=settings.sample_rate_hz, **sizes).eval()


def import_dac() -> Any:
    """Import `dac`, which brings all of audiotools with it: only where a DAC is really used."""
    try:
        import dac
        import dac.utils
    except ImportError as error:
        raise missing_package("descript-audio-codec", error) from error
    return dac


def official_weights(settings: DacSettings) -> dict[str, Tensor]:
    """Return the published weights, downloaded by the package if they are not there.

    Raises:
        MissingWeightsError: If it is absent and cannot be downloaded.
    """
    utils = import_dac().utils
    release, bitrate = str(settings.release), "8kbps"
    tag = utils.__MODEL_LATEST_TAGS__[(release, bitrate)]
    url = utils.__MODEL_URLS__[(release, tag, bitrate)]
    file = Path.home() / ".cache" / "descript" / "dac" / f"weights_{release}_{bitrate}_{tag}.pth"
    check_download_allowed(settings.name, file, url)
    try:
        utils.download(release, bitrate)
    except (OSError, ValueError) as error:
        raise missing_official(settings.name, file, url, error) from error
    return read_state(file)
