"""The English-Spanish lexicon: words with their forms on both sides, in classes, as read from a word file.

Not here: how words make a sentence (`translation.py`), and the rules of inflection (`inflection.py`). The word file
that comes with unitok, `english_spanish.yaml`, says how one is written. Persons are numbered 0 yo, 1 tú, 2 él,
3 nosotros, 4 ellos.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from unitok.data.synth.grammar import plural as english_plural
from unitok.data.synth.inflection import SpanishVerbs, spanish_feminine, spanish_plural

__all__ = ["PRONOUNS", "Adjective", "Lexicon", "Nominal", "Noun", "Phrase", "Value", "Verb"]


class Noun(NamedTuple):
    """A noun: `(singular, plural)` on both sides, Spanish gender, class."""

    english: tuple[str, str]
    spanish: tuple[str, str]
    feminine: bool
    kind: str
    takes_el: bool = False
    """Whether it is feminine and yet takes `el` and `un`: el agua."""


class Adjective(NamedTuple):
    """An adjective: Spanish `(masculine, feminine)` singular, and whether it stands before the noun."""

    english: str
    spanish: tuple[str, str]
    prenominal: bool = False

    def agree(self, feminine: bool, plural: bool, short: bool = False) -> str:
        """Return the Spanish form; `short` is the one before a noun (buen, mal, primer, tercer)."""
        form = self.spanish[feminine]
        if plural:
            return spanish_plural(form)
        return form[:-1] if short and form in {"bueno", "malo", "primero", "tercero"} else form


class Verb(NamedTuple):
    """A verb: base form and infinitive, each with the words that follow it (`look for`, `ir a`)."""

    english: str
    spanish: str


class Phrase(NamedTuple):
    """Words that stand as they are, with which nothing agrees."""

    english: str
    spanish: str


class Nominal(NamedTuple):
    """A name, pronoun or noun phrase: verbs agree with `person`, adjectives with `feminine` and `plural`."""

    english: str
    spanish: str
    person: int = 2
    feminine: bool = False
    kind: str = "person"
    """Class of its noun."""
    lemmas: tuple[str, ...] = ()
    """Its noun and adjective in English."""

    @property
    def plural(self) -> bool:
        """Whether it stands for several."""
        return self.person > 2


Value = Nominal | Phrase | Adjective | Verb
PRONOUNS = {
    "I": Nominal("I", "yo", 0),
    "you": Nominal("you", "tú", 1),
    "he": Nominal("he", "él", 2),
    "she": Nominal("she", "ella", 2, True),
    "we": Nominal("we", "nosotros", 3),
    "they": Nominal("they", "ellos", 4),
}


class Lexicon:
    """The words of both languages, by class; `english_spanish.yaml` says what its classes, groups and settings are."""

    def __init__(self, content: Mapping[str, Any]):
        self.groups = {name: text.split() for name, text in content["groups"].items()}
        self.small_words = {name: _row(*sides) for name, sides in content["small_words"].items()}
        self._numbers = [words.split() for words in content["spanish_numbers"]]
        self.month_days = [day.replace("-", " ") for day in content["month_days"].split()]
        triples = (entry.split() for entry in content["english_irregular"].split(","))
        self.english_irregular = {base: (past, participle) for base, past, participle in triples}
        self.verbs = SpanishVerbs(content["spanish_endings"], content["spanish_stems"], content["spanish_irregular"])
        self.phrases = {kind: [Phrase(*e) for e in _entries(text)] for kind, text in content["phrases"].items()}
        men, women = ([Nominal(*e, feminine=f) for e in _entries(content["names"]["mf"[f]])] for f in (False, True))
        self.names = men + women
        occupations = content["occupations"]
        masculine = ", ".join(f"{e} = {s.split('/')[0]}" for e, s in _entries(occupations["words"]))
        blocks = {**content["nouns"], "occupation": {**occupations, "m": masculine}}
        self.settings = {kind: {"determiners": content["determiners"], **block} for kind, block in blocks.items()}
        stressed_a = content["stressed_a"].split()
        self.nouns = {
            kind: [
                Noun(_two(e, english_plural), _two(s, spanish_plural), gender == "f", kind, s.split()[0] in stressed_a)
                for gender in "mf"
                for e, s in _entries(block.get(gender, ""))
            ]
            for kind, block in blocks.items()
        }
        groups = {**content["adjectives"], "ordinal": content["ordinals"], "work": occupations["words"]}
        self.adjectives = {
            group: [
                Adjective(e.split("/")[0], _two(s, spanish_feminine), e in content["prenominal"].split())
                for e, s in _entries(text)
            ]
            for group, text in groups.items()
        }
        for group, wanted in (("topic", {"traits"}), ("stated", {"states", "conditions"})):
            self.groups[group] = [kind for kind, settings in self.settings.items() if wanted & set(settings)]
        self.predicates = {
            aspect: [(Verb(*e), kinds.split()) for kinds, text in block.items() for e in _entries(text)]
            for aspect, block in content["verbs"].items()
        }
        self.predicates["verb"] = self.predicates["act"] + self.predicates["event"]
        names = {"name": self.names, "man_name": men, "woman_name": women}
        self.pools: Mapping[str, Sequence[Value]] = {**self.adjectives, **self.phrases, **names}

    def spanish_number(self, n: int, one: str = "un") -> str:
        """Spell 1 to 99 in Spanish words; `one` is the form of a final one: `un`, `una` or `uno`."""
        ones, tens = self._numbers
        text = ones[n - 1] if n < 30 else tens[n // 10 - 3] + (f" y {ones[n % 10 - 1]}" if n % 10 else "")
        return re.sub("uno$", one, text).replace("veintiun", "veintiún" if one == "un" else "veintiun")


def _entries(text: str) -> list[tuple[str, str]]:
    """Read `english = spanish, ...`; without `=`, both are the same."""
    pairs = (entry.partition("=") for entry in text.split(","))
    return [(english.strip(), (spanish or english).strip()) for english, _, spanish in pairs if english.strip()]


def _two(text: str, rule: Callable[[str], str]) -> tuple[str, str]:
    """Read `form` or `form/other form`."""
    head, _, other = text.partition("/")
    return head, other or rule(head)


def _row(english: str, spanish: str) -> tuple[list[str], list[str]]:
    """Read a row of small words."""
    first, second = ([form.strip("_").replace("-", " ") for form in side.split()] for side in (english, spanish))
    return first, second
