"""pocketsphinx hears what flite says."""

import shutil

import pytest
import torch

from unitok.audio import Audio
from unitok.data.synth.voices import speak
from unitok.evaluation.recognizer import PocketsphinxRecognizer

pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def recognizer() -> PocketsphinxRecognizer:
    return PocketsphinxRecognizer()


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_it_hears_plain_words_at_any_rate_and_forgets_what_it_heard(recognizer: PocketsphinxRecognizer) -> None:
    audio = speak("The weather is nice today.", "rms")
    first = recognizer.transcribe(audio)
    assert "weather" in first.split()
    recognizer.transcribe(speak("Seven eight nine.", "slt"))
    assert recognizer.transcribe(audio) == first
    stereo = Audio(audio.samples.repeat(2, 1), audio.sample_rate_hz).resample(32000)
    assert "weather" in recognizer.transcribe(stereo).split()


def test_silence_has_no_words(recognizer: PocketsphinxRecognizer) -> None:
    assert len(recognizer.transcribe(Audio(torch.zeros(1, 16000), 16000)).split()) <= 1
