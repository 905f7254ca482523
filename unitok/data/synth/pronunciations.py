"""How flite says words, in the International Phonetic Alphabet: the lexicon of a model that learns from its voices."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from unitok.errors import DataError, MissingDependencyError
from unitok.tokenizers.lexicon import Lexicon

__all__ = ["IPA", "pronounce_words"]

# One letter for a vowel wherever the broad transcription of American English allows it: /e/ and /o/ for the vowels of
# "day" and "go". Stress is not written: flite does not print it.
IPA = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ", "b": "b", "ch": "tʃ",
    "d": "d", "dh": "ð", "dx": "ɾ", "eh": "ɛ", "el": "əl", "em": "əm", "en": "ən", "er": "ɚ", "ey": "e", "f": "f",
    "g": "g", "hh": "h", "hv": "h", "ih": "ɪ", "iy": "i", "jh": "dʒ", "k": "k", "l": "l", "m": "m", "n": "n",
    "nx": "n", "ng": "ŋ", "ow": "o", "oy": "ɔɪ", "p": "p", "r": "r", "s": "s", "sh": "ʃ", "t": "t", "th": "θ",
    "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip
"""Phones of flite's English voices -> IPA."""

PAUSE = "pau"
WEAK = {"a": "ə"}
"""Words that flite says otherwise alone than in a sentence."""
AT_ONCE = 100
VOICE = "kal16"
"""The fastest; all English voices of flite say words with the same phones."""


def pronounce_words(words: Iterable[str], workers: int = 2) -> Lexicon:
    """Ask flite how it says words.

    Args:
        words: Words, in any case; what holds anything but letters and apostrophes is left out.
        workers: Runs of flite at once.

    Returns:
        The lexicon of the words, in lower case; without the possessives that it says as flite does by their words.

    Raises:
        MissingDependencyError: If flite is not installed.
        DataError: If no word is left.
    """
    if shutil.which("flite") is None:
        raise MissingDependencyError("Pronunciations need flite, which is not installed. Run 'apt-get install flite'.")
    usable = sorted({word.lower() for word in words if word.replace("'", "").isalpha() and word.isascii()})
    if not usable:
        raise DataError("There is no word to pronounce. Give words of the letters a to z.")
    parts = [usable[i : i + AT_ONCE] for i in range(0, len(usable), AT_ONCE)]
    with ThreadPoolExecutor(workers) as pool:
        said = {word: ipa for part in pool.map(_pronounce, parts) for word, ipa in part}
    said |= {word: ipa for word, ipa in WEAK.items() if word in said}
    words = {word: ipa for word, ipa in said.items() if not word.endswith("'s")}
    plain = Lexicon(words)
    return Lexicon(words | {word: ipa for word, ipa in said.items() if plain.get(word) != ipa})


def _pronounce(words: list[str]) -> list[tuple[str, str]]:
    """Return words with their IPA; a part whose pauses are not as many as expected word by word."""
    spoken = list(_words(". ".join(words) + "."))
    if len(spoken) == len(words):
        return list(zip(words, spoken, strict=True))
    if len(words) == 1:
        return [(words[0], "".join(spoken))] if spoken else []
    half = len(words) // 2
    return _pronounce(words[:half]) + _pronounce(words[half:])


def _words(text: str) -> Iterator[str]:
    """Yield what flite says between pauses."""
    command = ["flite", "-voice", VOICE, "-ps", "-o", "none", "-t", text]
    phones = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    for pause, group in groupby(phones, lambda phone: phone == PAUSE):
        if not pause:
            yield "".join(IPA[phone] for phone in group)
