"""Pipelines: cards that chain tasks, each stage taking what the user gives and what earlier stages made.

    text ──► read: text_to_semantic ──► read.semantic ──► speak: semantic_to_acoustic ──► speech

A pipeline is not trained: the models of its stages are. It is a card among those of tasks that has `stages`. What runs
one is `unitok.generation.pipelines`. This module imports no torch, so that `unitok tasks` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from unitok.cards import CardReader, find_card, list_cards, read_card
from unitok.errors import CardError, suggest
from unitok.tasks.field import SPELLED_KINDS, TIMED_KINDS, Field, FieldKind, Source, read_name
from unitok.tasks.task import RESERVED_NAMES, Task, check_example, check_name, has_stages

__all__ = ["Origin", "Pipeline", "Stage", "find_pipeline", "list_pipelines"]

GIVEN_KINDS: tuple[FieldKind, ...] = ("text", "label", "audio", "semantic")
GIVEN_SOURCES: tuple[Source, ...] = ("same_record", "same_speaker", "start")
FITS: dict[str, tuple[str, ...]] = {
    "text": SPELLED_KINDS,
    "label": SPELLED_KINDS,
    "audio": ("audio",),
    "semantic": ("semantic", "audio"),
}
"""Kind of a condition -> kinds of values that it takes."""


class Origin(NamedTuple):
    """Where a value comes from: a condition of the pipeline, or a target of an earlier stage."""

    stage: str
    """The stage that makes it; empty: the user gives it."""
    name: str
    """Name of the condition, or of the stage's target."""

    def __str__(self) -> str:
        """Write it as a card does: `prompt`, `read.semantic`."""
        return f"{self.stage}.{self.name}" if self.stage else self.name


@dataclass(frozen=True)
class Stage:
    """One task of a pipeline."""

    name: str
    """Its name in the card; what it makes is `name.target`."""
    task: str
    """The task it carries out."""
    conditions: Mapping[str, tuple[Origin, ...]]
    """Condition of the task -> where its value comes from; several are joined in time, those that are there."""
    lang: Origin | None = None
    """Where the language of `<lang:…>` comes from; None: the `lang` of the request."""
    pieces: Mapping[str, float] = field(default_factory=dict)
    """An audio condition -> the task is carried out on pieces of it, so many seconds each; what is made is joined."""

    @property
    def origins(self) -> list[Origin]:
        """All that it takes."""
        return [one for part in self.conditions.values() for one in part] + ([self.lang] if self.lang else [])

    def to_card(self) -> dict[str, Any]:
        """Return its entry in a card."""
        conditions = {
            name: str(origins[0]) if len(origins) == 1 else [str(one) for one in origins]
            for name, origins in self.conditions.items()
        }
        entry: dict[str, Any] = {"name": self.name, "task": self.task, "conditions": conditions}
        if self.lang:
            entry["lang"] = str(self.lang)
        if self.pieces:
            entry["pieces"] = dict(self.pieces)
        return entry


