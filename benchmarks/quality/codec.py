"""The codec alone: speech and sounds through encode and decode."""

from __future__ import annotations

import time
from collections.abc import Iterator

from quality import sounds
from quality.report import Bench, Row, sentences
from unitok.audio import Audio
from unitok.data.synth.voices import FLITE_VOICES, speak
from unitok.evaluation.codecs import stoi
from unitok.evaluation.text import word_error_rate


def measure(bench: Bench, source: str) -> Iterator[Row]:
    """Measure what coding costs a recogniser, an ear (STOI), and a check of sounds."""
    texts = sentences(source, bench.n_items)
    flite = [speak(text, FLITE_VOICES[i % len(FLITE_VOICES)]) for i, text in enumerate(texts)]
    start = time.perf_counter()
    copies = [_coded(bench, audio) for audio in flite]
    speed = sum(audio.duration_s for audio in flite) / (time.perf_counter() - start)
    coded = word_error_rate(texts, bench.transcribe(copies))
    original = word_error_rate(texts, bench.transcribe(flite))
    ratio = coded.value / max(original.value, 1e-9)
    scores = [stoi(audio, copy) for audio, copy in zip(flite, copies, strict=True)]
    yield Row(
        "codec: pocketsphinx WER",
        str(coded),
        f"flite itself {original}; ratio {ratio:.2f}",
        {"wer": coded.value, "flite_wer": original.value, "ratio": ratio},
    )
    stoi_score = sum(scores) / len(scores)
    yield Row("codec: STOI, coded against flite", f"{stoi_score:.3f}", "1 is perfect", {"stoi": stoi_score})
    yield Row("codec: encode and decode", f"{speed:.0f}x real time", f"{bench.threads}, batch 1", {"realtime": speed})
    scenes = sounds.scenes(bench.n_items)
    check = sounds.sound_check()
    heard = sounds.compare(check, scenes, [_coded(bench, scene.audio) for scene in scenes])
    clean = sounds.compare(check, scenes, [scene.audio for scene in scenes])
    yield Row(
        "codec: the sounds of a scene are heard, and how often",
        f"{heard.classes}; {heard.counts}",
        f"before coding {clean.classes}; {clean.counts}",
        {"classes": heard.classes.value, "counts": heard.counts.value},
    )


def _coded(bench: Bench, audio: Audio) -> Audio:
    codec = bench.model.tokenizers.audio
    codes = codec.encode(audio.samples[None], audio.sample_rate_hz).codes
    return Audio(codec.decode(codes)[0, :, : audio.n_samples], codec.sample_rate_hz)
