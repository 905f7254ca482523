"""`unitok generate --manifest`: many rows, side by side; one that fails is reported and the rest is written."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from unitok.cli.generate import describe, in_detail, remarks
from unitok.cli.request import load_models, progress, values
from unitok.data.manifest import manifest_lines, resolve_path
from unitok.errors import CardError, DataError, GenerationError, UnitokError
from unitok.tasks import Field, find_pipeline

if TYPE_CHECKING:
    from unitok.api import Generation, Model
    from unitok.generation.engine import GenerationRequest, OnStep, Progress
    from unitok.generation.pipelines import PipelineRequest

__all__ = ["RESULTS", "run_manifest"]

logger = logging.getLogger("unitok")

RESULTS = "results.jsonl"
SAFE_ID = re.compile(r"[\w][\w .+@=-]{0,127}")
"""An id becomes the name of a file: no separators, no leading dot, not too long."""


@dataclass
class _Row:
    """One row of the manifest, and what became of it."""

    line: int
    id: str | None = None
    task: str | None = None
    request: GenerationRequest | PipelineRequest | None = None
    generation: Generation | None = None
    error: str | None = None


def run_manifest(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Carry out a manifest; what a row says takes the place of what the command line says.

    Args:
        args: Of `unitok generate`.
        settings: Keyword arguments of `Model.request` for every row.

    Returns:
        0, or 1 if any row failed.
    """
    manifest = Path(args.manifest)
    if args.out is None:
        raise GenerationError("--manifest writes into a folder: name it with --out DIR.")
    if args.plot:
        raise GenerationError("--plot is for one input; with --manifest leave it out.")
    if args.batch_size < 1 or (args.best_of is not None and args.best_of < 1):
        raise GenerationError("--batch-size and --best-of must be 1 or more.")
    rows = _read(manifest, args.task)
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise GenerationError(f"--out: '{out}' is a file, --manifest needs a folder.")
    given = values(args, args.card.conditions) if args.card else {}
    model, stages = load_models(args)
    out.mkdir(parents=True, exist_ok=True)
    n_failed = 0
    with progress(args, "generating") as on_step, (out / RESULTS).open("w", encoding="utf-8") as results:
        for start in range(0, len(rows), args.batch_size):
            batch = rows[start : start + args.batch_size]
            for row, content in batch:
                own = _with_paths(content, _conditions(row.task or "", model), manifest)
                shared = {**given, "stage_models": stages or None} if row.task == args.task else {}
                _prepare(row, {**shared, **own}, model, settings)
            _generate([row for row, _ in batch], model, args, _shifted(on_step, start, len(rows)))
            for row, _ in batch:
                n_failed += _write(row, out, results, model, print_too=args.json)
    logger.info("%s: %d written, %d failed", out / RESULTS, len(rows) - n_failed, n_failed)
    return 1 if n_failed else 0


def _read(manifest: Path, task: str | None) -> list[tuple[_Row, dict[str, Any]]]:
    """Return the rows; one that is wrong carries its error."""
    rows: list[tuple[_Row, dict[str, Any]]] = []
    taken: set[str] = set()
    for number, line in enumerate(manifest_lines(manifest), start=1):
        if not line.strip():
            continue
        row, content = _Row(number), {}
        rows.append((row, content))
        try:
            content.update(_parsed(line))
            row.task = content.pop("task", task)
            row.id = _checked_id(content.pop("id", None), taken)
            if row.task is None:
                raise DataError('no task. Add "task": "tts", or give --task.')
        except UnitokError as error:
            row.error = f"{manifest}, line {number}: {error}"
    if not rows:
        raise DataError(f"{manifest} has no rows. Write one JSON object a line.")
    return rows


