"""Rooms and noise: what a microphone hears still is the speech, of the same length, at another level."""

import numpy as np
import torch

from unitok.audio import Audio
from unitok.data.synth.rooms import record_in_room


def speech(seconds=1.5):
    t = np.arange(round(seconds * 16000)) / 16000
    return Audio.of((0.5 * np.sin(2 * np.pi * 200 * t) * (np.sin(2 * np.pi * 3 * t) > 0), 16000))


def test_a_recording_is_a_function_of_the_generator():
    first, again, other = (record_in_room(speech(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.samples, again.samples)
    assert not torch.equal(first.samples, other.samples)


def test_length_stays_and_levels_vary_without_clipping():
    peaks = []
    for seed in range(30):
        heard = record_in_room(speech(), np.random.default_rng(seed))
        assert heard.n_samples == speech().n_samples
        assert torch.isfinite(heard.samples).all()
        peaks.append(float(heard.samples.abs().max()))
    assert 0.05 <= min(peaks) < 0.2
    assert 0.7 < max(peaks) <= 0.9001


def test_most_recordings_have_noise_where_the_speech_pauses_and_all_keep_the_speech():
    clean = speech().samples[0].numpy()
    pause = np.abs(clean) < 1e-6
    noisy = 0
    for seed in range(40):
        heard = record_in_room(speech(), np.random.default_rng(seed)).samples[0].numpy()
        noisy += np.sqrt((heard[pause] ** 2).mean()) > 0.02 * np.sqrt((heard[~pause] ** 2).mean())
        assert np.corrcoef(heard, clean)[0, 1] > 0.2
    assert 25 <= noisy < 40


def test_silence_stays_finite():
    heard = record_in_room(Audio(torch.zeros(1, 8000), 16000), np.random.default_rng(0))
    assert torch.isfinite(heard.samples).all()
