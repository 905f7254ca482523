"""What a tokenizer card may say, as typed values. No torch here: `unitok tokenizers` reads every card.

Each class reads its card with `from_card`, which names all mistakes at once, and writes it with `to_card`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from unitok.cards import CardReader
from unitok.tokenizers.settings_base import Settings, weights_file

__all__ = [
    "SETTINGS",
    "BytesSettings",
    "CharacterSettings",
    "CodecSettings",
    "DacModel",
    "DacSettings",
    "EncodecModelSettings",
    "EncodecSettings",
    "HuggingFaceSettings",
    "PhonemeSettings",
    "SemanticSettings",
    "SentencePieceSettings",
    "Settings",
    "SnacModel",
    "SnacSettings",
    "StereoSettings",
    "SymbolSettings",
    "TransformersCodecSettings",
    "weights_file",
]

IPA = (
    " !\"'(),-.:;?¡¿«»“”‘’…—"
    "abcdefghijklmnopqrstuvwxyz"
    "æðøħŋœβθχᵻ"
    + "".join(map(chr, range(0x250, 0x2B0)))  # IPA extensions
    + "ʰʲʷˠˤˈˌːˑ˞"
    + "\u0303\u0306\u0308\u030a\u0318\u0319\u031d\u031e\u0325\u0327\u0329\u032a\u032f\u0361"  # diacritics
)
"""Symbols of phonemes: decomposed, so that a letter and its diacritic are two."""


@dataclass(frozen=True, kw_only=True)
class CodecSettings(Settings):
    """What the cards of neural codecs share."""

    sample_rate_hz: int
    """Rate of the codec's audio."""
    weights: str
    """`official` (published ones, see `release`), `random` (for tests and benchmarks only), or a file."""
    release: str | None = None
    """Which of the published weights."""
    seed: int = 0
    """Seed of random weights."""
    codebooks: int
    """Codebooks in use."""
    chunk_seconds: float = 10.0
    """Longer audio is coded in pieces of this length; the codes do not depend on it."""
    coding: str | None = None
    """Only in a folder whose decoder alone was trained anew: what decides the codes, for which `fingerprint` holds."""

    @classmethod
    def read_codec(cls, reader: CardReader, releases: tuple[str, ...]) -> dict[str, Any]:
        """Take the shared keys, apart from `codebooks`."""
        values = {
            **Settings.read(reader),
            "sample_rate_hz": reader.take("sample_rate_hz", int, 1, required=True, minimum=1),
            "weights": reader.take("weights", str, "", required=True),
            "release": reader.take("release", str, choices=releases),
            "seed": reader.take("seed", int, 0, minimum=0),
            "chunk_seconds": reader.take("chunk_seconds", float, 10.0, minimum=0.1),
            "coding": reader.take("coding", str),
        }
        if values["weights"] == "official" and values["release"] is None:
            reader.problem("release", f"missing: 'weights: official' needs it. Allowed: {', '.join(releases)}.")
        return values

    @property
    def weights_note(self) -> str:
        """Where the weights come from, in words."""
        if self.weights == "official":
            return f"official {self.release}"
        return f"RANDOM (seed {self.seed}), only for tests" if self.weights == "random" else self.weights


@dataclass(frozen=True, kw_only=True)
class DacModel:
    """Sizes of a DAC network; names and defaults are those of `dac.model.DAC`."""

    encoder_dim: int = 64
    """Channels of the encoder's first layer; doubled by each stride."""
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    """Strides of the encoder; their product is the number of samples in a frame."""
    decoder_dim: int = 1536
    """Channels of the decoder's first layer; halved by each stride."""
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    """Strides of the decoder."""
    n_codebooks: int = 9
    """Codebooks of the network."""
    codebook_size: int = 1024
    """Codes in one codebook."""
    codebook_dim: int = 8
    """Width of the codes' vectors."""

    @classmethod
    def read(cls, reader: CardReader) -> DacModel:
        """Read the `model:` part of a card."""
        model = _read_dataclass(cls, reader)
        if math.prod(model.encoder_rates) != math.prod(model.decoder_rates):
            reader.problem(
                "decoder_rates",
                f"multiply to {math.prod(model.decoder_rates)}, encoder_rates to {math.prod(model.encoder_rates)}: "
                "must be the same.",
            )
        return model


