"""Text as its UTF-8 bytes: 256 ids, nothing to train, every text comes back as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unitok.errors import TokenizerError
from unitok.tokenizers.base import check_ids, check_text, read_tokenizer_card, write_card
from unitok.tokenizers.settings import BytesSettings

__all__ = ["ByteTokenizer"]


class ByteTokenizer:
    """One id for each byte."""

    size = 256
    """Number of ids."""

    def __init__(self, settings: BytesSettings | None = None):
        """Make one; the settings hold nothing but a name."""
        self.settings = settings or BytesSettings(name="bytes")
        self.name = self.settings.name

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> ByteTokenizer:
        """Make one from a card."""
        return cls(BytesSettings.from_card(card))

    @property
    def fingerprint(self) -> str:
        """Always the same."""
        return "bytes-utf8"

    def encode(self, text: str) -> list[int]:
        """Return the bytes of `text`.

        Raises:
            TokenizerError: If `text` is no text, or holds half of a surrogate pair.
        """
        try:
            return list(check_text(text).encode("utf-8"))
        except UnicodeEncodeError as error:
            raise TokenizerError(f"text holds {text[error.start]!r}, half a character. Remove it.") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; bytes that are no UTF-8 become U+FFFD.

        Raises:
            TokenizerError: If an id is not in [0, 256).
        """
        return bytes(check_ids(ids, self.size, self.name)).decode("utf-8", errors="replace")

    def piece(self, id: int) -> str:
        """Return the ASCII character, `▁` for a space, or `<0xE2>`."""
        (id,) = check_ids([id], self.size, self.name)
        return "▁" if id == 0x20 else chr(id) if 0x21 <= id <= 0x7E else f"<0x{id:02X}>"

    def save(self, folder: Path) -> None:
        """Write the card."""
        write_card(folder, {"kind": "bytes", **replace(self.settings, fingerprint=self.fingerprint).to_card()})

    @classmethod
    def load(cls, folder: Path) -> ByteTokenizer:
        """Load a folder that `save` wrote."""
        return cls.from_card(read_tokenizer_card(folder), folder)
