"""Codecs as training sees them: a network whose encoder, quantiser and decoder learn together, and its tokenizer.

`NeuralCodec`, unitok's own, is one as it is; `encodec_training.py` and `dac_training.py` make one of a package's
network. `begin_codec` and `continue_codec` give one, `to_tokenizer` turns it into what is used afterwards. Trained are
mono codecs.

B batch, N samples, T codec frames, K codebooks, D code width.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from unitok.errors import TokenizerError
from unitok.model.codec import CodecConfig, CodecOutput, NeuralCodec
from unitok.tokenizers.base import TokenizerCard, load_audio_tokenizer
from unitok.tokenizers.codec import CodecTokenizer, PublishedCodec
from unitok.tokenizers.settings import DacModel, DacSettings, EncodecModelSettings, EncodecSettings
from unitok.tokenizers.weights import WEIGHTS_FILE

__all__ = [
    "DacSizes",
    "EncodecSizes",
    "TrainableCodec",
    "begin_codec",
    "continue_codec",
    "exported_settings",
    "to_tokenizer",
]

KINDS = "encodec, dac, unitok"


@dataclass(frozen=True, kw_only=True)
class EncodecSizes(EncodecModelSettings):
    """Sizes of an EnCodec to train; defaults are those of the 24 kHz model."""

    sample_rate_hz: int = 24000
    """Rate of the audio, in Hz."""


@dataclass(frozen=True, kw_only=True)
class DacSizes(DacModel):
    """Sizes of a DAC to train; defaults are those of the 44.1 kHz model."""

    sample_rate_hz: int = 44100
    """Rate of the audio, in Hz."""


class TrainableCodec(Protocol):
    """An `nn.Module` that codes mono audio and learns to do it better."""

    encoder: nn.Module
    quantizer: nn.Module
    """It and the encoder decide the codes."""
    decoder: nn.Module

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the audio."""
        ...

    @property
    def n_codebooks(self) -> int:
        """Codebooks K."""
        ...

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        ...

    @property
    def code_dim(self) -> int:
        """Width of the quantised vectors, D."""
        ...

    def pad(self, wav: Tensor) -> Tensor:
        """Pad `wav [B, N]` with zeros to a whole number of codec frames."""
        ...

    def __call__(self, wav: Tensor, n_codebooks: int | None = None) -> CodecOutput:
        """Code `wav [B, N]` with the first `n_codebooks` codebooks (default: all) and decode it."""
        ...

    def waveform(self, output: CodecOutput) -> Tensor:
        """Return the audio of a pass, `[B, N']`, as long as what `pad` returns; gradients pass."""
        ...


def begin_codec(sizes: CodecConfig | EncodecSizes | DacSizes, name: str) -> Any:
    """Return a new `TrainableCodec`, with weights drawn from torch's generator and codebooks that wait for audio.

    Raises:
        CardError: If sizes do not go together.
        TokenizerError: If codecs of these sizes are not trained.
        MissingDependencyError: If the codec's package cannot be imported.
    """
    if isinstance(sizes, CodecConfig):
        return NeuralCodec(sizes)
    is_encodec = isinstance(sizes, EncodecSizes)
    model = {k: v for k, v in asdict(sizes).items() if k != "sample_rate_hz" and v is not None}
    model = {k: list(v) if isinstance(v, tuple) else v for k, v in model.items()}
    card = {
        "name": name,
        "kind": "encodec" if is_encodec else "dac",
        "description": f"{'EnCodec' if is_encodec else 'DAC'} trained by unitok fit-codec.",
        "sample_rate_hz": sizes.sample_rate_hz,
        "weights": WEIGHTS_FILE,
        "seed": int(torch.randint(2**31, ())),
        "model": model,
    }
    card = TokenizerCard(card, Path(f"model.{card['kind']}"))
    if is_encodec:
        from unitok.tokenizers.encodec import build
        from unitok.tokenizers.encodec_training import TrainableEncodec, even_out

        settings = EncodecSettings.from_card(card)
        network = build(settings)
        codec = TrainableEncodec(settings, network)
        even_out(network)
        return codec
    from unitok.tokenizers.dac import build
    from unitok.tokenizers.dac_training import TrainableDac

    settings = DacSettings.from_card(card)
    return TrainableDac(settings, build(settings))


def continue_codec(name_or_folder: str | Path) -> Any:
    """Return a `TrainableCodec` that goes on from a tokenizer: a folder, or the name of a card.

    Raises:
        CardError: If there is no such tokenizer.
        MissingWeightsError: If its weights are not here and cannot be downloaded.
        TokenizerError: If tokenizers of its kind are not trained.
    """
    from unitok.tokenizers.dac import DacTokenizer
    from unitok.tokenizers.encodec import EncodecTokenizer
    from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer

    tokenizer = load_audio_tokenizer(name_or_folder)
    if isinstance(tokenizer, UnitokCodecTokenizer):
        return tokenizer.model.train()  # a tokenizer's network is in evaluation mode, where codebooks stay
    if isinstance(tokenizer, EncodecTokenizer):
        from unitok.tokenizers.encodec_training import TrainableEncodec

        return TrainableEncodec(tokenizer.settings, tokenizer.model, tokenizer.fingerprint)
    if isinstance(tokenizer, DacTokenizer):
        from unitok.tokenizers.dac_training import TrainableDac

        return TrainableDac(cast(DacSettings, tokenizer.settings), tokenizer.model, tokenizer.fingerprint)
    raise TokenizerError(f"'{name_or_folder}' is a {type(tokenizer).__name__}; trained are tokenizers of kind {KINDS}.")


def to_tokenizer(codec: Any, name: str, same_codes: bool = False) -> CodecTokenizer:
    """Return a tokenizer with a copy of a codec's present weights.

    Args:
        codec: A `TrainableCodec`.
        name: Name of the tokenizer.
        same_codes: Only its decoder was trained: codes, and their fingerprint, are those that it began with.
    """
    from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer

    if isinstance(codec, NeuralCodec):
        return UnitokCodecTokenizer(copy.deepcopy(codec), name=name)  # whose fingerprint never counts the decoder
    return codec.to_tokenizer(name, same_codes)


def exported_settings(settings: Any, name: str, tokenizer: PublishedCodec | None = None, fingerprint: str = "") -> Any:
    """Return the card of a trained codec.

    Args:
        settings: The card that training began with.
        name: Name of the new one.
        tokenizer: Only where codes stayed those of `fingerprint`: says what decides them.
        fingerprint: That of the codec that training began with.
    """
    values = {item.name: getattr(settings, item.name) for item in fields(settings) if item.init}
    values |= {"name": name, "weights": WEIGHTS_FILE, "release": None, "fingerprint": None, "coding": None}
    if tokenizer is not None:
        values |= {"fingerprint": fingerprint, "coding": tokenizer.coding_fingerprint()}
    return type(settings)(**values)
