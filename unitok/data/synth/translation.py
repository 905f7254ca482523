"""English-Spanish sentence pairs from a synchronous grammar: both sides are read off one derivation.

Not a translator: there is no parser. The sentences are grammatical, plain and often absurd, like those of `grammar.py`;
the words are chosen so that a sentence has one translation. Words, verbs and frames are in `english_spanish.yaml`.
Persons are numbered 0 yo, 1 tú, 2 él, 3 nosotros, 4 ellos.
"""

from __future__ import annotations

import hashlib
import random
import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from unitok.data.synth.grammar import Split, number_words
from unitok.data.synth.grammar import plural as english_plural
from unitok.data.synth.inflection import (
    SpanishVerbs,
    english_degree,
    english_form,
    spanish_feminine,
    spanish_plural,
)

__all__ = ["Derivation", "Nominal", "ParallelGrammar", "SentencePair"]


class SentencePair(NamedTuple):
    """A sentence and its translation."""

    english: str
    spanish: str


# --- words -----------------------------------------------------------------------------------------------------------


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


# --- derivations -----------------------------------------------------------------------------------------------------

_SLOT = re.compile(r"\{([^}]+)\}")
_POLISH = [(" +", " "), (r" (?=[.,?!])", ""), ("(?<=¿) ", "")]
_POLISH_ENGLISH = [*_POLISH, (r"\b([Aa]) (?=[aeioAEIO]|u(?!ni|se))", r"\1n ")]
_POLISH_SPANISH = [
    *_POLISH, (r"\b([Aa]|[Dd]e) el\b", r"\1l"), (r"\by (?=[iíIÍ]|[hH]i(?!e))", "e "), (r"\bo (?=h?[oóOÓ])", "u "),
]  # fmt: skip


