"""Everyday English from WordNet: the phrases and sentences that its dictionary gives as examples of use.

Some 45 000, of 2 to 20 words, natural and of a wide vocabulary; the grammar (`grammar.py`) is plain and narrow. The
files come with Debian's `wordnet-base`; WordNet 3.0 is Princeton University's, free for any use with its notice.
"""

from __future__ import annotations

import os
import random
import re
from functools import lru_cache
from pathlib import Path

from unitok.data.synth.grammar import Split, is_held_out
from unitok.errors import DataError

__all__ = ["WordNetExamples"]

FOLDER = "/usr/share/wordnet"
"""Where Debian puts the files; the environment variable WNSEARCHDIR, WordNet's own, names another folder."""
FILES = ("data.adj", "data.adv", "data.noun", "data.verb")
WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")


class WordNetExamples:
    """Deals examples; example i of a seed is always the same, a twentieth of all is held out."""

    def __init__(self, sentences: list[str]):
        self._of_split = {"train": [s for s in sentences if not is_held_out(s)]}
        self._of_split["held_out"] = [s for s in sentences if is_held_out(s)]

    @classmethod
    def load(cls, folder: str | Path | None = None) -> WordNetExamples:
        """Read WordNet's data files.

        Raises:
            DataError: If they are not there.
        """
        return _load(Path(folder or os.environ.get("WNSEARCHDIR", FOLDER)))

    def __len__(self) -> int:
        """Return the number of examples, both splits together."""
        return sum(map(len, self._of_split.values()))

    def sentence(self, seed: int, index: int, split: Split = "train") -> str:
        """Return example `index` of a seed; none comes back before all have come."""
        order = _shuffled(len(self._of_split[split]), f"{seed}/{split}/wordnet")
        return self._of_split[split][order[index % len(order)]]


@lru_cache(maxsize=4)
def _shuffled(n: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(n), n)


@lru_cache(maxsize=1)
def _load(folder: Path) -> WordNetExamples:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"WordNet is not in {folder}: no {', '.join(missing)}. Install it (Debian: apt-get install wordnet-base), "
            "or name its folder in WNSEARCHDIR."
        )
    examples: set[str] = set()
    for name in FILES:
        for line in (folder / name).read_text(encoding="utf-8", errors="replace").splitlines():
            if not line.startswith(" "):  # the licence stands in front, indented
                examples.update(filter(_speakable, re.findall(r'"([^"]+)"', line.partition("|")[2])))
    return WordNetExamples(sorted({text.strip()[0].upper() + text.strip()[1:] for text in examples}))


def _speakable(text: str) -> bool:
    """Tell whether a synthesiser says it as it is written: plain words, no abbreviations, no figures."""
    words = re.split(r"[,;:.!?]?\s+", text.strip().rstrip(".!?"))
    return 2 <= len(words) <= 20 and all(
        WORD.fullmatch(word)
        and (len(word) == 1 and word in "aIO" or re.search(r"[aeiouyAEIOUY]", word))
        and not re.search(r"[A-Z]{2}", word)
        for word in words
    )
