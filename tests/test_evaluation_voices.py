"""Whose voice is heard."""

import math

import pytest
import torch

from unitok.audio import Audio
from unitok.errors import DataError
from unitok.evaluation.voices import VoiceCheck, voice_features

RATE = 16000


def buzz(pitch_hz: float, brightness: float, seed: int) -> Audio:
    """Return a second of a voice-like sound: harmonics that fall by `brightness`, its pitch moving a little."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(RATE) / RATE
    bend = 1 + 0.03 * torch.sin(2 * math.pi * 3 * t + float(torch.rand(1, generator=generator)))
    phase = 2 * math.pi * torch.cumsum(pitch_hz * bend / RATE, 0)
    wav = sum(brightness**k * torch.sin(k * phase) for k in range(1, 20))
    return Audio((0.1 * wav + 0.001 * torch.randn(RATE, generator=generator))[None], RATE)


@pytest.fixture(scope="module")
def check() -> VoiceCheck:
    return VoiceCheck({"low": [buzz(110, 0.8, i) for i in range(5)], "high": [buzz(190, 0.6, i) for i in range(5)]})


def test_voices_are_told_apart(check: VoiceCheck) -> None:
    assert check.name(buzz(112, 0.79, 20)) == "low"
    assert check.accuracy([buzz(110, 0.8, 30), buzz(188, 0.6, 31), buzz(190, 0.6, 32)], ["low", "high", "low"]) == 2 / 3


def test_the_first_feature_is_the_median_log_pitch() -> None:
    assert math.exp(voice_features(buzz(140, 0.7, 0))[0]) == pytest.approx(140, rel=0.02)


def test_silence_is_nobodys_voice(check: VoiceCheck) -> None:
    silence = Audio(torch.zeros(1, RATE), RATE)
    assert check.name(silence) == ""
    with pytest.raises(DataError, match="shorter or silent"):
        voice_features(silence)


def test_too_few_utterances_are_refused() -> None:
    with pytest.raises(DataError, match="low: 1"):
        VoiceCheck({"low": [buzz(110, 0.8, 0)], "high": [buzz(190, 0.6, i) for i in range(5)]})
