"""Pipelines, carried out: the stages of many requests side by side, each stage by the model that was named for it.

What one stage made goes to the next as it is: text as text, semantic tokens as ids, audio as codes where both models
have the same codec, else as audio. So a pipeline makes what calls of `Model.generate`, one after another, would make.

Letters: K codebooks, T codec frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unitok.audio import Audio
from unitok.errors import GenerationError, UnitokError, suggest
from unitok.generation.engine import GenerationRequest, OnStep
from unitok.generation.lengths import TargetLength
from unitok.generation.requests import check_conditions, check_settings
from unitok.generation.stage_models import find_stage_models
from unitok.tasks import Field, Pipeline, Task
from unitok.tasks.pipeline import Origin, Stage

if TYPE_CHECKING:
    from unitok.api import Model
    from unitok.generation.results import Generation

__all__ = ["PipelineRequest", "load_stages", "pipeline_request", "run_pipelines", "stages_of", "tasks_of"]

# Pieces of one recording get seeds far apart, so that requests with neighbouring seeds share none.
PIECE_STRIDE = 1_000_033
OF_ONE_TASK = ("answers", "regex", "instruction", "beams", "word_weight")
"""Settings that mean something for one task only."""


@dataclass(frozen=True)
class PipelineRequest:
    """One run of a pipeline."""

    pipeline: Pipeline
    """What to do."""
    models: Mapping[str, Model]
    """Who does it: the model of each stage, by the stage's name."""
    task: Task
    """The pipeline from outside (`Pipeline.outline`)."""
    conditions: Mapping[str, Any]
    """What is given, by name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `Model.request` for every stage."""
    per_stage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Other settings of some stages, by name."""


def load_stages(
    pipeline: str | Pipeline, *where: str | Path, device: str | torch.device | None = None, dtype: str | None = None
) -> dict[str, Model]:
    """Load the models of a pipeline's stages, those that are one checkpoint once.

    Args:
        pipeline: Name of a pipeline, such as `"spear_tts"`.
        *where: A folder with a checkpoint for each stage, in `STAGE` or `STAGE/model`, or `"STAGE=MODEL"` for one.
        device: As `unitok.load` takes it.
        dtype: As `unitok.load` takes it.

    Returns:
        Models by stage, for `Model.generate(…, stage_models=…)`.

    Raises:
        GenerationError: If a stage is unknown, or nothing is found for any.
        CheckpointError: If a checkpoint is incomplete or damaged.
    """
    from unitok.api import load

    card = pipeline if isinstance(pipeline, Pipeline) else Pipeline.load(pipeline)
    folders = find_stage_models(card, where)
    models = {folder: load(folder, device, dtype) for folder in dict.fromkeys(folders.values())}
    return {stage: models[folder] for stage, folder in folders.items()}


def pipeline_request(
    pipeline: Pipeline,
    model: Model,
    stage_models: Mapping[str, Model] | None,
    per_stage: Mapping[str, Mapping[str, Any]] | None,
    conditions: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> PipelineRequest:
    """Check one run of a pipeline.

    Args:
        pipeline: The pipeline.
        model: Carries out the stages that `stage_models` does not name.
        stage_models: Models of some stages, by name.
        per_stage: Settings of some stages, by name, in place of `settings`.
        conditions: What is given, by name.
        settings: Settings of all stages, those that are not None.

    Raises:
        GenerationError: If a stage, a condition or a setting is unknown or missing, or a model lacks its task.
        CardError: If the stages do not fit the tasks of the models.
    """
    models = stages_of(pipeline, model, stage_models)
    per_stage = per_stage or {}
    _check_stages(pipeline, "per_stage", per_stage)
    names = pipeline.stage_names
    for name in OF_ONE_TASK:
        if name in settings:
            raise GenerationError(
                f"pipeline '{pipeline.name}': '{name}' is for one task. Say of which stage: "
                f"per_stage={{'{names[-1]}': {{'{name}': …}}}}."
            )
    tasks = tasks_of(pipeline, models)
    outline = pipeline.outline(tasks)
    check_conditions(outline, conditions)
    _check_guidance(pipeline, tasks, settings.get("guidance"))
    for name, task in tasks.items():  # before any stage has done its work
        with _naming(pipeline, name):
            check_settings(task, _for_task(task, {**settings, **per_stage.get(name, {})}))
    present = {name: _cut(pipeline, name, value) for name, value in conditions.items() if value is not None}
    return PipelineRequest(pipeline, models, outline, present, settings, per_stage)


def stages_of(pipeline: Pipeline, model: Model, stage_models: Mapping[str, Model] | None = None) -> dict[str, Model]:
    """Return the model of each stage: the one named for it, or else `model`.

    Raises:
        GenerationError: If a stage is named that there is not.
    """
    _check_stages(pipeline, "stage_models", stage_models or {})
    return {name: (stage_models or {}).get(name, model) for name in pipeline.stage_names}


def tasks_of(pipeline: Pipeline, models: Mapping[str, Model]) -> dict[str, Task]:
    """Return the task of each stage, as its model has it.

    Raises:
        GenerationError: If a model was not trained for its stage.
    """
    return {stage.name: _task(pipeline, stage, models[stage.name]) for stage in pipeline.stages}


def run_pipelines(
    requests: Sequence[PipelineRequest], *, best_of: int | None = None, on_step: OnStep | None = None, **options: Any
) -> list[Generation]:
    """Carry out pipelines, all their first stages side by side, then all second ones, and so on.

    Args:
        requests: What `pipeline_request` returned.
        best_of: Candidates of each request's last stage; the other stages make as many as their cards say.
        on_step: Called after every position; a request counts as done in proportion to its stages.
        **options: Further ones of `Model.run`: `batch_size`, `hear`.

    Returns:
        For each request its targets, with what each stage made in `stages`.

    Raises:
        GenerationError: If a stage made nothing that the next one could take, or cannot be carried out.
    """
    runs = [_Run(request) for request in requests]
    n_rounds = max((len(request.pipeline.stages) for request in requests), default=0)
    for i in range(n_rounds):
        in_turn = [run for run in runs if i < len(run.request.pipeline.stages)]
        groups: dict[tuple[int, int | None], list[_Run]] = {}
        for run in in_turn:
            is_last = i == len(run.request.pipeline.stages) - 1
            groups.setdefault((id(run.model(i)), best_of if is_last else None), []).append(run)
        n_done = 0
        for (_, candidates), group in groups.items():
            jobs = [run.jobs(i) for run in group]
            step = on_step and _shared(on_step, i, n_rounds, n_done, len(in_turn))
            in_line = [job for part in jobs for job in part]
            made = iter(group[0].model(i).run(in_line, best_of=candidates, on_step=step, **options))
            for run, part in zip(group, jobs, strict=True):
                run.take(i, [next(made) for _ in part])
            n_done += len(group)
    return [run.result() for run in runs]


class _Run:
    """A request on its way through the stages."""

    def __init__(self, request: PipelineRequest) -> None:
        self.request = request
        self.made: dict[str, Generation] = {}

    def model(self, i: int) -> Model:
        """Return the model of stage `i`."""
        return self.request.models[self.request.pipeline.stages[i].name]

    def jobs(self, i: int) -> list[GenerationRequest]:
        """Return what stage `i` is asked for: one request, or one for each piece."""
        stage, model = self.request.pipeline.stages[i], self.model(i)
        with _naming(self.request.pipeline, stage.name):
            return self._jobs(stage, model, model.task(stage.task))

    def _jobs(self, stage: Stage, model: Model, task: Task) -> list[GenerationRequest]:
        settings = _for_task(task, {**self.request.settings, **self.request.per_stage.get(stage.name, {})})
        if stage.lang:
            settings["lang"] = self._value(stage.lang, None, model)
        conditions = {
            one.name: value
            for one in task.conditions
            if (value := self._joined(stage.conditions.get(one.name, ()), one, model)) is not None
        }
        jobs: list[GenerationRequest] = []
        for n, part in enumerate(_pieces(stage, task, conditions, model)):
            seed = settings.get("seed", 0) + PIECE_STRIDE * n
            request = model.request(stage.task, **{**settings, "seed": seed}, **part)
            assert isinstance(request, GenerationRequest), f"stage '{stage.name}' is a pipeline itself"
            jobs.append(request)
        return jobs

    def _joined(self, origins: Sequence[Origin], one: Field, model: Model) -> Any:
        """Return the value of a condition; of several origins, codes `[K, T]` or ids `[1, T]` one after another."""
        values = [value for origin in origins if (value := self._value(origin, one, model)) is not None]
        if len(values) <= 1:
            return values[0] if values else None
        whole = replace(one, max_seconds=None)  # the builder cuts what was joined
        parts = [model.encode(whole, value) for value in values]
        n_codebooks = min(part.shape[0] for part in parts)
        return torch.cat([part[:n_codebooks] for part in parts], dim=1)

    def _value(self, origin: Origin, one: Field | None, model: Model) -> Any:
        """Return what is given, or what a stage made, as a condition takes it; None: it was left out."""
        if not origin.stage:
            return self.request.conditions.get(origin.name)
        made, maker = self.made[origin.stage], self.request.models[origin.stage]
        value = made.values[origin.name]
        if isinstance(value, str):
            _check_made(origin, bool(value.strip()))
            return value
        codes = made.codes[origin.name]
        _check_made(origin, codes.numel() > 0)
        if isinstance(value, Audio):
            is_same = maker.tokenizers.audio.fingerprint == model.tokenizers.audio.fingerprint
            return codes if is_same and one is not None and one.kind == "audio" else value
        _check_same_ids(origin, maker, model)
        return codes

    def take(self, i: int, generations: Sequence[Generation]) -> None:
        """Keep what stage `i` made, pieces joined."""
        stage, model = self.request.pipeline.stages[i], self.model(i)
        last = generations[-1]
        if len(generations) > 1:
            codes = {name: torch.cat([one.codes[name] for one in generations], dim=1) for name in last.codes}
            values = {name: model.decode(joined) for name, joined in codes.items()}
            last = replace(last, values=values, codes=codes, **_sums(generations))
            last = replace(last, lengths=_together(last.lengths))
        self.made[stage.name] = last

    def result(self) -> Generation:
        """Return the pipeline's targets, with what each stage made."""
        stages, targets = self.made, self.request.pipeline.targets
        values = {name: stages[origin.stage].values[origin.name] for name, origin in targets.items()}
        codes = {
            name: stages[origin.stage].codes[origin.name]
            for name, origin in targets.items()
            if origin.name in stages[origin.stage].codes
        }
        named = [
            replace(one, lengths=tuple(replace(part, target=f"{name}.{part.target}") for part in one.lengths))
            for name, one in stages.items()
        ]
        return replace(named[-1], values=values, codes=codes, stages=dict(stages), **_sums(named))


