"""Sung syllables for svs: a formant singer, by formula.

Not a recording and no natural voice: a buzz at the pitch of each note with the formants of a vowel, before it the noise
or the hum of a consonant. Lyrics are syllables without meaning, one for each note. What is sung is exact: which
syllable, at which pitch, from when to when.

N samples; formants in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split
from unitok.data.synth.melodies import Note, draw_melody, hertz, notes_text
from unitok.data.synth.scenes import pick
from unitok.data.synth.signals import RATE_HZ, Wave, bandpass, harmonics, noise, times, vibrato

__all__ = ["CONSONANTS", "SINGERS", "VOWELS", "Singer", "SongCorpus", "sing"]

VOWELS = {
    "a": (730.0, 1090.0, 2440.0),
    "e": (530.0, 1840.0, 2480.0),
    "i": (270.0, 2290.0, 3010.0),
    "o": (570.0, 840.0, 2410.0),
    "u": (300.0, 870.0, 2240.0),
}
"""Formants of men's vowels (Peterson and Barney, 1952: ɑ ɛ i ɔ u)."""
CONSONANTS = ("", "m", "n", "l", "s", "f", "t")
CONSONANT_S = 0.09
_HISS = {"s": (6000.0, 1200.0), "f": (4500.0, 3000.0), "t": (3500.0, 1500.0)}
_HUM = {"m": (250.0, 1000.0), "n": (250.0, 1500.0), "l": (360.0, 1300.0)}


class Singer(NamedTuple):
    """A voice."""

    lowest: int
    """The C from which its notes begin, MIDI."""
    formants: float
    """Its formants, relative to a man's: a shorter throat has higher ones."""
    vibrato: float
    """Depth, as a share of the pitch."""


SINGERS = {
    "bass": Singer(36, 0.95, 0.006),
    "tenor": Singer(48, 1.05, 0.008),
    "alto": Singer(53, 1.15, 0.010),
    "soprano": Singer(60, 1.2, 0.012),
}


@dataclass(frozen=True)
class SongCorpus:
    """What a corpus of songs is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of melodies, syllables and singers."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a melody."""

    def item(self, index: int) -> Item:
        """Sing song `index`: fields `audio`, `text` (the lyrics), `notes`, `speaker`, `lang`."""
        rng = np.random.default_rng(list(f"songs/{self.seed}/{index}/{self.split}".encode()))
        singer = pick(rng, list(SINGERS))
        notes = draw_melody(rng, self.split, lowest=SINGERS[singer].lowest).notes
        syllables = [pick(rng, CONSONANTS) + pick(rng, list(VOWELS)) for note in notes if note.pitch is not None]
        wave = sing(notes, syllables, SINGERS[singer], rng)
        fields = {"text": " ".join(syllables), "notes": notes_text(notes), "speaker": singer, "lang": "en"}
        return Item({"audio": Audio.of((0.6 * wave / np.abs(wave).max(), RATE_HZ))}, fields)


def sing(notes: tuple[Note, ...], syllables: list[str], singer: Singer, rng: Generator) -> Wave:
    """Sing one syllable to each note that is no rest, `[N]`."""
    words, parts = iter(syllables), []
    edges = np.round(np.cumsum([0.0, *(note.seconds for note in notes)]) * RATE_HZ).astype(int)
    for note, n in zip(notes, np.diff(edges), strict=True):
        parts.append(np.zeros(n) if note.pitch is None else _syllable(note.pitch, n, next(words), singer, rng))
    return np.concatenate(parts)


def _syllable(pitch: int, n: int, syllable: str, singer: Singer, rng: Generator) -> Wave:
    hz, t = hertz(pitch), times(n / RATE_HZ)
    buzz = harmonics(vibrato(t, hz, 5.5, singer.vibrato), hz * 1.02, 1.0)
    buzz /= buzz.std()
    formants = [singer.formants * formant for formant in VOWELS[syllable[-1]]]
    vowel = bandpass(buzz, *((formant, 60.0 + 0.04 * formant) for formant in formants))
    vowel = vowel / max(float(vowel.std()), 1e-9) * np.clip((t[-1] - t) / 0.03, 0, 1)
    if syllable[:-1] == "":
        return vowel * np.clip(t / 0.02, 0, 1)
    return _after(syllable[0], buzz, vowel, t, rng)


def _after(consonant: str, buzz: Wave, vowel: Wave, t: Wave, rng: Generator) -> Wave:
    """Put a consonant before a vowel: it takes the note's first part, at most a third."""
    lasts = min(CONSONANT_S, t[-1] / 3)
    opened = np.clip((t - lasts) / 0.02, 0, 1)
    if consonant in _HUM:
        hum = bandpass(buzz, *((formant, 60.0) for formant in _HUM[consonant]))
        return vowel * opened + 0.4 * hum / max(float(hum.std()), 1e-9) * (1 - opened) * np.clip(t / 0.01, 0, 1)
    hiss = 0.3 * noise(rng, t, _HISS[consonant]) * (1 - opened)
    if consonant == "t":
        hiss *= np.exp(-np.maximum(t - lasts / 2, 0) / 0.01) * (t > lasts / 2)
    return vowel * opened + hiss
