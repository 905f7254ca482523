"""`unitok score`: how likely the model finds each of several answers, to classify, to rank, or to retrieve."""

from __future__ import annotations

import argparse
import json

from unitok.cli.request import add_model_options, add_task_options, load_model, values
from unitok.errors import GenerationError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `unitok score`; those of the task come with `--task`."""
    add_model_options(parser)
    parser.add_argument("--mean", action="store_true", help="per id instead of the sum, to compare different lengths")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = 'example: unitok score --task asr --audio x.wav --text "the fox" --text "the box"'
    add_task_options(parser, with_targets=True)


def run(args: argparse.Namespace) -> int:
    """Print one line per candidate, in the order given: log-probability, tab, candidate."""
    task = args.card
    if task is None:
        raise GenerationError("say what to score: --task NAME. 'unitok tasks' lists the tasks.")
    answers = values(args, task.targets)
    for target in task.targets:
        if target.name not in answers:
            raise GenerationError(f"task '{task.name}': give its candidates with --{target.name}, once for each.")
    model = load_model(args)
    scores = model.score(task.name, lang=args.lang, mean=args.mean, **values(args, task.conditions), **answers).tolist()
    candidates = list(zip(*answers.values(), strict=True))
    if args.json:
        rows = [
            {**dict(zip(answers, candidate, strict=True)), "log_probability": score}
            for candidate, score in zip(candidates, scores, strict=True)
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        print(json.dumps({"task": task.name, "scores": rows, "best": best}, ensure_ascii=False))
    else:
        for candidate, score in zip(candidates, scores, strict=True):
            print("\t".join([f"{score:.4f}", *candidate]))
    return 0
