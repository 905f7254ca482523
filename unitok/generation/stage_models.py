"""Which checkpoint carries out which stage of a pipeline, before anything is loaded. Imports no torch.

`--stage-model coarse=out/coarse/model` names one for a stage, `--stage-model out/audiolm` one for each stage that has a
checkpoint in `out/audiolm/STAGE`, or in the folder `model` there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from unitok.checkpoint import find_checkpoint, is_checkpoint, read_tasks
from unitok.errors import GenerationError, suggest
from unitok.tasks import Pipeline, Task

__all__ = ["find_stage_models", "tasks_of_stages"]

WITHIN = ("", "model")
"""Where in a stage's folder its checkpoint may be, the likelier place last: `unitok fit` writes it to `model`, and a
`config.yaml` of its own beside that."""


def find_stage_models(pipeline: Pipeline, given: Iterable[str | Path]) -> dict[str, Path]:
    """Return the checkpoint folder of each stage that was given one.

    Args:
        pipeline: The pipeline.
        given: For each either `STAGE=MODEL`, a checkpoint folder or the name of one that ships, or a folder that holds
            one for each of some stages, in `STAGE` or `STAGE/model`. Of two for one stage the later counts.

    Raises:
        GenerationError: If a stage is unknown, or a folder holds a checkpoint of none.
        CheckpointError: If there is no checkpoint where a stage is given one.
    """
    found: dict[str, Path] = {}
    for one in map(str, given):
        stage, equals, model = one.partition("=")
        if equals and stage in pipeline.stage_names:
            found[stage] = find_checkpoint(model)
        elif equals and not Path(one).exists():
            names = pipeline.stage_names
            raise GenerationError(
                f"--stage-model {one}: pipeline '{pipeline.name}' has no stage '{stage}'.{suggest(stage, names)} "
                f"Stages: {', '.join(names)}."
            )
        else:
            found |= _within(pipeline, Path(one).expanduser())
    return found


def tasks_of_stages(pipeline: Pipeline, folders: Mapping[str, Path], model: str) -> dict[str, Task]:
    """Return the task of each stage as its checkpoint has it, by the stage's name.

    Args:
        pipeline: The pipeline.
        folders: Of `find_stage_models`.
        model: The checkpoint of all other stages.

    Raises:
        GenerationError: If a checkpoint was not trained for the task of its stage.
    """
    tasks: dict[str, Task] = {}
    read: dict[Path, dict[str, Task]] = {}
    for stage in pipeline.stages:
        folder = folders.get(stage.name) or find_checkpoint(model)
        known = read[folder] = read.get(folder) or read_tasks(folder)
        if stage.task not in known:
            raise GenerationError(
                f"pipeline '{pipeline.name}', stage '{stage.name}': model '{folders.get(stage.name, model)}' was not "
                f"trained for task '{stage.task}'.{suggest(stage.task, known)} It can do: {', '.join(known)}. "
                f"Name one that was: --stage-model {stage.name}=FOLDER."
            )
        tasks[stage.name] = known[stage.task]
    return tasks


def _within(pipeline: Pipeline, folder: Path) -> dict[str, Path]:
    found = {
        stage: place
        for stage in pipeline.stage_names
        for within in WITHIN
        if is_checkpoint(place := folder / stage / within)
    }
    if not found:
        names = ", ".join(pipeline.stage_names)
        raise GenerationError(
            f"--stage-model {folder}: holds no checkpoint for a stage of pipeline '{pipeline.name}', in a folder named "
            f"like it, or in 'model' there. Stages: {names}. For one: --stage-model {pipeline.stage_names[0]}=FOLDER."
        )
    return found
