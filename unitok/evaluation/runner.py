"""Generate what a manifest asks for, measure it by the metrics of the task, beside baselines.

```python
from unitok.evaluation import evaluate
found = evaluate(unitok.load(), "tts", "items.jsonl", out="report")
print(found.figures["wer"].estimate)          # 12.3 % [8.1, 17.0]
found.figures["wer"].baselines["reference"]   # what the same recogniser makes of the references
found.items[0].values                         # of the first item
```
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitok.errors import (
    DataError,
    GenerationError,
    MissingDependencyError,
    MissingWeightsError,
    UnitokError,
)
from unitok.evaluation.baselines import baseline, baselines_of, check_baselines
from unitok.evaluation.items import Item, items_of, read_items
from unitok.evaluation.labels import split_labels
from unitok.evaluation.likelihood import foreseen
from unitok.evaluation.metric import Metric, NotMeasurableError, find_metric
from unitok.evaluation.outcomes import Measured, Outcome, check_metric, observe
from unitok.evaluation.results import Evaluation, Figure, MeasuredItem, Request
from unitok.evaluation.retrieval import FITS, check_ranked, rank_among
from unitok.evaluation.store import Store, made_of, read_generated
from unitok.evaluation.tools import Tools
from unitok.generation.pipelines import stages_of, tasks_of
from unitok.tasks import Task, find_pipeline

if TYPE_CHECKING:
    from unitok.api import Model

__all__ = ["evaluate"]

logger = logging.getLogger("unitok")

OF_ONE_MODEL = ("likelihood", "scores", "rank")
"""What metrics take that a pipeline has not."""


def evaluate(
    model: Model | None,
    task: str | Task,
    items: str | Path | Sequence[Item] | Sequence[Mapping[str, Any]],
    *,
    out: str | Path | None = None,
    generated: str | Path | None = None,
    stage_models: Mapping[str, Model] | None = None,
    on_step: Callable[..., None] | None = None,
    **request: Any,
) -> Evaluation:
    """Measure a model on a task.

    Args:
        model: The model; None where `generated` has what was made, which leaves out metrics of likelihood.
        task: Name of one of the model's tasks, or of a pipeline; or a task.
        items: A manifest, its rows, or items (`unitok.evaluation.items`).
        out: Folder for the report, and for what was generated so far: an evaluation that was stopped goes on there.
        generated: Results of `unitok generate --manifest`, or of an evaluation, to measure instead of generating.
        stage_models: Of a pipeline: the models of some of its stages, by name; `model` carries out the others.
        on_step: Called while generating, see `Model.run`.
        **request: Fields of `Request`: `metrics`, `settings`, `seed`, `batch_size`, `best_of`, `baselines`,
            `recognizer`, `embedders`.

    Raises:
        DataError: If items, metrics or baselines are not usable.
        NotMeasurableError: If a metric that was named cannot be measured.
        GenerationError: If the model has no such task, or there is neither a model nor `generated`.
    """
    how = Request(**request)
    if how.batch_size < 1 or (how.best_of is not None and how.best_of < 1):
        raise GenerationError("batch_size and best_of must be 1 or more.")
    card, stages = _task(model, task, generated, stage_models)
    judge = model if stages is None else None
    names, skipped = _usable(how.metrics, card, is_pipeline=stages is not None)
    beside = baselines_of(card) if how.baselines is None else check_baselines(how.baselines, model)
    tools = Tools(how.recognizer, how.embedders, model)
    skipped |= _tried(how.metrics, names, card, tools)
    found = _items(card, items)
    settings = _settings(model, card, found, how, generated, stages)
    results = None if generated is None else _read(card, found, Path(generated))
    store = Store(out, settings) if out is not None else None
    if results is not None:
        made, errors = results
    else:
        assert model is not None, "checked by _task"
        made, errors = _generate(model, card, found, how, store, on_step, stages)
    outcomes = _outcomes(card, found, made, errors, judge, [find_metric(name) for name in names])
    figures, values = _measure(names, card, outcomes, tools, how, beside, model, skipped)
    shown = _shown(found, made, errors, outcomes, values)
    evaluation = Evaluation(card, figures, shown, skipped, settings)
    if store is not None:
        from unitok.evaluation.report import write_report

        write_report(evaluation, store.folder)
    return evaluation


def _shown(
    items: Sequence[Item],
    made: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, str],
    outcomes: Sequence[Outcome],
    values: Mapping[str, Mapping[str, float]],
) -> list[MeasuredItem]:
    heard = {outcome.id: outcome.heard for outcome in outcomes}
    return [
        MeasuredItem(
            item,
            made.get(item.id, {}),
            {name: those[item.id] for name, those in values.items() if item.id in those},
            heard.get(item.id, {}),
            errors.get(item.id, ""),
        )
        for item in items
    ]


def _task(
    model: Model | None, task: str | Task, generated: str | Path | None, stage_models: Mapping[str, Model] | None
) -> tuple[Task, dict[str, Model] | None]:
    """Return the task; of a pipeline its outline, and the models of its stages."""
    if model is None and generated is None:
        raise GenerationError("evaluate needs a model, or what was generated already.")
    pipeline = find_pipeline(task) if isinstance(task, str) and (model is None or task not in model.tasks) else None
    if pipeline is not None and model is None:
        return pipeline.outline(), {}
    if pipeline is not None and model is not None:
        stages = stages_of(pipeline, model, stage_models)
        return pipeline.outline(tasks_of(pipeline, stages)), stages
    if stage_models:
        name = task if isinstance(task, str) else task.name
        raise GenerationError(f"'{name}' is no pipeline: leave stage_models out.")
    if isinstance(task, Task):
        return task, None
    return (Task.load(task) if model is None else model.task(task)), None


def _usable(named: Sequence[str] | None, task: Task, is_pipeline: bool) -> tuple[list[str], dict[str, str]]:
    """Return the metrics that fit the task, and why others do not; of named ones each has to."""
    names: list[str] = []
    skipped: dict[str, str] = {}
    for name in dict.fromkeys(task.metrics if named is None else named):
        try:
            check_metric(name, task)
            if is_pipeline and find_metric(name).takes in OF_ONE_MODEL:
                raise NotMeasurableError(
                    f"metric '{name}' takes likelihoods of one model; '{task.name}' is a pipeline. Evaluate its tasks."
                )
            names.append(name)
        except NotMeasurableError as error:
            if named is not None:
                raise
            skipped[name] = str(error)
    if not names:
        raise DataError(
            f"task '{task.name}': its card names no metric that fits it ({', '.join(task.metrics) or 'none'}). "
            "Name some with --metrics."
        )
    return names, skipped


def _tried(named: Sequence[str] | None, names: list[str], task: Task, tools: Tools) -> dict[str, str]:
    """Load what the metrics need before anything is generated; take those out of `names` whose tools are not here."""
    skipped: dict[str, str] = {}
    for name in list(names):
        metric, target = find_metric(name), check_metric(name, task)
        try:
            if metric.uses:
                tools.embedder(metric.uses)
            if metric.takes in ("texts", "heard") and target is not None and target.kind == "audio":
                _ = tools.recognizer
        except (MissingDependencyError, MissingWeightsError) as error:
            if named is not None:
                raise
            skipped[name] = str(error)
            names.remove(name)
    return skipped


def _items(task: Task, items: Any) -> list[Item]:
    if isinstance(items, str | Path):
        return read_items(task, items)
    return list(items) if items and isinstance(items[0], Item) else items_of(task, items)


def _settings(
    model: Model | None,
    task: Task,
    items: Sequence[Item],
    how: Request,
    generated: str | Path | None,
    stages: Mapping[str, Model] | None,
) -> dict[str, Any]:
    """Return what decides the figures."""
    from unitok.tokenizers.weights import fingerprint

    digest = fingerprint("items", {"rows": [[one.id, {k: str(v) for k, v in one.row.items()}] for one in items]}, b"")
    said: dict[str, Any] = {"task": task.name, "items": len(items), "manifest": digest}
    if stages:
        prints = {id(one): fingerprint("lm", {}, one.lm.state_dict()) for one in stages.values()}
        said["stages"] = {name: {"model": one.name, "weights": prints[id(one)]} for name, one in stages.items()}
    elif model is not None:
        said |= {"model": model.name, "weights": fingerprint("lm", {}, model.lm.state_dict())}
    if generated is not None:
        return {**said, "generated": str(generated)}
    chosen = {} if how.best_of is None else {"best_of": how.best_of}
    return {**said, "seed": how.seed, "generation": {**task.to_card()["generate"], **how.settings, **chosen}}


def _generate(
    model: Model,
    task: Task,
    items: Sequence[Item],
    how: Request,
    store: Store | None,
    on_step: Any,
    stages: Mapping[str, Model] | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what was made of each item, by id, and why of others nothing was."""
    from unitok.generation.each import run_each

    made: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    rows = store.read() if store else {}
    if rows:
        logger.info("%d of %d items are there already", len(rows), len(items))
    missing = [(place, item) for place, item in enumerate(items) if item.id not in rows]
    for start in range(0, len(missing), how.batch_size):
        batch = missing[start : start + how.batch_size]
        requests = [_request(model, task, item, how, stages) for _, item in batch]
        ready = [request for request in requests if not isinstance(request, Exception)]
        results = iter(run_each(model, ready, batch_size=how.batch_size, best_of=how.best_of, on_step=on_step))
        for (place, item), request in zip(batch, requests, strict=True):
            result = request if isinstance(request, Exception) else next(results)
            if store is not None:
                rows[item.id] = store.add(place, item.id, task.name, result)
            elif isinstance(result, Exception):
                errors[item.id] = str(result)
            else:
                made[item.id] = dict(result.values)
    for id, row in rows.items():
        if "error" in row:
            errors[id] = row["error"]
        elif store is not None:
            made[id] = made_of(row, task.targets, store.folder)
    for id, error in errors.items():
        logger.warning("failed: %s: %s", id, error)
    return made, errors