def _parsed(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON ({error.msg}, column {error.colno}).") from error
    if not isinstance(content, dict):
        raise DataError(f'a row is an object such as {{"id": "a", "text": "Hi."}}, got {line.strip()[:40]}.')
    return content


def _checked_id(given: Any, taken: set[str]) -> str:
    """Return the id of a row if it can be the name of a file of its own."""
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not SAFE_ID.fullmatch(given):
        got = "missing" if given is None else json.dumps(given, ensure_ascii=False)[:80]
        raise DataError(
            f"id is {got}. It names a file: letters, digits, '_', '-', '.', spaces, no leading dot, at most 128 long."
        )
    if given.casefold() in taken:  # some file systems do not tell A from a
        raise DataError(f"id '{given}' is taken by an earlier row.")
    taken.add(given.casefold())
    return given


def _conditions(task: str, model: Model) -> Sequence[Field]:
    """Return the conditions of a task or of a pipeline; none where there is neither, or its card has mistakes."""
    if task in model.tasks:
        return model.tasks[task].conditions
    try:
        pipeline = find_pipeline(task)
    except CardError:  # said when the row is prepared
        return ()
    return pipeline.conditions if pipeline else ()


def _with_paths(content: dict[str, Any], conditions: Sequence[Field], manifest: Path) -> dict[str, Any]:
    """Return a row whose paths, of audio and of ids, start where the manifest lies."""
    audio = {field.name for field in conditions if field.is_timed}
    return {name: _resolved(value, manifest) if name in audio else value for name, value in content.items()}


def _resolved(value: Any, manifest: Path) -> Any:
    """Return a path, or each of a list, as it is meant in the manifest; anything else as it is."""
    if isinstance(value, list):
        return [_resolved(one, manifest) for one in cast("list[Any]", value)]
    return resolve_path(value, manifest) if isinstance(value, str) else value


def _prepare(row: _Row, conditions: dict[str, Any], model: Model, settings: dict[str, Any]) -> None:
    """Turn a row into a request, or note why that is not possible."""
    if row.error is not None or row.task is None:
        return
    try:
        row.request = model.request(row.task, **{**settings, **conditions})
    except (UnitokError, OSError) as error:
        row.error = str(error)


def _generate(rows: list[_Row], model: Model, args: argparse.Namespace, on_step: OnStep | None) -> None:
    """Run all requests of a batch; a row that fails notes why."""
    from unitok.generation.each import run_each

    ready = [(row, row.request) for row in rows if row.request is not None]
    options = {"batch_size": args.batch_size, "best_of": args.best_of, "hear": in_detail(args), "on_step": on_step}
    for (row, _), result in zip(ready, run_each(model, [request for _, request in ready], **options), strict=True):
        if isinstance(result, UnitokError):
            row.error = str(result)
        else:
            row.generation = result


def _write(row: _Row, out: Path, results: TextIO, model: Model, print_too: bool) -> int:
    """Write the files of a row and its line in the results; return 1 if the row failed."""
    head = {"id": row.id, "task": row.task}
    if row.generation is not None:
        try:
            files = row.generation.write(out / f"{row.id}.wav")
            names = {name: Path(file).name for name, file in files.items()}
            line = {**head, **describe(row.generation, names)}
            for remark in remarks(row.generation):
                logger.debug("%s: %s", row.id, remark)
        except (UnitokError, OSError) as error:
            row.error = str(error)
    if row.error is not None:
        line = {"id": row.id, **({} if row.id is not None else {"line": row.line}), "error": row.error}
        logger.warning("failed: %s: %s", row.id if row.id is not None else f"line {row.line}", row.error)
    text = json.dumps(line, ensure_ascii=False)
    results.write(f"{text}\n")
    results.flush()
    if print_too:
        print(text)
    return int(row.error is not None)


def _shifted(on_step: OnStep | None, n_before: int, n_rows: int) -> OnStep | None:
    """Return a callback that counts the rows of earlier batches as done."""
    if on_step is None:
        return None
    return lambda now: on_step(_counted(now, n_before, n_rows))


def _counted(now: Progress, n_before: int, n_rows: int) -> Progress:
    return now._replace(n_done=n_before + now.n_done, n_requests=n_rows)
