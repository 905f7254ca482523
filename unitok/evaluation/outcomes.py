"""What a model made of examples of a task, and the pairs that each metric looks at."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from unitok.audio import Audio
from unitok.errors import AudioFormatError, DataError, MissingDependencyError, MissingWeightsError, UnitokError, suggest
from unitok.evaluation.events import read_events
from unitok.evaluation.labels import read_labels
from unitok.evaluation.likelihood import Part
from unitok.evaluation.metric import Metric, NotMeasurableError, find_metric, metric_and_target
from unitok.evaluation.retrieval import FITS, check_ranked
from unitok.evaluation.statistics import Estimate
from unitok.evaluation.tools import Tools
from unitok.tasks import Field, Task

__all__ = ["Measured", "Outcome", "asked_words", "check_metric", "measure", "observe"]

logger = logging.getLogger("unitok")

WRITTEN = ("text", "label")
CANNOT = (NotMeasurableError, MissingDependencyError, MissingWeightsError)


@dataclass(eq=False)
class Outcome:
    """One example of a task and what a model made of it."""

    reference: Mapping[str, Any]
    """Conditions and targets of the example, by the task's names: text, `Audio` or its path."""
    generated: Mapping[str, Any]
    """The targets that were made."""
    lang: str | None = None
    """Language of the targets."""
    id: str = ""
    """Of the example."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the example: `text` of speech, `events`, …"""
    scores: Mapping[str, float] | None = None
    """A score for each label that there is."""
    likelihood: Mapping[str, Part] | None = None
    """How well the model foresaw the example's targets."""
    rank: int | None = None
    """The place of its text among the texts of all examples."""
    heard: dict[str, str] = field(default_factory=dict)
    """Target -> what the recogniser heard in it."""
    _audio: dict[str, Audio] = field(default_factory=dict)

    def audio(self, value: Any) -> Audio:
        """Return a recording; one that is read from a file is kept until it is forgotten.

        Raises:
            AudioFormatError: If it is none.
        """
        if not isinstance(value, str | Path):
            return Audio.of(value)
        if str(value) not in self._audio:
            self._audio[str(value)] = Audio.read(value)
        return self._audio[str(value)]

    def forget_audio(self) -> None:
        """Forget what was read from files."""
        self._audio.clear()


class Measured(NamedTuple):
    """One metric of a set of outcomes."""

    metric: Metric
    estimate: Estimate
    values: dict[str, float]
    """Of each item, by its id or place, where the metric has one."""
    left_out: dict[str, str]
    """Why an item has none."""
    parts: dict[str, float]
    """Of each codebook, or class."""
    n_items: int
    """Items that were measured."""
    by: str = ""
    """The recogniser or embedder."""


def measure(
    task: Task, outcomes: Sequence[Outcome], metrics: Sequence[str] | None = None, tools: Tools | None = None
) -> dict[str, Estimate]:
    """Return the metrics of a task that can be measured on what there is, by name.

    Args:
        task: The task.
        outcomes: At least one.
        metrics: Names; None: those of the task's card.
        tools: Recogniser and embedders; None: those that need no download.

    Raises:
        DataError: If there are no outcomes, or a metric that was named is unknown; one of the card's is passed over
            with a warning.
    """
    if not outcomes:
        raise DataError(f"task '{task.name}': nothing to measure, there are no examples.")
    names = list(metrics or ())
    for name in task.metrics if metrics is None else ():
        try:
            find_metric(name)
            names.append(name)
        except DataError as error:
            logger.warning("task '%s': %s", task.name, error)
    found = observe(names, task, outcomes, tools or Tools())
    return {name: one.estimate for name, one in found.items() if isinstance(one, Measured)}


