"""`unitok tasks`: list the tasks by family, show one in detail, or check a card and show the sequence that it makes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from unitok.cards import find_card, list_cards, read_card
from unitok.cli.request import PLACEHOLDERS
from unitok.errors import CardError, UnitokError
from unitok.tasks import Field, GenerateDefaults, Pipeline, Task
from unitok.tasks.pipeline import Stage
from unitok.tasks.task import FAMILIES, has_stages

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)

MAX_WIDTH = 100
WHENCE = {
    "same_record": "of the same record",
    "same_speaker": "from another record of the same speaker",
    "start": "the start of what is made",
    "before": "what comes before what is made",
    "after": "what comes after what is made",
}
"""What a card's `from` means, in words."""
WIDEST_FIELDS = 40
MAX_PIECES = 12
OTHERS = "More"
"""Heading of tasks whose card names no family."""
CHAINS = "Pipelines: tasks one after another"
"""Heading of cards that chain tasks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `unitok tasks`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this task in detail (a name, or a .yaml file)")
    parser.add_argument("--json", action="store_true", help="print JSON: a list of cards, or the one card")
    parser.add_argument(
        "--check", metavar="FILE", help="look for mistakes in a card of yours, all of them, and show its sequence"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    if args.check:
        card = _card(read_card(args.check), args.check)
        if isinstance(card, Pipeline):
            shown = _checked_chain(card, args.check)
        else:
            _check_metrics(card, args.check)
            shown = _checked(card, args.check)
        print(json.dumps(card.to_card(), ensure_ascii=False) if args.json else shown)
    elif args.name:
        path = find_card("tasks", args.name)
        card = _card(read_card(path), path)
        if args.json:
            print(json.dumps(card.to_card(), indent=2, ensure_ascii=False))
        else:
            print(_detail_of_chain(card, args.name) if isinstance(card, Pipeline) else _detail(card, args.name))
    else:
        found = list(_readable_cards())
        cards = [one.to_card() for one in found]
        print(json.dumps(cards, indent=2, ensure_ascii=False) if args.json else _table(found))
    return 0


def _card(card: Mapping[str, Any], file: str | Path) -> Task | Pipeline:
    return Pipeline.from_card(card, file) if "stages" in card else Task.from_card(card, file)


def _check_metrics(task: Task, file: str) -> None:
    """See that the metrics of a card are known and fit its targets.

    Raises:
        CardError: With every one that is not.
    """
    from unitok.evaluation.outcomes import check_metric

    problems = []
    for name in task.metrics:
        try:
            check_metric(name, task)
        except UnitokError as error:
            problems.append(f"{file}: metrics: {error}")
    if problems:
        raise CardError("\n".join(problems))


def _readable_cards() -> Iterable[Task | Pipeline]:
    """Yield every task and pipeline; a broken card is a warning here and an error where it is named."""
    for path in list_cards("tasks").values():
        try:
            yield Pipeline.load(path) if has_stages(path) else Task.load(path)
        except CardError as error:
            logger.warning("%s", error)


def _table(cards: Sequence[Task | Pipeline]) -> str:
    """Return all tasks, family by family, in columns that all families share; then the pipelines."""
    tasks = [card for card in cards if isinstance(card, Task)]
    pipelines = [card for card in cards if isinstance(card, Pipeline)]
    families: dict[str, Sequence[Task | Pipeline]] = {
        heading: [task for task in tasks if task.family == name] for name, heading in FAMILIES.items()
    }
    families[CHAINS] = pipelines
    families[OTHERS] = [task for task in tasks if task.family not in FAMILIES]
    first = max(len(card.name) for card in cards) + 4
    second = min(WIDEST_FIELDS, max(len(_given_and_made(card)) for card in cards)) + 2
    parts = [f"{'  TASK':<{first}}{'GIVEN → MADE':<{second}}WHAT IT DOES"]
    for heading, members in families.items():
        if members:
            parts += ["", heading]
            parts += [line for task in members for line in _row(task, first, second)]
    return "\n".join(
        [
            *parts,
            "",
            f"{len(tasks)} tasks, {len(pipelines)} pipelines. [in brackets: may be left out]   "
            "One in detail: unitok tasks NAME",
        ]
    )


def _row(task: Task | Pipeline, first: int, second: int) -> list[str]:
    """Return the lines of one task: its three columns, each wrapped."""
    fields = textwrap.wrap(_given_and_made(task), second - 2)
    said = textwrap.wrap(task.description, max(24, _width() - first - second))
    lines = zip_longest([f"  {task.name}"], fields, said, fillvalue="")
    return [f"{name:<{first}}{given:<{second}}{text}".rstrip() for name, given, text in lines]


def _given_and_made(task: Task | Pipeline) -> str:
    made = ", ".join(task.targets) if isinstance(task, Pipeline) else _names(task.targets)
    return f"{_names(task.conditions) or '–'} → {made}"


def _checked(task: Task, file: str) -> str:
    """Say that a card is fine, and show what becomes of its example."""
    from unitok.tasks.example import example_sequence

    sequence = example_sequence(task)
    shown = textwrap.wrap(sequence.show(MAX_PIECES), _width() - 2, break_on_hyphens=False)
    return "\n".join(
        [
            f"{file}: fine. {task.layout()}",
            _section("Its example, text as bytes, audio as half a second of a toy codec", shown),
            f"  {len(sequence)} positions, {int(sequence.loss_mask.sum())} of them with a loss",
        ]
    )


def _names(fields: Iterable[Field]) -> str:
    shown = [(f"{field.name} …" if field.repeated else field.name, field.optional) for field in fields]
    return ", ".join(f"[{name}]" if optional else name for name, optional in shown)


def _detail(task: Task, name: str) -> str:
    parts = [
        f"{task.name}: {task.description}",
        _labelled("version", f"{task.version}" + (f"   {FAMILIES[task.family].lower()}" if task.family else "")),
        *(_labelled("" if i else "papers", paper) for i, paper in enumerate(_papers(task))),
        _labelled("card", str(find_card("tasks", name))),
        _section("Sequence", _wrapped_layout(task)),
        _section("Given", [line for field in task.conditions for line in _field_lines(field)]),
        _section("Made", [line for field in task.targets for line in _field_lines(field)]),
        _section("Generation", [_settings(task)]),
        _section("Metrics", [", ".join(task.metrics)] if task.metrics else []),
        _section("In words, with --instruction, after training with 'instructed'", _asked(task)),
        _section("Options of unitok generate", [_options(task)]),
        _section("Example", [_example(task)] if task.example or not task.conditions else []),
    ]
    return "\n".join(part for part in parts if part)


def _checked_chain(pipeline: Pipeline, file: str) -> str:
    """Say that a pipeline's card is fine, and draw it."""
    tasks = pipeline.carded_tasks()
    pipeline.outline(tasks)
    return "\n".join([f"{file}: fine.", _section("Stages", _chain(pipeline, tasks))])


