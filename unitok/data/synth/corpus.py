"""Write the procedural speech corpus: audio files, `manifest.jsonl`, and `corpus.json`, how to make it again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unitok.data.synth.grammar import Grammar, Split
from unitok.data.synth.voices import FLITE_VOICES, VoiceStyle, speak
from unitok.errors import DataError

__all__ = ["SpeechCorpus", "write_corpus"]


@dataclass(frozen=True)
class SpeechCorpus:
    """What a speech corpus is made of; utterance i is a function of these settings and i alone."""

    seed: int = 0
    """Seed of sentences, voices and styles."""
    split: Split = "train"
    """`train` or `held_out`: the two never share a sentence."""
    voices: Sequence[str] = field(default=FLITE_VOICES)
    """Voices, drawn with equal weight."""
    rate_range: tuple[float, float] = (1.0, 1.0)
    """Bounds of the speed, relative to the voice's own."""
    pitch_range: tuple[float, float] = (1.0, 1.0)
    """Bounds of the pitch, relative to the voice's own."""
    words: str | None = None
    """Word file of the grammar; default: the English one."""

    def utterance(self, index: int, grammar: Grammar) -> tuple[str, str, VoiceStyle]:
        """Return text, voice and style of utterance `index`."""
        rng = random.Random(f"{self.seed}/{index}/{self.split}/style")
        style = VoiceStyle(rate=rng.uniform(*self.rate_range), pitch=rng.uniform(*self.pitch_range))
        return grammar.sentence(self.seed, index, self.split), rng.choice(list(self.voices)), style


def write_corpus(
    out: Path,
    corpus: SpeechCorpus,
    *,
    hours: float | None = None,
    utterances: int | None = None,
    workers: int = 2,
    on_progress: Callable[[int, float], None] | None = None,
) -> tuple[int, float]:
    """Speak sentences until there are `hours` of audio or `utterances` of them.

    Goes on where an interrupted run stopped: the manifest is written as audio is finished, and its rows are kept.

    Args:
        out: Folder; gets `audio/*.wav` (16 kHz, mono, 16 bit), `manifest.jsonl` and `corpus.json`.
        corpus: What to speak.
        hours: Length to reach, in hours.
        utterances: Number to reach; one of the two must be given.
        workers: Synthesisers that run at once.
        on_progress: Called with the utterances and seconds so far.

    Returns:
        Utterances and seconds of audio in the folder.

    Raises:
        DataError: If no length is given, or the folder holds a corpus made with other settings.
    """
    if (hours is None) == (utterances is None):
        raise DataError("Say how much to synthesise: either hours or utterances (--hours H or --utterances N).")
    (out / "audio").mkdir(parents=True, exist_ok=True)
    _check_settings(out / "corpus.json", corpus)
    manifest, grammar = out / "manifest.jsonl", Grammar.load(corpus.words)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()] if manifest.exists() else []
    count, seconds = len(rows), sum(row["seconds"] for row in rows)

    def render(index: int) -> dict[str, Any]:
        text, voice, style = corpus.utterance(index, grammar)
        name, audio = f"audio/{corpus.split}-{corpus.seed}-{index:07d}.wav", speak(text, voice, style)
        audio.write(out / name)
        row = {"id": Path(name).stem, "audio": name, "text": text, "speaker": voice, "lang": "en"}
        return row | {"seconds": round(audio.duration_s, 4)}

    def enough() -> bool:
        return count >= utterances if utterances is not None else seconds >= (hours or 0) * 3600

    with ThreadPoolExecutor(workers) as pool, manifest.open("a") as sink:
        while not enough():
            batch = 16 * workers if utterances is None else min(16 * workers, utterances - count)
            for row in pool.map(render, range(count, count + batch)):
                if enough():
                    break
                sink.write(json.dumps(row) + "\n")
                count, seconds = count + 1, seconds + row["seconds"]
            sink.flush()
            if on_progress:
                on_progress(count, seconds)
    return count, seconds


def _check_settings(path: Path, corpus: SpeechCorpus) -> None:
    settings = json.loads(json.dumps(asdict(corpus)))
    if path.exists():
        stored = json.loads(path.read_text())
        changed = [key for key in settings if stored.get(key) != settings[key]]
        if changed:
            shown = ", ".join(f"{key}: {stored.get(key)!r} there, {settings[key]!r} asked for" for key in changed)
            raise DataError(
                f"{path.parent} holds a corpus made with other settings ({shown}). Choose another --out, or delete it."
            )
    else:
        path.write_text(json.dumps(settings, indent=2) + "\n")