@dataclass(frozen=True, kw_only=True)
class DacSettings(CodecSettings):
    """A card with `kind: dac`."""

    RELEASES = ("16khz", "24khz", "44khz")

    model: DacModel = field(default_factory=DacModel)
    """Sizes of the network."""
    channels: int = field(default=1, init=False)
    """Always mono."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of a DAC card."""
        values = cls.read_codec(reader, cls.RELEASES)
        model = DacModel.read(reader.part("model"))
        return {**values, "model": model, "codebooks": _codebooks(reader, model.n_codebooks)}

    @property
    def frame_rate_hz(self) -> float:
        """Frames in one second."""
        return self.sample_rate_hz / math.prod(self.model.encoder_rates)

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        return self.model.codebook_size

    def to_card(self) -> dict[str, Any]:
        """Return the card."""
        return _plain({key: value for key, value in super().to_card().items() if key != "channels"})


@dataclass(frozen=True, kw_only=True)
class SnacModel:
    """Sizes of a SNAC network without attention; names are those of `snac.SNAC`, defaults those of the 24 kHz model."""

    encoder_dim: int = 48
    """Channels of the encoder's first layer; doubled by each stride."""
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    """Strides of the encoder."""
    decoder_dim: int = 1024
    """Channels of the decoder's first layer; halved by each stride."""
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    """Strides of the decoder."""
    codebook_size: int = 4096
    """Codes in one codebook."""
    codebook_dim: int = 8
    """Width of the codes' vectors."""
    vq_strides: tuple[int, ...] = (4, 2, 1)
    """Steps of the network that one code of each level lasts, from coarse to fine."""

    @property
    def n_codebooks(self) -> int:
        """Codes in a frame, which is as long as one code of the coarsest level."""
        return sum(self.vq_strides[0] // stride for stride in self.vq_strides)

    @classmethod
    def read(cls, reader: CardReader) -> SnacModel:
        """Read the `model:` part of a card."""
        model = _read_dataclass(cls, reader)
        strides = model.vq_strides
        if any(before % after for before, after in zip(strides[:-1], strides[1:], strict=True)):
            reader.problem("vq_strides", f"is {list(strides)}: each has to be a multiple of the next, as 4, 2, 1.")
        return model


@dataclass(frozen=True, kw_only=True)
class SnacSettings(CodecSettings):
    """A card with `kind: snac`."""

    RELEASES = ("24khz",)

    model: SnacModel = field(default_factory=SnacModel)
    """Sizes of the network."""
    channels: int = field(default=1, init=False)
    """Always mono."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of a SNAC card."""
        values = cls.read_codec(reader, cls.RELEASES)
        model = SnacModel.read(reader.part("model"))
        return {**values, "model": model, "codebooks": _codebooks(reader, model.n_codebooks)}

    @property
    def frame_rate_hz(self) -> float:
        """Frames in one second."""
        return self.sample_rate_hz / (math.prod(self.model.encoder_rates) * self.model.vq_strides[0])

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        return self.model.codebook_size

    def to_card(self) -> dict[str, Any]:
        """Return the card."""
        return _plain({key: value for key, value in super().to_card().items() if key != "channels"})


@dataclass(frozen=True, kw_only=True)
class EncodecModelSettings:
    """Sizes of an EnCodec network; defaults are those of the 24 kHz model."""

    dimension: int = 128
    """Width of the quantised vectors."""
    n_filters: int = 32
    """Channels of the first layer; doubled by each stride."""
    n_residual_layers: int = 1
    """Residual blocks before each stride."""
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """Strides, in the order of the decoder; their product is the number of samples in a frame."""
    lstm: int = 2
    """LSTM layers of the encoder and of the decoder."""
    causal: bool = True
    """Convolutions see no future."""
    norm: str = "weight_norm"
    """Normalisation of the convolutions."""
    n_codebooks: int = 32
    """Codebooks of the network."""
    codebook_size: int = 1024
    """Codes in one codebook, a power of 2."""
    normalize: bool = False
    """Each segment is scaled to unit power; codes then start with a level frame."""
    segment_seconds: float | None = None
    """Audio is coded in independent segments of this length that overlap by 1 %."""

    @classmethod
    def read(cls, reader: CardReader) -> EncodecModelSettings:
        """Read the `model:` part of a card."""
        model = _read_dataclass(cls, reader, {"norm": ("none", "weight_norm", "time_group_norm")})
        if model.codebook_size < 2 or model.codebook_size & (model.codebook_size - 1):
            reader.problem("codebook_size", f"is {model.codebook_size}, allowed: a power of 2, such as 1024.")
        if model.segment_seconds is None and (model.normalize or model.norm == "time_group_norm"):
            reader.problem(
                "segment_seconds", "missing: normalising over time needs segments. Add 'segment_seconds: 1.0'."
            )
        if model.causal and model.norm == "time_group_norm":
            reader.problem(
                "causal", "is true, but 'norm: time_group_norm' looks ahead. Use false, or 'norm: weight_norm'."
            )
        return model


@dataclass(frozen=True, kw_only=True)
class EncodecSettings(CodecSettings):
    """A card with `kind: encodec`."""

    RELEASES = ("24khz", "48khz")

    channels: int = 1
    """1 or 2."""
    model: EncodecModelSettings = field(default_factory=EncodecModelSettings)
    """Sizes of the network."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of an EnCodec card: `bandwidth_kbps` or `codebooks`."""
        values = cls.read_codec(reader, cls.RELEASES)
        channels = reader.take("channels", int, 1, minimum=1)
        if channels > 2:
            reader.problem("channels", f"is {channels}, allowed: 1 or 2.")
        model = EncodecModelSettings.read(reader.part("model"))
        bandwidth = reader.take("bandwidth_kbps", float)
        if bandwidth is None:
            codebooks = _codebooks(reader, model.n_codebooks)
        else:
            codebooks = _codebooks_of(reader, bandwidth, values["sample_rate_hz"], model)
        return {**values, "channels": channels, "model": model, "codebooks": codebooks}

    @property
    def hop(self) -> int:
        """Samples in one frame."""
        return math.prod(self.model.ratios)

    @property
    def segment_length(self) -> int:
        """Samples in a segment (0: no segments)."""
        return int((self.model.segment_seconds or 0) * self.sample_rate_hz)

    @property
    def segment_stride(self) -> int:
        """Samples from the start of a segment to the start of the next (0: no segments)."""
        return max(1, int(0.99 * self.segment_length)) if self.segment_length else 0

    @property
    def segment_frames(self) -> int:
        """Frames that a whole segment gives: the level frame, where levels are stored, and those of the network."""
        return int(self.model.normalize) + -(-self.segment_length // self.hop)

    @property
    def frame_rate_hz(self) -> float:
        """Frames in one second."""
        if not self.segment_length:
            return self.sample_rate_hz / self.hop
        return self.segment_frames * self.sample_rate_hz / self.segment_stride

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        return self.model.codebook_size

    def to_card(self) -> dict[str, Any]:
        """Return the card."""
        return _plain(super().to_card())


@dataclass(frozen=True, kw_only=True)
class TransformersCodecSettings(Settings):
    """A card with `kind: transformers_codec`."""

    model: str
    """A name on the hub (`owner/name`), or a folder: `./name`, `.`, or an absolute path."""
    codebooks: int | None = None
    """Codebooks in use; None: all."""
    sample_rate_hz: int | None = None
    """Rate of the codec's audio; this and the following are told by the model, and are here for whoever lists cards."""
    frame_rate_hz: float | None = None
    """Frames in one second."""
    codebook_size: int | None = None
    """Codes in one codebook."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of such a card."""
        numbers = {name: reader.take(name, int, minimum=1) for name in ("codebooks", "sample_rate_hz", "codebook_size")}
        rate = reader.take("frame_rate_hz", float, minimum=0.1)
        model = reader.take("model", str, "", required=True)
        return {**Settings.read(reader), **numbers, "model": model, "frame_rate_hz": rate}

    @property
    def on_hub(self) -> bool:
        """Is the model named as the hub names it?"""
        return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.model) is not None


@dataclass(frozen=True, kw_only=True)
class StereoSettings(Settings):
    """A card with `kind: stereo`."""

    codec: str
    """The mono codec for each channel: the name of a card, or a folder beside this one, `./name`."""
    codebooks: int | None = None
    """Codebooks in use, those of both channels; None: twice those of the mono codec's card."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of such a card."""
        codebooks = reader.take("codebooks", int, minimum=2)
        if codebooks is not None and codebooks % 2:
            reader.problem("codebooks", f"is {codebooks}, allowed: an even number, half of them for each channel.")
        codec = reader.take("codec", str, "", required=True)
        return {**Settings.read(reader), "codec": codec, "codebooks": codebooks}

    def codec_card(self, folder: Path | None) -> str | Path:
        """Return where the mono codec's card is; `./name` starts from `folder`, that of this card."""
        return weights_file(self.codec, folder) if self.codec.startswith(".") else self.codec


@dataclass(frozen=True, kw_only=True)
class SemanticSettings(Settings):
    """A card with `kind: semantic`."""

    encoder: str
    """What hears the audio: the name of a card in `features/`, or a folder beside this card, `./name`."""
    layer: int | None = None
    """Its states after this layer; None: those that the encoder's card says."""
    centroids: str
    """File of the centroids `[V, E]`: `.npy`, or `.safetensors` with a tensor `centroids`; relative to the card."""
    deduplicate: bool = False
    """Consecutive equal ids stand in sequences once."""
    codebook_size: int | None = None
    """Clusters V; told by the file, as the rest is by the encoder. Here for whoever lists cards, and checked."""
    sample_rate_hz: int | None = None
    """Rate that audio is resampled to."""
    frame_rate_hz: float | None = None
    """Ids in one second, before de-duplication."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of such a card."""
        return {
            **Settings.read(reader),
            "encoder": reader.take("encoder", str, "", required=True),
            "layer": reader.take("layer", int, minimum=0),
            "centroids": reader.take("centroids", str, "", required=True),
            "deduplicate": reader.take("deduplicate", bool, False),
            "codebook_size": reader.take("codebook_size", int, minimum=2),
            "sample_rate_hz": reader.take("sample_rate_hz", int, minimum=1),
            "frame_rate_hz": reader.take("frame_rate_hz", float, minimum=0.1),
        }

    def encoder_card(self, folder: Path | None) -> str | Path:
        """Return where the encoder's card is; `./name` starts from `folder`, that of this card."""
        return weights_file(self.encoder, folder) if self.encoder.startswith(".") else self.encoder


@dataclass(frozen=True, kw_only=True)
class SentencePieceSettings(Settings):
    """A card with `kind: sentencepiece`."""

    model: str | None = None
    """The trained model, a file."""
    pronounced_by: int | None = None
    """Only the ids below this one spell words as they are said (`Pronounced`); None: all do."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of a SentencePiece card."""
        more = {"model": reader.take("model", str), "pronounced_by": reader.take("pronounced_by", int, minimum=1)}
        return {**Settings.read(reader), **more}


@dataclass(frozen=True, kw_only=True)
class HuggingFaceSettings(Settings):
    """A card with `kind: huggingface`."""

    model: str | None = None
    """A `tokenizer.json`."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of such a card."""
        return {**Settings.read(reader), "model": reader.take("model", str)}


@dataclass(frozen=True, kw_only=True)
class SymbolSettings(Settings):
    """What cards of symbols share."""

    symbols: str
    """What has ids, each character once, in the order of ids from 1."""

    @classmethod
    def read_symbols(cls, reader: CardReader, default: str = "") -> dict[str, Any]:
        """Take the shared keys."""
        symbols = reader.take("symbols", str, default, required=not default)
        if len(set(symbols)) != len(symbols):
            twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
            reader.problem("symbols", f"has {', '.join(map(repr, twice))} more than once. Leave each in once.")
        return {**Settings.read(reader), "symbols": symbols}


@dataclass(frozen=True, kw_only=True)
class CharacterSettings(SymbolSettings):
    """A card with `kind: characters`."""

    lower: bool = False
    """Write everything in lower case first."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of such a card."""
        return {**cls.read_symbols(reader), "lower": reader.take("lower", bool, False)}


@dataclass(frozen=True, kw_only=True)
class PhonemeSettings(SymbolSettings):
    """A card with `kind: phonemes`; unless told, `symbols` are those of the IPA, Latin letters and punctuation."""

    language: str
    """As espeak-ng calls it: `en-us`, `de`, `es`."""
    stress: bool = True
    """Keep the marks of stressed syllables."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of such a card."""
        language = reader.take("language", str, "", required=True)
        return {**cls.read_symbols(reader, IPA), "language": language, "stress": reader.take("stress", bool, True)}


@dataclass(frozen=True, kw_only=True)
class BytesSettings(Settings):
    """A card with `kind: bytes`."""


SETTINGS: dict[str, type[Settings]] = {
    "bytes": BytesSettings,
    "characters": CharacterSettings,
    "dac": DacSettings,
    "encodec": EncodecSettings,
    "huggingface": HuggingFaceSettings,
    "phonemes": PhonemeSettings,
    "semantic": SemanticSettings,
    "sentencepiece": SentencePieceSettings,
    "snac": SnacSettings,
    "stereo": StereoSettings,
    "transformers_codec": TransformersCodecSettings,
}


def _codebooks(reader: CardReader, available: int) -> int:
    n = reader.take("codebooks", int, available, minimum=1)
    if n > available:
        reader.problem("codebooks", f"is {n}, allowed: 1 to {available}, the codebooks of the network.")
    return n


def _codebooks_of(reader: CardReader, bandwidth_kbps: float, sample_rate_hz: int, model: EncodecModelSettings) -> int:
    """Return how many codebooks a bandwidth pays for: log2(codebook_size) bits a frame each."""
    frame_rate = math.ceil(sample_rate_hz / math.prod(model.ratios))
    each_kbps = math.log2(model.codebook_size) * frame_rate / 1000
    n = bandwidth_kbps / each_kbps
    if reader.card.get("codebooks") not in (None, round(n)):
        reader.problem("codebooks", f"disagrees with 'bandwidth_kbps: {bandwidth_kbps:g}'. Keep one of the two.")
    reader.take("codebooks", int)
    if n < 1 or n > model.n_codebooks or abs(n - round(n)) > 1e-6:
        allowed = [each_kbps * 2**i for i in range(16) if 2**i <= model.n_codebooks]
        reader.problem(
            "bandwidth_kbps",
            f"is {bandwidth_kbps:g}, allowed: multiples of {each_kbps:g} up to {each_kbps * model.n_codebooks:g}, "
            f"such as {', '.join(f'{kbps:g}' for kbps in allowed)}.",
        )
        return 1
    return round(n)


M = TypeVar("M", DacModel, EncodecModelSettings, SnacModel)


def _read_dataclass(cls: type[M], reader: CardReader, choices: Mapping[str, tuple[str, ...]] | None = None) -> M:
    """Take one key for each field, typed as its default."""
    choices = choices or {}
    values: dict[str, Any] = {}
    for item in fields(cls):
        if isinstance(item.default, tuple):
            values[item.name] = _strides(reader, item.name, item.default)
        elif item.default is None:
            values[item.name] = reader.take(item.name, float, None, minimum=0.01)
        else:
            kind = type(item.default)
            minimum = None if kind is not int else 0 if item.name == "lstm" else 1
            values[item.name] = reader.take(
                item.name, kind, item.default, minimum=minimum, choices=choices.get(item.name)
            )
    return cls(**values)


def _strides(reader: CardReader, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    items = reader.take(key, list, list(default))
    if not items or any(type(item) is not int or item < 1 for item in items):
        reader.problem(key, f"is {items}, allowed: a list of whole numbers of at least 1, such as {list(default)}.")
        return default
    return tuple(items)


def _plain(value: Any) -> Any:
    """Turn tuples into lists and drop unset keys, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value