def _detail_of_chain(pipeline: Pipeline, name: str) -> str:
    tasks = pipeline.carded_tasks()
    outline = replace(pipeline.outline(tasks), example=pipeline.example)
    parts = [
        f"{pipeline.name}: {pipeline.description}",
        _labelled("version", f"{pipeline.version}   a pipeline"),
        *(_labelled("" if i else "papers", paper) for i, paper in enumerate(_papers(pipeline))),
        _labelled("card", str(find_card("tasks", name))),
        _section("Stages", _chain(pipeline, tasks)),
        _section("Sequences", [f"{stage}: {line}" for stage in tasks for line in _wrapped_layout(tasks[stage])]),
        _section("Options of unitok generate", [_options(outline)]),
        _section(
            "Models",
            [
                "--model NAME carries out all stages, --stage-model STAGE=NAME one of them;",
                f"--stage-model DIR takes them from {', '.join(f'DIR/{stage}' for stage in tasks)}.",
            ],
        ),
        _section("Example", [_example(outline)] if outline.example or not outline.conditions else []),
    ]
    return "\n".join(part for part in parts if part)


def _chain(pipeline: Pipeline, tasks: Mapping[str, Task]) -> list[str]:
    """Draw the stages in columns: what each takes, its name and task, what it makes.

    text                    ─→ read: text_to_semantic      ─→ read.semantic
    read.semantic, [prompt] ─→ speak: semantic_to_acoustic ─→ speech
    """
    optional = {one.name for one in pipeline.conditions if one.optional}
    results = {str(origin): name for name, origin in pipeline.targets.items()}
    rows: list[tuple[str, str, str]] = []
    for stage in pipeline.stages:
        made = [f"{stage.name}.{target.name}" for target in tasks[stage.name].targets]
        used = [one for later in pipeline.stages for one in map(str, later.origins)]
        shown = [f"{one} = {results[one]}" if one in used and one in results else results.get(one, one) for one in made]
        rows.append((_taken(stage, optional), f"{stage.name}: {stage.task}{_in_pieces(stage)}", ", ".join(shown)))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"{taken:<{widths[0]}} ─→ {what:<{widths[1]}} ─→ {made}" for taken, what, made in rows]


