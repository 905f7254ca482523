"""Compare texts: normalisation and word and character error rates with bootstrap confidence intervals."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from unitok.errors import DataError, MissingDependencyError

__all__ = ["ErrorRate", "character_error_rate", "normalize", "word_error_rate"]


@dataclass(frozen=True)
class ErrorRate:
    """Errors per reference unit over a set of texts."""

    value: float
    """Errors / reference words (or characters), 0.1 for 10 %."""
    low: float
    """Lower end of the 95 % bootstrap interval over texts."""
    high: float
    """Upper end of the interval."""

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def normalize(text: str) -> str:
    """Lower-case, drop punctuation except apostrophes inside words, and collapse spaces."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], seed: int = 0) -> ErrorRate:
    """Measure substitutions, insertions and deletions of words, after `normalize`, by jiwer."""
    return _error_rate(references, hypotheses, _counter("process_words"), seed)


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str], seed: int = 0) -> ErrorRate:
    """Measure substitutions, insertions and deletions of characters, after `normalize`, by jiwer."""
    return _error_rate(references, hypotheses, _counter("process_characters"), seed)


def _counter(function: str) -> Callable[[str, str], tuple[int, int]]:
    try:
        import jiwer
    except ImportError:
        raise MissingDependencyError('Error rates need jiwer. Run: pip install "unitok[eval]"') from None

    def count(process: Callable[..., object], reference: str, hypothesis: str) -> tuple[int, int]:
        o = process(reference, hypothesis)
        errors = o.substitutions + o.deletions + o.insertions  # type: ignore[attr-defined]
        return errors, o.hits + o.substitutions + o.deletions  # type: ignore[attr-defined]

    return partial(count, getattr(jiwer, function))


def _error_rate(
    references: Sequence[str], hypotheses: Sequence[str], count: Callable[[str, str], tuple[int, int]], seed: int
) -> ErrorRate:
    if len(references) != len(hypotheses) or not references:
        raise DataError(
            f"Got {len(references)} references and {len(hypotheses)} hypotheses. Give as many of both, at least one."
        )
    pairs = [count(normalize(r), normalize(h)) for r, h in zip(references, hypotheses, strict=True)]

    def rate(sample: Sequence[tuple[int, int]]) -> float:
        return sum(errors for errors, _ in sample) / max(1, sum(total for _, total in sample))

    rng = random.Random(seed)
    draws = sorted(rate(rng.choices(pairs, k=len(pairs))) for _ in range(1000))
    return ErrorRate(rate(pairs), draws[25], draws[974])