def _sums(generations: Sequence[Generation]) -> dict[str, Any]:
    """Return what there is to say of several generations together."""
    return {
        "log_probability": sum(one.log_probability for one in generations),
        "stop": "limit" if any(one.stop == "limit" for one in generations) else "end",
        "lengths": tuple(length for one in generations for length in one.lengths),
    }


def _together(lengths: Sequence[TargetLength]) -> tuple[TargetLength, ...]:
    """Return the lengths of pieces as one for each target."""
    return tuple(
        TargetLength(
            name,
            seconds=sum(one.seconds for one in lengths if one.target == name),
            cut=any(one.cut for one in lengths if one.target == name),
            longest_seconds=sum(one.longest_seconds for one in lengths if one.target == name),
        )
        for name in dict.fromkeys(one.target for one in lengths)
    )


@contextmanager
def _naming(pipeline: Pipeline, stage: str) -> Iterator[None]:
    """Let errors say in which stage they are."""
    try:
        yield
    except UnitokError as error:
        raise GenerationError(f"pipeline '{pipeline.name}', stage '{stage}': {error}") from error


def _check_stages(pipeline: Pipeline, what: str, given: Mapping[str, Any]) -> None:
    names = pipeline.stage_names
    if not isinstance(given, Mapping) or (
        what == "per_stage" and not all(isinstance(v, Mapping) for v in given.values())
    ):
        raise GenerationError(
            f"pipeline '{pipeline.name}', {what} is {given!r}; it must be by stage: {{'{names[0]}': …}}."
        )
    for name in given:
        if name not in names:
            raise GenerationError(
                f"pipeline '{pipeline.name}', {what}: there is no stage '{name}'.{suggest(str(name), names)} "
                f"Stages: {', '.join(names)}."
            )


