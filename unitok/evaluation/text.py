"""Compare texts: normalisation, word and character error rates, BLEU, chrF, ROUGE-L, equality."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from unitok.errors import MissingDependencyError
from unitok.evaluation.metric import find_metric, register_metric
from unitok.evaluation.statistics import Estimate, mean, ratio

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = ["bleu", "character_error_rate", "normalize", "spoken", "word_error_rate"]

Counts = tuple[float, float]
Texts = tuple[str, str]
INSTALL = 'Run: pip install "unitok[eval]"'


def normalize(text: str) -> str:
    """Lower-case, drop punctuation except apostrophes inside words, and collapse spaces."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))


def spoken(text: str) -> str:
    """Return a text without its marks, such as time stamps `<0.40>` and notes `<A4>`."""
    return re.sub(r"<[^<>\s]+>", " ", text)


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """Measure the metric `wer`."""
    return find_metric("wer").estimate(references, hypotheses)


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """Measure the metric `cer`."""
    return find_metric("cer").estimate(references, hypotheses)


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """Measure the metric `bleu`: 0.57 for "57"."""
    return find_metric("bleu").estimate(references, hypotheses)


@register_metric("wer", takes="texts", better="lower", unit=" %", scale=100, digits=1, value=ratio, library="jiwer")
def _wer(reference: str, made: str, tools: Tools) -> Counts:
    """Word error rate: substitutions, deletions and insertions of words over the words asked for, normalised."""
    return _errors("process_words", reference, made)


@register_metric("cer", takes="texts", better="lower", unit=" %", scale=100, digits=1, value=ratio, library="jiwer")
def _cer(reference: str, made: str, tools: Tools) -> Counts:
    """Character error rate: the same of characters."""
    return _errors("process_characters", reference, made)


@register_metric(
    "unit_error_rate", takes="units", better="lower", unit=" %", scale=100, digits=1, value=ratio, library="jiwer"
)
def _units(reference: Any, made: Any, tools: Tools) -> Counts:
    """Unit error rate: substitutions, deletions and insertions of semantic ids over the ids asked for."""
    spelled = (" ".join(str(int(id)) for id in ids.flatten()) for ids in (reference, made))
    return _errors("process_words", *spelled)


def _errors(function: str, reference: str, made: str) -> Counts:
    try:
        import jiwer
    except ImportError:
        raise MissingDependencyError(f"Error rates need jiwer. {INSTALL}") from None
    o = getattr(jiwer, function)(normalize(spoken(reference)), normalize(spoken(made)))
    return o.substitutions + o.deletions + o.insertions, o.hits + o.substitutions + o.deletions


@cache
def _sacrebleu(name: str) -> Any:
    """Return sacrebleu's BLEU or CHRF with its own settings."""
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingDependencyError(f"BLEU and chrF need sacrebleu. {INSTALL}") from None
    return getattr(metrics, name)()


def _corpus(name: str) -> Callable[[Sequence[Texts]], float]:
    def of(pairs: Sequence[Texts]) -> float:
        return _sacrebleu(name).corpus_score([h for _, h in pairs], [[r for r, _ in pairs]]).score / 100

    return of


def _normalized(reference: str, made: str, metric: str) -> Texts:
    _sacrebleu(metric)  # says at once if it is not installed
    return normalize(reference), normalize(made)


BLEU_SOURCE = "Papineni et al., 2002; Post, 2018 (arXiv:1804.08771)"


@register_metric(
    "bleu", takes="texts", better="higher", scale=100, digits=1, draws=200, value=_corpus("BLEU"),
    library="sacrebleu", source=BLEU_SOURCE,
)  # fmt: skip
def _bleu(reference: str, made: str, tools: Tools) -> Texts:
    """BLEU of the whole set, after normalisation."""
    return _normalized(reference, made, "BLEU")


@register_metric(
    "asr_bleu", takes="heard", better="higher", scale=100, digits=1, draws=200, value=_corpus("BLEU"),
    library="sacrebleu", source="Lee et al., 2022 (arXiv:2107.05604)",
)  # fmt: skip
def _asr_bleu(reference: str, made: str, tools: Tools) -> Texts:
    """BLEU of what a recogniser hears in the speech made."""
    return _normalized(reference, made, "BLEU")


@register_metric(
    "chrf", takes="texts", better="higher", scale=100, digits=1, draws=200, value=_corpus("CHRF"),
    library="sacrebleu", source="Popović, 2015",
)  # fmt: skip
def _chrf(reference: str, made: str, tools: Tools) -> Texts:
    """Character n-gram F-score (chrF2) of the whole set, after normalisation."""
    return _normalized(reference, made, "CHRF")


@register_metric(
    "rouge_l", takes="texts", better="higher", unit=" %", scale=100, digits=1, value=mean,
    library="torchmetrics", source="Lin, 2004",
)  # fmt: skip
def _rouge_l(reference: str, made: str, tools: Tools) -> float:
    """F-score of the longest common subsequence of words, mean over items, after normalisation."""
    asked, given = normalize(reference).split(), normalize(made).split()
    common = _common(asked, given)
    return 2 * common / (len(asked) + len(given)) if asked or given else 1.0


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        before = lengths
        lengths = [0]
        for i, other in enumerate(second):
            lengths.append(before[i] + 1 if word == other else max(before[i + 1], lengths[i]))
    return lengths[-1]


@register_metric("accuracy", takes="texts", better="higher", unit=" %", scale=100, digits=1, value=mean)
def _accuracy(reference: str, made: str, tools: Tools) -> float:
    """Share of texts or labels that are right, letter by letter after normalisation."""
    return float(normalize(reference) == normalize(made))
