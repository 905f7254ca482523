"""What sounds are made of: envelopes, oscillators, filters and noise.

Not here: what is made of them, a bell or a dog (`sounds.py`).

Letters: N samples at `RATE_HZ`, P partials. Times `t` are `[N]`, in s.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "RATE_HZ",
    "TURN",
    "Peak",
    "Wave",
    "times",
    "glide",
    "drift",
    "decay",
    "phase_of",
    "vibrato",
    "sine",
    "harmonics",
    "partials",
    "bandpass",
    "noise",
    "scatter",
    "sounding",
    "limited",
]

RATE_HZ = 16000
"""Sample rate of all sounds."""
TURN = 2 * np.pi
AUDIBLE = 0.01
"""Share of a sound's peak, -40 dB, from which on it counts as heard."""
TABLE = 8192
"""Samples of one period in a wave table."""

Wave = NDArray[np.float64]
Peak = tuple[float, float]
"""Centre and half width of a band, in Hz."""


def times(seconds: float) -> Wave:
    """Return the times of so many seconds."""
    return np.arange(round(seconds * RATE_HZ)) / RATE_HZ


def glide(t: Wave, *values: float) -> Wave:
    """Go through the values in equal steps, from the first at the beginning to the last at the end."""
    return np.interp(t, np.linspace(0, t[-1], len(values)), values)


def drift(rng: Generator, t: Wave, per_second: float) -> Wave:
    """Wander between 0 and 1, with so many turns a second."""
    return glide(t, *rng.random(2 + int(t[-1] * per_second)))


def decay(t: Wave, seconds: float, start: float = 0.0) -> Wave:
    """Fall by a factor of e every so many seconds, from `start` on; 0 before."""
    return np.exp((start - t) / seconds) * (t >= start)


def phase_of(hz: Wave) -> Wave:
    """Turn a frequency over time into a phase, in cycles."""
    return np.cumsum(hz) / RATE_HZ


def vibrato(t: Wave, hz: float, per_second: float, depth: float) -> Wave:
    """Return the phase of a tone that wavers by the share `depth`, so often a second."""
    return phase_of(hz * (1 + depth * np.sin(TURN * per_second * t)))


def sine(phase: Wave) -> Wave:
    """Return a sine of a phase in cycles."""
    return np.sin(TURN * phase)


def harmonics(phase: Wave, hz: float, slope: float, step: int = 1) -> Wave:
    """Sum the harmonics k = 1, 1 + step… up to 7 kHz, with amplitudes `k ** -slope`; `hz` is the most they are of."""
    k = np.arange(1, int(max(7000 / hz, 1)) + 1, step)
    spectrum = np.zeros(TABLE // 2 + 1, complex)
    spectrum[k] = -0.5j * TABLE * k**-slope
    return np.fft.irfft(spectrum)[(phase * TABLE).astype(np.int64) % TABLE]


def partials(t: Wave, hz: ArrayLike, level: ArrayLike, decay_s: ArrayLike) -> Wave:
    """Sum P damped sines of these frequencies, levels and decays."""
    rows = np.broadcast(hz, level, decay_s)
    return np.sum([a * np.exp(-t / d) * np.sin(TURN * f * t) for f, a, d in rows if f < 7800], axis=0)


def bandpass(wave: Wave, *peaks: Peak) -> Wave:
    """Pass what lies around the peaks, each (centre, half width) in Hz."""
    n = _fast_length(len(wave))
    f = np.fft.rfftfreq(n, 1 / RATE_HZ)
    gain = sum(1 / (1 + ((f - centre) / width) ** 2) for centre, width in peaks)
    return np.fft.irfft(np.fft.rfft(wave, n) * gain, n)[: len(wave)]


def noise(rng: Generator, t: Wave, *peaks: Peak) -> Wave:
    """Draw noise around the peaks, with a root mean square of 1."""
    wave = bandpass(rng.standard_normal(len(t)), *peaks)
    return wave / wave.std()


def scatter(rng: Generator, t: Wave, per_second: float, kernel: Wave) -> Wave:
    """Let copies of a short sound fall at random, at random levels."""
    hits = (rng.random(len(t)) < per_second / RATE_HZ) * rng.exponential(size=len(t))
    n = _fast_length(len(t) + len(kernel))
    return np.fft.irfft(np.fft.rfft(hits, n) * np.fft.rfft(kernel, n), n)[: len(t)]


def sounding(wave: Wave) -> tuple[int, int]:
    """Return where a sound begins and ends, in samples: within 40 dB of its peak. Of silence, all of it."""
    heard = np.flatnonzero(np.abs(wave) > AUDIBLE * np.abs(wave).max(initial=0.0))
    return (int(heard[0]), int(heard[-1]) + 1) if len(heard) else (0, len(wave))


def limited(waves: Mapping[str, Wave], peak: float = 0.98) -> dict[str, Wave]:
    """Return waves, all turned down alike if need be, so that none exceeds the peak: sums of others stay sums."""
    loudest = max(float(np.abs(wave).max(initial=0.0)) for wave in waves.values())
    return {name: wave / max(1.0, loudest / peak) for name, wave in waves.items()}


def _fast_length(n: int) -> int:
    """Return the next length with small prime factors only: on a large one the transform takes ten times as long."""
    return -(-n // 1024) * 1024
