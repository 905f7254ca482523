"""What a user can cause: every error here carries one line that says what we got, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AudioFormatError",
    "CardError",
    "CheckpointError",
    "DataError",
    "GenerationError",
    "MissingDependencyError",
    "MissingWeightsError",
    "TokenizerError",
    "UnitokError",
    "VocabularyMismatchError",
    "suggest",
]


class UnitokError(Exception):
    """Root of all errors caused by input; the command line prints its message and exits with status 2."""


class CardError(UnitokError, ValueError):
    """A card (YAML file) has mistakes; the message lists all of them."""


class VocabularyMismatchError(UnitokError, ValueError):
    """Two vocabularies that must be the same differ; the message names the block that moved."""


class AudioFormatError(UnitokError, ValueError):
    """Audio has a wrong shape, type, rate or length."""


class TokenizerError(UnitokError, ValueError):
    """Codes or text cannot be turned into each other with this tokenizer."""


class MissingDependencyError(UnitokError, ImportError):
    """An optional package is absent; the message holds the pip command."""


class MissingWeightsError(UnitokError, FileNotFoundError):
    """Weights are not on this machine; the message says which file to put where."""


class CheckpointError(UnitokError, ValueError):
    """A checkpoint folder is incomplete, damaged or of another version."""


class DataError(UnitokError, ValueError):
    """A manifest, a record shard or a batch is not usable."""


class GenerationError(UnitokError, ValueError):
    """A generation request cannot be carried out."""


def suggest(word: str, options: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the option closest to `word`, or `""` when none is close."""
    close = difflib.get_close_matches(str(word), list(options), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