def _task(pipeline: Pipeline, stage: Stage, model: Model) -> Task:
    try:
        return model.task(stage.task)
    except GenerationError as error:
        raise GenerationError(
            f"pipeline '{pipeline.name}', stage '{stage.name}': {error} Name a model that was trained for it: "
            f"--stage-model {stage.name}=FOLDER, in Python stage_models={{'{stage.name}': …}}."
        ) from error


def _cut(pipeline: Pipeline, name: str, value: Any) -> Any:
    """Return a condition, audio read and cut to what the card uses; codes, ids and text as they are."""
    one = next(part for part in pipeline.conditions if part.name == name)
    if one.kind != "audio" or isinstance(value, Tensor):
        return value
    audio = Audio.of(value)
    if one.max_seconds is None:
        return audio
    return Audio(audio.samples[:, : round(one.max_seconds * audio.sample_rate_hz)], audio.sample_rate_hz)


def _guided(task: Task) -> list[str]:
    return [one.name for one in task.conditions if one.guided]


def _check_guidance(pipeline: Pipeline, tasks: Mapping[str, Task], guidance: Any) -> None:
    """Refuse guidance by what no stage can be guided by."""
    guided = list(dict.fromkeys(name for task in tasks.values() for name in _guided(task)))
    if guidance not in (None, 1) and not guided:
        raise GenerationError(f"pipeline '{pipeline.name}' cannot be guided: no condition of its tasks is 'guided'.")
    for name in guidance if isinstance(guidance, Mapping) else ():
        if name not in guided:
            raise GenerationError(
                f"pipeline '{pipeline.name}' cannot be guided by '{name}'.{suggest(str(name), guided)} "
                f"Guided: {', '.join(guided)}."
            )


