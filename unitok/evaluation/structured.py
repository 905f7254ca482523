"""Texts that hold more than words: slots of a command, words with the times they begin at.

set_alarm; time: seven thirty; day: monday        an intent, then slots
<0.40>the<0.52>doctor<0.98>came                   words after time stamps, in s
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitok.errors import DataError, MissingDependencyError
from unitok.evaluation.labels import micro_f1
from unitok.evaluation.metric import register_metric
from unitok.evaluation.statistics import mean, ratio
from unitok.evaluation.text import normalize

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = ["read_meaning", "read_timed_words"]

TIMED_WORDS = re.compile(r"<(\d+(?:\.\d+)?)>([^<]*)")


def read_meaning(text: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the intent and the slots of a meaning, each a name and its value, in lower case.

    Parts without a colon after the first one are slots without a name.
    """
    intent, *slots = (" ".join(part.lower().split()) for part in text.split(";"))
    pairs = (part.partition(":")[::2] if ":" in part else ("", part) for part in slots if part)
    return intent, frozenset((name.strip(), normalize(value)) for name, value in pairs)


def read_timed_words(text: str) -> list[tuple[str, float]]:
    """Return the words of a text with the time in s of the stamp before each; those before the first are left out."""
    return [(word, float(time)) for time, words in TIMED_WORDS.findall(text) for word in normalize(words).split()]


@register_metric(
    "intent_accuracy", takes="texts", better="higher", unit=" %", scale=100, digits=1, value=mean,
    source="SLURP (arXiv:2011.13205)",
)  # fmt: skip
def _intent_accuracy(reference: str, made: str, tools: Tools) -> float:
    """Share of meanings whose intent, the part before the first semicolon, is right."""
    return float(read_meaning(reference)[0] == read_meaning(made)[0])


@register_metric(
    "slot_f1", takes="texts", better="higher", unit=" %", scale=100, digits=1, value=micro_f1,
    source="SLURP (arXiv:2011.13205), exact match of name and value",
)  # fmt: skip
def _slot_f1(reference: str, made: str, tools: Tools) -> tuple[int, int, int]:
    """F1 of slots with the right name and value, counted over all items."""
    (_, asked), (_, given) = read_meaning(reference), read_meaning(made)
    return len(asked & given), len(given - asked), len(asked - given)


@register_metric(
    "time_error", takes="texts", better="lower", unit=" ms", scale=1000, digits=0, value=ratio, library="jiwer"
)
def _time_error(reference: str, made: str, tools: Tools) -> tuple[float, float]:
    """Mean difference of the times at which words begin, over the words that are right where words are aligned."""
    try:
        import jiwer
    except ImportError:
        raise MissingDependencyError('Aligning words needs jiwer. Run: pip install "unitok[eval]"') from None
    asked, given = read_timed_words(reference), read_timed_words(made)
    if not asked:
        raise DataError(f"'{reference}' has no time stamps such as <0.40>.")
    right, said = (" ".join(word for word, _ in words) for words in (asked, given))
    aligned = jiwer.process_words(right, said)
    pairs = [
        (asked[chunk.ref_start_idx + i][1], given[chunk.hyp_start_idx + i][1])
        for chunk in aligned.alignments[0]
        if chunk.type == "equal"
        for i in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    if not pairs:
        raise DataError("no word is right, so no time can be compared.")
    return sum(abs(wanted - made) for wanted, made in pairs), float(len(pairs))