@dataclass(frozen=True)
class Pipeline:
    """A chain of tasks: what is given, the stages in the order in which they run, what of it is the result."""

    name: str
    """Name of the card's file; what `--task` and `Model.generate` take."""
    description: str
    """One sentence."""
    conditions: tuple[Field, ...]
    """What the user gives."""
    stages: tuple[Stage, ...]
    """The tasks, first to last."""
    targets: Mapping[str, Origin]
    """Name of a result -> the stage's target that it is."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Name of a result -> the record field with its reference; of others, that of the stage's target."""
    lang_field: str | None = None
    """The record field with the language of a request; None: that of the last stage's task."""
    metrics: tuple[str, ...] = ()
    """What `unitok evaluate` computes."""
    example: Mapping[str, str] = field(default_factory=dict)
    """Conditions of one run, shown by `unitok tasks NAME`."""
    version: int = 1
    """Raised when the card changes meaning."""
    source: str = ""
    """The paper it follows."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Pipeline:
        """Read the pipeline of a card given by name (`spear_tts`) or by file.

        Raises:
            CardError: If there is no such card, or it has mistakes: all of them, one line each.
        """
        path = find_card("tasks", name_or_path)
        return cls.from_card(read_card(path), path)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], file: str | Path = "pipeline card") -> Pipeline:
        """Make a pipeline of a card's content. Whether its stages fit their tasks is `outline`'s to see.

        Raises:
            CardError: If the card has mistakes: all of them, one line each.
        """
        reader = CardReader(card, file)
        pipeline = cls(
            name=reader.take("name", str, "", required=True),
            description=reader.take("description", str, "", required=True),
            conditions=tuple(_condition(part) for part in reader.parts("conditions")),
            stages=tuple(_stage(part) for part in reader.parts("stages", required=True)),
            targets={
                name: origins[0] for name, origins in _origins(reader, "targets", several=False, required=True).items()
            },
            fields=reader.take("fields", dict, {}),
            lang_field=reader.take("lang_field", str),
            metrics=tuple(reader.take("metrics", list, [])),
            example=reader.take("example", dict, {}),
            version=reader.take("version", int, 1, minimum=1),
            source=reader.take("source", str, ""),
        )
        check_name(pipeline.name, Path(file), reader)
        _check_names(pipeline, reader)
        _check_origins(pipeline, reader)
        _check_fields(pipeline, reader)
        check_example(pipeline.example, pipeline.conditions, reader)
        reader.finish()
        return pipeline

    def to_card(self) -> dict[str, Any]:
        """Return the card of this pipeline; `Pipeline.from_card` of it is this pipeline again."""
        card: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "source": self.source,
            "conditions": [part.to_card() for part in self.conditions],
            "stages": [stage.to_card() for stage in self.stages],
            "targets": {name: str(origin) for name, origin in self.targets.items()},
            "fields": dict(self.fields),
            "metrics": list(self.metrics),
            "example": dict(self.example),
        }
        return card if self.lang_field is None else {**card, "lang_field": self.lang_field}

    @property
    def stage_names(self) -> list[str]:
        """Names of the stages, first to last."""
        return [stage.name for stage in self.stages]

    def outline(self, tasks: Mapping[str, Task] | None = None) -> Task:
        """Return the pipeline as one task from outside, once its stages are seen to fit.

        Args:
            tasks: The task of each stage, by the stage's name, as its model has it; None: as the cards have them.

        Returns:
            A task with the conditions and targets of the pipeline. It has no token, and cannot be trained.

        Raises:
            CardError: If stages do not fit their tasks: all that is wrong, one line each.
        """
        tasks = self.carded_tasks() if tasks is None else tasks
        problems = [
            f"pipeline '{self.name}', stage '{stage.name}': {problem}"
            for stage in self.stages
            for problem in _misfits(self, stage, tasks)
        ]
        for name, origin in self.targets.items():
            if problem := _unmade(origin, tasks):
                problems.append(f"pipeline '{self.name}', target '{name}': {problem}")
        if problems:
            raise CardError("\n".join(problems))
        last = tasks[self.stages[-1].name]
        return Task(
            self.name,
            self.description,
            self.conditions,
            tuple(self._target(name, origin, tasks) for name, origin in self.targets.items()),
            metrics=self.metrics,
            lang_field=last.lang_field if self.lang_field is None else self.lang_field,
            checked_by=last.checked_by,
        )

    def _target(self, name: str, origin: Origin, tasks: Mapping[str, Task]) -> Field:
        made = next(one for one in tasks[origin.stage].targets if one.name == origin.name)
        return Field(name, made.kind, field=self.fields.get(name, made.field))

    def carded_tasks(self) -> dict[str, Task]:
        """Return the task of each stage as its card is, by the stage's name.

        Raises:
            CardError: If there is no such card, or it has mistakes; of all stages.
        """
        tasks, problems = dict[str, Task](), list[str]()
        for stage in self.stages:
            try:
                tasks[stage.name] = Task.load(stage.task)
            except CardError as error:
                problems.append(f"pipeline '{self.name}', stage '{stage.name}': {error}")
        if problems:
            raise CardError("\n".join(problems))
        return tasks


def find_pipeline(name: str) -> Pipeline | None:
    """Return the pipeline of that name; None if no card of that name is one.

    Raises:
        CardError: If its card has mistakes.
    """
    path = list_cards("tasks").get(name)
    return Pipeline.load(path) if path is not None and has_stages(path) else None


def list_pipelines() -> list[str]:
    """Return the names of all pipelines, unitok's and the user's, sorted."""
    return [name for name, path in list_cards("tasks").items() if has_stages(path)]


def _condition(part: CardReader) -> Field:
    name = read_name(part)
    condition = Field(
        name,
        part.take("kind", str, "text", required=True, choices=GIVEN_KINDS),
        optional=part.take("optional", bool, False),
        field=part.take("field", str, ""),
        max_seconds=part.take("max_seconds", float, minimum=0.0),
        source=part.take("from", str, None, choices=GIVEN_SOURCES),
    )
    if condition.max_seconds == 0:
        part.problem("max_seconds", "is 0, allowed: more than 0.")
    if condition.max_seconds is not None and condition.kind != "audio":
        part.problem("max_seconds", f"applies to kind audio, this condition is {condition.kind}. Remove it.")
    return condition


def _stage(part: CardReader) -> Stage:
    task = part.take("task", str, "", required=True)
    lang = _origin(part.take("lang", str, ""))
    pieces: dict[str, Any] = part.take("pieces", dict, {})
    for name, seconds in pieces.items():
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
            part.problem(f"pieces.{name}", f"is {seconds}, allowed: seconds, more than 0.")
    if len(pieces) > 1:
        part.problem("pieces", f"names {', '.join(pieces)}, allowed: one condition.")
    return Stage(
        name=read_name(part, task),
        task=task,
        conditions=_origins(part, "conditions", several=True),
        lang=lang if lang.name and str(lang) != "lang" else None,
        pieces=pieces,
    )


def _origins(part: CardReader, key: str, *, several: bool, required: bool = False) -> dict[str, tuple[Origin, ...]]:
    """Return the origins under `key`: a name, or where `several` may be joined, a list of them."""
    found: dict[str, tuple[Origin, ...]] = {}
    for name, value in part.take(key, dict, {}, required=required).items():
        given = value if several and isinstance(value, list) else [value]
        if given and all(isinstance(one, str) and one for one in given):
            found[str(name)] = tuple(_origin(one) for one in given)
        else:
            lists = ", or a list of them" if several else ""
            part.problem(f"{key}.{name}", f"is {value}, allowed: a condition's name, or STAGE.TARGET{lists}.")
    return found


def _origin(text: str) -> Origin:
    stage, _, name = text.rpartition(".")
    return Origin(stage, name)


def _check_names(pipeline: Pipeline, reader: CardReader) -> None:
    """Note lists that are empty, names used twice, and names that mean something else."""
    for key, part in (("stages", pipeline.stages), ("targets", pipeline.targets)):
        if reader.card.get(key) is not None and not part:
            reader.problem(key, "is empty.")
    for name in pipeline.targets:
        if not name.isidentifier():
            reader.problem(f"targets.{name}", "is no name: letters, digits and '_' are allowed.")
    lists = (
        ("conditions", [one.name for one in pipeline.conditions] + list(pipeline.targets)),
        ("stages", pipeline.stage_names),
    )
    for key, names in lists:
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                what = "stages" if key == "stages" else "conditions and targets"
                reader.problem(key, f"two {what} are called '{name}'. Rename one of them.")
            if key == "conditions" and name in RESERVED_NAMES:
                reader.problem(key, f"one is called '{name}', which unitok uses itself. Rename it.")


def _check_origins(pipeline: Pipeline, reader: CardReader) -> None:
    """Note values from nowhere, from later stages and in circles; conditions and stages that nothing uses."""
    places = [(f"stages[{i}]", i, origin) for i, stage in enumerate(pipeline.stages) for origin in stage.origins] + [
        ("targets", len(pipeline.stages), origin) for origin in pipeline.targets.values()
    ]
    for place, i, origin in places:
        if problem := _lost(pipeline, i, origin):
            reader.problem(place, problem)
    used = {origin for _, _, origin in places}
    for condition in pipeline.conditions:
        if Origin("", condition.name) not in used:
            reader.problem("conditions", f"no stage takes '{condition.name}'. Remove it, or give it to a stage.")
    for i, name in enumerate(pipeline.stage_names):
        if name and all(origin.stage != name for origin in used):
            reader.problem(f"stages[{i}]", f"nothing uses what '{name}' makes. Remove it, or name it in 'targets'.")


def _check_fields(pipeline: Pipeline, reader: CardReader) -> None:
    """Note record fields of results that there are not, or that are no names, and metrics that are none."""
    for name, column in pipeline.fields.items():
        if name not in pipeline.targets:
            hint = suggest(str(name), pipeline.targets)
            reader.problem("fields", f"there is no target '{name}'.{hint} Targets: {', '.join(pipeline.targets)}.")
        if not isinstance(column, str) or not column:
            reader.problem(f"fields.{name}", f"is {column}, allowed: the name of a record field.")
    for name in pipeline.metrics:
        if not isinstance(name, str):
            reader.problem("metrics", f"has {name}, allowed: names of metrics.")


def _lost(pipeline: Pipeline, i: int, origin: Origin) -> str | None:
    """Say what is wrong with where stage `i` takes a value from; None: nothing."""
    names, given = pipeline.stage_names, [one.name for one in pipeline.conditions]
    if not origin.stage:
        if i == len(names):
            return f"'{origin}' is made by no stage. Write STAGE.TARGET, with one of the stages: {', '.join(names)}."
        if origin.name in given:
            return None
        hint = suggest(origin.name, given)
        return f"takes '{origin}', which is no condition.{hint} There are: {', '.join(given) or 'none'}."
    if origin.stage not in names:
        hint = suggest(origin.stage, names)
        return f"takes '{origin}', but no stage is called '{origin.stage}'.{hint} There are: {', '.join(names)}."
    j = names.index(origin.stage)
    if j < i:
        return None
    if i == j:
        return f"takes '{origin}', which it makes itself."
    if circle := _path(pipeline, origin.stage, names[i]):
        return f"takes '{origin}', and stages go in a circle: {' → '.join([names[i], *circle])}."
    return f"takes '{origin}' of a later stage. Stages run in the order of the card: move '{origin.stage}' up."


def _path(pipeline: Pipeline, start: str, goal: str, seen: frozenset[str] = frozenset()) -> list[str] | None:
    """Return the stages by which `start` depends on `goal`, both included; None if it does not."""
    if start == goal:
        return [start]
    for stage in pipeline.stages:
        if stage.name == start and start not in seen:
            for origin in stage.origins:
                if origin.stage and (rest := _path(pipeline, origin.stage, goal, seen | {start})):
                    return [start, *rest]
    return None


def _misfits(pipeline: Pipeline, stage: Stage, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Say in what a stage does not fit its task."""
    task = tasks[stage.name]
    fields = {one.name: one for one in task.conditions}
    takes = f"It takes: {', '.join(fields) or 'nothing'}."
    optional = {Origin("", one.name) for one in pipeline.conditions if one.optional}
    for name, origins in stage.conditions.items():
        unmade = [problem for origin in origins if (problem := _unmade(origin, tasks))]
        yield from unmade
        if name not in fields:
            yield f"task '{task.name}' has no condition '{name}'.{suggest(name, fields)} {takes}"
        elif not unmade:
            yield from _misfit(fields[name], origins, [_kind(pipeline, origin, tasks) for origin in origins])
    for name, one in fields.items():
        if one.needed and name not in stage.conditions:
            yield f"task '{task.name}' needs '{name}' ({one.kind}), which the card does not give it. {takes}"
        elif one.needed and set(stage.conditions[name]) <= optional:
            given = ", ".join(map(str, stage.conditions[name]))
            yield f"task '{task.name}' needs '{name}', but '{given}' may be left out. Let it be needed too."
    for name in stage.pieces:
        if name not in stage.conditions or (name in fields and fields[name].kind != "audio"):
            yield f"pieces of '{name}': no audio is given to a condition of that name.{suggest(name, stage.conditions)}"
        elif any(target.kind != "audio" for target in task.targets):
            yield f"pieces of '{name}': task '{task.name}' makes more than audio, which cannot be joined. Remove them."
    if stage.lang:
        if problem := _unmade(stage.lang, tasks):
            yield problem
        elif (kind := _kind(pipeline, stage.lang, tasks)) not in SPELLED_KINDS:
            yield f"its lang is '{stage.lang}', which is {kind}; a language is text or a label."


