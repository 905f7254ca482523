"""Sets of labels: F1, and mean average precision of scores for each label."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unitok.errors import DataError, MissingDependencyError
from unitok.evaluation.metric import register_metric

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = ["micro_f1", "read_labels", "split_labels"]

INSTALL = 'Run: pip install "unitok[eval]"'
Labels = frozenset[str]
Counts = tuple[int, int, int]


def read_labels(value: str | Collection[str]) -> Labels:
    """Return the labels of `"dog, rain"` or `["dog", "rain"]`, in lower case."""
    return frozenset(label.lower() for label in split_labels(value))


def split_labels(value: str | Collection[str]) -> list[str]:
    """Return the labels as they are written."""
    given = re.split(r"[,;|]", value) if isinstance(value, str) else value
    return [" ".join(str(label).split()) for label in given if str(label).strip()]


def f_score(hits: float, extra: float, missed: float) -> float:
    """Return F1 of counts: 2 hits / (2 hits + extra + missed); NaN where there is nothing to find and nothing found."""
    total = 2 * hits + extra + missed
    return 2 * hits / total if total else math.nan


def micro_f1(observations: Sequence[Counts]) -> float:
    """Return F1 of hits, extra and missed ones, summed over items; 1 where there is nothing and nothing was found."""
    found = f_score(*(sum(column) for column in zip(*observations, strict=True)))
    return 1.0 if math.isnan(found) else found


def _class_counts(observations: Sequence[tuple[Labels, Labels]]) -> Iterator[tuple[str, float]]:
    for label in sorted(set().union(*(one | other for one, other in observations))):
        hits = sum(label in asked and label in made for asked, made in observations)
        extra = sum(label in made and label not in asked for asked, made in observations)
        missed = sum(label in asked and label not in made for asked, made in observations)
        yield label, f_score(hits, extra, missed)


def _macro_f1(observations: Sequence[tuple[Labels, Labels]]) -> float:
    scores = [score for _, score in _class_counts(observations)]
    return sum(scores) / len(scores) if scores else 1.0


def _f1_of_classes(observations: Sequence[tuple[Labels, Labels]]) -> dict[str, float]:
    return dict(_class_counts(observations))


@register_metric("f1", takes="labels", better="higher", unit=" %", scale=100, digits=1, value=micro_f1)
def _f1(reference: Labels, made: Labels, tools: Tools) -> Counts:
    """F1 of labels, counted over all items (micro)."""
    return len(reference & made), len(made - reference), len(reference - made)


@register_metric(
    "f1_macro", takes="labels", better="higher", unit=" %", scale=100, digits=1, value=_macro_f1, per_item=False,
    parts=_f1_of_classes,
)  # fmt: skip
def _macro(reference: Labels, made: Labels, tools: Tools) -> tuple[Labels, Labels]:
    """Mean over labels of their F1 (macro)."""
    return reference, made


def _average_precisions(observations: Sequence[tuple[Labels, Mapping[str, float]]]) -> dict[str, float]:
    try:
        from sklearn.metrics import average_precision_score
    except ImportError as error:
        raise MissingDependencyError(f"mAP needs scikit-learn. {INSTALL}") from error
    found: dict[str, float] = {}
    for label in sorted(set().union(*(scores.keys() for _, scores in observations))):
        truth = [label in asked for asked, _ in observations]
        if any(truth):
            scores: list[Any] = [scores.get(label, -math.inf) for _, scores in observations]
            found[label] = float(average_precision_score(truth, _ranked(scores)))
    return found


def _ranked(scores: Sequence[float]) -> list[int]:
    """Return the place of each score among all, from the lowest: scikit-learn refuses infinities."""
    places = {score: place for place, score in enumerate(sorted(set(scores)))}
    return [places[score] for score in scores]


def _mean_average_precision(observations: Sequence[tuple[Labels, Mapping[str, float]]]) -> float:
    found = _average_precisions(observations)
    return sum(found.values()) / len(found) if found else math.nan


@register_metric(
    "map", takes="scores", better="higher", unit=" %", scale=100, digits=1, value=_mean_average_precision,
    per_item=False, draws=200, parts=_average_precisions, library="scikit-learn",
)  # fmt: skip
def _map(reference: Labels, made: Mapping[str, float], tools: Tools) -> tuple[Labels, Mapping[str, float]]:
    """Mean over labels of the average precision with which their scores rank the items."""
    return reference, made


def _equal_error_rate(observations: Sequence[tuple[bool, float]]) -> float:
    """Return the rate at which as many are taken for one label wrongly as for the other; NaN where one never occurs."""
    try:
        from sklearn.metrics import roc_curve
    except ImportError as error:
        raise MissingDependencyError(f"The equal error rate needs scikit-learn. {INSTALL}") from error
    truth, margins = zip(*observations, strict=True)
    if len(set(truth)) < 2:
        return math.nan
    accepted_wrongly, found, _ = roc_curve(truth, margins, drop_intermediate=False)
    excess = accepted_wrongly - (1 - found)  # from -1 to 1, rising: where it is 0 both rates are equal
    after = int((excess >= 0).argmax())
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(accepted_wrongly[after - 1] + share * (accepted_wrongly[after] - accepted_wrongly[after - 1]))


@register_metric(
    "eer", takes="scores", better="lower", unit=" %", scale=100, digits=1, value=_equal_error_rate, per_item=False,
    draws=200, library="scikit-learn", source="speaker verification: VoxCeleb (arXiv:1706.08612)",
)  # fmt: skip
def _eer(reference: Labels, made: Mapping[str, float], tools: Tools) -> tuple[bool, float]:
    """Equal error rate of two labels, told apart by the difference of their scores."""
    if len(made) != 2:
        raise DataError(f"the equal error rate is of two labels, there are {len(made)}: {', '.join(sorted(made))}.")
    one, other = sorted(made)
    return one in reference, made[one] - made[other]
