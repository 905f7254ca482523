"""The same voices in five languages, by espeak-ng: for lid and tts_cross_lingual.

A voice of espeak-ng is a language and a variant, `es+f2`; the variant alone is the `speaker`, who so speaks all five.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split, is_held_out
from unitok.data.synth.voices import speak

__all__ = ["SPEAKERS", "LanguageCorpus", "load_languages"]

SPEAKERS = ("f1", "f2", "f4", "m1", "m3", "m7")
"""Variants of espeak-ng's voices."""
Words = Mapping[str, Sequence[str]]


def load_languages() -> dict[str, Words]:
    """Read the words of each language: `who`, `does`, `what`, `when`."""
    from omegaconf import OmegaConf

    content = OmegaConf.load(Path(__file__).with_name("languages.yaml"))
    return {
        str(lang): {str(place): [w.strip() for w in str(text).split(",")] for place, text in words.items()}
        for lang, words in content.items()
    }


@dataclass(frozen=True)
class LanguageCorpus:
    """What a corpus of languages is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of languages, sentences and voices."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a sentence."""

    @cached_property
    def languages(self) -> dict[str, Words]:
        """Words by language."""
        return load_languages()

    def sentence(self, index: int) -> tuple[str, str, str]:
        """Return language, text and speaker of item `index`."""
        rng = random.Random(f"languages/{self.seed}/{index}/{self.split}")
        lang, speaker = rng.choice(list(self.languages)), rng.choice(SPEAKERS)
        while True:
            text = " ".join(rng.choice(words) for words in self.languages[lang].values())
            if is_held_out(text) == (self.split == "held_out"):
                return lang, text[0].upper() + text[1:] + ".", speaker

    def item(self, index: int) -> Item:
        """Speak item `index`: fields `audio`, `text`, `lang`, `speaker`."""
        lang, text, speaker = self.sentence(index)
        return Item({"audio": speak(text, f"{lang}+{speaker}")}, {"text": text, "lang": lang, "speaker": speaker})
