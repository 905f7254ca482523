"""`unitok evaluate`: generate what a manifest asks for, measure it, write a report with the worst items first."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitok.cli.generate import add_generation_options, settings
from unitok.cli.request import add_model_options, add_stage_options, find_asked_pipeline, load_models, progress
from unitok.errors import GenerationError, UnitokError

if TYPE_CHECKING:
    from unitok.evaluation.results import Evaluation

__all__ = ["add_arguments", "run"]

logger = logging.getLogger("unitok")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `unitok evaluate`."""
    add_model_options(parser)
    add_stage_options(parser)
    parser.add_argument("--manifest", metavar="FILE", help="JSON Lines: conditions and references of the task")
    parser.add_argument("--out", metavar="DIR", help="folder of the report; an evaluation that was stopped goes on")
    parser.add_argument("--generated", metavar="FILE", help="measure these results instead of generating")
    parser.add_argument("--items", type=int, metavar="N", help="only the first N rows")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="rows at once (default: 16)")
    parser.add_argument("--json", action="store_true", help="print results.json instead of a table")
    what = parser.add_argument_group("what to measure")
    what.add_argument("--metrics", metavar="A,B", help="default: those of the task's card; wer:TARGET names a target")
    what.add_argument("--list-metrics", action="store_true", help="list the metrics, and stop")
    what.add_argument(
        "--baseline",
        nargs="*",
        metavar="NAME",
        help="measure these too: reference, codec, copy, majority, shuffled; none with no NAME "
        "(default: what says something and costs little)",
    )
    what.add_argument(
        "--recognizer",
        default="pocketsphinx",
        metavar="NAME",
        help="hears speech: pocketsphinx (English), own (the model's asr), transformers:MODEL (default: pocketsphinx)",
    )
    what.add_argument(
        "--embedder",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="speaker, sound or caption=NAME: voice_statistics, log_mel_statistics, xvector, clap, encoder:CARD",
    )
    add_generation_options(parser)
    parser.epilog = "example: unitok evaluate --task tts --manifest items.jsonl --out report"


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0, or 1 if nothing was made of some items."""
    from unitok.evaluation.metric import list_metrics

    if args.list_metrics:
        for name, metric in list_metrics().items():
            print(f"{name:<20}{metric.takes:<12}{metric.better:<8}{metric.description}")
        return 0
    for name in ("task", "manifest", "out"):
        if getattr(args, name) is None:
            raise GenerationError(f"--{name} is missing. Run 'unitok evaluate --help' to see what is needed.")
    evaluation = _evaluated(args)
    if args.json:
        print((Path(args.out) / "results.json").read_text(encoding="utf-8"), end="")
    else:
        print(_table(evaluation))
    logger.info("%s", Path(args.out) / "index.html")
    return 1 if evaluation.n_failed else 0


def _evaluated(args: argparse.Namespace) -> Evaluation:
    from unitok.checkpoint import find_checkpoint, read_tasks
    from unitok.evaluation.items import read_items
    from unitok.evaluation.metric import find_metric
    from unitok.evaluation.runner import evaluate
    from unitok.generation.stage_models import find_stage_models, tasks_of_stages
    from unitok.tasks import Task

    names = [name.strip() for name in args.metrics.split(",") if name.strip()] if args.metrics else None
    for name in names or ():
        find_metric(name)
    tasks = read_tasks(find_checkpoint(args.model))
    args.pipeline, args.stage_folders = find_asked_pipeline(args.model, args.task), {}
    if args.pipeline is not None and args.generated is not None:
        card = args.pipeline.outline()
    elif args.pipeline is not None:
        args.stage_folders = find_stage_models(args.pipeline, args.stage_model or ())
        card = args.pipeline.outline(tasks_of_stages(args.pipeline, args.stage_folders, args.model))
    else:  # what was generated elsewhere may be of a task that this model does not know
        card = tasks[args.task] if args.task in tasks else Task.load(args.task)
    items = read_items(card, args.manifest, args.items, args.lang)
    needed = args.generated is None or (args.task in tasks and _needs_model(args, names or card.metrics))
    model, stages = load_models(args) if needed else (None, {})
    with progress(args, "generating") as on_step:
        return evaluate(
            model,
            card if model is None and args.pipeline is None else args.task,
            items,
            out=args.out,
            generated=args.generated,
            stage_models=stages,
            on_step=on_step,
            metrics=names,
            settings={name: value for name, value in settings(args).items() if name not in ("lang", "seed")},
            seed=args.seed,
            batch_size=args.batch_size,
            best_of=args.best_of,
            baselines=args.baseline,
            recognizer=args.recognizer,
            embedders=_embedders(args.embedder),
        )


def _needs_model(args: argparse.Namespace, names: Sequence[str]) -> bool:
    """Does measuring what was generated elsewhere take the model?"""
    from unitok.evaluation.metric import find_metric

    takes = {find_metric(name).takes for name in names}
    return (
        bool(takes & {"likelihood", "scores"}) or args.recognizer.startswith("own") or "codec" in (args.baseline or ())
    )


def _embedders(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        role, sign, name = one.partition("=")
        if not sign or not name:
            raise UnitokError(f"--embedder: is '{one}', allowed: ROLE=NAME, such as speaker=xvector.")
        found[role] = name
    return found


def _table(evaluation: Evaluation) -> str:
    """Return the figures as lines: metric, figure with interval, baselines, who measured."""
    rows = []
    for name, figure in evaluation.figures.items():
        beside = "  ".join(f"{other} {estimate}" for other, estimate in figure.baselines.items())
        rows.append((name, str(figure.estimate), beside, f"by {figure.by}" if figure.by else ""))
    widths = [max((len(row[i]) for row in rows), default=0) + 2 for i in range(3)]
    return "\n".join("".join(c.ljust(w) for c, w in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows)
