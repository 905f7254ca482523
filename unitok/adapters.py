"""Adapter folders: what was trained of a model (`unitok.model.adapter`), without the model. They load like checkpoints.

    voice/
      adapter.yaml          format, name, which model it belongs to, what of it is trained
      vocabulary.json       of the model, with the tasks and languages added to it
      adapter.safetensors   low-rank matrices, weights and rows of embeddings
      tasks/*.yaml          all tasks, those of the model and those added
      README.md

An adapter belongs to one model: to its vocabulary and its weights, of which a fingerprint is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unitok.cards import read_card
from unitok.checkpoint import (
    ADAPTER,
    TASKS,
    VOCABULARY,
    Checkpoint,
    load_checkpoint,
    read_tasks,
    shipped_checkpoints,
    write_tasks,
)
from unitok.errors import CardError, CheckpointError, UnitokError, VocabularyMismatchError
from unitok.files import written_whole
from unitok.model.adapter import Adapter, adapt, load_trained_state, merge, trained_state
from unitok.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unitok.model.lm import UnitokLM

__all__ = ["Base", "begin_adapter", "load_adapter", "save_adapter"]

FORMAT = 1
WEIGHTS = "adapter.safetensors"
SAMPLED = 64
"""Numbers of each weight that a fingerprint looks at."""


@dataclass(frozen=True)
class Base:
    """The model that an adapter belongs to."""

    model: str
    """Where it is: the name of a checkpoint that comes with unitok, or a folder."""
    vocabulary: str
    """Hash of its vocabulary."""
    weights: str
    """Fingerprint of its weights: some numbers of each, enough to be different after any training."""

    @classmethod
    def of(cls, path: str | Path, checkpoint: Checkpoint) -> Base:
        """Describe a checkpoint that was loaded from `path` and not changed since."""
        model = str(path) if str(path) in shipped_checkpoints() else str(Path(path).resolve())
        return cls(model, checkpoint.vocabulary.hash, _fingerprint(checkpoint.lm))


def begin_adapter(base: Checkpoint, vocabulary: Vocabulary, adapter: Adapter) -> UnitokLM:
    """Return the model of `base`, grown to `vocabulary`, of which only what `adapter` names is trained.

    The model is changed in place, unless it has to grow. Ids that it did not have are trained whatever `adapter` says.

    Raises:
        UnitokError: If a name in `adapter` fits nothing.
    """
    old = base.vocabulary
    named = {*vocabulary.task_names} - {*old.task_names}
    spoken = {*vocabulary.lang_names} - {*old.lang_names}
    new_ids = {vocabulary.task_id(name) for name in named} | {vocabulary.lang_id(name) for name in spoken}
    return adapt(
        base.lm.grown(vocabulary), adapter, vocabulary, sorted(new_ids | set(range(old.size, vocabulary.size)))
    )


def save_adapter(
    folder: str | Path, checkpoint: Checkpoint, adapter: Adapter, base: Base, *, readme: str | None = None
) -> Path:
    """Write an adapter folder. It appears whole or not at all; an older one of that name is replaced.

    Args:
        folder: Where to.
        checkpoint: The adapted model, with its tasks and notes.
        adapter: What of it is trained.
        base: The model that it began from.
        readme: The model card (Markdown); default: what is known from the parts.

    Raises:
        UnitokError: If the folder exists and is no adapter.
    """
    import yaml
    from safetensors.torch import save_file

    from unitok import __version__

    folder = Path(folder)
    state = trained_state(checkpoint.lm)
    n_trained = sum(tensor.numel() for name, tensor in state.items() if not name.endswith(".rows"))
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(adapter).items()}
    card = {
        "format": FORMAT,
        "unitok_version": __version__,
        "name": checkpoint.name,
        "base": asdict(base),
        "adapter": settings,
        "notes": dict(checkpoint.notes),
    }
    with written_whole(folder, ADAPTER) as partial:
        (partial / ADAPTER).write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), encoding="utf-8")
        checkpoint.vocabulary.save(partial / VOCABULARY)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial / WEIGHTS)
        write_tasks(partial / TASKS, checkpoint.tasks)
        what = f"An adapter of {n_trained} numbers for the unitok model `{Path(base.model).name}`."
        said = f"# {checkpoint.name}\n\n{what}\n"
        (partial / "README.md").write_text(readme or said, encoding="utf-8")
    return folder


def load_adapter(folder: str | Path, device: torch.device | str = "cpu", merged: bool = True) -> Checkpoint:
    """Load the model that an adapter belongs to, with the adapter in it.

    Args:
        folder: An adapter folder.
        device: Where the language model and the codec go.
        merged: Put low-rank matrices into the weights they belong to; otherwise they stay beside them.

    Raises:
        CheckpointError: If the folder is damaged, or its model is not where it was.
        VocabularyMismatchError: If the model has another vocabulary, or other weights, than it was trained with.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    card = _read_card(folder / ADAPTER)
    trained_with = Base(**card["base"])
    path = trained_with.model
    try:
        base = load_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"'{folder}' is an adapter for the model '{path}', which cannot be loaded: {error} "
            f"Set base.model in {folder / ADAPTER} to where that model is."
        ) from error
    vocabulary = Vocabulary.load(folder / VOCABULARY)
    if trained_with.vocabulary != base.vocabulary.hash or not _extends(vocabulary, base.vocabulary):
        raise VocabularyMismatchError(
            f"{folder}: was trained with vocabulary {trained_with.vocabulary}, '{path}' has {base.vocabulary.hash}. "
            f"Set base.model in {ADAPTER} to the model it was trained with."
        )
    if trained_with.weights != _fingerprint(base.lm):
        raise VocabularyMismatchError(
            f"{folder}: was trained with other weights than '{path}' has now. Set base.model in {ADAPTER} to the model "
            "it was trained with."
        )
    try:
        lm = begin_adapter(base, vocabulary, Adapter(**card["adapter"]))
        load_trained_state(lm, load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, TypeError, ValueError, UnitokError) as error:
        raise CheckpointError(f"{folder}: is damaged: {error} Copy it again.") from error
    if merged:
        lm = merge(lm).requires_grad_(True)
    return replace(
        base,
        lm=lm.to(device).eval(),
        vocabulary=vocabulary,
        tasks=read_tasks(folder),
        name=str(card.get("name", folder.name)),
        notes=card.get("notes") or {},
    )


def _extends(vocabulary: Vocabulary, base: Vocabulary) -> bool:
    return base.grow(tasks=vocabulary.task_names, langs=vocabulary.lang_names) == vocabulary


def _fingerprint(lm: UnitokLM) -> str:
    """Return a hash over some numbers of each weight: cheap for any size, and different after any training."""
    digest = hashlib.sha256()
    for name, tensor in sorted(lm.state_dict().items()):
        values: Tensor = tensor.detach().flatten()
        picked = values[:: max(1, len(values) // SAMPLED)][:SAMPLED].float().cpu()
        digest.update(f"{name} {list(tensor.shape)}".encode() + picked.numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"


def _read_card(path: Path) -> Mapping[str, Any]:
    try:
        card = read_card(path)
    except CardError as error:
        raise CheckpointError(str(error)) from error
    if card.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format is {card.get('format')}, this unitok reads {FORMAT}. Update unitok.")
    base = card.get("base")
    if not isinstance(base, dict) or base.keys() != {field.name for field in fields(Base)}:
        raise CheckpointError(f"{path}: 'base' is missing or incomplete. The file is damaged: copy it again.")
    if not isinstance(card.get("adapter"), dict):
        raise CheckpointError(f"{path}: 'adapter' is missing. The file is damaged: copy it again.")
    return card
