"""`unitok inspect`: the token sequence of an input or of a stored record, printed as a line or drawn."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from unitok.cli.request import add_model_options, add_task_options, load_model, values
from unitok.errors import DataError

if TYPE_CHECKING:
    from unitok.data.records import RecordReader
    from unitok.sequence import TokenSequence
    from unitok.tasks import Task

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `unitok inspect`; those of the task come with `--task`."""
    add_model_options(parser)
    parser.add_argument("--records", metavar="SHARD", help="show a stored record: a shard, or a folder of them")
    parser.add_argument("--index", type=int, default=0, metavar="I", help="which record, from 0 (default: 0)")
    parser.add_argument("--plot", metavar="FILE", help="draw the sequence: its grid of slots over positions")
    parser.epilog = 'example: unitok inspect --task tts --text "The quick brown fox." --speech fox.wav --plot fox.png'
    add_task_options(parser, with_targets=True)


def run(args: argparse.Namespace) -> int:
    """Print the sequence; of a record without `--task`, its fields."""
    if args.records and args.card is None:
        if args.plot:
            raise DataError("--plot draws a sequence: say which task's with --task NAME.")
        print(_fields(_open(args)[args.index]))
        return 0
    if args.card is None:
        raise DataError("say whose sequence: --task NAME, --records SHARD, or both. 'unitok tasks' lists the tasks.")
    sequence = _stored_sequence(args, args.card) if args.records else _sequence(args, args.card)
    print(sequence)
    if args.plot:
        sequence.plot(args.plot)
        logger.info("drew %s", args.plot)
    return 0


def _sequence(args: argparse.Namespace, task: Task) -> TokenSequence:
    """Lay out what was given on the command line; without targets, the prompt."""
    given = values(args, task.conditions) | _targets(args, task)
    return load_model(args).sequence(task.name, lang=args.lang, **given)


def _targets(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    targets = values(args, task.targets)
    for name, answers in targets.items():
        if len(answers) > 1:
            raise DataError(f"--{name} is given {len(answers)} times, a sequence holds it once.")
    return {name: answers[0] for name, answers in targets.items()}


def _stored_sequence(args: argparse.Namespace, task: Task) -> TokenSequence:
    """Lay a record out as training does, with every optional condition it has."""
    import numpy as np

    from unitok.data.examples import TaskExamples

    given = values(args, task.fields)
    if given:
        raise DataError(f"--records takes all fields from the record: leave out --{', --'.join(given)}.")
    reader = _open(args)
    examples = TaskExamples(reader, task, load_model(args).builder)
    places = np.flatnonzero(examples.records == args.index)
    if not len(places):
        needed = ", ".join(field.field for field in task.fields if not field.optional)
        raise DataError(
            f"{args.records}: record {args.index} cannot be used for task '{task.name}', which needs {needed}."
        )
    return examples.sequence(int(places[0]), np.random.default_rng(0))


def _open(args: argparse.Namespace) -> RecordReader:
    from unitok.data.records import RecordReader

    reader = RecordReader(args.records)
    if not 0 <= args.index < len(reader):
        raise DataError(f"--index is {args.index}, {args.records} holds records 0 to {len(reader) - 1}.")
    return reader


def _fields(record: dict[str, Any]) -> str:
    width = max(map(len, record))
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in record.items())


def _shown(value: Any) -> str:
    if hasattr(value, "durations"):
        return f"[{len(value.ids)} runs of {int(value.durations.sum())} semantic frames]"
    return f"[{value.shape[0]} × {value.shape[1]} frames]" if hasattr(value, "shape") else str(value)
