"""A task as its card defines it: which fields are conditions, which are targets, how to generate and to score.

Not here: what a field is (`field.py`), tokens (`builder.py`). This module imports no torch, so that `unitok tasks`
answers at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unitok.cards import SUFFIXES, CardReader, find_card, list_cards, read_card
from unitok.errors import CardError, DataError, suggest
from unitok.tasks.field import (
    CUT_SOURCES,
    NAME_IN_FORM,
    SPELLED_KINDS,
    TIMED_KINDS,
    Field,
    names_in,
    numbered,
    read_condition,
    read_target,
)
from unitok.tasks.settings import GenerateDefaults, out_of_range

__all__ = ["FAMILIES", "RESERVED_NAMES", "Task", "check_example", "check_name", "has_stages", "list_tasks"]

FAMILIES = {
    "speech": "Speech out",
    "sound": "Sound and music out",
    "text": "Text out",
    "speech_to_speech": "Speech to speech",
    "pretext": "Pretext",
}
"""What `family` in a card may be, with the heading `unitok tasks` lists it under."""

RESERVED_NAMES = (
    "task",
    "lang",
    "seed",
    "model",
    "out",
    "id",
    "answers",
    "regex",
    "instruction",
    "stage_models",
    "per_stage",
    *(f.name for f in dataclasses.fields(GenerateDefaults)),
)
"""Keywords of `Model.generate`, columns of a manifest and options of the command line."""


@dataclass(frozen=True)
class Task:
    """What a model is asked to do: conditions in, targets out, in the order of the card."""

    name: str
    """Name of the card's file and of the token `<task:name>`."""
    description: str
    """One sentence."""
    conditions: tuple[Field, ...]
    """What is given."""
    targets: tuple[Field, ...]
    """What is generated, one after another."""
    generate: GenerateDefaults = GenerateDefaults()
    """Generation settings."""
    metrics: tuple[str, ...] = ()
    """What `unitok evaluate` computes."""
    example: Mapping[str, Any] = field(default_factory=dict)
    """Conditions of one run, shown by `unitok tasks NAME`: texts, of repeated ones lists of them."""
    version: int = 1
    """Raised when the card changes meaning."""
    source: str = ""
    """The paper the task follows."""
    lang_field: str = "lang"
    """The record field that holds the language of `<lang:…>`; empty: the task is never told a language."""
    codebook_weights: tuple[float, ...] = ()
    """Weight of each codebook's loss in audio targets; empty means the model's own."""
    instructions: tuple[str, ...] = ()
    """Ways to ask for this task in words, one of which may stand in place of `<task:name>`; `{name}` stands for the
    value of a condition of kind text or label, which then has no place of its own."""
    checked_by: str = "asr"
    """The task from audio to text that tells how well a text is heard in the audio made of it (`best_of`)."""
    family: str = ""
    """Which of `FAMILIES` it is listed under; empty: none of them."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Task:
        """Read the task of a card given by name (`tts`) or by file.

        Raises:
            CardError: If there is no such card, or it has mistakes: all of them, one line each.
        """
        path = find_card("tasks", name_or_path)
        return cls.from_card(read_card(path), path)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], file: str | Path = "task card") -> Task:
        """Make a task of a card's content.

        Args:
            card: The card as plain dicts and lists.
            file: Where it came from; a card in a YAML file carries the file's name.

        Raises:
            CardError: If the card has mistakes: all of them, one line each; or is a pipeline's.
        """
        reader = CardReader(card, file)
        if "stages" in card:
            raise CardError(
                f"{reader.file}: is a pipeline: it chains other tasks (it has 'stages'), and a single task is needed "
                "here. 'unitok generate' carries pipelines out."
            )
        task = cls(
            name=reader.take("name", str, "", required=True),
            description=reader.take("description", str, "", required=True),
            conditions=tuple(read_condition(part) for part in reader.parts("conditions")),
            targets=tuple(read_target(part) for part in reader.parts("targets", required=True)),
            generate=_generate(reader.part("generate")),
            metrics=reader.strings("metrics"),
            example=reader.take("example", dict, {}),
            version=reader.take("version", int, 1, minimum=1),
            source=reader.take("source", str, ""),
            lang_field=reader.take("lang_field", str, "lang"),
            codebook_weights=reader.numbers("codebook_weights"),
            instructions=reader.strings("instructions"),
            checked_by=reader.take("checked_by", str, "asr"),
            family=reader.take("family", str, "", choices=FAMILIES),
        )
        check_name(task.name, Path(file), reader)
        _check_fields(task, reader)
        check_example(task.example, task.conditions, reader)
        reader.finish()
        return task

    def reading(self, fields: Mapping[str, str]) -> Task:
        """Return this task with other record fields: `{"audio": "noisy_audio"}` reads its `audio` from `noisy_audio`.

        `lang` stands for the field that names the language, of tasks that are told one.

        Raises:
            DataError: If it has no such condition or target.
        """
        names = [part.name for part in self.fields] + (["lang"] if self.lang_field else [])
        for name in fields.keys() - set(names):
            raise DataError(f"task '{self.name}' has no '{name}'.{suggest(name, names)} It has: {', '.join(names)}.")

        def read(parts: tuple[Field, ...]) -> tuple[Field, ...]:
            return tuple(dataclasses.replace(part, field=fields.get(part.name, part.field)) for part in parts)

        lang_field = fields.get("lang", self.lang_field)
        return dataclasses.replace(
            self, conditions=read(self.conditions), targets=read(self.targets), lang_field=lang_field
        )

    def with_defaults(self, **settings: Any) -> Task:
        """Return this task with other defaults of generation, such as `best_of=4`.

        Raises:
            CardError: If a setting is unknown, or its value is not allowed.
        """
        card = self.to_card()
        return Task.from_card(card | {"generate": card["generate"] | settings}, f"task '{self.name}'")

    def to_card(self) -> dict[str, Any]:
        """Return the card of this task; `Task.from_card` of it is this task again."""
        card: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "source": self.source,
            "conditions": [part.to_card() for part in self.conditions],
            "targets": [part.to_card() for part in self.targets],
            "generate": self.generate.to_card(),
            "metrics": list(self.metrics),
            "example": dict(self.example),
        }
        if self.lang_field != "lang":
            card["lang_field"] = self.lang_field
        if self.codebook_weights:
            card["codebook_weights"] = list(self.codebook_weights)
        if self.instructions:
            card["instructions"] = list(self.instructions)
        if self.checked_by != "asr":
            card["checked_by"] = self.checked_by
        if self.family:
            card["family"] = self.family
        return card

    @property
    def fields(self) -> tuple[Field, ...]:
        """Conditions, then targets."""
        return self.conditions + self.targets

    @property
    def names_within(self) -> frozenset[str]:
        """Names of the conditions that stand in the `form` of another field, and nowhere else."""
        return frozenset[str]().union(*(one.names_within for one in self.fields))

    def instructed(self, instruction: str, values: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
        """Fill the values of conditions into an instruction.

        Args:
            instruction: Text, in which `{name}` stands for a condition of kind text or label.
            values: The conditions, as `shaped` returns them.

        Returns:
            The instruction as it is spelled, and the names of the conditions that it holds.

        Raises:
            DataError: If it is no text, names something else, or a condition that has no value.
        """
        if not isinstance(instruction, str):
            raise DataError(f"task '{self.name}': the instruction is {instruction!r}; it must be text.")
        names = names_in(instruction)
        spelled = [one.name for one in self.conditions if one.kind in SPELLED_KINDS and not one.repeated]
        for name in sorted(names):
            if name not in spelled:
                raise DataError(
                    f"task '{self.name}': the instruction names '{name}', which is no text or label among its "
                    f"conditions.{suggest(name, spelled)} It may name: {', '.join(spelled) or 'none'}."
                )
            if values.get(name) is None:
                raise DataError(f"task '{self.name}': the instruction names '{name}', which is missing.")
        return re.sub(NAME_IN_FORM, lambda found: str(values[found[1]]), instruction), names

    def shaped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for each field: as given, else its default; in its `form`, if it has one. None: there is none.

        Raises:
            DataError: If a form names a value that is no text.
        """
        given = {f.name: f.default if values.get(f.name) is None else values[f.name] for f in self.fields}
        return {f.name: self._formed(f, given) for f in self.fields}

    def _formed(self, field: Field, given: Mapping[str, Any]) -> Any:
        value = given[field.name]
        if not field.form or value is None or any(given[name] is None for name in field.names_within):
            return value
        for name in (field.name, *field.names_within):
            if not isinstance(given[name], str):
                raise DataError(f"task '{self.name}', '{name}': got {type(given[name]).__name__}, it takes text.")
        return re.sub(NAME_IN_FORM, lambda found: given[found[1]], field.form)

    def gathered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with those of a repeated condition as one list, however they were given.

        `prompt` as one value or a list, or `prompt`, `prompt.2`, … as `TokenSequence.split` names them. None and an
        empty list mean that there is none.

        Raises:
            DataError: If there are more than the card allows, or a number is left out.
        """
        found = dict(values)
        for one in self.conditions:
            if not one.repeated:
                continue
            whole = found.pop(one.name, None)
            several = list(whole) if _is_several(whole) else [whole]
            while (name := numbered(one.name, len(several))) in found:
                several.append(found.pop(name))
            if any(name.startswith(f"{one.name}.") for name in found):
                raise DataError(f"task '{self.name}': '{one.name}' is numbered from 2, got {', '.join(values)}.")
            several = [value for value in several if value is not None]
            if one.most is not None and len(several) > one.most:
                raise DataError(
                    f"task '{self.name}': '{one.name}' has {len(several)} values, it may have {one.most}. "
                    "Leave some out."
                )
            if several:
                found[one.name] = several
        return found

    def expanded(self, values: Mapping[str, Any]) -> tuple[Task, dict[str, Any]]:
        """Return this task with each repeated condition as often as it has values, and the values by these names.

        `prompt: [a, b]` becomes the conditions `prompt` and `prompt.2`. What has no value stays as it is.

        Raises:
            DataError: See `gathered`.
        """
        found, conditions = self.gathered(values), list[Field]()
        for one in self.conditions:
            several = found.pop(one.name, None) if one.repeated else None
            if several is None:
                conditions.append(one)
                continue
            copies = one.copies(len(several))
            conditions += copies
            found |= {copy.name: value for copy, value in zip(copies, several, strict=True)}
        return dataclasses.replace(self, conditions=tuple(conditions)), found

    def layout(self) -> str:
        """Draw the sequence of this task, optional parts in brackets, targets behind the arrow.

        `<bos> <task:tts> [<lang>] <text> … </text> [<audio> … </audio>] → <audio> … </audio> <eos>`
        """
        conditions = [_drawn(one) for one in self.conditions if one.name not in self.names_within]
        parts = ["<bos>", f"<task:{self.name}>", "[<lang>]", *conditions, "→"]
        return " ".join([*parts, *map(_drawn, self.targets), "<eos>"])


def list_tasks() -> list[str]:
    """Return the names of all task cards, unitok's and the user's, sorted; pipelines are not among them."""
    return [name for name, path in list_cards("tasks").items() if not has_stages(path)]


def has_stages(path: Path) -> bool:
    """Is a card among those of tasks a pipeline? Looks at its text: there are many cards, and YAML is slow."""
    return re.search(r"^stages\s*:", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None


def check_name(name: str, file: Path, reader: CardReader) -> None:
    """Note a name that cannot be one, or is not the file's."""
    if name and not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        reader.problem("name", f"is '{name}', allowed: letters, digits, '_', '-' and '.'.")
    elif name and file.suffix in SUFFIXES and name != file.stem:
        reader.problem("name", f"is '{name}', the file is called '{file.name}'. Rename one of them.")


