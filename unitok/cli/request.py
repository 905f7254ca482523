"""What `generate` and `score` share: the options that a task's card gives rise to, the model, the progress bar.

Which options there are depends on `--task` and `--model`, so both are looked up before the rest is parsed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitok.checkpoint import find_checkpoint, read_tasks, shipped_checkpoints
from unitok.errors import CardError, GenerationError, suggest
from unitok.generation.stage_models import find_stage_models, tasks_of_stages
from unitok.tasks import Field, Pipeline, Task, find_pipeline, list_pipelines

if TYPE_CHECKING:
    from unitok.api import Model
    from unitok.generation.engine import OnStep, Progress

__all__ = [
    "PLACEHOLDERS", "add_model_options", "add_stage_options", "add_task_options", "load_model", "load_models",
    "find_asked_pipeline", "progress", "values",
]  # fmt: skip

logger = logging.getLogger("unitok")

PLACEHOLDERS = {"text": "TEXT", "label": "NAME", "audio": "FILE", "semantic": "FILE", "features": "TEXT|FILE"}
DEFAULT_MODEL = "mini"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model does what."""
    parser.add_argument("--task", metavar="NAME", help="what to do; --task NAME --help shows what that task takes")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME", help="'mini', or a checkpoint folder (default: mini)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, … (default: a GPU if there is one)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8", "int4"),
        help="weights in memory: fewer bits are faster; int8 loses nothing, int4 a little (default: as stored)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="fuse operations by torch.compile: minutes at first, then faster on a GPU (CPUs are faster without)",
    )
    parser.add_argument("--lang", metavar="CODE", help="language of the result (default: the model's, if it has one)")