def observe(
    names: Sequence[str], task: Task, outcomes: Sequence[Outcome], tools: Tools, seed: int = 0
) -> dict[str, Measured | UnitokError]:
    """Measure metrics, all of an outcome before the next: they share its recordings.

    Args:
        names: Of the metrics, or with the target that they look at, `wer:transcript`.
        task: The task.
        outcomes: What was made.
        tools: Recogniser and embedders.
        seed: Of the bootstrap.

    Returns:
        By name what was measured, or why not: it does not fit the task, no outcome has what it needs, what computes it
        is not installed, or weights are not here.

    Raises:
        DataError: If a metric or a target is unknown.
    """
    found: dict[str, Measured | UnitokError] = {}
    tallies: dict[str, _Tally] = {}
    for name in names:
        try:
            tallies[name] = _Tally(find_metric(name), check_metric(name, task))
            if uses := tallies[name].metric.uses:
                tools.embedder(uses)  # says before anything else that it is not here
        except CANNOT as error:
            found[name] = error
    for place, outcome in enumerate(outcomes):
        for name, tally in tallies.items():
            if name not in found:
                try:
                    tally.add(outcome.id or str(place), task, outcome, tools)
                except CANNOT as error:
                    found[name] = error
        outcome.forget_audio()
    for name, tally in tallies.items():
        if name not in found:
            found[name] = tally.measured(name, tools, seed)
    return {name: found[name] for name in names}


@dataclass
class _Tally:
    """The observations of one metric."""

    metric: Metric
    target: Field | None
    observations: list[Any] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    by: str = ""

    def add(self, id: str, task: Task, outcome: Outcome, tools: Tools) -> None:
        """Observe one outcome.

        Raises:
            MissingDependencyError: If what computes the metric is not installed.
            MissingWeightsError: If weights are not here.
        """
        try:
            pair = _pair(self.metric, self.target, task, outcome, tools)
            observation = self.metric.observe(*pair, tools)
        except (NotMeasurableError, AudioFormatError, DataError) as error:  # it lacks something, or is silent
            self.left_out[id] = str(error)
            return
        self.observations.append(observation)
        if self.metric.per_item:
            self.values[id] = self.metric.value([observation])
        if self.target is not None and self.target.name in outcome.heard and self.metric.takes in ("texts", "heard"):
            self.by = tools.recognizer.name

    def measured(self, name: str, tools: Tools, seed: int) -> Measured | UnitokError:
        """Return the figure, or why there is none."""
        metric = self.metric
        if not self.observations:
            return NotMeasurableError(f"metric '{name}': no item can be measured: {next(iter(self.left_out.values()))}")
        return Measured(
            metric,
            metric.figure(self.observations, seed),
            self.values,
            self.left_out,
            dict(metric.parts(self.observations)) if metric.parts else {},
            len(self.observations),
            tools.embedder(metric.uses).name if metric.uses else self.by,
        )


def check_metric(name: str, task: Task) -> Field | None:
    """Return the target that a metric looks at; None for likelihoods, which look at all.

    Raises:
        DataError: If the metric or the target is unknown.
        NotMeasurableError: If the task makes nothing that the metric takes.
    """
    try:
        metric, (_, named) = find_metric(name), metric_and_target(name)
    except DataError as error:
        raise DataError(f"task '{task.name}': {error}") from error
    names = [one.name for one in task.targets]
    if named is not None and named not in names:
        raise DataError(
            f"metric '{name}': task '{task.name}' has no target '{named}'.{suggest(named, names)} "
            f"It has: {', '.join(names)}."
        )
    if metric.takes == "likelihood":
        return None
    if metric.takes == "rank":
        check_ranked(task)
    kinds = _kinds(metric)
    for some in kinds:
        fitting = [one for one in task.targets if one.kind in some and named in (None, one.name)]
        if fitting:
            return fitting[-1]
    what = " or ".join(kind for some in kinds for kind in some)
    raise NotMeasurableError(
        f"metric '{name}' looks at targets of kind {what}, {'target ' + named if named else 'task ' + task.name} "
        f"is {', '.join(dict.fromkeys(one.kind for one in task.targets if named in (None, one.name)))}."
    )


