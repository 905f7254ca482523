"""Where speech is recorded: how loud, in which room, and with what going on around it."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from unitok.audio import Audio
from unitok.data.synth.signals import RATE_HZ, Wave, times
from unitok.data.synth.sounds import SOUNDS

__all__ = ["add_echo", "draw_noise", "record_in_room"]

PEAK = (0.05, 0.9)
REVERBERATION_S = (0.1, 0.5)
"""Time in which an echo falls by 60 dB: from a furnished room to a hall."""
DIRECT_TO_ECHO_DB = (0.0, 15.0)
SIGNAL_TO_NOISE_DB = (5.0, 30.0)
ECHO, NOISE = 0.5, 0.8
"""How often there is a room, and noise."""


def record_in_room(audio: Audio, rng: Generator) -> Audio:
    """Return speech as a microphone may hear it: of any level, often with echo, mostly with noise, of the same length.

    Args:
        audio: Clean speech; becomes mono at 16 kHz.
        rng: Where room, noise and levels are drawn from. Noise is hiss of any colour, or a sound that goes on.
    """
    wave = audio.mono().resample(RATE_HZ).samples[0].numpy().astype(np.float64)
    if rng.random() < ECHO:
        wave = add_echo(wave, rng)
    if rng.random() < NOISE:
        wave = wave + draw_noise(rng, len(wave)) * wave.std() * 10 ** (-rng.uniform(*SIGNAL_TO_NOISE_DB) / 20)
    return Audio.of((wave / max(np.abs(wave).max(), 1e-9) * rng.uniform(*PEAK), RATE_HZ))


def add_echo(wave: Wave, rng: Generator) -> Wave:
    """Return speech `[N]` in a room: convolved with noise that decays, behind the direct sound."""
    reverberation = rng.uniform(*REVERBERATION_S)
    t = times(reverberation)
    echo = rng.standard_normal(len(t)) * 10 ** (-3 * t / reverberation)
    echo[: int(rng.uniform(0.001, 0.01) * RATE_HZ)] = 0
    echo *= 10 ** (-rng.uniform(*DIRECT_TO_ECHO_DB) / 20) / np.sqrt((echo**2).sum())
    echo[0] = 1.0
    n = len(wave) + len(echo)
    return np.fft.irfft(np.fft.rfft(wave, n) * np.fft.rfft(echo, n), n)[: len(wave)]


def draw_noise(rng: Generator, n: int) -> Wave:
    """Draw `n` samples with a root mean square of 1: hiss of any colour, or a sound that goes on."""
    lasting = [sound for sound in SOUNDS.values() if not sound.countable]
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(rng.standard_normal(n))
        wave = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1), n)
    else:
        sound = lasting[int(rng.integers(len(lasting)))]
        wave = sound.play(rng, sound.frequency(rng), n / RATE_HZ)[:n]
        wave = np.pad(wave, (0, n - len(wave)))
    return wave / max(wave.std(), 1e-9)
