"""English sentences from frames and a word list: sentence i of a seed is always the same, a twentieth is held out.

Not a language model: the sentences are grammatical, plain and often absurd, which is what one wants of a test of
intelligibility (a recogniser or a listener cannot guess the words).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

__all__ = ["Grammar", "is_held_out", "number_words"]

Split = Literal["train", "held_out"]

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "twentieth",
]  # fmt: skip
_IRREGULAR_PLURALS = {
    "child": "children", "deer": "deer", "fish": "fish", "fisherman": "fishermen", "goose": "geese", "knife": "knives",
    "leaf": "leaves", "man": "men", "mouse": "mice", "policeman": "policemen", "postman": "postmen",
    "sheep": "sheep", "thief": "thieves", "wolf": "wolves", "woman": "women",
}  # fmt: skip


def number_words(n: int) -> str:
    """Spell 0 to 9999 in English words."""
    if not 0 <= n <= 9999:
        raise ValueError(f"n={n} is not between 0 and 9999.")
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10 - 2] + (f" {_ONES[n % 10]}" if n % 10 else "")
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    return f"{_ONES[n // unit]} {name}" + (f" {number_words(n % unit)}" if n % unit else "")


def is_held_out(sentence: str) -> bool:
    """Tell whether a sentence belongs to the held-out twentieth: a function of its words alone, whatever the seed."""
    words = " ".join(re.findall(r"[a-z']+", sentence.lower()))
    return int(hashlib.sha256(words.encode()).hexdigest(), 16) % 20 == 0


def plural(noun: str) -> str:
    """Return the plural of an English noun of the word list."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if re.search(r"(s|x|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """Put `a` or `an` before a phrase, by its first letter."""
    return f"{'an' if phrase[0] in 'aeio' or phrase.startswith(('ug', 'um', 'un')) else 'a'} {phrase}"


class Grammar:
    """Draws sentences from a word file: `words` (class -> words, `-` is a space inside an entry) and `frames`."""

    def __init__(self, words: dict[str, list[str]], frames: list[str]):
        self.words = words
        self.frames = frames

    @classmethod
    def load(cls, path: str | Path | None = None) -> Grammar:
        """Read a word file (default: the English one that comes with unitok)."""
        from omegaconf import OmegaConf

        content = OmegaConf.load(path or Path(__file__).with_name("english.yaml"))
        words = {str(name): [w.replace("-", " ") for w in str(text).split()] for name, text in content.words.items()}
        return cls(words, [str(f) for f in content.frames])

    def sentence(self, seed: int, index: int, split: Split = "train") -> str:
        """Return sentence `index` of a seed; draws again until it falls into the wanted split."""
        rng = random.Random(f"{seed}/{index}/{split}")
        while True:
            text = self._expand(rng.choice(self.frames), rng)
            if is_held_out(text) == (split == "held_out"):
                return text[0].upper() + text[1:]

    def sentences(self, seed: int, split: Split = "train") -> Iterator[str]:
        """Yield sentences without end."""
        index = 0
        while True:
            yield self.sentence(seed, index, split)
            index += 1

    @property
    def vocabulary(self) -> set[str]:
        """All words of the word list (not the inflected forms and numbers made from it)."""
        return {part for entries in self.words.values() for entry in entries for part in entry.split()}

    @cached_property
    def _rules(self) -> dict[str, Callable[[random.Random], str]]:
        w = self.words

        def described(noun: str, rng: random.Random) -> str:
            return f"{rng.choice(w['adj'])} {noun}" if rng.random() < 0.4 else noun

        def np(rng: random.Random) -> str:
            if rng.random() < 0.15:
                return rng.choice(w["name"])
            noun = described(rng.choice(rng.choice([w["person"], w["animal"], w["thing"], w["thing"]])), rng)
            kind = rng.random()
            return (
                f"the {noun}"
                if kind < 0.5
                else with_article(noun)
                if kind < 0.75
                else f"{rng.choice(w['possessive'])} {noun}"
            )

        def number(rng: random.Random) -> str:
            return number_words(rng.choice([rng.randint(2, 12), rng.randint(2, 99), rng.randint(100, 9999)]))

        return {
            "np": np,
            "np_place": lambda rng: f"the {described(rng.choice(w['place']), rng)}",
            "a_thing": lambda rng: with_article(described(rng.choice(w["thing"]), rng)),
            "plural": lambda rng: described(
                plural(rng.choice(rng.choice([w["person"], w["animal"], w["thing"]]))), rng
            ),
            "number": number,
            "ordinal": lambda rng: rng.choice(_ORDINALS),
            "digits": lambda rng: " ".join(rng.choice(_ONES[:10]) for _ in range(rng.randint(3, 6))),
            "time": lambda rng: (
                f"{_ONES[rng.randint(1, 12)]} {rng.choice(['thirty', 'fifteen', 'twenty', 'forty five', 'o clock'])}"
            ),
        }

    def _expand(self, frame: str, rng: random.Random) -> str:
        def fill(match: re.Match[str]) -> str:
            slot = match.group(1)
            return self._rules[slot](rng) if slot in self._rules else rng.choice(self.words[slot])

        return re.sub(r"\{(\w+)\}", fill, frame)