def _polish(text: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        text = re.sub(old, new, text.strip())
    return re.sub(r"\w", lambda m: m[0].upper(), text, count=1)


@dataclass(frozen=True)
class Derivation:
    """A frame with what fills its slots; both sides are read off it."""

    grammar: ParallelGrammar
    frame: str
    """`English | Spanish`; the word file says how it is written."""
    values: Mapping[str, Value]
    """Slot name -> what was drawn."""

    @cached_property
    def pair(self) -> SentencePair:
        """Both sides."""
        english, spanish = self.frame.split(" | ")
        return SentencePair(
            _polish(_SLOT.sub(lambda m: self._english(*m[1].split()), english), _POLISH_ENGLISH),
            _polish(_SLOT.sub(lambda m: self._spanish(*m[1].split()), spanish), _POLISH_SPANISH),
        )

    @cached_property
    def lemmas(self) -> list[str]:
        """The English nouns, verbs and adjectives drawn, sorted; not names, pronouns, phrases and numbers."""
        values = self.values.values()
        nouns = [lemma for value in values if isinstance(value, Nominal) for lemma in value.lemmas]
        return sorted(nouns + [value.english for value in values if isinstance(value, (Adjective, Verb))])

    @property
    def is_held_out(self) -> bool:
        """Whether the combination of lemmas is in the held-out twentieth; one word alone never is."""
        digest = hashlib.sha256("+".join(self.lemmas).encode()).hexdigest()
        return len(self.lemmas) > 1 and int(digest, 16) % 20 == 0

    def _controller(self, words: Sequence[str]) -> Nominal:
        return _controller(self.values, words) or PRONOUNS["he"]

    def _english(self, name: str, *words: str) -> str:
        value = self.values.get(name)
        match value:
            case Nominal():
                return _possessive(value) if "possessive" in words else value.english
            case Adjective():
                degree = next((word for word in words if word in {"more", "most"}), None)
                return english_degree(value.english, degree) if degree else value.english
            case Phrase():
                return value.english
            case None if name in self.grammar.small_words:
                return self.grammar.small_words[name][0][self._controller(words).plural]
        head, _, rest = (value.english if value else name).partition(" ")
        person = self._controller(words).person if words[0] in {"present", "past"} else 2
        return f"{english_form(head, words[0], person, self.grammar.english_irregular)} {rest}"

    def _spanish(self, name: str, *words: str) -> str:
        value = self.values.get(name)
        match value:
            case Nominal():
                return _spanish_nominal(value, words)
            case Adjective():
                controller = self._controller(words)
                return value.agree(controller.feminine, controller.plural, "short" in words)
            case Phrase():
                return value.spanish
            case None if name in self.grammar.small_words:
                controller = self._controller(words)
                return self.grammar.small_words[name][1][controller.feminine + 2 * controller.plural]
        head, _, rest = (value.spanish if value else name).partition(" ")
        agrees = head.endswith("se") or words[0] not in {"participle", "imperative", "infinitive"}
        person = self._controller(words).person if agrees else 2
        form = self.grammar.verbs.conjugate(head, words[0], person)
        return form if "object" in self.values else f"{form} {rest}"


def _controller(values: Mapping[str, Value], words: Sequence[str]) -> Nominal | None:
    """Return the slot or pronoun that `words` names, else the first person or thing drawn."""
    named = [values.get(word) or PRONOUNS.get(word) for word in words]
    return next((value for value in [*named, *values.values()] if isinstance(value, Nominal)), None)


def _possessive(value: Nominal) -> str:
    if value in PRONOUNS.values():
        return _own(value)
    return f"{value.english}'" if value.plural and value.english.endswith("s") else f"{value.english}'s"


def _own(owner: Nominal) -> str:
    """Return the possessive of a person."""
    return ["my", "your", "her" if owner.feminine else "his", "our", "their"][owner.person]


def _spanish_nominal(value: Nominal, words: Sequence[str]) -> str:
    """Return a person or thing; a first person is left out unless `full`; `dative` is `a María le`, `me`."""
    first = value in (PRONOUNS["I"], PRONOUNS["we"])
    if "dative" not in words:
        return "" if first and "full" not in words else value.spanish
    clitic = "no " * ("negative" in words) + ["me", "te", "le", "nos", "les"][value.person]
    return clitic if first else f"a {value.spanish} {clitic}"


# --- the grammar -----------------------------------------------------------------------------------------------------

_WHO = {"who": ["I", "I", "we", "he", "she"], "third": ["he", "she"], "single": ["I", "he", "she"], "someone": []}


class ParallelGrammar:
    """Draws sentence pairs from a word file; `english_spanish.yaml` says how that is written."""

    def __init__(self, content: Mapping[str, Any]):
        self.frames: list[str] = list(content["frames"])
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
        names = {"name": self.names, "man_name": men, "woman_name": women}
        self.pools: Mapping[str, Sequence[Value]] = {**self.adjectives, **self.phrases, **names}
        self.predicates["verb"] = self.predicates["act"] + self.predicates["event"]

    @classmethod
    def load(cls, path: str | Path | None = None) -> ParallelGrammar:
        """Read a word file (default: the one that comes with unitok)."""
        from omegaconf import OmegaConf

        content = OmegaConf.load(path or Path(__file__).with_name("english_spanish.yaml"))
        return cls(OmegaConf.to_container(content))  # type: ignore[arg-type]

    def pair(self, seed: int, index: int, split: Split = "train") -> SentencePair:
        """Return pair `index` of a seed; the splits never share a combination of nouns, verbs and adjectives."""
        return self.derive(seed, index, split).pair

    def derive(self, seed: int, index: int, split: Split = "train") -> Derivation:
        """Return the derivation of pair `index`; draws again until it falls into the wanted split."""
        rng = random.Random(f"{seed}/{index}/{split}")
        while True:
            derivation = self.draw(rng)
            if derivation.is_held_out == (split == "held_out"):
                return derivation

    def draw(self, rng: random.Random) -> Derivation:
        """Draw any derivation of 2 to 14 words a side in which nothing comes twice."""
        while True:
            frame = rng.choice(self.frames)
            derivation = Derivation(self, frame, self._fill(frame, rng))
            names = [v.english for v in derivation.values.values() if isinstance(v, (Nominal, Phrase))]
            words = derivation.lemmas + names
            if len(set(words)) == len(words) and all(2 <= len(side.split()) <= 14 for side in derivation.pair):
                return derivation

    def noun_phrase(
        self,
        noun: Noun,
        determiner: str | int | Nominal = "the",
        plural: bool = False,
        adjective: Adjective | None = None,
    ) -> Nominal:
        """Put a noun phrase together; the determiner is one of the small words, a numeral up to 99, or an owner."""
        short = adjective is not None and adjective.prenominal
        described = adjective.agree(noun.feminine, plural, short) if adjective else ""
        before, after = (described, "") if short else ("", described)
        if isinstance(determiner, int):
            english = number_words(determiner)
            spanish = self.spanish_number(determiner, "una" if noun.feminine else "un")
        else:
            owner = determiner if isinstance(determiner, Nominal) else None
            article = "the" if isinstance(determiner, Nominal) else determiner
            el = noun.takes_el and not plural and not short and article in {"the", "a", "generic"}
            english = f"{owner.english}'s" if owner else self.small_words[article][0][plural]
            spanish = self.small_words[article][1][(noun.feminine and not el) + 2 * plural]
            after += f" de {owner.spanish}" if owner else ""
        return Nominal(
            f"{english} {adjective.english if adjective else ''} {noun.english[plural]}",
            f"{spanish} {before} {noun.spanish[plural]} {after}",
            4 if plural else 2,
            noun.feminine,
            noun.kind,
            (noun.english[0], *([adjective.english] if adjective else [])),
        )

    def spanish_number(self, n: int, one: str = "un") -> str:
        """Spell 1 to 99 in Spanish words; `one` is the form of a final one: `un`, `una` or `uno`."""
        ones, tens = self._numbers
        text = ones[n - 1] if n < 30 else tens[n // 10 - 3] + (f" y {ones[n % 10 - 1]}" if n % 10 else "")
        return re.sub("uno$", one, text).replace("veintiun", "veintiún" if one == "un" else "veintiun")

    def _fill(self, frame: str, rng: random.Random) -> dict[str, Value]:
        """Draw what fills the slots of a frame, in the order of its English side."""
        values: dict[str, Value] = {}
        classes: list[str] = []
        for slot in _SLOT.findall(frame.split(" | ")[0]):
            name, *words = slot.split()
            kind, first = name.rstrip("0123456789"), _controller(values, words)
            if name in values:
                continue
            if kind in self.predicates:
                values[name], classes = rng.choice(self.predicates[kind])
            elif kind == "object":
                verb = next(v for v in values.values() if isinstance(v, Verb))
                values[name] = self._object(rng, rng.choice(classes), verb, first)
            elif kind in _WHO:
                values[name] = self._person(rng, kind, words)
            elif kind in {"trait", "state"}:
                settings = ("traits",) if kind == "trait" else ("states", "conditions")
                values[name] = self._adjective(rng, first.kind if first else "person", settings)
            elif kind in self.pools:
                values[name] = rng.choice(self.pools[kind])
            elif kind in _COMPUTED:
                values[name] = _COMPUTED[kind](rng, self)
            elif kind in self.nouns or kind in self.groups:
                values[name] = self._noun_phrase(rng, "stated" if "{state}" in frame else kind, words, first)
        return values

    def _noun_phrase(self, rng: random.Random, kind: str, words: Sequence[str], owner: Nominal | None) -> Nominal:
        """Draw a noun phrase of a class or group; `words` are the constraints of its slot."""
        members = self.groups.get(kind, [kind])
        kind = rng.choices(members, [len(self.nouns[member]) for member in members])[0]
        settings = self.settings[kind]
        given = [word for word in words if word in self.small_words or word in {"count", "of"}]
        drawn = [word for word in settings["determiners"].split() if word != "a" or "plain" not in words]
        determiner = given[0] if given else rng.choice(drawn)
        singular = "singular" in [settings.get("number"), *words] or given in (["a"], ["another"])
        plural = "plural" in words or determiner in {"many", "all", "count"} or rng.random() < 0.25
        plain = "plain" in words or rng.random() < 0.7 or not {"traits", "states"} & set(settings)
        special = {
            "own": _own(owner or PRONOUNS["I"]),
            "count": rng.choice([rng.randint(2, 12), rng.randint(2, 99)]),
            "of": rng.choice(self.names),
        }
        return self.noun_phrase(
            rng.choice(self.nouns[kind]),
            special.get(determiner, determiner),
            plural and not singular,
            None if plain else self._adjective(rng, kind, ("traits", "states")),
        )

    def _adjective(self, rng: random.Random, kind: str, settings: Sequence[str]) -> Adjective:
        groups = " ".join(self.settings[kind].get(setting, "") for setting in settings).split()
        return rng.choice([adjective for group in groups for adjective in self.adjectives[group]])

    def _object(self, rng: random.Random, kind: str, verb: Verb, owner: Nominal | None) -> Value:
        """Draw the object of a verb; in Spanish it brings the words that follow the verb."""
        following = verb.spanish.partition(" ")[2]
        if kind == "none":
            return Phrase("", following)
        if kind in self.phrases:
            value = rng.choice(self.phrases[kind])
        else:
            value = rng.choice(self.names) if kind == "name" else self._noun_phrase(rng, kind, [], owner)
        return value._replace(spanish=f"{following} {value.spanish}")

    def _person(self, rng: random.Random, kind: str, words: Sequence[str]) -> Nominal:
        """Draw a pronoun, a name, two names or a noun phrase."""
        roll = rng.random()
        if _WHO[kind] and roll < 0.3:
            return PRONOUNS[rng.choice(_WHO[kind])]
        if roll < 0.55:
            return rng.choice(self.names)
        if roll < 0.62 and kind != "single":
            one, two = rng.sample(self.names, 2)
            english, spanish = f"{one.english} and {two.english}", f"{one.spanish} y {two.spanish}"
            return Nominal(english, spanish, 4, one.feminine and two.feminine)
        return self._noun_phrase(rng, "human", [*words, *(["singular"] if kind == "single" else [])], None)


def _number(rng: random.Random, grammar: ParallelGrammar) -> Phrase:
    n = rng.choice([rng.randint(2, 20), rng.randint(2, 99)])
    return Phrase(number_words(n), grammar.spanish_number(n))


def _clock(rng: random.Random, grammar: ParallelGrammar) -> Nominal:
    hour = rng.randint(1, 12)
    minutes = rng.choice(grammar.phrases["minutes"])
    spanish = "la una" if hour == 1 else f"las {grammar.spanish_number(hour)}"
    return Nominal(minutes.english.format(number_words(hour)), minutes.spanish.format(spanish), 2 if hour == 1 else 4)


def _date(rng: random.Random, grammar: ParallelGrammar) -> Phrase:
    month = rng.randint(1, 12)
    day = rng.randint(1, monthrange(2000, month)[1])
    name, spanish = grammar.phrases["month"][month - 1], "primero" if day == 1 else grammar.spanish_number(day, "uno")
    return Phrase(f"the {grammar.month_days[day - 1]} of {name.english}", f"{spanish} de {name.spanish}")


_COMPUTED = {"number": _number, "clock": _clock, "date": _date}


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