def _misfit(one: Field, origins: Sequence[Origin], kinds: Sequence[FieldKind]) -> Iterator[str]:
    """Say which values are of another kind than a condition takes."""
    allowed = FITS[one.takes if one.kind == "features" else one.kind]
    for origin, kind in zip(origins, kinds, strict=True):
        if kind not in allowed:
            yield f"'{one.name}' takes {' or '.join(allowed)}, '{origin}' is {kind}."
    if len(origins) > 1 and one.kind not in TIMED_KINDS:
        joined = ", ".join(map(str, origins))
        yield f"'{one.name}' is to join {joined}; only audio and semantic tokens are joined, it is {one.kind}."


def _unmade(origin: Origin, tasks: Mapping[str, Task]) -> str | None:
    """Say that a stage does not make what is taken from it; None: it does, or the user gives it."""
    if not origin.stage:
        return None
    task = tasks[origin.stage]
    made = [target.name for target in task.targets]
    if origin.name in made:
        return None
    hint = suggest(origin.name, made)
    return f"stage '{origin.stage}' (task '{task.name}') makes no '{origin.name}'.{hint} It makes: {', '.join(made)}."


def _kind(pipeline: Pipeline, origin: Origin, tasks: Mapping[str, Task]) -> FieldKind:
    fields = tasks[origin.stage].targets if origin.stage else pipeline.conditions
    return next(one.kind for one in fields if one.name == origin.name)
