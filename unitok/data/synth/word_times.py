"""When each word of synthetic speech begins: flite prints when its phones end, its lexicon says whose they are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import lru_cache

from unitok.audio import Audio
from unitok.data.synth.voices import VoiceStyle, speak_with_phones
from unitok.tokenizers.symbols import time_symbol

__all__ = ["WordTime", "speak_timed", "timed_text"]

WordTime = tuple[str, float]
"""A word, and the time in s at which it begins."""
TIME_STEP_S = 0.02
VOWELS = frozenset(["aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"])
PAUSE = "pau"


def speak_timed(text: str, voice: str, style: VoiceStyle | None = None) -> tuple[Audio, list[WordTime] | None]:
    """Speak a sentence and say when its words begin.

    The phones of each word alone, as flite says it, are looked for one word after the other in those of the sentence.
    Vowels may be others (`a`, `the`, `to` change with their neighbours), consonants and their number may not.

    Returns:
        Mono audio at 16 kHz, and the words in lower case with their times; None where the phones do not fit.
    """
    audio, phones = speak_with_phones(text, voice, style)
    begins = [0.0, *(end for _, end in phones)]
    spoken = [(phone, begin) for (phone, _), begin in zip(phones, begins, strict=False) if phone != PAUSE]
    found: list[WordTime] = []
    for word in re.findall(r"[a-z']+", text.lower()):
        own = _phones_of(word)
        heard, spoken = spoken[: len(own)], spoken[len(own) :]
        if not _same(own, [phone for phone, _ in heard]):
            return audio, None
        found.append((word, heard[0][1]))
    return audio, None if spoken else found


def timed_text(words: Sequence[WordTime]) -> str:
    """Spell words with their times, to the nearest 0.02 s: `<0.40>the<0.52>doctor`."""
    return "".join(time_symbol(round(t / TIME_STEP_S) * TIME_STEP_S) + word for word, t in words)


@lru_cache(maxsize=8192)
def _phones_of(word: str) -> tuple[str, ...]:
    """Return the phones of a word said alone. All English flite voices have one lexicon; kal16 is the quickest."""
    command = ["flite", "-voice", "kal16", "-ps", "-t", word, "-o", "none"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return tuple(phone for phone in said if phone != PAUSE)


def _same(own: Sequence[str], heard: Sequence[str]) -> bool:
    return len(own) == len(heard) > 0 and all(a == b or {a, b} <= VOWELS for a, b in zip(own, heard, strict=True))
