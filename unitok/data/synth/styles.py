"""Speech in a manner that was asked for: for instruct_tts, ser, asr_timed, sv, vc and tts_stereo.

    audio         the sentence, faster or slower, higher or lower, louder or quieter, as `style` says in words
    timed_text    its words with the times at which they begin, exact
    source_audio  the same words by another voice, plainly
    other_audio   another sentence by the same voice or by another, as `speakers` says
    stereo_audio  `audio` from a `direction`

Half of the items follow the rule of an emotion (`emotion`). It is a rule for speed, pitch and level, not acting: what
a model learns from it is to hear these, not to know how people feel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Grammar, Split
from unitok.data.synth.scene_edits import PLACES, pan
from unitok.data.synth.scenes import pick
from unitok.data.synth.signals import RATE_HZ
from unitok.data.synth.voices import VoiceStyle, speak
from unitok.data.synth.word_times import WordTime, speak_timed, timed_text
from unitok.errors import DataError

__all__ = ["EMOTIONS", "Manner", "StyleCorpus", "describe"]


class Manner(NamedTuple):
    """How something is said."""

    rate: float
    """Speed, relative to the voice's own."""
    pitch: float
    """Mean pitch, relative to the voice's own."""
    peak: float
    """Loudest sample."""


EMOTIONS = {
    "neutral": Manner(1.0, 1.0, 0.5),
    "happy": Manner(1.2, 1.3, 0.8),
    "sad": Manner(0.75, 0.8, 0.2),
    "angry": Manner(1.25, 0.95, 0.95),
    "calm": Manner(0.8, 1.0, 0.4),
    "afraid": Manner(1.4, 1.35, 0.25),
}
"""Emotion -> the rule it follows here; each item differs from it by 3 % at most."""
VARIATION = 0.03
SPEAKERS = {"slt": "woman", "awb": "man"}
"""The voices whose speed, pitch and word times all are under control."""
OTHERS = (*SPEAKERS, "rms")
_RATES = {"slowly": 0.75, "": 1.0, "quickly": 1.35}
_PITCHES = {"in a low voice": 0.8, "": 1.0, "in a high voice": 1.3}
_LEVELS = {"quietly": 0.2, "": 0.5, "loudly": 0.95}
_TRIES = 50


@dataclass(frozen=True)
class StyleCorpus:
    """What a corpus of styles is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of sentences, voices and manners."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a sentence."""

    @cached_property
    def grammar(self) -> Grammar:
        """Where the sentences come from."""
        return Grammar.load()

    def item(self, index: int) -> Item:
        """Speak item `index`: the audio above, and what it is.

        Fields: `text`, `timed_text`, `speaker`, `lang`, `style`, `direction`, `speakers`, and `emotion` of half.
        """
        rng = np.random.default_rng(list(f"styles/{self.seed}/{index}/{self.split}".encode()))
        voice = pick(rng, list(SPEAKERS))
        other_voice = pick(rng, [name for name in OTHERS if name != voice])
        emotion = pick(rng, list(EMOTIONS)) if rng.random() < 0.5 else None
        manner, style = _emotional(emotion, voice, rng) if emotion else _described(voice, rng)
        text, spoken, words = self._timed(index, voice, manner)
        wave = spoken.samples[0].numpy().astype(np.float64)
        wave *= manner.peak / np.abs(wave).max()
        same = bool(rng.random() < 0.5)
        direction = pick(rng, list(PLACES))
        audio = {
            "audio": Audio.of((wave, RATE_HZ)),
            "source_audio": speak(text, other_voice),
            "other_audio": speak(self._sentence(index, 1), voice if same else other_voice, _free_style(rng)),
            "stereo_audio": Audio.of((pan(wave, direction), RATE_HZ)),
        }
        fields = {
            "text": text,
            "timed_text": timed_text(words),
            "speaker": voice,
            "lang": "en",
            "style": style,
            **({"emotion": emotion} if emotion else {}),
            "direction": direction,
            "speakers": "same" if same else "different",
        }
        return Item(audio, fields)

    def _sentence(self, index: int, k: int) -> str:
        return self.grammar.sentence(self.seed, (_TRIES + 1) * index + k, self.split)

    def _timed(self, index: int, voice: str, manner: Manner) -> tuple[str, Audio, list[WordTime]]:
        """Speak the first of some sentences whose words can be told apart."""
        for k in (0, *range(2, _TRIES)):
            text = self._sentence(index, k)
            audio, words = speak_timed(text, voice, VoiceStyle(manner.rate, manner.pitch))
            if words:
                return text, audio, words
        raise DataError(f"flite's phones do not fit its lexicon in any of {_TRIES} sentences. Is flite complete?")


def describe(voice: str, rate: str, pitch: str, level: str) -> str:
    """Say how a voice speaks: "A woman speaks slowly in a high voice.", and plainly if there is nothing to say."""
    manner = " and ".join(word for word in (rate, level) if word)
    words = " ".join(word for word in (manner, pitch) if word)
    return f"A {SPEAKERS[voice]} speaks {words or 'plainly'}."


def _described(voice: str, rng: Generator) -> tuple[Manner, str]:
    rate, pitch, level = (pick(rng, list(words)) for words in (_RATES, _PITCHES, _LEVELS))
    manner = Manner(_RATES[rate], _PITCHES[pitch], _LEVELS[level])
    return _varied(manner, rng), describe(voice, rate, pitch, level)


def _emotional(emotion: str, voice: str, rng: Generator) -> tuple[Manner, str]:
    text = pick(rng, (f"A {emotion} {SPEAKERS[voice]} speaks.", f"A {SPEAKERS[voice]} speaks and sounds {emotion}."))
    return _varied(EMOTIONS[emotion], rng), text.replace("A angry", "An angry").replace("A afraid", "An afraid")


def _varied(manner: Manner, rng: Generator) -> Manner:
    return Manner(*(value * rng.uniform(1 - VARIATION, 1 + VARIATION) for value in manner))


def _free_style(rng: Generator) -> VoiceStyle:
    return VoiceStyle(rng.uniform(0.8, 1.3), rng.uniform(0.9, 1.2))
