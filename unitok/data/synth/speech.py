"""English speech: sentences of the grammar or from WordNet, spoken by synthetic voices."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Grammar, Split
from unitok.data.synth.rooms import record_in_room
from unitok.data.synth.voices import FLITE_VOICES, VoiceStyle, speak
from unitok.data.synth.wordnet import WordNetExamples
from unitok.errors import DataError

__all__ = ["SpeechCorpus"]

SOURCES = ("grammar", "wordnet")


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
    sentences: Sequence[str] = ("grammar",)
    """Where sentences come from, drawn with equal weight: `grammar`, `wordnet`."""
    noisy: bool = False
    """Whether each comes a second time, as a microphone in a room may hear it."""

    def __post_init__(self) -> None:
        """Refuse unknown sources.

        Raises:
            DataError: If there is one, or none at all.
        """
        unknown = [name for name in self.sentences if name not in SOURCES]
        if unknown or not self.sentences:
            raise DataError(f"sentences come from {', '.join(SOURCES)}, not from {', '.join(unknown) or 'nowhere'}.")

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar, with its words."""
        return Grammar.load(self.words)

    def utterance(self, index: int) -> tuple[str, str, VoiceStyle]:
        """Return text, voice and style of utterance `index`."""
        rng = random.Random(f"{self.seed}/{index}/{self.split}/style")
        style = VoiceStyle(rate=rng.uniform(*self.rate_range), pitch=rng.uniform(*self.pitch_range))
        voice = rng.choice(list(self.voices))
        # Drawn last, and only where there is a choice: corpora of the grammar alone stay what they were.
        source = rng.choice(list(self.sentences)) if len(self.sentences) > 1 else self.sentences[0]
        sentences = self.grammar if source == "grammar" else WordNetExamples.load()
        return sentences.sentence(self.seed, index, self.split), voice, style

    def item(self, index: int) -> Item:
        """Speak utterance `index`: fields `audio`, `text`, `speaker`, `lang`, and `noisy_audio` if there is noise."""
        text, voice, style = self.utterance(index)
        audio = {"audio": speak(text, voice, style)}
        if self.noisy:
            rng = np.random.default_rng(list(f"noise/{self.seed}/{index}/{self.split}".encode()))
            audio["noisy_audio"] = record_in_room(audio["audio"], rng)
        return Item(audio, {"text": text, "speaker": voice, "lang": "en"})
