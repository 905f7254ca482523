"""What a tokenizer is, and how one is found, loaded and saved. Imports no torch: listing cards must be quick.

To add a tokenizer: a class that satisfies one of the three protocols and has `from_card(card, folder)`, under
`@register_tokenizer("kind")`; then any number of cards with `kind: kind`.

B batch, C channels, N samples, T codec frames, K codebooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

from unitok.cards import find_card, read_card
from unitok.errors import CardError, TokenizerError, suggest
from unitok.files import written_whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "CARD_FILE",
    "AudioTokenizer",
    "EncodedAudio",
    "Kind",
    "SemanticTokenizer",
    "TextTokenizer",
    "TokenizerCard",
    "check_ids",
    "check_text",
    "find_kind",
    "load_audio_tokenizer",
    "load_semantic_tokenizer",
    "load_text_tokenizer",
    "read_tokenizer_card",
    "register_tokenizer",
    "save_tokenizer",
    "tokenizer_kinds",
    "write_card",
]

CARD_FILE = "card.yaml"
SEMANTIC_HINT = (
    " Semantic tokens do not become audio by themselves: a model speaks them (task semantic_to_acoustic). Name it as "
    "the semantic tokenizer, beside a codec."
)


@dataclass(frozen=True)
class EncodedAudio:
    """Codes of a batch of audio."""

    codes: Tensor
    """`[B, K, T]`, int64 in [0, codebook_size); 0 after the end of a row."""
    lengths: Tensor
    """Frames of each row, `[B]`, int64."""


@runtime_checkable
class AudioTokenizer(Protocol):
    """Audio to codes and back. A row of a padded batch gets the codes it would get alone."""

    @property
    def name(self) -> str:
        """Name of the card."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Rate of decoded audio."""
        ...

    @property
    def channels(self) -> int:
        """Channels of decoded audio."""
        ...

    @property
    def frame_rate_hz(self) -> float:
        """Frames in one second."""
        ...

    @property
    def n_codebooks(self) -> int:
        """Codebooks in use, K."""
        ...

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        ...

    @property
    def fingerprint(self) -> str:
        """Class, settings and weights in one word: equal fingerprints mean that codes may be mixed.

        The number of codebooks in use is no part of it: codebook k is the same whatever K is.
        """
        ...

    def encode(self, wav: Tensor, sample_rate_hz: int, lengths: Tensor | None = None) -> EncodedAudio:
        """Turn `wav [B, C, N]` of any rate and channels, whose rows hold `lengths [B]` samples, into codes."""
        ...

    def decode(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn codes `[B, K, T]`, whose rows hold `lengths [B]` frames, into audio `[B, C, N]`."""
        ...

    def set_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on."""
        ...

    def save(self, folder: Path) -> None:
        """Write the card, and weights that are not published elsewhere; `save_tokenizer` does it atomically."""
        ...


@runtime_checkable
class SemanticTokenizer(Protocol):
    """Audio to ids of what is said in it, one a frame. There is no way back: a model speaks them."""

    @property
    def name(self) -> str:
        """Name of the card."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Rate that audio is resampled to."""
        ...

    @property
    def frame_rate_hz(self) -> float:
        """Frames in one second."""
        ...

    @property
    def size(self) -> int:
        """Number of ids."""
        ...

    @property
    def deduplicate(self) -> bool:
        """Do sequences hold consecutive equal ids once? `encode` gives the ids of all frames in any case."""
        ...

    @property
    def fingerprint(self) -> str:
        """Class, encoder, layer and centroids in one word; `deduplicate` is no part of it: frames stay the same."""
        ...

    def encode(self, wav: Tensor, sample_rate_hz: int, lengths: Tensor | None = None) -> EncodedAudio:
        """Turn `wav [B, C, N]` of any rate and channels, whose rows hold `lengths [B]` samples, into `[B, 1, T]`."""
        ...

    def save(self, folder: Path) -> None:
        """Write the card, and weights that are not published elsewhere; `save_tokenizer` does it atomically."""
        ...


@runtime_checkable
class TextTokenizer(Protocol):
    """Text to ids in [0, size) and back."""

    @property
    def name(self) -> str:
        """Name of the card."""
        ...

    @property
    def size(self) -> int:
        """Number of ids."""
        ...

    @property
    def fingerprint(self) -> str:
        """Class, settings and model in one word: equal fingerprints mean equal ids."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; no begin or end markers."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`."""
        ...

    def piece(self, id: int) -> str:
        """Return what to show for one id."""
        ...

    def save(self, folder: Path) -> None:
        """Write the card and the model; `save_tokenizer` does it atomically."""
        ...


class TokenizerCard(dict[str, Any]):
    """A card with the file it came from, which error messages name."""

    def __init__(self, card: Mapping[str, Any], file: Path):
        super().__init__(card)
        self.file = file


class Kind(NamedTuple):
    """What `kind:` of a card stands for."""

    modality: str
    """`"audio"`, `"semantic"` or `"text"`."""
    target: str
    """`module:Class`, imported when first used."""


_KINDS: dict[str, Kind] = {
    "bytes": Kind("text", "unitok.tokenizers.bytes:ByteTokenizer"),
    "characters": Kind("text", "unitok.tokenizers.characters:CharacterTokenizer"),
    "dac": Kind("audio", "unitok.tokenizers.dac:DacTokenizer"),
    "encodec": Kind("audio", "unitok.tokenizers.encodec:EncodecTokenizer"),
    "huggingface": Kind("text", "unitok.tokenizers.huggingface:HuggingFaceTokenizer"),
    "phonemes": Kind("text", "unitok.tokenizers.characters:PhonemeTokenizer"),
    "semantic": Kind("semantic", "unitok.tokenizers.semantic:KMeansTokenizer"),
    "sentencepiece": Kind("text", "unitok.tokenizers.sentencepiece:SentencePieceTokenizer"),
    "snac": Kind("audio", "unitok.tokenizers.snac:SnacTokenizer"),
    "stereo": Kind("audio", "unitok.tokenizers.stereo:StereoTokenizer"),
    "toy_audio": Kind("audio", "unitok.testing:ToyAudioTokenizer"),
    "toy_text": Kind("text", "unitok.testing:ToyTextTokenizer"),
    "transformers_codec": Kind("audio", "unitok.tokenizers.transformers_codec:TransformersCodec"),
    "unitok": Kind("audio", "unitok.tokenizers.unitok_codec:UnitokCodecTokenizer"),
}
_REGISTERED: dict[str, type] = {}

T = TypeVar("T", bound=type)


def register_tokenizer(kind: str) -> Callable[[T], T]:
    """Make a class the one that cards with `kind: <kind>` are loaded with.

    The class has `from_card(card: Mapping, folder: Path | None)`; relative paths in the card start from `folder`.
    With `set_codebooks` it is taken for an audio tokenizer, with `deduplicate` for a semantic one, else for text.

    Raises:
        TokenizerError: If another class owns the kind.
    """

    def register(cls: T) -> T:
        target = f"{cls.__module__}:{cls.__qualname__}"
        owner = _KINDS.get(kind)
        if owner is not None and owner.target != target:
            raise TokenizerError(f"tokenizer kind '{kind}' belongs to {owner.target}; give {target} another one.")
        if not hasattr(cls, "from_card"):
            raise TokenizerError(f"{target} has no class method from_card(card, folder), which loads it from a card.")
        marks = {"set_codebooks": "audio", "deduplicate": "semantic"}
        modality = next((modality for mark, modality in marks.items() if hasattr(cls, mark)), "text")
        _KINDS[kind] = Kind(modality, target)
        _REGISTERED[kind] = cls
        return cls

    return register


def tokenizer_kinds() -> dict[str, Kind]:
    """Return all kinds by name."""
    return dict(_KINDS)


def find_kind(card: Mapping[str, Any], file: str | Path) -> Kind:
    """Return what the card's `kind:` stands for.

    Raises:
        CardError: If the card has no kind or an unknown one.
    """
    kind = card.get("kind")
    if kind not in _KINDS:
        got = "missing" if kind is None else f"'{kind}'"
        raise CardError(f"{file}: kind: is {got}, allowed: {', '.join(_KINDS)}.{suggest(str(kind), _KINDS)}")
    return _KINDS[kind]


def read_tokenizer_card(name_or_path: str | Path) -> TokenizerCard:
    """Read a card by its name, by its file, or from a folder that `save_tokenizer` wrote.

    Raises:
        CardError: If there is none, or it is no valid YAML.
    """
    path = Path(name_or_path)
    if path.is_dir() and (path / CARD_FILE).is_file():
        file = path / CARD_FILE
    elif path.is_dir() and len(path.parts) > 1:
        raise CardError(
            f"folder '{path}' holds no {CARD_FILE}, so it is no tokenizer. Name one that save_tokenizer wrote."
        )
    else:
        file = find_card("tokenizers", name_or_path)
    return TokenizerCard(read_card(file), file)


def load_audio_tokenizer(name_or_path: str | Path, device: str | torch.device = "cpu") -> AudioTokenizer:
    """Load an audio tokenizer.

    Args:
        name_or_path: Name of a card (`encodec_24khz`), a card's file, or a folder written by `save_tokenizer`.
        device: Where its weights go. Audio and codes may be anywhere: results lie where the input lay.

    Raises:
        CardError: If the card is missing or wrong, or is one of a text tokenizer.
        MissingWeightsError: If the weights are not on this machine and cannot be downloaded.
        TokenizerError: If the weights are not those that the folder was saved with.
        UnitokError: If there is no such device.
    """
    return cast(AudioTokenizer, _load_onto(device, name_or_path, "audio"))


def load_semantic_tokenizer(name_or_path: str | Path, device: str | torch.device = "cpu") -> SemanticTokenizer:
    """Load a semantic tokenizer; arguments and errors as for `load_audio_tokenizer`."""
    return cast(SemanticTokenizer, _load_onto(device, name_or_path, "semantic"))


def load_text_tokenizer(name_or_path: str | Path) -> TextTokenizer:
    """Load a text tokenizer; arguments and errors as for `load_audio_tokenizer`."""
    return cast(TextTokenizer, _load(name_or_path, "text"))


def save_tokenizer(tokenizer: AudioTokenizer | SemanticTokenizer | TextTokenizer, folder: str | Path) -> Path:
    """Write a tokenizer folder: `card.yaml`, resolved, and weights that are not published elsewhere.

    The folder appears whole or not at all; an older one is replaced.

    Raises:
        UnitokError: If something else is there.
    """
    with written_whole(folder, CARD_FILE) as partial:
        tokenizer.save(partial)
    return Path(folder)


def check_text(text: str) -> str:
    """Return `text` if it is one.

    Raises:
        TokenizerError: If not.
    """
    if not isinstance(text, str):
        raise TokenizerError(f"text is {type(text).__name__}, allowed: str.")
    return text


def check_ids(ids: Iterable[int], size: int, name: str) -> list[int]:
    """Return `ids` as a list if all lie in [0, size).

    Raises:
        TokenizerError: If not.
    """
    ids = [int(id) for id in ids]
    wrong = [id for id in ids if not 0 <= id < size]
    if wrong:
        raise TokenizerError(
            f"id {wrong[0]} is not in [0, {size}), the ids of text tokenizer '{name}'. "
            "Ids of the joint vocabulary go through Vocabulary.tokens_to_text first."
        )
    return ids


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `card.yaml` into a folder."""
    from omegaconf import OmegaConf

    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(dict(card)), folder / CARD_FILE)


def _load_onto(device: str | torch.device, name_or_path: str | Path, kind: str) -> Any:
    from unitok.devices import find_device

    place = find_device(device)
    tokenizer: Any = _load(name_or_path, kind)
    if place.type != "cpu":
        tokenizer.to(place)
    return tokenizer


def _load(name_or_path: str | Path, modality: str) -> AudioTokenizer | SemanticTokenizer | TextTokenizer:
    card = read_tokenizer_card(name_or_path)
    kind = find_kind(card, card.file)
    if kind.modality != modality:
        raise CardError(
            f"{card.file}: '{card['kind']}' is {_a(kind.modality)} tokenizer, {_a(modality)} one is needed."
            + (SEMANTIC_HINT if (kind.modality, modality) == ("semantic", "audio") else "")
        )
    tokenizer = _class_of(card["kind"], kind).from_card(card, card.file.parent)
    saved_as = card.get("fingerprint")
    if saved_as is not None and saved_as != tokenizer.fingerprint:
        raise TokenizerError(
            f"{card.file}: was saved with fingerprint {saved_as}, what loads now has {tokenizer.fingerprint}: other "
            "weights or settings, so its codes mean something else. Put the original weights back."
        )
    return tokenizer


def _class_of(name: str, kind: Kind) -> Any:
    if name in _REGISTERED:
        return _REGISTERED[name]
    module, _, cls = kind.target.partition(":")
    return getattr(import_module(module), cls)


def _a(modality: str) -> str:
    return "an audio" if modality == "audio" else f"a {modality}"
