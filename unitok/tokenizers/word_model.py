"""Word models: how likely a word is after another, for texts that are searched for (`unitok.generation.beam`).

    boat<TAB>61<TAB>97<TAB>. 30<TAB>was 4

A word, after how many different words it was found, how often it was, and what followed it how often; `.` stands for
the beginning and the end of a phrase. A model that hears spells by what it heard; this says which spellings are words.
This module imports no torch.

Source: absolute discounting with Kneser and Ney's lower order (Kneser and Ney 1995), of pairs.
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from unitok.errors import UnitokError
from unitok.files import packed, unpacked, written_file
from unitok.tokenizers.lexicon import words_of

__all__ = ["BOUNDARY", "PHRASE_ENDS", "Spelling", "WordModel"]

BOUNDARY = "."
PHRASE_ENDS = ".;:!?()"
DISCOUNT = 0.75
UNSEEN = 0.25
"""Different words before a word that a lexicon knows and no text had."""
UNKNOWN = 6.0
"""How much less likely than that a word is that no lexicon knows either, in nats: a name, or a mistake."""


class _Entry(NamedTuple):
    """What was counted of a word."""

    n_before: int
    """Different words that it came after."""
    n: int
    """How often it came before something."""
    followers: dict[str, int]
    """What came after it, and how often; rare ones may have been left out."""


class WordModel:
    """Counts of words and pairs, and the probabilities they make."""

    def __init__(self, content: str) -> None:
        """Take the content of a file; it is read when it is first needed."""
        self._content = content

    @classmethod
    def count(cls, texts: Iterable[str], least: int = 2) -> WordModel:
        """Count the words of texts and which follow which; the same text counts once.

        Args:
            texts: Any texts.
            least: Words and pairs that came less often are left out.

        Raises:
            UnitokError: If there are no words.
        """
        pairs: Counter[tuple[str, str]] = Counter()
        for text in dict.fromkeys(texts):
            for phrase in re.split(f"[{re.escape(PHRASE_ENDS)}]", text):
                if words := [word.lower().replace("’", "'") for word in words_of(phrase)]:
                    pairs.update(zip([BOUNDARY, *words], [*words, BOUNDARY], strict=True))
        n_before, n = Counter[str](word for _, word in pairs), Counter[str]()
        followers: defaultdict[str, list[str]] = defaultdict(list)
        for (word, follower), times in sorted(pairs.items()):
            n[word] += times
            if times >= least:
                followers[word].append(f"\t{follower} {times}")
        words = sorted(word for word in n if n[word] >= least)
        if not words:
            raise UnitokError(f"there are no words in the texts that come {least} times or more.")
        rows = (f"{word}\t{n_before[word]}\t{n[word]}{''.join(followers[word])}\n" for word in words)
        return cls("".join(rows))

    @classmethod
    def load(cls, path: str | Path) -> WordModel:
        """Read a file that `save` wrote.

        Raises:
            UnitokError: If it is not there or damaged.
        """
        try:
            return cls(unpacked(Path(path).read_bytes()))
        except (OSError, UnitokError) as error:
            raise UnitokError(f"word model '{path}' cannot be read: {error}.") from error

    def save(self, path: str | Path) -> None:
        """Write the counts; a name that ends in .gz or .xz has them compressed."""
        with written_file(path) as partial:
            partial.write_bytes(packed(self._content.encode(), partial.suffix))

    @property
    def fingerprint(self) -> str:
        """Hash of the counts."""
        return f"words-{hashlib.sha256(self._content.encode()).hexdigest()[:16]}"

    @property
    def words(self) -> Collection[str]:
        """The words that were counted."""
        return self._entries.keys() - {BOUNDARY}

    def log_probability(self, word: str, after: str, is_known: bool = True) -> float:
        """Return the natural logarithm of how likely a word is after another.

        Args:
            word: A word in lower case, or `BOUNDARY`.
            after: The word before it, or `BOUNDARY`.
            is_known: Of a word that was not counted: is it a word at all?
        """
        entry = self._entries.get(word)
        n_before = UNSEEN * (1.0 if is_known else math.exp(-UNKNOWN)) if entry is None else entry.n_before
        share = n_before / self._n_pairs
        before = self._entries.get(after)
        if before is not None:
            share = max(before.followers.get(word, 0) - DISCOUNT, 0.0) / before.n + self._left_over(after) * share
        return math.log(share)

    def _left_over(self, word: str) -> float:
        """Return the probability that the pairs of a word leave to all other words."""
        if word not in self._left:
            entry = self._entries[word]
            self._left[word] = 1.0 - sum(max(n - DISCOUNT, 0.0) for n in entry.followers.values()) / entry.n
        return self._left[word]

    @cached_property
    def _left(self) -> dict[str, float]:
        return {}

    @cached_property
    def _n_pairs(self) -> int:
        return sum(entry.n_before for entry in self._entries.values())

    @cached_property
    def _entries(self) -> dict[str, _Entry]:
        entries = {}
        for n, line in enumerate(self._content.splitlines(), 1):
            try:
                word, n_before, times, *followers = line.split("\t")
                pairs = (one.rsplit(" ", 1) for one in followers)
                entries[word] = _Entry(int(n_before), int(times), {other: int(count) for other, count in pairs})
            except ValueError:
                raise UnitokError(f"a word model's line {n} is {line!r}; it must be a word and its counts.") from None
        return entries


class Spelling:
    """Which words a language has, and what they begin with: those of a word model and of a lexicon."""

    def __init__(self, *words: Iterable[str]) -> None:
        self._known = frozenset(word for part in words for word in part)
        self._sorted = sorted(self._known)

    def has(self, word: str) -> bool:
        """Is it a word, or the possessive of one?"""
        return word in self._known or (word.endswith("'s") and word[:-2] in self._known)

    def begins(self, letters: str) -> bool:
        """Do some letters begin a word, or the possessive of one?"""
        place = bisect_left(self._sorted, letters)
        if place < len(self._sorted) and self._sorted[place].startswith(letters):
            return True
        return letters.endswith(("'", "'s")) and self.has(letters.rpartition("'")[0])
