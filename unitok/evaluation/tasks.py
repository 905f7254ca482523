"""Measure what a model made of a task's examples, by the metrics of the task's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError
from unitok.evaluation.recognizer import PocketsphinxRecognizer
from unitok.evaluation.statistics import Estimate, rate, share
from unitok.evaluation.text import bleu, character_error_rate, normalize, word_error_rate
from unitok.tasks import Task

__all__ = ["MEASURED", "Outcome", "measure"]

MEASURED = ("wer", "cer", "bleu", "asr_bleu", "accuracy", "duration_ratio")
"""Metrics of cards that are measured here; the others need models of their own."""
TEXT_METRICS = {"wer": word_error_rate, "cer": character_error_rate, "bleu": bleu, "asr_bleu": bleu}


class Outcome(NamedTuple):
    """One example of a task and what a model made of it."""

    reference: Mapping[str, Any]
    """Conditions and targets of the example: text, or `Audio`."""
    generated: Mapping[str, Any]
    """The targets that were made."""
    lang: str | None = None
    """Language of the targets."""


def measure(task: Task, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
    """Return the metrics of a task's card that can be measured, by name.

    Text targets are compared with the example's. Of audio targets, pocketsphinx hears the words: they are compared with
    the text that the audio had to say, in English, if pocketsphinx is installed.

    Args:
        task: The task.
        outcomes: At least one.

    Raises:
        DataError: If there are none.
    """
    if not outcomes:
        raise DataError(f"task '{task.name}': nothing to measure, there are no examples.")
    found: dict[str, Estimate] = {}
    target = task.targets[-1]
    texts = _compared_texts(task, outcomes) if target.kind != "semantic" else []
    for name in task.metrics:
        if name in TEXT_METRICS and texts:
            found[name] = TEXT_METRICS[name]([said for said, _ in texts], [made for _, made in texts])
        elif name == "accuracy" and texts:
            found[name] = share([normalize(said) == normalize(made) for said, made in texts])
        elif name == "duration_ratio" and target.kind == "audio":
            found[name] = rate(
                [
                    (one.generated[target.name].duration_s, one.reference[target.name].duration_s)
                    for one in outcomes
                    if target.name in one.reference
                ]
            )
    return found


def _compared_texts(task: Task, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Return what had to be said, and what was."""
    target = task.targets[-1]
    if target.kind in ("text", "label"):
        return [(str(one.reference[target.name]), str(one.generated[target.name])) for one in outcomes]
    text = next((field.name for field in reversed(task.fields) if field.kind == "text"), "")
    english = [one for one in outcomes if one.lang in (None, "en") and text in one.reference]
    try:
        recognizer = PocketsphinxRecognizer() if english else None
    except MissingDependencyError:
        recognizer = None
    if recognizer is None:
        return []
    return [(str(one.reference[text]), recognizer.transcribe(_audio(one.generated[target.name]))) for one in english]


def _audio(value: Any) -> Audio:
    if not isinstance(value, Audio):
        raise DataError(f"a generated recording is {type(value).__name__}, Audio is needed.")
    return value
