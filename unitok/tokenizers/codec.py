"""What all neural codecs do alike around their network: checks, resampling, mixing, rows of a batch, saving.

A subclass codes one row at a time (`_encode_row`, `_decode_row`). One row at a time, because padding leaks: zeros
after a short row reach its last frames through convolutions, and even rows of equal length differ from single ones in
the last bits, which flips codes now and then. Here a row gets exactly the codes it would get alone.

B batch, C channels, N samples, T codec frames, K codebooks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from unitok.audio import resampled
from unitok.errors import AudioFormatError, TokenizerError
from unitok.tokenizers.base import EncodedAudio, write_card
from unitok.tokenizers.chunking import Chain, ChainStream, FadedStream, PieceStream, Reach
from unitok.tokenizers.settings import DacSettings, EncodecSettings, SnacSettings, weights_file
from unitok.tokenizers.weights import WEIGHTS_FILE, fill, fingerprint, read_state, write_state

__all__ = ["CodecTokenizer", "PublishedCodec", "load_network", "remix", "rows_of_audio", "side_by_side"]

Self = TypeVar("Self", bound="CodecTokenizer")

FADED_PAST_S = 1.0
"""What a decoder that sees everything is shown of the past of each piece, in s."""
FADED_LOOK_AHEAD_S = 0.5
"""What it is shown of its future, in s."""
FADE_S = 0.02
"""How long such pieces fade into each other, in s."""


class CodecTokenizer(ABC):
    """Base of the audio tokenizers; satisfies `AudioTokenizer`.

    A subclass sets the attributes below in its constructor and calls `set_codebooks`.
    """

    name: str
    """Name of the card."""
    sample_rate_hz: int
    """Rate of the codec's audio."""
    channels: int
    """Channels of the codec's audio, 1 or 2."""
    frame_rate_hz: float
    """Frames in one second."""
    codebook_size: int
    """Codes in one codebook."""
    max_codebooks: int
    """Codebooks of the network."""
    n_codebooks: int
    """Codebooks in use, K."""

    model: nn.Module | None = None
    """The network, where there is one."""
    decoder_reach: Reach | None = None
    """Frames on either side that a decoded frame depends on, where it depends on these alone; None: not known."""

    @torch.no_grad()
    def encode(self, wav: Tensor, sample_rate_hz: int, lengths: Tensor | None = None) -> EncodedAudio:
        """Turn audio into codes.

        Args:
            wav: `[B, C, N]`, floating point, nominally in [-1, 1]; resampled and mixed as the codec needs it.
            sample_rate_hz: Rate of `wav`.
            lengths: Samples of each row, `[B]`; default: N. What lies after them is not looked at.

        Returns:
            Codes of the first `n_codebooks` codebooks, on the device of `wav`.

        Raises:
            AudioFormatError: If `wav` has another shape or type, a row is empty, or samples are NaN or infinite.
        """
        rows = rows_of_audio(wav, sample_rate_hz, lengths)
        return side_by_side([self._encode_row(self._prepare(row, sample_rate_hz)).to(wav.device) for row in rows])

    def codebook_vectors(self) -> list[Tensor]:
        """Return the vectors that the codes of each codebook in use stand for, K times `[V, width]`.

        A frame's latent is the sum of its codes' vectors: they all lie in one space.
        """
        with torch.no_grad():
            return [self._vectors(k).float().cpu() for k in range(self.n_codebooks)]

    @torch.no_grad()
    def decode(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn codes into audio.

        Args:
            codes: `[B, K, T]`, K from 1 to `max_codebooks`.
            lengths: Frames of each row, `[B]`; default: T. What lies after them is not looked at.

        Returns:
            `[B, C, N]`, float32, with `N = n_samples(T)`; zeros after the end of a row; on the device of `codes`.

        Raises:
            TokenizerError: If `codes` has another shape or type, or holds ids that are no codes.
        """
        B, _, T = self._check_codes(codes)
        frames = [T] * B if lengths is None else [int(n) for n in lengths]
        if len(frames) != B or not all(0 <= n <= T for n in frames):
            raise TokenizerError(f"lengths are {frames}, allowed: {B} numbers from 0 to {T}, the frames of 'codes'.")
        wav = torch.zeros(B, self.channels, self.n_samples(T), device=codes.device)
        for target, row, n in zip(wav, codes, frames, strict=True):
            if n:
                self._check_range(row[:, :n])
                decoded = self._decode_row(row[:, :n])
                target[:, : decoded.shape[-1]] = decoded
        return wav

    def decoder_stream(self, look_ahead: int | None = None) -> PieceStream:
        """Begin to decode one row of codes as they come: `push` takes `[K, n]` and returns samples `[C, N]`.

        Args:
            look_ahead: Wait for no more frames than this, at the price of exactness, where `exact_stream` needs more.
                Default: as many as it needs, or `FADED_LOOK_AHEAD_S` where there is none.

        Raises:
            TokenizerError: If it is negative.
        """
        if look_ahead is not None and look_ahead < 0:
            raise TokenizerError(f"look_ahead is {look_ahead} frames, allowed: 0 or more.")
        exact = self.exact_stream()
        if exact is not None and (look_ahead is None or look_ahead >= exact.look_ahead):
            return exact
        right = round(FADED_LOOK_AHEAD_S * self.frame_rate_hz) if look_ahead is None else look_ahead
        left = self.decoder_reach.left if self.decoder_reach else round(FADED_PAST_S * self.frame_rate_hz)
        step = self.n_samples(1)
        if self.n_samples(2) != 2 * step:
            raise TokenizerError(
                f"tokenizer '{self.name}' decodes segments of {self.n_frames(1)} frames or more, look_ahead is "
                f"{look_ahead} frames. Leave it out."
            )
        return FadedStream(self._decode_row, step, Reach(left, right), round(FADE_S * self.sample_rate_hz))

    def exact_stream(self) -> PieceStream | None:
        """Return a stream whose pieces are together what `decode` gives; None where the network sees everything."""
        chain = self.decoder_chain()
        return None if chain is None else ChainStream(chain)

    def decoder_chain(self) -> Chain | None:
        """Return the decoder as a chain from codes `[K, T]` to samples `[C, N]`; None where it is none."""
        if self.decoder_reach is None:
            return None
        step = self.n_samples(1)
        return Chain(self._decode_row, steps=(1, step, step), contexts=(self.decoder_reach, Reach(0, 0)))

    def n_frames(self, n_samples: int) -> int:
        """Return the frames that `n_samples` samples at the codec's rate give."""
        return -(-n_samples // round(self.sample_rate_hz / self.frame_rate_hz))

    def n_samples(self, n_frames: int) -> int:
        """Return the samples that `n_frames` frames decode to."""
        return n_frames * round(self.sample_rate_hz / self.frame_rate_hz)

    def set_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on.

        Raises:
            TokenizerError: If there are fewer.
        """
        if not 1 <= n <= self.max_codebooks:
            raise TokenizerError(f"codebooks are {n}, allowed: 1 to {self.max_codebooks} for tokenizer '{self.name}'.")
        self.n_codebooks = n

    def to(self: Self, device: str | torch.device) -> Self:
        """Move the weights; codes and audio stay where they are."""
        if self.model is not None:
            self.model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensor = next(self.model.parameters(), None) if self.model is not None else None
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def fingerprint(self) -> str:
        """Class, settings and weights in one word; computed once."""
        return self._known_fingerprint

    @cached_property
    def _known_fingerprint(self) -> str:
        return self._fingerprint()

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the card and, where they are not published elsewhere, the weights."""

    @abstractmethod
    def _fingerprint(self) -> str:
        """Compute the fingerprint."""

    @abstractmethod
    def _encode_row(self, wav: Tensor) -> Tensor:
        """Turn one row `[C, N]` at the codec's rate into codes `[K, T]`."""

    @abstractmethod
    def _decode_row(self, codes: Tensor) -> Tensor:
        """Turn codes `[K, T]` into `[C, N]` with `N <= n_samples(T)`."""

    @abstractmethod
    def _vectors(self, k: int) -> Tensor:
        """Return the vectors of codebook k, `[V, width]`."""

    def _prepare(self, row: Tensor, sample_rate_hz: int) -> Tensor:
        """Mix and resample `[C', N']` to `[C, N]` at the codec's rate."""
        row = remix(row.float(), self.channels)
        if sample_rate_hz == self.sample_rate_hz:
            return row
        return resampled(row, sample_rate_hz, self.sample_rate_hz)

    def _check_codes(self, codes: Tensor) -> tuple[int, int, int]:
        if not isinstance(codes, Tensor) or codes.ndim != 3 or codes.is_floating_point() or codes.dtype == torch.bool:
            got = f"{list(codes.shape)} {codes.dtype}" if isinstance(codes, Tensor) else type(codes).__name__
            raise TokenizerError(f"codes are {got}, allowed: an integer tensor [B, K, T].")
        B, K, T = codes.shape
        if not 1 <= K <= self.max_codebooks:
            raise TokenizerError(
                f"codes have K={K} codebooks, tokenizer '{self.name}' decodes 1 to {self.max_codebooks}. "
                f"Pass codes[:, :{self.max_codebooks}], or use the tokenizer that made them."
            )
        return B, K, T

    def _check_range(self, codes: Tensor) -> None:
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise TokenizerError(
                f"codes lie in [{low}, {high}], a codebook of '{self.name}' holds 0 to {self.codebook_size - 1}. "
                "These are not codes: subtract the offsets of the vocabulary first (Vocabulary.tokens_to_codes)."
            )


PublishedSettings = DacSettings | EncodecSettings | SnacSettings
TRAINING_ONLY = (".cluster_size", ".embed_avg", ".inited")
"""Ends of the names of what EnCodec's codebooks need to go on learning, but not to code."""


class PublishedCodec(CodecTokenizer):
    """Base of the codecs whose networks come from another package: what follows from the card."""

    kind: ClassVar[str]
    """`kind:` of the cards."""
    model: nn.Module

    def __init__(self, settings: PublishedSettings, model: nn.Module):
        """Take over what the card says.

        Args:
            settings: The card.
            model: The package's network, of the sizes in `settings.model`.
        """
        self.settings = settings
        self.model = model.eval()
        self.name = settings.name
        self.sample_rate_hz = settings.sample_rate_hz
        self.channels = settings.channels
        self.frame_rate_hz = settings.frame_rate_hz
        self.codebook_size = settings.codebook_size
        self.max_codebooks = settings.model.n_codebooks
        self.set_codebooks(settings.codebooks)

    def save(self, folder: Path) -> None:
        """Write the card, and the weights unless they are published ones or random ones with a seed."""
        settings = replace(self.settings, codebooks=self.n_codebooks, fingerprint=self.fingerprint)
        if settings.weights not in ("official", "random"):
            settings = replace(settings, weights=WEIGHTS_FILE)
            write_state(self.model, folder / WEIGHTS_FILE)
        write_card(folder, {"kind": self.kind, **settings.to_card()})

    def coding_fingerprint(self) -> str:
        """Return the fingerprint of what decides the codes: sizes, encoder and codebooks, without the decoder."""
        state = self.model.state_dict().items()
        return self._fingerprint_of(
            {k: v for k, v in state if not k.startswith("decoder.") and not k.endswith(TRAINING_ONLY)}
        )

    def _fingerprint(self) -> str:
        settings = self.settings
        if settings.fingerprint and settings.coding and settings.coding == self.coding_fingerprint():
            return settings.fingerprint  # another decoder for the codes of the codec that had it first
        return self._fingerprint_of(self.model.state_dict())

    def _fingerprint_of(self, state: Mapping[str, Tensor]) -> str:
        sizes = {"sample_rate_hz": self.sample_rate_hz, "channels": self.channels, **asdict(self.settings.model)}
        return fingerprint(self.kind, {"version": self.settings.version, **sizes}, state)

    @property
    def _chunk_frames(self) -> int:
        return round(self.settings.chunk_seconds * self.frame_rate_hz)


S = TypeVar("S", DacSettings, EncodecSettings, SnacSettings)


def load_network(
    settings: S,
    folder: Path | None,
    build: Callable[[S], nn.Module],
    official: Callable[[S], dict[str, Tensor]],
) -> nn.Module:
    """Return the network that a card describes, with the weights that it names.

    Args:
        settings: The card.
        folder: Where a relative `weights:` starts.
        build: Makes the network with random weights.
        official: Gets the published weights.

    Raises:
        MissingWeightsError: If the weights are not here and cannot be downloaded.
        TokenizerError: If they cannot be read, or do not fit.
    """
    if settings.weights == "random":
        return build(settings)
    if settings.weights == "official":
        where, state = f"official {settings.release}", official(settings)
    else:
        where = weights_file(settings.weights, folder)
        state = read_state(where)
    model = build(settings)  # after the weights: a large network takes seconds
    fill(model, state, where)
    return model


def rows_of_audio(wav: Tensor, sample_rate_hz: int, lengths: Tensor | None) -> list[Tensor]:
    """Return the rows of `wav [B, C, N]`, each `[C, n]`, n from `lengths [B]`.

    Raises:
        AudioFormatError: If `wav` has another shape or type, a row is empty, or samples are NaN or infinite.
    """
    if not isinstance(wav, Tensor) or wav.ndim != 3 or not wav.is_floating_point():
        got = f"{list(wav.shape)} {wav.dtype}" if isinstance(wav, Tensor) else type(wav).__name__
        raise AudioFormatError(f"wav is {got}, allowed: a floating-point tensor [B, C, N].")
    if sample_rate_hz <= 0:
        raise AudioFormatError(f"sample rate is {sample_rate_hz}, allowed: a whole number of Hz above 0.")
    B, C, N = wav.shape
    samples = [N] * B if lengths is None else [int(n) for n in lengths]
    if not B or not C or len(samples) != B or not all(0 < n <= N for n in samples):
        raise AudioFormatError(
            f"wav is {[B, C, N]} with lengths {samples}, allowed: at least one row and channel, and for each row a "
            "length from 1 to N."
        )
    rows = [row[:, :n] for row, n in zip(wav, samples, strict=True)]
    for i, row in enumerate(rows):
        if not bool(torch.isfinite(row).all()):
            raise AudioFormatError(f"row {i} of wav holds samples that are NaN or infinite. Look at what made them.")
    return rows


def side_by_side(rows: Sequence[Tensor]) -> EncodedAudio:
    """Put the codes of rows, each `[K, T]`, into one batch, padded with 0."""
    frames = torch.tensor([row.shape[-1] for row in rows], device=rows[0].device)
    out = rows[0].new_zeros(len(rows), rows[0].shape[0], int(frames.max()))
    for target, row in zip(out, rows, strict=True):
        target[:, : row.shape[-1]] = row
    return EncodedAudio(out, frames)


def remix(wav: Tensor, channels: int) -> Tensor:
    """Return `[C', N]` with `channels` channels: itself, or the mean of its channels, copied where two are needed."""
    return wav if wav.shape[0] == channels else wav.mean(0, keepdim=True).expand(channels, -1)
