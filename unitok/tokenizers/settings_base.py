"""What every tokenizer card may say; each kind adds to it in `settings.py`. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from unitok.cards import CardReader

__all__ = ["Settings", "weights_file"]

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every card has."""

    name: str
    """Name of the tokenizer; the card's file is called so too."""
    description: str = ""
    """One sentence for `unitok tokenizers`."""
    version: int = 1
    """Raised when the meaning of the codes or ids changes."""
    source: str = ""
    """Paper, repository, licence."""
    fingerprint: str | None = None
    """Only in a saved folder: what the loaded tokenizer must have."""

    @classmethod
    def from_card(cls: type[S], card: Mapping[str, Any]) -> S:
        """Check a card and return it as settings.

        Raises:
            CardError: With every mistake of the card.
        """
        reader = CardReader(card, getattr(card, "file", card.get("name", "card")))
        values = cls.read(reader)
        reader.finish()
        return cls(**values)

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take this class's keys from `reader`."""
        reader.take("kind", str, required=True)
        return {
            "name": reader.take("name", str, "", required=True),
            "description": reader.take("description", str, ""),
            "version": reader.take("version", int, 1, minimum=1),
            "source": reader.take("source", str, ""),
            "fingerprint": reader.take("fingerprint", str),
        }

    def to_card(self) -> dict[str, Any]:
        """Return the card without the keys that are unset; the caller adds `kind`."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


def weights_file(weights: str, folder: Path | None) -> Path:
    """Return the file that a card names; relative names start from the card's folder."""
    path = Path(weights).expanduser()
    return path if path.is_absolute() or folder is None else folder / path
