"""English speech: sentences of the grammar, spoken by synthetic voices."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Grammar, Split
from unitok.data.synth.voices import FLITE_VOICES, VoiceStyle, speak

__all__ = ["SpeechCorpus"]


@dataclass(frozen=True)
class SpeechCorpus:
    """What a speech corpus is made of; utterance i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of sentences, voices and styles."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a sentence."""
    voices: Sequence[str] = field(default=FLITE_VOICES)
    """Voices, drawn with equal weight."""
    rate_range: tuple[float, float] = (1.0, 1.0)
    """Bounds of the speed, relative to the voice's own."""
    pitch_range: tuple[float, float] = (1.0, 1.0)
    """Bounds of the pitch, relative to the voice's own."""
    words: str | None = None
    """Word file of the grammar; default: the English one."""

    @cached_property
    def grammar(self) -> Grammar:
        """Where the sentences come from."""
        return Grammar.load(self.words)

    def utterance(self, index: int) -> tuple[str, str, VoiceStyle]:
        """Return text, voice and style of utterance `index`."""
        rng = random.Random(f"{self.seed}/{index}/{self.split}/style")
        style = VoiceStyle(rate=rng.uniform(*self.rate_range), pitch=rng.uniform(*self.pitch_range))
        return self.grammar.sentence(self.seed, index, self.split), rng.choice(list(self.voices)), style

    def item(self, index: int) -> Item:
        """Speak utterance `index`: fields `audio`, `text`, `speaker`, `lang`."""
        text, voice, style = self.utterance(index)
        return Item({"audio": speak(text, voice, style)}, {"text": text, "speaker": voice, "lang": "en"})
