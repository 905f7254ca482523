"""Lexicons: how words are said, so that a model need not learn a language's spelling to read it aloud.

    the<TAB>ðə
    doctor<TAB>dɑktɚ

A condition that its card marks `pronounced` stands in sequences with each word that the lexicon of its language knows
written in the International Phonetic Alphabet, and other words as they are. Any text tokenizer spells both.
This module imports no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unitok.errors import DataError, TokenizerError
from unitok.files import packed, unpacked, written_file

if TYPE_CHECKING:
    import numpy as np

__all__ = ["WORD", "Lexicon", "Pronounced", "words_of"]

WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’][^\W\d_]+)*(?!\w)")
"""Letters, with apostrophes between, and no digit beside them."""
VOICELESS, SIBILANT = tuple("ptkfθ"), tuple("szʃʒ")


def words_of(text: str) -> list[str]:
    """Return the words of a text; what has digits in it is none."""
    return WORD.findall(text)


class Pronounced(str):
    """Text in which words stand as they are to be said already; no lexicon changes it."""


class Lexicon(Mapping[str, str]):
    """Words, in lower case, and how they are said."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = dict(words)

    def __getitem__(self, word: str) -> str:
        """Return how a word is said; a possessive that has no entry as its word with the ending it takes."""
        word = word.lower().replace("’", "'")
        if (said := self._words.get(word)) is not None:
            return said
        if not word.endswith("'s") or (said := self._words.get(word[:-2])) is None:
            raise KeyError(word)
        if said.endswith(SIBILANT):
            return f"{said}əz"
        return said + ("s" if said.endswith(VOICELESS) else "z")

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def pronounce(self, text: str, spelled: float = 0.0, rng: np.random.Generator | None = None) -> Pronounced:
        """Write the words that the lexicon knows as they are said.

        Args:
            text: Any text.
            spelled: Probability that a known word is left as it is.
            rng: Decides which words are; needed where `spelled` is not 0.
        """
        if isinstance(text, Pronounced):
            return text

        def said(match: re.Match[str]) -> str:
            word = match.group()
            if spelled and rng is not None and rng.random() < spelled:
                return word
            return self.get(word, word)

        return Pronounced(WORD.sub(said, text))

    @property
    def letters(self) -> list[str]:
        """The letters beyond a to z that it says words with, in order."""
        return sorted({letter for said in self._words.values() for letter in said if not letter.isascii()})

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        return f"lexicon-{hashlib.sha256(self._content().encode()).hexdigest()[:16]}"

    def save(self, path: str | Path) -> None:
        """Write the file that `load` reads: a word, a tab and how it is said on each line, in order.

        A name that ends in .gz or .xz has it compressed.
        """
        with written_file(path) as partial:
            partial.write_bytes(packed(self._content().encode(), partial.suffix))

    @classmethod
    def load(cls, path: str | Path) -> Lexicon:
        """Read a file of words and how they are said; empty lines and those that begin with # say nothing.

        Raises:
            TokenizerError: If the file is not there, or a line is no entry.
        """
        try:
            text = unpacked(Path(path).read_bytes())
        except (OSError, DataError) as error:
            raise TokenizerError(f"lexicon '{path}' cannot be read: {error}.") from error
        words: dict[str, str] = {}
        for n, line in enumerate(text.splitlines(), 1):
            word, tab, said = line.partition("\t")
            word, said = word.strip().lower(), said.strip()
            if tab and word and said and not line.startswith("#"):
                words[word] = said
            elif line.strip() and not line.startswith("#"):
                raise TokenizerError(
                    f"lexicon '{path}', line {n} is {line!r}; it must be a word, a tab, and how it is said."
                )
        return cls(words)

    def _content(self) -> str:
        return "".join(f"{word}\t{said}\n" for word, said in sorted(self._words.items()))
