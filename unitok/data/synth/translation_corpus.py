"""Spoken English-Spanish pairs: a sentence in one language, and its translation in the other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split
from unitok.data.synth.translation import ParallelGrammar
from unitok.data.synth.voices import FLITE_VOICES, speak

__all__ = ["SPANISH_VOICES", "TranslationCorpus"]

SPANISH_VOICES = ("es", "es+f2", "es+m3", "es-419", "es-419+f4")
"""Spanish voices of espeak-ng: of Spain and of Latin America, with variants."""


@dataclass(frozen=True)
class TranslationCorpus:
    """What a corpus of spoken translations is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of sentences, directions and voices."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a combination of nouns, verbs and adjectives."""
    english_voices: Sequence[str] = field(default=FLITE_VOICES)
    """Voices of the English side, drawn with equal weight."""
    spanish_voices: Sequence[str] = field(default=SPANISH_VOICES)
    """Voices of the Spanish side, drawn with equal weight."""
    words: str | None = None
    """Word file of the grammar; default: the one that comes with unitok."""
    text_only: bool = False
    """Leave the audio out: thousands of pairs in a second, for `mt`."""

    @cached_property
    def grammar(self) -> ParallelGrammar:
        """Where the pairs come from."""
        return ParallelGrammar.load(self.words)

    def sides(self, index: int) -> list[dict[str, str]]:
        """Return `text`, `speaker` and `lang` of the source and of the target of item `index`."""
        rng = random.Random(f"{self.seed}/{index}/{self.split}/voices")
        english, spanish = self.grammar.pair(self.seed, index, self.split)
        sides = [
            {"text": english, "speaker": rng.choice(list(self.english_voices)), "lang": "en"},
            {"text": spanish, "speaker": rng.choice(list(self.spanish_voices)), "lang": "es"},
        ]
        return sides if rng.random() < 0.5 else sides[::-1]

    def item(self, index: int) -> Item:
        """Speak item `index`: fields `audio`, `text`, `speaker`, `lang`, and the same with `target_` before them."""
        source, target = self.sides(index)
        audio = {} if self.text_only else {"audio": source, "target_audio": target}
        return Item(
            {name: speak(side["text"], side["speaker"]) for name, side in audio.items()},
            source | {f"target_{name}": value for name, value in target.items()},
        )
