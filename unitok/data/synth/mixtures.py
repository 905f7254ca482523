"""Two people who speak at once, and each of them alone: for tse, separate, se, speech_removal, dereverb.

    audio            the one asked for         first_audio     of the two, who begins first
    other_audio      the other                 second_audio    who begins second
    mixture_audio    = audio + other_audio     enrolment_audio another sentence of the one asked for
    noise_audio      what goes on around       noisy_audio     = audio + noise_audio
                                               reverberant_audio  audio in a room

All but the enrolment are of one length, N samples, and the sums hold to the rounding of 16-bit files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Grammar, Split
from unitok.data.synth.rooms import add_echo, draw_noise
from unitok.data.synth.signals import RATE_HZ, Wave, sounding
from unitok.data.synth.voices import FLITE_VOICES, speak
from unitok.errors import DataError

__all__ = ["MixtureCorpus", "spoken_wave"]

HEAD_START_S = (0.3, 1.0)
"""By how much one of the two begins before the other."""
LEVEL_DB = (-5.0, 5.0)
"""How much louder the one asked for is than the other."""
SIGNAL_TO_NOISE_DB = (0.0, 15.0)
PEAK = (0.2, 0.9)
"""Of the loudest file of an item."""


@dataclass(frozen=True)
class MixtureCorpus:
    """What a corpus of mixtures is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of sentences, voices, noises and levels."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a sentence."""
    voices: Sequence[str] = field(default=FLITE_VOICES)
    """Voices, two of which are drawn."""

    def __post_init__(self) -> None:
        """Refuse a single voice.

        Raises:
            DataError: If there are not at least two.
        """
        if len(set(self.voices)) < 2:
            raise DataError(f"a mixture needs two voices, got {', '.join(self.voices) or 'none'}. Add one to --voices.")

    @cached_property
    def grammar(self) -> Grammar:
        """Where the sentences come from."""
        return Grammar.load()

    def item(self, index: int) -> Item:
        """Make mixture `index`; `text` and `speaker` are of who is asked for, `other_` before them of the other."""
        rng = np.random.default_rng(list(f"mixtures/{self.seed}/{index}/{self.split}".encode()))
        speaker, other = (str(voice) for voice in rng.choice(list(self.voices), 2, replace=False))
        texts = [self.grammar.sentence(self.seed, 3 * index + j, self.split) for j in range(3)]
        waves = [spoken_wave(text, voice) for text, voice in zip(texts, (speaker, other, speaker), strict=True)]
        audio, competing, audio_begins = _overlapping(waves[0], waves[1], rng)
        noise = draw_noise(rng, len(audio)) * _level(audio) * 10 ** (-rng.uniform(*SIGNAL_TO_NOISE_DB) / 20)
        parts = {
            "audio": audio,
            "other_audio": competing,
            "mixture_audio": audio + competing,
            "first_audio": audio if audio_begins else competing,
            "second_audio": competing if audio_begins else audio,
            "noise_audio": noise,
            "noisy_audio": audio + noise,
            "reverberant_audio": add_echo(audio, rng),
        }
        gain = rng.uniform(*PEAK) / max(float(np.abs(wave).max()) for wave in parts.values())
        parts = {name: wave * gain for name, wave in parts.items()}
        parts["enrolment_audio"] = waves[2] / np.abs(waves[2]).max() * rng.uniform(*PEAK)
        fields = {"text": texts[0], "speaker": speaker, "other_text": texts[1], "other_speaker": other, "lang": "en"}
        return Item({name: Audio.of((wave, RATE_HZ)) for name, wave in parts.items()}, fields)


def spoken_wave(text: str, voice: str) -> Wave:
    """Return speech `[N]` at `RATE_HZ` from its first sound to its last."""
    wave = speak(text, voice, sample_rate_hz=RATE_HZ).samples[0].numpy().astype(np.float64)
    start, end = sounding(wave)
    return wave[start:end]


def _overlapping(wave: Wave, other: Wave, rng: np.random.Generator) -> tuple[Wave, Wave, bool]:
    """Return both at the length `[N]` of their mixture, and whether the first one begins first."""
    begins = bool(rng.random() < 0.5)
    early, late = (wave, other) if begins else (other, wave)
    head_start = min(round(rng.uniform(*HEAD_START_S) * RATE_HZ), len(early) // 2)
    N = max(len(early), head_start + len(late))
    placed = np.zeros((2, N))
    placed[0, : len(early)] = early / _level(early)
    placed[1, head_start : head_start + len(late)] = late / _level(late)
    first, second = (0, 1) if begins else (1, 0)
    return placed[first] * 10 ** (rng.uniform(*LEVEL_DB) / 20), placed[second], begins


def _level(wave: Wave) -> float:
    """Return the root mean square of what sounds."""
    start, end = sounding(wave)
    return float(np.sqrt((wave[start:end] ** 2).mean())) or 1.0
