"""Text as characters or as phonemes: one id for each symbol of a fixed list, id 0 for everything else.

Phonemes are what espeak-ng makes of a text in one language, in IPA, through the packages `phonemizer` (GPL-3.0) and
`espeakng-loader`, which brings the library: `pip install "unitok[phonemes]"`. Decoding gives phonemes, not the text.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from unitok.errors import CardError, MissingDependencyError, suggest
from unitok.tokenizers.base import check_ids, check_text, read_tokenizer_card, write_card
from unitok.tokenizers.settings import CharacterSettings, PhonemeSettings, SymbolSettings

__all__ = ["CharacterTokenizer", "PhonemeTokenizer"]

UNKNOWN = "\ufffd"

Self = TypeVar("Self", bound="_SymbolTokenizer")


class _SymbolTokenizer(ABC):
    kind: ClassVar[str]
    """`kind:` of the cards."""

    def __init__(self, settings: SymbolSettings):
        """Take the symbols of the card."""
        self.settings = settings
        self.name = settings.name
        self.symbols = settings.symbols
        self._ids = {symbol: id for id, symbol in enumerate(self.symbols, start=1)}

    @classmethod
    @abstractmethod
    def from_card(cls: type[Self], card: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Make one from a card."""

    @abstractmethod
    def _spelled(self, text: str) -> str:
        """Return the symbols of a text."""

    @property
    def size(self) -> int:
        """Number of ids: the symbols and the unknown one."""
        return 1 + len(self.symbols)

    @property
    def fingerprint(self) -> str:
        """Hash of the symbols."""
        from unitok.tokenizers.weights import fingerprint

        return fingerprint(self.kind, self._identity(), self.symbols.encode())

    def encode(self, text: str) -> list[int]:
        """Return an id for each symbol of `text`, 0 for what is not among them.

        Raises:
            TokenizerError: If `text` is no text.
        """
        return [self._ids.get(symbol, 0) for symbol in self._spelled(check_text(text))]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the symbols of `ids`; U+FFFD stands for id 0.

        Raises:
            TokenizerError: If an id is not in [0, size).
        """
        return "".join(UNKNOWN if not id else self.symbols[id - 1] for id in check_ids(ids, self.size, self.name))

    def piece(self, id: int) -> str:
        """Return the symbol, `▁` for a space, `<unk>` for id 0.

        Raises:
            TokenizerError: If the id is not in [0, size).
        """
        (id,) = check_ids([id], self.size, self.name)
        return "<unk>" if not id else "▁" if self.symbols[id - 1] == " " else self.symbols[id - 1]

    def save(self, folder: Path) -> None:
        """Write the card."""
        write_card(folder, {"kind": self.kind, **replace(self.settings, fingerprint=self.fingerprint).to_card()})

    @classmethod
    def load(cls: type[Self], folder: Path) -> Self:
        """Load a folder that `save` wrote."""
        return cls.from_card(read_tokenizer_card(folder), folder)

    def _identity(self) -> dict[str, Any]:
        """Return what decides the ids, beside the symbols."""
        settings = asdict(self.settings)
        return {
            key: value for key, value in settings.items() if key not in ("name", "description", "source", "fingerprint")
        }


class CharacterTokenizer(_SymbolTokenizer):
    """One id for each character of the card's `symbols`."""

    kind = "characters"
    settings: CharacterSettings

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> CharacterTokenizer:
        """Make one from a card.

        Raises:
            CardError: If the card has mistakes.
        """
        return cls(CharacterSettings.from_card(card))

    def _spelled(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return text.lower() if self.settings.lower else text


class PhonemeTokenizer(_SymbolTokenizer):
    """One id for each IPA symbol of what espeak-ng makes of a text."""

    kind = "phonemes"
    settings: PhonemeSettings

    def __init__(self, settings: PhonemeSettings):
        """Take the card; espeak-ng is loaded with the first text.

        Raises:
            MissingDependencyError: If the packages are not installed.
        """
        _espeak()
        super().__init__(settings)
        self.language = settings.language

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> PhonemeTokenizer:
        """Make one from a card.

        Raises:
            CardError: If the card has mistakes, or names a language that espeak-ng does not speak.
            MissingDependencyError: If the packages are not installed.
        """
        return cls(PhonemeSettings.from_card(card))

    def phonemes(self, text: str) -> str:
        """Return what `encode` makes ids of: IPA, with the punctuation of the text.

        Raises:
            TokenizerError: If `text` is no text.
        """
        return self._spelled(check_text(text))

    def _spelled(self, text: str) -> str:
        lines = self._backend.phonemize([" ".join(text.split())], strip=True) if text.strip() else [""]
        return unicodedata.normalize("NFD", lines[0])

    @cached_property
    def _backend(self) -> Any:
        backend = _espeak()
        if not backend.is_supported_language(self.language):
            languages = backend.supported_languages()
            raise CardError(
                f"card '{self.name}': language: is '{self.language}', which espeak-ng does not speak."
                f"{suggest(self.language, languages)} It speaks {', '.join(languages)}."
            )
        return backend(
            self.language, preserve_punctuation=True, with_stress=self.settings.stress, language_switch="remove-flags"
        )


def _espeak() -> Any:
    """Return phonemizer's backend, told where the library is that comes with `espeakng-loader`."""
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ImportError as error:
        raise MissingDependencyError(
            f"phonemes need phonemizer and espeakng-loader ({error}). Run pip install 'unitok[phonemes]'."
        ) from error
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return EspeakBackend