def _request(model: Model, task: Task, item: Item, how: Request, stages: Mapping[str, Model] | None) -> Any:
    try:
        settings = {"lang": item.lang, "seed": how.seed, "stage_models": stages, **how.settings}
        return model.request(task.name, **settings, **item.conditions)
    except (UnitokError, OSError) as error:
        return error


def _read(task: Task, items: Sequence[Item], file: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what a file of results holds for each item, and why of others it holds nothing."""
    rows = read_generated(file)
    made, errors = {}, {}
    for item in items:
        row = rows.get(item.id, {"error": f"{file.name} has no row of this id"})
        values = {} if "error" in row else made_of(row, task.targets, file.parent)
        if values or "scores" in row:
            made[item.id] = {**values, **({"scores": row["scores"]} if "scores" in row else {})}
        else:
            errors[item.id] = row.get("error", f"{file.name} has none of {', '.join(t.name for t in task.targets)}")
    for id, error in errors.items():
        logger.warning("failed: %s: %s", id, error)
    if not made:
        raise DataError(f"{file}: holds nothing for any item ({next(iter(errors.values()))}).")
    return made, errors


def _outcomes(
    task: Task,
    items: Sequence[Item],
    made: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, str],
    model: Model | None,
    metrics: Sequence[Metric],
) -> list[Outcome]:
    takes = {metric.takes for metric in metrics}
    labels = _labels(task, items) if "scores" in takes else []
    outcomes = []
    for item in items:
        if item.id in errors:
            continue
        values = dict(made[item.id])
        outcome = Outcome({**item.conditions, **item.reference}, values, item.lang, item.id, item.row)
        outcome.scores = values.pop("scores", None)
        try:
            if model is not None and "likelihood" in takes and all(t.name in item.reference for t in task.targets):
                outcome.likelihood = foreseen(model, task.name, {**item.conditions, **item.reference}, item.lang)
            if model is not None and labels and outcome.scores is None and len(task.targets) == 1:
                outcome.scores = _scores(model, task, item, labels)
            if model is not None and "rank" in takes:
                outcome.rank = _rank(model, task, item, items)
        except UnitokError as error:  # its reference is not usable: such metrics leave it out
            logger.warning("%s: %s", item.id, error)
        outcomes.append(outcome)
    if not outcomes:
        raise DataError(f"task '{task.name}': no item could be generated: {next(iter(errors.values()))}")
    return outcomes


def _labels(task: Task, items: Sequence[Item]) -> list[str]:
    """Return the labels that there are in the references of all items."""
    written = [item.reference.get(task.targets[-1].name) for item in items]
    return sorted({label for value in written if value is not None for label in split_labels(value)})


def _scores(model: Model, task: Task, item: Item, labels: Sequence[str]) -> dict[str, float]:
    """Return how likely the model finds each label."""
    answers: dict[str, Any] = {task.targets[0].name: list(labels)}
    found = model.score(task.name, lang=item.lang, **item.conditions, **answers).tolist()
    return dict(zip(map(str.lower, labels), found, strict=True))


def _rank(model: Model, task: Task, item: Item, items: Sequence[Item]) -> int | None:
    """Return the place of an item's text among those of all items; None where it does not belong to the item."""
    text, label = check_ranked(task)
    if str(item.reference.get(label, "")).strip().lower() != FITS:
        return None
    texts = list(dict.fromkeys(one.conditions[text] for one in items if text in one.conditions))
    return rank_among(model, task, item.conditions, texts, item.lang)


def _measure(
    names: Sequence[str],
    task: Task,
    outcomes: list[Outcome],
    tools: Tools,
    how: Request,
    beside: Sequence[str],
    model: Model | None,
    skipped: dict[str, str],
) -> tuple[dict[str, Figure], dict[str, dict[str, float]]]:
    """Return the figures, and those of the items; note in `skipped` what could not be measured."""
    found = observe(names, task, outcomes, tools, how.seed)
    for name, one in found.items():
        if isinstance(one, UnitokError):
            if how.metrics is not None:
                raise one
            skipped[name] = str(one)
    measured = {name: one for name, one in found.items() if isinstance(one, Measured)}
    others = {
        other: observe(list(measured), task, baseline(other, task, outcomes, model), tools, how.seed)
        for other in beside
    }
    for name, reason in skipped.items():
        logger.warning("not measured: %s: %s", name, reason)
    figures = {
        name: _figure(
            one, {other: those[name] for other, those in others.items() if one.metric.paired or other != "shuffled"}
        )
        for name, one in measured.items()
    }
    return figures, {name: one.values for name, one in measured.items()}


def _figure(found: Measured, baselines: Mapping[str, Measured | UnitokError]) -> Figure:
    return Figure(
        found.metric,
        found.estimate,
        n_items=found.n_items,
        baselines={name: one.estimate for name, one in baselines.items() if isinstance(one, Measured)},
        parts=found.parts,
        left_out=found.left_out,
        by=found.by,
    )