def _for_task(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without what a task does not take: guidance by others' conditions, a language."""
    kept = dict(settings)
    guidance, guided = kept.get("guidance"), _guided(task)
    if isinstance(guidance, Mapping):
        kept["guidance"] = {name: scale for name, scale in guidance.items() if name in guided}
    elif not guided:
        kept.pop("guidance", None)
    if not task.lang_field:
        kept.pop("lang", None)
    return kept


def _pieces(stage: Stage, task: Task, conditions: Mapping[str, Any], model: Model) -> list[dict[str, Any]]:
    """Return the conditions of each piece; of a stage without pieces, the one set that there is."""
    [(name, seconds)] = stage.pieces.items() or [("", 0.0)]
    if name not in conditions:
        return [dict(conditions)]
    one = next(part for part in task.conditions if part.name == name)
    codes = model.encode(replace(one, max_seconds=None), conditions[name])
    n_frames = max(1, round(seconds * model.tokenizers.audio.frame_rate_hz))
    n_pieces = max(1, math.ceil(codes.shape[1] / n_frames))
    return [{**conditions, name: codes[:, n_frames * i : n_frames * (i + 1)]} for i in range(n_pieces)]


def _check_made(origin: Origin, is_there: bool) -> None:
    if not is_there:
        raise GenerationError(f"takes '{origin}', but stage '{origin.stage}' made nothing. Try another seed.")


def _check_same_ids(origin: Origin, maker: Model, taker: Model) -> None:
    """Refuse semantic ids that mean something else to the model that is to take them."""
    one, other = maker.tokenizers.semantic, taker.tokenizers.semantic
    if one is not None and other is not None and one.fingerprint != other.fingerprint:
        raise GenerationError(
            f"takes '{origin}', ids of the semantic tokenizer '{one.name}' ({one.fingerprint}), but model "
            f"'{taker.name}' has '{other.name}' ({other.fingerprint}). Use models with the same one."
        )


def _shared(on_step: OnStep, i: int, n_rounds: int, n_before: int, n_requests: int) -> OnStep:
    """Return a callback for round `i` that counts requests as done in proportion to the rounds."""

    def step(now: Any) -> None:
        share = (n_before + now.n_done / max(1, now.n_requests)) / max(1, n_requests)
        on_step(now._replace(n_done=int(n_requests * (i + min(1.0, share)) / n_rounds), n_requests=n_requests))

    return step