def _taken(stage: Stage, optional: Iterable[str]) -> str:
    """Return what a stage takes: in brackets what may be left out, with a plus what is joined."""
    taken: list[str] = []
    for origins in [*stage.conditions.values(), *([(stage.lang,)] if stage.lang else [])]:
        shown = " + ".join(map(str, origins))
        taken.append(f"[{shown}]" if all(str(one) in optional for one in origins) else shown)
    return ", ".join(taken) or "–"


def _in_pieces(stage: Stage) -> str:
    return "".join(f", {seconds:g} s at a time" for seconds in stage.pieces.values())


def _papers(task: Task | Pipeline) -> list[str]:
    """Return what a card cites, each on a line, with its address where it is on arXiv."""
    cited = [part.strip() for part in re.split(r"[,;] (?![^(]*\))", task.source) if part.strip()]
    return [re.sub(r"\(arXiv:([\d.]+)\)", r"https://arxiv.org/abs/\1", paper) for paper in cited]


def _wrapped_layout(task: Task) -> list[str]:
    """Return the layout on one line, or its targets on a line of their own where it is too long."""
    layout = task.layout()
    return [layout] if len(layout) <= _width() - 2 else layout.replace(" → ", "\n→ ").splitlines()


def _labelled(label: str, text: str) -> str:
    return f"{label:<10}{text}"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join(["", title, *(f"  {line}" for line in lines)]) if lines else ""


def _field_lines(field: Field) -> list[str]:
    notes = [
        "may be left out" if field.optional else "",
        f"record field '{field.field}'",
        f"the first {field.max_seconds:g} s" if field.max_seconds is not None else "",
        f"as long as {field.same_length_as}" if field.same_length_as else "",
        "guided" if field.guided else "",
        ("several" if field.most is None else f"up to {field.most}") if field.repeated else "",
        f"in training {WHENCE[field.source]}" if field.source else "",
        f"loss weight {field.loss_weight:g}" if field.loss_weight != 1.0 else "",
    ]
    head = f"{field.name:<14}{field.kind:<10}"
    text = ", ".join(note for note in notes if note)
    return textwrap.wrap(text, _width() - 2, initial_indent=head, subsequent_indent=" " * len(head))


def _asked(task: Task) -> list[str]:
    return [line for text in task.instructions for line in textwrap.wrap(f'"{text}"', _width() - 2)]


def _settings(task: Task) -> str:
    """Return the settings that say something: temperature and filters, and what is not as it is by default."""
    usual = dataclasses.asdict(GenerateDefaults())
    settings: dict[str, Any] = task.to_card()["generate"]
    shown = () if settings["greedy"] else ("temperature", "top_k")
    settings = {key: value for key, value in settings.items() if key in shown or value != usual[key]}
    return "   ".join(f"{key} {'yes' if value is True else value}" for key, value in settings.items())


def _options(task: Task) -> str:
    options = []
    for field in task.conditions:
        option = f"--{field.name} {PLACEHOLDERS[field.kind]}{' …' if field.repeated else ''}"
        options.append(f"[{option}]" if field.optional else option)
    return " ".join(
        [f"--task {task.name}", *options, "[--lang LANG]", "[--out FILE]" if _makes_audio(task) else ""]
    ).strip()


def _example(task: Task) -> str:
    given = [
        f"--{name} {_quoted(one)}"
        for name, value in task.example.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return " ".join(
        [f"unitok generate --task {task.name}", *given, f"--out {task.name}.wav" if _makes_audio(task) else ""]
    ).strip()


def _makes_audio(task: Task) -> bool:
    return any(field.kind == "audio" for field in task.targets)


def _quoted(value: str) -> str:
    """Quote for a shell, with double quotes where they will do."""
    if shlex.quote(value) == value:
        return value
    return shlex.quote(value) if set(value) & set('"$`\\!') else f'"{value}"'


def _width() -> int:
    return min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
