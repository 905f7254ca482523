"""Random tones for training codecs: no caption, no class, but pitches everywhere.

Natural corpora hold few of the tones that there are; a codec learns to place what it has met.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from unitok.audio import Audio
from unitok.data.synth.corpus import Item
from unitok.data.synth.grammar import Split
from unitok.data.synth.signals import RATE_HZ, Wave, decay, glide, harmonics, noise, partials, phase_of, sine, times

__all__ = ["ToneCorpus"]

_SECONDS = 2.4
_TONES = (2, 7)
_LENGTH_S = (0.15, 1.5)
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 7000.0


@dataclass(frozen=True)
class ToneCorpus:
    """What a corpus of tones is made of; item i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of all that is drawn."""
    split: Split = "train"
    """`train` or `held_out`: two sets of draws."""

    def item(self, index: int) -> Item:
        """Make item `index`: 2.4 s with two to six tones, some of them at once, and at times a little noise."""
        rng = np.random.default_rng(list(f"tones/{self.seed}/{index}/{self.split}".encode()))
        t = times(_SECONDS)
        wave = np.zeros(len(t))
        for _ in range(rng.integers(*_TONES)):
            tone = _tone(rng)
            start = int(rng.integers(len(t) - len(tone) + 1))
            wave[start : start + len(tone)] += tone * rng.uniform(0.1, 1.0)
        if rng.random() < 0.3:
            wave += noise(rng, t, (rng.uniform(100, 6000), rng.uniform(100, 3000))) * 10 ** rng.uniform(-3, -1)
        return Item({"audio": Audio.of((0.8 * wave / np.abs(wave).max(), RATE_HZ))}, {})


def _tone(rng: Generator) -> Wave:
    t = times(rng.uniform(*_LENGTH_S))
    hz = _LOWEST_HZ * (_HIGHEST_HZ / _LOWEST_HZ) ** rng.random()
    kind = rng.choice(["steady", "glide", "vibrato", "trill", "harmonics", "struck"])
    if kind == "struck":
        n = int(rng.integers(1, 7))
        ratios = np.concatenate([[1.0], rng.uniform(1.2, 6.0, n - 1)])
        wave = partials(t, hz * ratios, rng.uniform(0.2, 1.0, n), rng.uniform(0.03, 0.8, n))
    elif kind == "harmonics":
        wave = harmonics(phase_of(_bend(rng, t, hz)), hz * 1.3, rng.uniform(0.3, 2.0), int(rng.integers(1, 3)))
    elif kind == "trill":
        high = np.sin(2 * np.pi * rng.uniform(4, 40) * t) > 0
        wave = sine(phase_of(np.where(high, min(hz * rng.uniform(1.03, 1.6), _HIGHEST_HZ), hz)))
    elif kind == "vibrato":
        wavering = 1 + rng.uniform(0.005, 0.06) * np.sin(2 * np.pi * rng.uniform(3, 40) * t)
        wave = sine(phase_of(hz * wavering))
    else:
        wave = sine(phase_of(_bend(rng, t, hz) if kind == "glide" else np.full(len(t), hz)))
    return _shape(rng, t, wave / np.abs(wave).max())


def _bend(rng: Generator, t: Wave, hz: float) -> Wave:
    """Wander within a third of an octave or so of the pitch."""
    return np.minimum(hz * glide(t, *rng.uniform(0.8, 1.25, int(rng.integers(2, 5)))), _HIGHEST_HZ)


def _shape(rng: Generator, t: Wave, wave: Wave) -> Wave:
    """Begin and end, at times die away, at times pulse."""
    attack, release = rng.uniform(0.003, 0.05, 2)
    wave = wave * np.clip(t / attack, 0, 1) * np.clip((t[-1] - t) / release, 0, 1)
    if rng.random() < 0.3:
        wave = wave * decay(t, rng.uniform(0.05, 0.6))
    if rng.random() < 0.3:
        wave = wave * (0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(2, 30) * t))
    return wave
