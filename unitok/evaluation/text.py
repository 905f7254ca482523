"""Compare texts: normalisation, word and character error rates, BLEU, with bootstrap confidence intervals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from unitok.errors import DataError, MissingDependencyError
from unitok.evaluation.statistics import Estimate, bootstrap, rate

__all__ = ["bleu", "character_error_rate", "normalize", "word_error_rate"]


def normalize(text: str) -> str:
    """Lower-case, drop punctuation except apostrophes inside words, and collapse spaces."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], seed: int = 0) -> Estimate:
    """Measure substitutions, insertions and deletions of words, after `normalize`, by jiwer."""
    return _error_rate(references, hypotheses, _counter("process_words"), seed)


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str], seed: int = 0) -> Estimate:
    """Measure substitutions, insertions and deletions of characters, after `normalize`, by jiwer."""
    return _error_rate(references, hypotheses, _counter("process_characters"), seed)


def bleu(references: Sequence[str], hypotheses: Sequence[str], seed: int = 0) -> Estimate:
    """Measure BLEU (0.57 for "57") after `normalize`, by sacrebleu. ASR-BLEU is that of what a recogniser hears."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingDependencyError('BLEU needs sacrebleu. Run: pip install "unitok[eval]"') from None
    _check(references, hypotheses)
    metric = BLEU()

    def of(pairs: Sequence[tuple[str, str]]) -> float:
        return metric.corpus_score([h for _, h in pairs], [[r for r, _ in pairs]]).score / 100

    pairs = [(normalize(r), normalize(h)) for r, h in zip(references, hypotheses, strict=True)]
    return bootstrap(of, pairs, seed, draws=200, unit="")


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
) -> Estimate:
    _check(references, hypotheses)
    return rate([count(normalize(r), normalize(h)) for r, h in zip(references, hypotheses, strict=True)], seed)


def _check(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses) or not references:
        raise DataError(
            f"Got {len(references)} references and {len(hypotheses)} hypotheses. Give as many of both, at least one."
        )
