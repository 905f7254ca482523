"""Stereo by way of a mono codec: each channel is coded on its own, and the channels' codebooks take turns.

    codebook   0        1         2        3         …
    holds      left 0   right 0   left 1   right 1   …

C channels, N samples, T codec frames, K codebooks of both channels.
Source: the stereo models of MusicGen (arXiv:2306.05284; https://huggingface.co/facebook/musicgen-stereo-small).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unitok.errors import CardError, TokenizerError
from unitok.tokenizers.base import load_audio_tokenizer, save_tokenizer, write_card
from unitok.tokenizers.chunking import PieceStream
from unitok.tokenizers.codec import CodecTokenizer
from unitok.tokenizers.settings import StereoSettings

__all__ = ["StereoTokenizer"]

KIND = "stereo"
FOLDER = "mono"


class StereoTokenizer(CodecTokenizer):
    """Two streams of a mono codec in one frame."""

    channels = 2

    def __init__(self, mono: CodecTokenizer, settings: StereoSettings):
        """Wrap a codec.

        Raises:
            TokenizerError: If the codec is not mono, or `settings.codebooks` do not fit.
        """
        if mono.channels != 1:
            raise TokenizerError(f"'{settings.name}' codes each channel with '{mono.name}', which is not mono.")
        self.mono, self.settings = mono, settings
        self.model = mono.model
        self.name = settings.name
        self.sample_rate_hz, self.frame_rate_hz = mono.sample_rate_hz, mono.frame_rate_hz
        self.codebook_size, self.max_codebooks = mono.codebook_size, 2 * mono.max_codebooks
        self.set_codebooks(settings.codebooks or 2 * mono.n_codebooks)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> StereoTokenizer:
        """Load the codec that a card names.

        Raises:
            CardError: If the card has mistakes, or names something else than a neural codec.
            MissingWeightsError: If the codec's weights are not here and cannot be downloaded.
        """
        settings = StereoSettings.from_card(card)
        mono = load_audio_tokenizer(settings.codec_card(folder))
        if not isinstance(mono, CodecTokenizer):
            where = getattr(card, "file", settings.name)
            raise CardError(f"{where}: codec: '{settings.codec}' is a {type(mono).__name__}, a mono codec is needed.")
        return cls(mono, settings)

    def save(self, folder: Path) -> None:
        """Write the card, and the mono codec into a folder of its own beside it."""
        save_tokenizer(self.mono, folder / FOLDER)
        settings = replace(self.settings, codec=f"./{FOLDER}", codebooks=self.n_codebooks, fingerprint=self.fingerprint)
        write_card(folder, {"kind": KIND, **settings.to_card()})

    def set_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on, half of them of each channel.

        Raises:
            TokenizerError: If `n` is odd, or the mono codec has fewer.
        """
        if n % 2:
            raise TokenizerError(
                f"codebooks are {n}, tokenizer '{self.name}' has as many for the left channel as for the right: "
                f"an even number up to {self.max_codebooks}."
            )
        super().set_codebooks(n)
        self.mono.set_codebooks(n // 2)

    def n_frames(self, n_samples: int) -> int:
        """Return the frames that `n_samples` samples at the codec's rate give."""
        return self.mono.n_frames(n_samples)

    def n_samples(self, n_frames: int) -> int:
        """Return the samples that `n_frames` frames decode to."""
        return self.mono.n_samples(n_frames)

    def decoder_stream(self, look_ahead: int | None = None) -> PieceStream:
        """Begin to decode one row of codes as they come, see `CodecTokenizer.decoder_stream`."""
        return _TwoStreams(self.mono.decoder_stream(look_ahead), self.mono.decoder_stream(look_ahead))

    def to(self, device: str | torch.device) -> StereoTokenizer:
        """Move the weights; codes and audio stay where they are."""
        self.mono.to(device)
        return self

    def _fingerprint(self) -> str:
        return f"{KIND}-{self.mono.fingerprint}"

    def _encode_row(self, wav: Tensor) -> Tensor:
        of_channels = self.mono.encode(wav[:, None], self.sample_rate_hz).codes  # [2, K/2, T]
        return of_channels.transpose(0, 1).flatten(0, 1)  # [K, T]

    def _decode_row(self, codes: Tensor) -> Tensor:
        if len(codes) % 2:
            raise TokenizerError(
                f"codes have {len(codes)} codebooks, '{self.name}' decodes pairs of left and right. "
                f"Pass codes[:, :{len(codes) - 1}]."
            )
        of_channels = codes.unflatten(0, (-1, 2)).transpose(0, 1)  # [2, K/2, T]
        return self.mono.decode(of_channels)[:, 0]

    def _vectors(self, k: int) -> Tensor:
        # Side by side, so that the sum of a frame's vectors tells the channels apart.
        vectors = self.mono.codebook_vectors()[k // 2]
        width = vectors.shape[1]
        return F.pad(vectors, (width, 0) if k % 2 else (0, width))


class _TwoStreams:
    """The streams of both channels."""

    def __init__(self, left: PieceStream, right: PieceStream):
        self._streams = left, right
        self.exact, self.look_ahead = left.exact, left.look_ahead

    def push(self, codes: Tensor, last: bool = False) -> Tensor:
        """Take the next frames `[K, n]` and return the samples `[2, N]` that can be told by now."""
        of_channels = codes.unflatten(0, (-1, 2)).transpose(0, 1)  # [2, K/2, n]
        return torch.cat([stream.push(one, last) for stream, one in zip(self._streams, of_channels, strict=True)])
