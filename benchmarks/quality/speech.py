"""Speech from text and text from speech, in English, beside flite and pocketsphinx."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from quality.report import Bench, Row, sentences
from unitok.audio import Audio
from unitok.data.synth.voices import FLITE_VOICES, speak
from unitok.evaluation.statistics import share
from unitok.evaluation.text import character_error_rate, normalize, word_error_rate
from unitok.evaluation.voices import VoiceCheck

VOICE_SENTENCES = 20
"""Held-out sentences that each voice is known by, and that prompts are taken from."""


def measure_tts(bench: Bench, source: str) -> Iterator[Row]:
    """Measure what pocketsphinx hears, how long it lasts, and whose voice is heard."""
    texts = sentences(source, bench.n_items)
    voices = [FLITE_VOICES[i % len(FLITE_VOICES)] for i in range(len(texts))]
    flite = [speak(text, voice) for text, voice in zip(texts, voices, strict=True)]
    start = time.perf_counter()
    spoken = bench.generate("tts", [{"text": t, "voice": v} for t, v in zip(texts, voices, strict=True)])
    speed = sum(audio.duration_s for audio in spoken) / (time.perf_counter() - start)
    heard, baseline = bench.transcribe(spoken), bench.transcribe(flite)
    bench.keep(f"tts-{_name(source)}", spoken)
    bench.note(f"tts-{_name(source)}", voices, texts, heard, baseline)
    ours, theirs = word_error_rate(texts, heard), word_error_rate(texts, baseline)
    ratio = ours.value / max(theirs.value, 1e-9)
    what = f"tts, {_name(source)}"
    yield Row(
        f"{what}: pocketsphinx WER",
        str(ours),
        f"flite itself {theirs}; ratio {ratio:.2f}",
        {"wer": ours.value, "flite_wer": theirs.value, "ratio": ratio},
    )
    for voice in FLITE_VOICES:
        chosen = [i for i, v in enumerate(voices) if v == voice]
        mine, its = (word_error_rate([texts[i] for i in chosen], [h[i] for i in chosen]) for h in (heard, baseline))
        figures = {"wer": mine.value, "flite_wer": its.value}
        yield Row(f"{what}: pocketsphinx WER, voice {voice}", str(mine), f"flite itself {its}", figures)
    durations = [a.duration_s / f.duration_s for a, f in zip(spoken, flite, strict=True)]
    mean = sum(durations) / len(durations)
    yield Row(
        f"{what}: duration / flite's",
        f"{mean:.2f}",
        f"from {min(durations):.2f} to {max(durations):.2f}",
        {"mean": mean},
    )
    where = f"{bench.threads}, batch {bench.batch_size}, best of {_candidates(bench)}"
    yield Row(f"{what}: speed", f"{speed:.2f}x real time", where, {"realtime": speed})
    yield from _voices(bench, texts, voices, spoken, flite, what)


def _voices(
    bench: Bench, texts: list[str], voices: list[str], named: list[Audio], flite: list[Audio], what: str
) -> Iterator[Row]:
    """Measure whose voice is heard where it is asked for by name, and by an utterance that was not trained on."""
    known = {v: [speak(t, v) for t in sentences("grammar", VOICE_SENTENCES, seed=1)] for v in FLITE_VOICES}
    check = VoiceCheck(known)

    def right(audios: Sequence[Audio]) -> list[bool]:
        return [check.name(audio) == voice for audio, voice in zip(audios, voices, strict=True)]

    by_name = share(right(named))
    yield Row(
        f"{what}: the voice asked for by name is heard",
        str(by_name),
        f"flite itself {share(right(flite))}; by chance {100 / len(FLITE_VOICES):.0f} %",
        {"accuracy": by_name.value},
    )
    prompts = [known[voice][i % VOICE_SENTENCES] for i, voice in enumerate(voices)]
    prompted = bench.generate("tts", [{"text": t, "prompt": p} for t, p in zip(texts, prompts, strict=True)])
    by_prompt, errors = share(right(prompted)), word_error_rate(texts, bench.transcribe(prompted))
    seconds = sum(prompt.duration_s for prompt in prompts) / len(prompts)
    yield Row(
        f"{what}: the voice of an audio prompt is heard",
        str(by_prompt),
        f"prompts of {seconds:.1f} s; pocketsphinx WER {errors}",
        {"accuracy": by_prompt.value, "wer": errors.value},
    )


def measure_asr(bench: Bench, source: str) -> Iterator[Row]:
    """Measure what the model hears when flite speaks."""
    texts = sentences(source, bench.n_items)
    flite = [speak(text, FLITE_VOICES[i % len(FLITE_VOICES)]) for i, text in enumerate(texts)]
    heard = bench.generate("asr", [{"audio": audio, "lang": "en"} for audio in flite])
    bench.note(f"asr-{_name(source)}", texts, heard)
    errors, characters = word_error_rate(texts, heard), character_error_rate(texts, heard)
    guess = word_error_rate(texts, [normalize(texts[0])] * len(texts))
    yield Row(
        f"asr, {_name(source)}: WER on flite",
        str(errors),
        f"CER {characters}; pocketsphinx {word_error_rate(texts, bench.transcribe(flite))}; "
        f"always the same sentence {guess}",
        {"wer": errors.value, "cer": characters.value},
    )


def _name(source: str) -> str:
    return source if source in ("everyday", "grammar") else "file"


def _candidates(bench: Bench) -> int:
    return bench.best_of or bench.model.tasks["tts"].generate.best_of
