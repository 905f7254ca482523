"""Codes of recordings as a language model says them: each frame after the true ones before it.

A decoder that is trained on them makes the best of a model's mistakes. Tacotron 2 trained its vocoder so, on spectra
(arXiv:1712.05884, section 3.1: ground-truth-aligned predictions).

Letters: K codebooks, T frames, S positions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unitok.data.manifest import read_manifest, write_manifest
from unitok.errors import DataError
from unitok.evaluation.items import Item, items_of
from unitok.files import check_replaceable, written_whole
from unitok.sequence import TokenSequence, collate

if TYPE_CHECKING:
    from unitok.api import Model

__all__ = ["predict_codes", "predicted_codes"]

POSITIONS_AT_ONCE = 4096


def predict_codes(
    model: Model,
    task: str,
    manifest: str | Path,
    out: str | Path,
    *,
    n_given: int = 1,
    temperature: float = 0.5,
    seed: int = 0,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write codes of a manifest's recordings, and a manifest that has them as `codes` beside `audio`.

    Args:
        model: Says the codes.
        task: Makes audio from what rows have, such as `tts`.
        manifest: Rows with the task's conditions and target.
        out: Folder for `manifest.jsonl` and `codes/`; appears whole.
        n_given: Leave so many of the first codebooks as they are: what is said stays where it is in the audio.
        temperature: Of the drawing.
        seed: Of the drawing.
        limit: Rows to take; None: all.
        on_progress: Called with how many rows are done, and of how many.

    Returns:
        How many rows there are.

    Raises:
        DataError: If rows lack something, or the task does not make exactly one recording.
    """
    check_replaceable(out, "codes")
    card = model.task(task)
    if [field.kind for field in card.targets] != ["audio"]:
        made = ", ".join(field.kind for field in card.targets)
        raise DataError(f"task '{task}' makes {made}; codes are predicted for tasks that make one audio and no more.")
    target, rows, folder = card.targets[0].name, read_manifest(manifest)[:limit], Path(out)
    items, done = items_of(card, rows, manifest), dict[int, dict[str, object]]()
    with written_whole(folder, "codes") as partial:
        (partial / "codes").mkdir()
        generator = torch.Generator().manual_seed(seed)
        for batch in _batches(model, task, items, target):
            said = predicted_codes(model, [sequence for _, sequence in batch], n_given, temperature, generator)
            for (i, _), codes in zip(batch, said, strict=True):
                name = f"codes/{i:08d}.npy"
                np.save(partial / name, codes.numpy().astype(np.int16 if int(codes.max()) < 2**15 else np.int32))
                audio = os.path.relpath(Path(items[i].reference[target]).absolute(), folder.absolute())
                kept = {key: rows[i][key] for key in ("id", "text", "seconds") if key in rows[i]}
                done[i] = {**kept, "audio": audio, "codes": name}
                if on_progress is not None:
                    on_progress(len(done), len(rows))
        write_manifest(partial / "manifest.jsonl", [done[i] for i in range(len(rows))])
    return len(rows)


@torch.inference_mode()
def predicted_codes(
    model: Model, sequences: Sequence[TokenSequence], n_given: int, temperature: float, generator: torch.Generator
) -> list[Tensor]:
    """Return codes `[K, T]` of the audio targets of sequences, in a pattern with one frame a row.

    Codebooks that are filled by a refiner, and the first `n_given`, are the true ones.

    Args:
        model: Says the codes.
        sequences: With one audio target each.
        n_given: See `predict_codes`.
        temperature: See `predict_codes`.
        generator: Of random numbers, on the CPU.

    Raises:
        DataError: If the model's pattern is another one.
    """
    lm = model.lm.eval()
    if lm.pattern.name != "multiscale":
        raise DataError(f"the model has pattern '{lm.pattern.name}'; codes are predicted by those with 'multiscale'.")
    batch = collate(sequences).to(next(lm.parameters()).device)
    hidden = lm.hidden(lm.coarse(batch.tokens, batch.frame_mask), batch.prefix_mask, None, batch.features)
    rows, positions = batch.frame_mask.nonzero(as_tuple=True)
    tokens = batch.tokens[rows, positions]
    said = lm.say_frames(hidden[rows, positions - 1], tokens, n_given, temperature, generator)
    return [lm.code_of_token[said[rows == row]].T.cpu() for row in range(len(sequences))]


def _batches(model: Model, task: str, items: Sequence[Item], target: str) -> Iterator[list[tuple[int, TokenSequence]]]:
    """Yield items, by number, as whole sequences, as many at a time as fit."""
    batch: list[tuple[int, TokenSequence]] = []
    for i, item in enumerate(items):
        if not isinstance(item.reference.get(target), str | Path):
            raise DataError(f"row '{item.id}' has no file of '{target}', the recording whose codes are predicted.")
        sequence = model.sequence(task, lang=item.lang, **item.conditions, **item.reference)
        longest = max(len(one) for one in (sequence, *(one for _, one in batch)))
        if batch and longest * (len(batch) + 1) > POSITIONS_AT_ONCE:
            yield batch
            batch = []
        batch.append((i, sequence))
    yield batch
