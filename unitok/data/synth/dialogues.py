"""Spoken questions with spoken answers that are computed, not looked up: for chat.

What is seven plus five?          Seven plus five is twelve.
What day comes after Monday?      Tuesday comes after Monday.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split, is_held_out, number_words
from unitok.data.synth.voices import FLITE_VOICES, speak

__all__ = ["DialogueCorpus", "turn"]

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("old", "young"), ("fast", "slow"), ("early", "late"), ("open", "closed"),
    ("full", "empty"), ("high", "low"), ("long", "short"), ("loud", "quiet"), ("hard", "soft"), ("wet", "dry"),
    ("light", "dark"), ("strong", "weak"), ("rich", "poor"), ("thick", "thin"), ("sweet", "sour"), ("near", "far"),
)  # fmt: skip
ANSWERING_VOICE = "slt"


def turn(seed: int, index: int, split: Split = "train") -> tuple[str, str]:
    """Return question `index` of a seed and its answer; draws again until the question falls into the wanted split."""
    rng = random.Random(f"dialogues/{seed}/{index}/{split}")
    while True:
        question, answer = rng.choice(_KINDS)(rng)
        if is_held_out(question) == (split == "held_out"):
            return question, answer[0].upper() + answer[1:]


@dataclass(frozen=True)
class DialogueCorpus:
    """What a corpus of dialogues is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of questions and voices."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a question."""
    voices: Sequence[str] = field(default=FLITE_VOICES)
    """Who asks, drawn with equal weight."""

    def item(self, index: int) -> Item:
        """Speak turn `index`: fields `audio`, `text`, `answer`, `answer_audio`, `speaker`, `answer_speaker`, `lang`."""
        question, answer = turn(self.seed, index, self.split)
        voice = random.Random(f"dialogues/{self.seed}/{index}/{self.split}/voice").choice(list(self.voices))
        fields = {"text": question, "answer": answer, "speaker": voice, "answer_speaker": ANSWERING_VOICE, "lang": "en"}
        return Item({"audio": speak(question, voice), "answer_audio": speak(answer, ANSWERING_VOICE)}, fields)


def _sum(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(1, 50), rng.randint(1, 49)
    said = f"{number_words(a)} plus {number_words(b)}"
    return f"What is {said}?", f"{said} is {number_words(a + b)}."


def _difference(rng: random.Random) -> tuple[str, str]:
    b = rng.randint(1, 49)
    a = rng.randint(b, 99)
    said = f"{number_words(a)} minus {number_words(b)}"
    return f"What is {said}?", f"{said} is {number_words(a - b)}."


def _product(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    said = f"{number_words(a)} times {number_words(b)}"
    return f"What is {said}?", f"{said} is {number_words(a * b)}."


def _larger(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(1, 100), 2)
    one, other = number_words(max(a, b)), number_words(min(a, b))
    return f"Which is larger, {number_words(a)} or {number_words(b)}?", f"{one} is larger than {other}."


def _time(rng: random.Random) -> tuple[str, str]:
    now, hours = rng.randint(1, 12), rng.randint(2, 11)
    then = (now + hours - 1) % 12 + 1
    asked = f"It is {number_words(now)} o clock. What time will it be in {number_words(hours)} hours?"
    return asked, f"It will be {number_words(then)} o clock."


def _next_in(names: Sequence[str], what: str, rng: random.Random) -> tuple[str, str]:
    i, step = rng.randrange(len(names)), rng.choice((1, -1))
    word = "after" if step > 0 else "before"
    found = names[(i + step) % len(names)]
    return f"What {what} comes {word} {names[i]}?", f"{found} comes {word} {names[i]}."


def _day(rng: random.Random) -> tuple[str, str]:
    return _next_in(DAYS, "day", rng)


def _month(rng: random.Random) -> tuple[str, str]:
    return _next_in(MONTHS, "month", rng)


def _opposite(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(rng.choice(OPPOSITES), 2)
    return f"What is the opposite of {a}?", f"The opposite of {a} is {b}."


_KINDS: tuple[Callable[[random.Random], tuple[str, str]], ...] = (
    _sum, _difference, _product, _larger, _time, _day, _month, _opposite,
)  # fmt: skip