def _kinds(metric: Metric) -> tuple[tuple[str, ...], ...]:
    """Return the kinds of targets that a metric takes, the preferred ones first."""
    if metric.takes == "texts":
        return WRITTEN, ("audio",)
    if metric.takes == "units":
        return (("semantic",),)
    return (WRITTEN,) if metric.takes in ("labels", "scores", "rank", "events") else (("audio",),)


def _pair(metric: Metric, target: Field | None, task: Task, outcome: Outcome, tools: Tools) -> tuple[Any, Any]:
    """Return what was asked for and what was made, as the metric takes it.

    Raises:
        NotMeasurableError: If the outcome lacks one of them.
    """
    if metric.takes == "likelihood":
        return None, _there(outcome.likelihood, "the model's likelihoods of a complete reference")
    assert target is not None
    if metric.takes == "rank":
        return None, _there(outcome.rank, f"a rank, which a model gives to texts whose right answer is '{FITS}',")
    if metric.takes == "scores":
        return read_labels(_asked(outcome, target)), _there(outcome.scores, "scores of the labels")
    made = _there(outcome.generated.get(target.name), f"'{target.name}' as it was made")
    if metric.takes in ("texts", "heard") and target.kind == "audio":
        return _words(task, target, outcome), _heard(target, outcome, made, tools)
    if metric.takes in ("texts", "units"):
        return _asked(outcome, target), made
    if metric.takes == "labels":
        return read_labels(_asked(outcome, target)), read_labels(made)
    if metric.takes == "events":
        asked = outcome.row.get("events")
        return read_events(_asked(outcome, target) if asked is None else asked), read_events(made)
    if metric.takes == "caption":
        return _words(task, target, outcome), outcome.audio(made)
    asked = outcome.reference.get(target.name)
    if metric.takes == "voice":
        prompts = [one.name for one in task.conditions if one.source in ("same_speaker", "start")]
        asked = next((outcome.reference[name] for name in prompts if outcome.reference.get(name) is not None), asked)
        asked = asked[0] if isinstance(asked, list) else asked  # of several recordings of a voice
    return outcome.audio(_there(asked, f"a recording to compare '{target.name}' with")), outcome.audio(made)


def _asked(outcome: Outcome, target: Field) -> Any:
    return _there(outcome.reference.get(target.name), f"the right '{target.name}'")


def asked_words(task: Task, target: Field, values: Mapping[str, Any], row: Mapping[str, Any]) -> str | None:
    """Return the text that an audio target had to say, or to be the sound of; None where it is not known.

    Args:
        task: The task.
        target: The target.
        values: Conditions and targets of the example.
        row: Its other fields.
    """
    fields = [one.name for one in task.fields if one.kind == "text" or (one.kind == "features" and one.takes == "text")]
    texts = [values[name] for name in fields if isinstance(values.get(name), str)]
    beside = target.field.replace("audio", "text")  # a record's `target_audio` says its `target_text`
    spoken = texts[-1] if texts else row.get(beside) if beside != target.field else None
    return None if spoken is None else str(spoken)


def _words(task: Task, target: Field, outcome: Outcome) -> str:
    words = asked_words(task, target, outcome.reference, outcome.row)
    return _there(words, f"the text of '{target.name}' (field '{target.field.replace('audio', 'text')}')")


def _heard(target: Field, outcome: Outcome, made: Any, tools: Tools) -> str:
    if target.name not in outcome.heard:
        if not tools.recognizer.hears(outcome.lang):
            raise NotMeasurableError(f"recogniser '{tools.recognizer.name}' does not hear '{outcome.lang}'.")
        outcome.heard[target.name] = tools.recognizer.transcribe(outcome.audio(made), outcome.lang)
    return outcome.heard[target.name]


def _there(value: Any, what: str) -> Any:
    if value is None:
        raise NotMeasurableError(f"{what} is missing.")
    return value