def _generate(part: CardReader) -> GenerateDefaults:
    settings: dict[str, Any] = {}
    for setting in dataclasses.fields(GenerateDefaults):
        if setting.name == "codebook_temperatures":
            settings[setting.name] = part.numbers(setting.name)
            continue
        if setting.name == "guidance" and isinstance(part.card.get("guidance"), Mapping):
            settings["guidance"] = part.take("guidance", dict)
            continue
        kind = next(kind for word, kind in _KINDS.items() if str(setting.type).startswith(word))
        settings[setting.name] = part.take(setting.name, kind, setting.default, minimum=None if kind is bool else 0)
    for name, wanted in list(out_of_range(settings)):
        part.problem(name, f"is {settings[name]}, allowed: {wanted}.")
        settings.pop(name)
    return GenerateDefaults(**settings)


_KINDS: dict[str, type] = {"float": float, "int": int, "bool": bool}


def _check_fields(task: Task, reader: CardReader) -> None:
    """Note an empty list of targets, names used twice, names that mean something else, and starts of nothing."""
    if isinstance(reader.card.get("targets"), list) and not reader.card["targets"]:
        reader.problem("targets", "is empty, a task has at least one target.")
    seen: set[str] = set()
    for one in task.fields:
        if one.name in seen:
            reader.problem("conditions and targets", f"two fields are called '{one.name}'. Rename one of them.")
        if one.name in RESERVED_NAMES:
            reader.problem(
                "conditions and targets", f"a field is called '{one.name}', which unitok uses itself. Rename it."
            )
        seen.add(one.name)
    guided = [one.name for one in task.conditions if one.guided]
    for name in task.generate.guidance if isinstance(task.generate.guidance, Mapping) else ():
        if name not in guided:
            reader.problem(
                f"generate.guidance.{name}",
                f"is no guided condition.{suggest(str(name), guided)} Guided: {', '.join(guided) or 'none'}.",
            )
    spelled = [one.name for one in task.conditions if one.kind in SPELLED_KINDS and not one.repeated]
    for one in task.conditions:
        for name in sorted(one.names_within - set(spelled)):
            reader.problem(
                "conditions",
                f"the form of '{one.name}' names '{name}', which is no text or label among the conditions."
                f"{suggest(name, spelled)}",
            )
        if one.source in CUT_SOURCES and not any((t.field, t.kind) == (one.field, one.kind) for t in task.targets):
            place = "from the start of" if one.source == "start" else f"from {one.source}"
            reader.problem(
                "conditions",
                f"'{one.name}' is taken {place} a target, but no target of kind {one.kind} reads "
                f"the record field '{one.field}'. Give it the 'field' of a target.",
            )
    timed = [one.name for one in task.conditions if one.kind in TIMED_KINDS and not one.repeated]
    for one in task.targets:
        if one.is_timed and one.same_length_as and one.same_length_as not in timed:
            reader.problem(
                "targets",
                f"'{one.name}' is to last as long as '{one.same_length_as}', which is no audio among the conditions."
                f"{suggest(one.same_length_as, timed)} Allowed: {', '.join(timed) or 'none'}.",
            )
    for instruction in task.instructions:
        for name in sorted(names_in(instruction) - set(spelled)):
            reader.problem(
                "instructions",
                f"'{instruction}' names '{name}', which is no text or label among the conditions."
                f"{suggest(name, spelled)} Allowed: {', '.join(spelled) or 'none'}.",
            )


def check_example(example: Mapping[str, Any], conditions: Sequence[Field], reader: CardReader) -> None:
    """Note what the example of a card has too much or too little."""
    allowed = [one.name for one in conditions] + ["lang"]
    several = [one.name for one in conditions if one.repeated]
    for key, value in example.items():
        if key not in allowed:
            reader.problem(
                f"example.{key}",
                f"is no condition of this task.{suggest(str(key), allowed)} Allowed: {', '.join(allowed)}.",
            )
        elif not all(isinstance(one, str) for one in (value if key in several and _is_several(value) else [value])):
            reader.problem(f"example.{key}", "is not text. Put it in quotes.")
    missing = [one.name for one in conditions if one.needed and one.name not in example]
    if example and missing:
        reader.problem("example", f"leaves out {', '.join(missing)}, which the task needs.")


def _is_several(value: Any) -> bool:
    """Is this a list of values? A list of whole numbers is one value, semantic ids; a tuple is one recording."""
    return isinstance(value, list) and not (value and all(type(one) is int for one in value))


def _drawn(part: Field) -> str:
    text = f"<{part.kind}> … </{part.kind}>" + (f" × up to {part.most or 'n'}" if part.repeated else "")
    return f"[{text}]" if part.optional else text