def add_stage_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which models carry out the stages of a pipeline, and how."""
    parser.add_argument(
        "--stage-model",
        action="append",
        metavar="STAGE=NAME|DIR",
        help="of a pipeline: the model of one stage, or a folder with a model for each stage, named like it; "
        "--model carries out the others",
    )
    parser.add_argument(
        "--per-stage",
        action="append",
        metavar="STAGE.SETTING=X",
        help="of a pipeline: a setting of one stage, such as speak.temperature=0.7; several values with commas",
    )


def add_task_options(
    parser: argparse.ArgumentParser, *, with_targets: bool = False, with_pipelines: bool = False
) -> None:
    """Let the parser learn the options of a task as soon as it sees which one is asked for.

    Args:
        parser: Has the options of `add_model_options`, with pipelines those of `add_stage_options` too.
        with_targets: Add the task's targets too, each repeatable.
        with_pipelines: Take pipelines too, and leave one in `pipeline`, the folders of its stages in `stage_folders`.
    """
    parse = parser.parse_known_args

    def parse_known_args(args: Any = None, namespace: Any = None) -> Any:
        argv = sys.argv[1:] if args is None else list(args)
        name, model = _last(argv, "--task"), _last(argv, "--model") or DEFAULT_MODEL
        task, pipeline, folders = None, None, dict[str, Path]()
        if name is not None and with_pipelines:
            pipeline = find_asked_pipeline(model, name)
        if pipeline is not None:
            folders = find_stage_models(pipeline, _options(argv, "--stage-model"))
            task = pipeline.outline(tasks_of_stages(pipeline, folders, model))
        elif name is not None:
            task = _find_task(model, name)
        if task is not None:
            _add_fields(parser, task, with_targets)
        parsed, rest = parse(argv, namespace)
        parsed.card, parsed.pipeline, parsed.stage_folders = task, pipeline, folders
        return parsed, rest

    parser.parse_known_args = parse_known_args  # type: ignore[method-assign]


def values(args: argparse.Namespace, fields: Sequence[Field]) -> dict[str, Any]:
    """Return what was given for some fields of the task, by name."""
    given = {field.name: getattr(args, _destination(field), None) for field in fields}
    return {name: value for name, value in given.items() if value is not None}


def load_model(args: argparse.Namespace, name: str | Path | None = None) -> Model:
    """Load the model that was asked for, or the one named (this imports torch)."""
    from unitok.api import load
    from unitok.model.compact import weight_type

    model = load(name or args.model, device=args.device, dtype=args.dtype)
    if args.compile:
        model.compile()
    logger.debug("%s: weights %s, kernels %s", model.name, weight_type(model.lm), model.engine.kernels)
    return model


def load_models(args: argparse.Namespace) -> tuple[Model, dict[str, Model]]:
    """Load the model that was asked for, and those of a pipeline's stages, by stage.

    Where all stages have a model of their own, the first one's stands for the one asked for.

    Raises:
        GenerationError: If models are given for stages where there is no pipeline.
    """
    if args.stage_model and args.pipeline is None:
        raise GenerationError("--stage-model is for pipelines: name one with --task. 'unitok tasks' lists them.")
    folders: dict[str, Path] = args.stage_folders
    loaded = {folder: load_model(args, folder) for folder in dict.fromkeys(folders.values())}
    stages = {stage: loaded[folder] for stage, folder in folders.items()}
    if args.pipeline is not None and stages.keys() >= set(args.pipeline.stage_names):
        return stages[args.pipeline.stage_names[0]], stages
    return load_model(args), stages


@contextmanager
def progress(args: argparse.Namespace, label: str) -> Iterator[OnStep | None]:
    """Draw a progress bar on stderr while requests are carried out, if that is a terminal."""
    if args.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("", total=None)

        def on_step(now: Progress) -> None:
            bar.update(line, completed=now.n_done, total=now.n_requests, description=f"position {now.n_positions}")

        yield on_step


def find_asked_pipeline(model: str, name: str) -> Pipeline | None:
    """Return the pipeline of that name; None where there is none, or the model has a task of that name."""
    pipeline = find_pipeline(name)
    if pipeline is None or (model in shipped_checkpoints() or Path(model).is_dir()) and name in _tasks(model):
        return None
    return pipeline


def _tasks(model: str) -> dict[str, Task]:
    return read_tasks(find_checkpoint(model))


def _find_task(model: str, name: str) -> Task:
    if model == DEFAULT_MODEL and model not in shipped_checkpoints():
        return Task.load(name)  # enough to show the options; a run will say that the model is missing
    tasks = _tasks(model)
    if name not in tasks and name in list_pipelines():
        raise GenerationError(
            f"--task: '{name}' is a pipeline, which only 'unitok generate' and 'unitok evaluate' carry out. "
            "Name one of its tasks."
        )
    if name not in tasks:
        raise GenerationError(
            f"--task: model '{model}' was not trained for task '{name}'.{suggest(name, tasks)} "
            f"It can do: {', '.join(tasks)}."
        )
    return tasks[name]


def _add_fields(parser: argparse.ArgumentParser, task: Task, with_targets: bool) -> None:
    group = parser.add_argument_group(f"task {task.name}", task.description)
    for field in task.fields if with_targets else task.conditions:
        if f"--{field.name}" in parser._option_string_actions:
            raise CardError(
                f"task '{task.name}' has a field '{field.name}', which is an option of {parser.prog} already. "
                "Rename the field in its card, or use the task from Python."
            )
        group.add_argument(
            f"--{field.name}",
            dest=_destination(field),
            metavar=PLACEHOLDERS[field.kind],
            action="append" if field in task.targets or field.repeated else "store",
            help=_described(field, is_target=field in task.targets),
        )


def _destination(field: Field) -> str:
    # A prefix keeps a condition called 'plot' or 'card' from meeting our own names.
    return f"field_{field.name}"


def _described(field: Field, is_target: bool) -> str:
    kind = field.takes if field.kind == "features" else field.kind
    what = {
        "text": "text",
        "label": "a name",
        "audio": "audio file",
        "semantic": "audio file, or ids (.npy, .json, .txt)",
    }[kind]
    if is_target:
        return f"{what}: a candidate; repeat it for each"
    if field.max_seconds is not None:
        what += f", its first {field.max_seconds:g} s are used"
    if field.repeated:
        what += f"; repeat it for more{'' if field.most is None else f', up to {field.most}'}"
    return f"{what} ({'optional' if field.optional else 'needed'})"


def _last(argv: Sequence[str], name: str) -> str | None:
    """Return the last value given for an option, before anything is parsed."""
    return next(reversed(_options(argv, name)), None)


def _options(argv: Sequence[str], name: str) -> list[str]:
    """Return all values given for an option, before anything is parsed."""
    found: list[str] = []
    for i, word in enumerate(argv):
        if word == name and i + 1 < len(argv):
            found.append(argv[i + 1])
        elif word.startswith(f"{name}="):
            found.append(word.split("=", 1)[1])
    return found
