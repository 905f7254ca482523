"""Find the text of a recording among the texts of all: by how likely a model finds that they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unitok.evaluation.metric import NotMeasurableError, register_metric
from unitok.evaluation.statistics import mean
from unitok.tasks import Task

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = ["FITS", "check_ranked", "rank_among"]

FITS = "yes"
"""The answer which says that text and recording belong together."""
SOURCE = "Audio retrieval with natural language queries (arXiv:2105.02192)"


def check_ranked(task: Task) -> tuple[str, str]:
    """Return the text condition whose candidates are ranked, and the label target that says whether one fits.

    Raises:
        NotMeasurableError: If the task has not one of each.
    """
    texts = [one.name for one in task.conditions if one.kind == "text"]
    labels = [one.name for one in task.targets if one.kind == "label"]
    if len(texts) != 1 or len(labels) != 1 or len(task.targets) != 1:
        raise NotMeasurableError(
            f"ranking asks for one text condition and one label, as task 'retrieve' has; task '{task.name}' has "
            f"{len(texts)} and {len(labels)}."
        )
    return texts[0], labels[0]


def rank_among(
    model: Any, task: Task, values: Mapping[str, Any], candidates: Sequence[str], lang: str | None = None
) -> int:
    """Return the place of an item's own text among candidates, 1 for the likeliest; of equal ones the worst place.

    Args:
        model: A `Model`.
        task: As `check_ranked` asks for.
        values: Conditions of the item.
        candidates: Texts, its own among them.
        lang: Language of the target.
    """
    from unitok.generation.scoring import score_sequences

    text, label = check_ranked(task)
    first = model.sequence(task.name, lang=lang, **values)
    heard = {one.name: first.codes(one.name) for one in task.conditions if one.kind == "audio" and one.name in values}
    sequences = [
        model.sequence(task.name, lang=lang, **{**values, **heard, text: candidate, label: FITS})
        for candidate in candidates
    ]
    sums, _ = score_sequences(model.lm, sequences)
    own = sums[list(candidates).index(values[text])]
    return int((sums >= own).sum())


def _register_recall(k: int) -> None:
    def observe(reference: None, made: int, tools: Tools) -> float:
        return float(made <= k)

    observe.__doc__ = f"Share of recordings whose own text is among the {k} likeliest of the texts of all items."
    register_metric(
        f"recall_at_{k}", takes="rank", better="higher", unit=" %", scale=100, digits=1, value=mean, source=SOURCE
    )(observe)


for _k in (1, 5, 10):
    _register_recall(_k)
