"""The check of sounds: what is heard, in what order, how often, how high; on sounds made here, not by the corpus."""

import numpy as np
import pytest

from unitok.audio import Audio
from unitok.errors import DataError
from unitok.evaluation.sounds import SoundCheck, SoundReference

pytest.importorskip("sklearn")
pytest.importorskip("librosa")

RATE_HZ = 16000
PITCHES_HZ = {"low": 300, "high": 1500}


def silence(seconds):
    return np.zeros(round(seconds * RATE_HZ))


def events(make, count, rest_s=0.25):
    return np.concatenate([silence(0.1)] + [part for _ in range(count) for part in (make(), silence(rest_s))])


def tone(hz, seconds=0.2):
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return 0.3 * np.sin(2 * np.pi * hz * t) * np.hanning(len(t)) ** 0.2


def click(rng):
    t = np.arange(round(0.05 * RATE_HZ)) / RATE_HZ
    return 0.5 * rng.standard_normal(len(t)) * np.exp(-t / 0.008)


def hiss(rng, seconds=1.2):
    return 0.1 * np.diff(rng.standard_normal(round(seconds * RATE_HZ) + 1))


def audio(*parts):
    return Audio.of((np.concatenate(parts), RATE_HZ))


@pytest.fixture(scope="module")
def check():
    rng = np.random.default_rng(0)
    tones = [
        SoundReference(audio(events(lambda hz=hz, n=n: tone(hz * (0.9 + 0.05 * n)), n)), n, pitch)
        for n in (1, 2, 3, 4)
        for pitch, hz in PITCHES_HZ.items()
    ]
    clicks = [SoundReference(audio(events(lambda: click(rng), n)), n) for n in (1, 2, 3, 4, 5)]
    hisses = [SoundReference(audio(silence(0.1), hiss(rng), silence(0.1))) for _ in range(5)]
    return SoundCheck({"tone": tones, "click": clicks, "hiss": hisses})


def test_sounds_are_heard_in_order_and_counted(check):
    rng = np.random.default_rng(1)
    scene = audio(events(lambda: tone(1450), 3), hiss(rng), silence(0.3), events(lambda: click(rng), 2))
    heard = check.listen(scene)
    assert [sound.name for sound in heard] == ["tone", "hiss", "click"]
    assert (heard[0].count, heard[2].count) == (3, 2)
    assert (heard[0].pitch, heard[1].pitch) == ("high", None)
    assert heard[0].start_s == 0
    assert heard[0].stop_s == pytest.approx(1.4, abs=0.25)
    assert all(a.stop_s == b.start_s for a, b in zip(heard, heard[1:], strict=False))


def test_pitch_is_that_of_the_nearest_recordings(check):
    pitches = [check.listen(audio(events(lambda hz=hz: tone(hz), 2)))[0].pitch for hz in (280, 330, 1350, 1600)]
    assert pitches == ["low", "low", "high", "high"]


def test_level_does_not_matter(check):
    loud = audio(events(lambda: tone(320), 2))
    quiet = Audio(loud.samples * 0.02, RATE_HZ)
    assert check.listen(loud) == check.listen(quiet)


def test_silence_is_no_sound(check):
    assert check.listen(audio(silence(1.0))) == []


def test_a_short_audio_is_heard(check):
    assert [sound.name for sound in check.listen(audio(tone(300)))] == ["tone"]


@pytest.mark.parametrize("names", [["tone"], ["tone", "hiss"]])
def test_too_few_recordings_are_refused(names):
    one = SoundReference(audio(tone(300)), 1)
    with pytest.raises(DataError, match="SoundCheck needs two sounds or more with at least 5 recordings each, got"):
        SoundCheck({name: [one] * (5 if name == "tone" else 2) for name in names})
