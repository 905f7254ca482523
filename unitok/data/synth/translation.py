"""English-Spanish sentence pairs from a synchronous grammar: both sides are read off one derivation.

Not a translator: there is no parser. The sentences are grammatical, plain and often absurd, like those of `grammar.py`;
the words are chosen so that a sentence has one translation. Not here: words and their classes
(`translation_lexicon.py`), inflection (`inflection.py`), and sound (`translation_corpus.py`).
"""

from __future__ import annotations

import hashlib
import random
import re
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from unitok.data.synth.grammar import Split, number_words
from unitok.data.synth.inflection import english_degree, english_form
from unitok.data.synth.translation_lexicon import PRONOUNS, Adjective, Lexicon, Nominal, Noun, Phrase, Value, Verb

__all__ = ["Derivation", "ParallelGrammar", "SentencePair"]


class SentencePair(NamedTuple):
    """A sentence and its translation."""

    english: str
    spanish: str


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

    lexicon: Lexicon
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
            case None if name in self.lexicon.small_words:
                return self.lexicon.small_words[name][0][self._controller(words).plural]
        head, _, rest = (value.english if value else name).partition(" ")
        person = self._controller(words).person if words[0] in {"present", "past"} else 2
        return f"{english_form(head, words[0], person, self.lexicon.english_irregular)} {rest}"

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
            case None if name in self.lexicon.small_words:
                controller = self._controller(words)
                return self.lexicon.small_words[name][1][controller.feminine + 2 * controller.plural]
        head, _, rest = (value.spanish if value else name).partition(" ")
        agrees = head.endswith("se") or words[0] not in {"participle", "imperative", "infinitive"}
        person = self._controller(words).person if agrees else 2
        form = self.lexicon.verbs.conjugate(head, words[0], person)
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

    def __init__(self, lexicon: Lexicon, frames: Sequence[str]):
        self.lexicon = lexicon
        self.frames = list(frames)

    @classmethod
    def load(cls, path: str | Path | None = None) -> ParallelGrammar:
        """Read a word file (default: the one that comes with unitok)."""
        from omegaconf import OmegaConf

        file = OmegaConf.load(path or Path(__file__).with_name("english_spanish.yaml"))
        content = cast("dict[str, Any]", OmegaConf.to_container(file))
        return cls(Lexicon(content), content["frames"])

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
            derivation = Derivation(self.lexicon, frame, self._fill(frame, rng))
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
            spanish = self.lexicon.spanish_number(determiner, "una" if noun.feminine else "un")
        else:
            owner = determiner if isinstance(determiner, Nominal) else None
            article = "the" if isinstance(determiner, Nominal) else determiner
            el = noun.takes_el and not plural and not short and article in {"the", "a", "generic"}
            english = f"{owner.english}'s" if owner else self.lexicon.small_words[article][0][plural]
            spanish = self.lexicon.small_words[article][1][(noun.feminine and not el) + 2 * plural]
            after += f" de {owner.spanish}" if owner else ""
        return Nominal(
            f"{english} {adjective.english if adjective else ''} {noun.english[plural]}",
            f"{spanish} {before} {noun.spanish[plural]} {after}",
            4 if plural else 2,
            noun.feminine,
            noun.kind,
            (noun.english[0], *([adjective.english] if adjective else [])),
        )

    def _fill(self, frame: str, rng: random.Random) -> dict[str, Value]:
        """Draw what fills the slots of a frame, in the order of its English side."""
        values: dict[str, Value] = {}
        classes: list[str] = []
        for slot in _SLOT.findall(frame.split(" | ")[0]):
            name, *words = slot.split()
            kind, first = name.rstrip("0123456789"), _controller(values, words)
            if name in values:
                continue
            if kind in self.lexicon.predicates:
                values[name], classes = rng.choice(self.lexicon.predicates[kind])
            elif kind == "object":
                verb = next(v for v in values.values() if isinstance(v, Verb))
                values[name] = self._object(rng, rng.choice(classes), verb, first)
            elif kind in _WHO:
                values[name] = self._person(rng, kind, words)
            elif kind in {"trait", "state"}:
                settings = ("traits",) if kind == "trait" else ("states", "conditions")
                values[name] = self._adjective(rng, first.kind if first else "person", settings)
            elif kind in self.lexicon.pools:
                values[name] = rng.choice(self.lexicon.pools[kind])
            elif kind in _COMPUTED:
                values[name] = _COMPUTED[kind](rng, self.lexicon)
            elif kind in self.lexicon.nouns or kind in self.lexicon.groups:
                values[name] = self._noun_phrase(rng, "stated" if "{state}" in frame else kind, words, first)
        return values

    def _noun_phrase(self, rng: random.Random, kind: str, words: Sequence[str], owner: Nominal | None) -> Nominal:
        """Draw a noun phrase of a class or group; `words` are the constraints of its slot."""
        members = self.lexicon.groups.get(kind, [kind])
        kind = rng.choices(members, [len(self.lexicon.nouns[member]) for member in members])[0]
        settings = self.lexicon.settings[kind]
        given = [word for word in words if word in self.lexicon.small_words or word in {"count", "of"}]
        drawn = [word for word in settings["determiners"].split() if word != "a" or "plain" not in words]
        determiner = given[0] if given else rng.choice(drawn)
        singular = "singular" in [settings.get("number"), *words] or given in (["a"], ["another"])
        plural = "plural" in words or determiner in {"many", "all", "count"} or rng.random() < 0.25
        plain = "plain" in words or rng.random() < 0.7 or not {"traits", "states"} & set(settings)
        special = {
            "own": _own(owner or PRONOUNS["I"]),
            "count": rng.choice([rng.randint(2, 12), rng.randint(2, 99)]),
            "of": rng.choice(self.lexicon.names),
        }
        return self.noun_phrase(
            rng.choice(self.lexicon.nouns[kind]),
            special.get(determiner, determiner),
            plural and not singular,
            None if plain else self._adjective(rng, kind, ("traits", "states")),
        )

    def _adjective(self, rng: random.Random, kind: str, settings: Sequence[str]) -> Adjective:
        groups = " ".join(self.lexicon.settings[kind].get(setting, "") for setting in settings).split()
        return rng.choice([adjective for group in groups for adjective in self.lexicon.adjectives[group]])

    def _object(self, rng: random.Random, kind: str, verb: Verb, owner: Nominal | None) -> Value:
        """Draw the object of a verb; in Spanish it brings the words that follow the verb."""
        following = verb.spanish.partition(" ")[2]
        if kind == "none":
            return Phrase("", following)
        if kind in self.lexicon.phrases:
            value = rng.choice(self.lexicon.phrases[kind])
        else:
            value = rng.choice(self.lexicon.names) if kind == "name" else self._noun_phrase(rng, kind, [], owner)
        return value._replace(spanish=f"{following} {value.spanish}")

    def _person(self, rng: random.Random, kind: str, words: Sequence[str]) -> Nominal:
        """Draw a pronoun, a name, two names or a noun phrase."""
        roll = rng.random()
        if _WHO[kind] and roll < 0.3:
            return PRONOUNS[rng.choice(_WHO[kind])]
        if roll < 0.55:
            return rng.choice(self.lexicon.names)
        if roll < 0.62 and kind != "single":
            one, two = rng.sample(self.lexicon.names, 2)
            english, spanish = f"{one.english} and {two.english}", f"{one.spanish} y {two.spanish}"
            return Nominal(english, spanish, 4, one.feminine and two.feminine)
        return self._noun_phrase(rng, "human", [*words, *(["singular"] if kind == "single" else [])], None)


def _number(rng: random.Random, lexicon: Lexicon) -> Phrase:
    n = rng.choice([rng.randint(2, 20), rng.randint(2, 99)])
    return Phrase(number_words(n), lexicon.spanish_number(n))


def _clock(rng: random.Random, lexicon: Lexicon) -> Nominal:
    hour = rng.randint(1, 12)
    minutes = rng.choice(lexicon.phrases["minutes"])
    spanish = "la una" if hour == 1 else f"las {lexicon.spanish_number(hour)}"
    return Nominal(minutes.english.format(number_words(hour)), minutes.spanish.format(spanish), 2 if hour == 1 else 4)


def _date(rng: random.Random, lexicon: Lexicon) -> Phrase:
    month = rng.randint(1, 12)
    day = rng.randint(1, monthrange(2000, month)[1])
    name, spanish = lexicon.phrases["month"][month - 1], "primero" if day == 1 else lexicon.spanish_number(day, "uno")
    return Phrase(f"the {lexicon.month_days[day - 1]} of {name.english}", f"{spanish} de {name.spanish}")


_COMPUTED = {"number": _number, "clock": _clock, "date": _date}
