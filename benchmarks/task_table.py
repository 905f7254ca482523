"""Measure every task of a model on held-out items, beside what something trivial would get: one table.

    python benchmarks/task_table.py --model mini --corpora out/more/corpus/held_out --out out/tasks

`--corpora` holds folders that `unitok synth` made; each task takes the first that has its fields. Writes a report for
each task (`unitok evaluate`), `table.json` and `table.md`; prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import unitok
from unitok.cli.synth import CORPORA
from unitok.errors import UnitokError
from unitok.evaluation import evaluate
from unitok.evaluation.baselines import baselines_of
from unitok.evaluation.items import read_items
from unitok.evaluation.results import Figure
from unitok.evaluation.statistics import Estimate
from unitok.tasks import Task

TRIVIAL = ("copy", "majority", "shuffled")
CEILINGS = ("codec", "reference")
DECIDING_METRIC = {"tts": "wer", "s2st": "asr_bleu", "tse": "stoi", "se": "stoi", "vc": "wer"}
"""Which metric decides where it is not the card's first."""


@dataclass(frozen=True)
class Row:
    """One metric of one task."""

    task: str
    metric: str
    items: int
    value: str
    trivial: str
    """The best of what something trivial gets."""
    ceiling: str
    beats: bool | None
    """Do the intervals say that the model is better than the trivial? None: nothing to compare with."""


def main() -> None:
    """Parse the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="checkpoint: a name or a folder")
    parser.add_argument("--corpora", type=Path, required=True, help="folder of folders that `unitok synth` made")
    parser.add_argument("--tasks", nargs="+", help="default: all of the model that find a corpus")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--best-of", type=int, help="candidates of each speech (default: as the cards say)")
    parser.add_argument("--out", type=Path, default=Path("out/tasks"))
    args = parser.parse_args()
    model = unitok.load(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in args.tasks or model.tasks:
        manifest = _manifest(model.task(name), args.corpora)
        if manifest is None:
            print(f"{name}: no corpus in {args.corpora} has its fields", flush=True)
            continue
        try:
            rows += measure(model, model.task(name), manifest, args)
        except UnitokError as error:
            print(f"{name}: {error}", flush=True)
        (args.out / "table.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        (args.out / "table.md").write_text(table(rows))
    print(table(rows))


def measure(model: unitok.Model, task: Task, manifest: Path, args: argparse.Namespace) -> list[Row]:
    """Measure the metrics of a task's card."""
    is_heard = any(target.kind == "audio" for target in task.targets)
    baselines = [*baselines_of(task), "shuffled", "codec" if is_heard else "majority"]
    found = evaluate(
        model, task.name, read_items(task, manifest, args.items), out=args.out / task.name, batch_size=args.batch_size,
        best_of=args.best_of, baselines=baselines,
    )  # fmt: skip
    rows = [_row(task.name, name, figure) for name, figure in found.figures.items()]
    for row in rows:
        print(f"{row.task} {row.metric}: {row.value} ({row.trivial})", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows in Markdown, and how many tasks beat what is trivial by the metric that decides."""
    lines = ["| task | metric | model | trivial | ceiling | better |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        better = {True: "yes", False: "no", None: ""}[row.beats]
        lines.append(f"| `{row.task}` | {row.metric} | {row.value} | {row.trivial} | {row.ceiling} | {better} |")
    decided = _deciding(rows)
    lines.append(
        f"\n{sum(row.beats or False for row in decided.values())} of {len(decided)} tasks beat what is trivial."
    )
    return "\n".join(lines) + "\n"


def _deciding(rows: list[Row]) -> dict[str, Row]:
    decided: dict[str, Row] = {}
    for row in rows:
        if row.task not in decided or DECIDING_METRIC.get(row.task) == row.metric:
            decided[row.task] = row
    return decided


def _row(task: str, name: str, figure: Figure) -> Row:
    trivial = {other: figure.baselines[other] for other in TRIVIAL if other in figure.baselines}
    sign = {"higher": 1.0, "lower": -1.0}.get(figure.metric.better)
    best = max(trivial, key=lambda other: (sign or 1.0) * trivial[other].value, default=None)
    beats = None if best is None or sign is None else _beats(figure.estimate, trivial[best], sign)
    return Row(
        task, name, figure.n_items, str(figure.estimate),
        "" if best is None else f"{best} {trivial[best]}",
        "; ".join(f"{other} {figure.baselines[other]}" for other in CEILINGS if other in figure.baselines),
        beats,
    )  # fmt: skip


def _beats(estimate: Estimate, trivial: Estimate, sign: float) -> bool:
    return estimate.low > trivial.high if sign > 0 else estimate.high < trivial.low


def _manifest(task: Task, corpora: Path) -> Path | None:
    """Return the manifest of the first corpus that has the fields of a task."""
    takes_audio = any(field.kind in ("audio", "semantic") or field.takes == "audio" for field in task.fields)
    kinds = {kind.maker.rpartition(".")[2]: kind.tasks.split() for kind in CORPORA.values()}
    for settings in sorted(corpora.glob("*/corpus.json")):
        made: Mapping[str, Any] = json.loads(settings.read_text())
        if task.name in kinds.get(made["corpus"], ()) and not (takes_audio and made.get("text_only")):
            return settings.with_name("manifest.jsonl")
    return None


if __name__ == "__main__":
    main()
