"""`unitok bench train`: training steps of models with random weights and data: frames in a second, padding, memory.

T frames, K codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unitok.benchmark.machine import interleaved, settings
from unitok.benchmark.models import FRAME_RATE_HZ, Sizes, random_lm
from unitok.benchmark.report import Report
from unitok.data.mixing import BatchConfig, BatchPlan, Source
from unitok.sequence import SequenceBatch, TokenSequence, collate

__all__ = ["BATCHINGS", "FRAMES_PER_CHARACTER", "TrainingSetting", "lognormal_frames", "measure_training"]

BATCHINGS = ("as_they_come", "sorted")
"""as_they_come: so many sequences in a batch, padded to the longest. sorted: as training does, `unitok.data.mixing`."""
FRAMES_PER_CHARACTER = 3
MEDIAN_S, SPREAD = 4.0, 0.6
SHORTEST_S, LONGEST_S = 1.0, 15.0


@dataclass(frozen=True)
class TrainingSetting:
    """One way to train."""

    precision: str = "float32"
    """`float32`, or `bfloat16` for autocast to it."""
    local_fraction: float = 1.0
    """Share of frames whose later codebooks are trained."""
    batching: str = "sorted"
    """How sequences come into batches: one of `BATCHINGS`."""

    def __str__(self) -> str:
        return f"{self.precision}, local {self.local_fraction:g}, {self.batching.replace('_', ' ')}"


def lognormal_frames(n: int, seed: int = 0) -> list[int]:
    """Return lengths of speech in frames: log-normal with a median of 4 s, from 1 to 15 s."""
    seconds = np.random.default_rng(seed).lognormal(np.log(MEDIAN_S), SPREAD, n).clip(SHORTEST_S, LONGEST_S)
    return [round(one * FRAME_RATE_HZ) for one in seconds]


def measure_training(
    sizes: Sizes, runs: Sequence[TrainingSetting], *, frames: Sequence[int], batch: int, repeats: int
) -> Report:
    """Train on the same sequences in several ways; a repeat is all of them once.

    Args:
        sizes: Of the model.
        runs: The ways.
        frames: Of each sequence.
        batch: Sequences in a batch that takes them as they come; sorted batches have as many positions in the mean.
        repeats: Of each, in turn.
    """
    trained = {str(one): _Run(sizes, one, frames, batch) for one in runs}
    kept = {name: run.kept_bytes() for name, run in trained.items()}
    timings = interleaved({name: run.train for name, run in trained.items()}, repeats)
    rows = []
    for name, run in trained.items():
        seconds = timings[name].seconds
        rows.append(
            {
                "setting": name,
                "frames_per_s": round(sum(frames) / seconds, 1),
                "ms_per_batch": round(1e3 * seconds / len(run.batches), 1),
                "batches": len(run.batches),
                "padding_percent": round(100 * run.padding, 2),
                "kept_mb": round(kept[name] / 1e6),
                "clean": timings[name].clean,
            }
        )
    heads = {
        "setting": "SETTING", "frames_per_s": "FRAMES/S", "ms_per_batch": "MS/BATCH", "batches": "BATCHES",
        "padding_percent": "PADDING %", "kept_mb": "KEPT MB", "clean": "CLEAN",
    }  # fmt: skip
    about = {**settings(), "sequences": len(frames), "frames": [min(frames), max(frames)], "batch": batch}
    note = (
        f"{len(frames)} sequences of {min(frames)} to {max(frames)} frames, {about['threads']} threads. Forward, "
        "backward and AdamW. kept: what the largest batch's forward pass keeps for the backward pass, without weights."
    )
    return Report(heads, rows, about, note, shown="frames_per_s")


class _Run:
    """A model, its optimizer and its batches."""

    def __init__(self, sizes: Sizes, setting: TrainingSetting, frames: Sequence[int], batch: int) -> None:
        from unitok.tasks import Task

        self._lm, builder = random_lm(sizes, local_fraction=setting.local_fraction)
        self._lm.train()
        self._optimizer = torch.optim.AdamW(self._lm.parameters(), lr=1e-4, fused=True)
        self._precision = setting.precision
        generator, card = torch.Generator().manual_seed(0), Task.load("tts")
        sequences = [
            builder.build(
                card,
                {
                    "text": "x" * max(1, T // FRAMES_PER_CHARACTER),
                    "speech": torch.randint(sizes.codes, (sizes.codebooks, T), generator=generator),
                },
            )
            for T in frames
        ]
        self.batches = [collate(those) for those in _batches(sequences, setting.batching, batch)]
        valid, places = (sum(int(count(b)) for b in self.batches) for count in (lambda b: b.lengths.sum(), _places))
        self.padding = 1 - valid / places

    def train(self) -> None:
        """Take one step for each batch."""
        for batch in self.batches:
            self._optimizer.zero_grad(set_to_none=True)
            self._loss(batch).backward()
            self._optimizer.step()

    def kept_bytes(self) -> int:
        """Return how much the forward pass of the largest batch keeps for the backward pass, weights left out."""
        weights = {weight.untyped_storage().data_ptr() for weight in self._lm.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self._loss(max(self.batches, key=_places))
        del loss
        return sum(kept.values())

    def _loss(self, batch: SequenceBatch) -> Tensor:
        half = torch.autocast("cpu", torch.bfloat16) if self._precision == "bfloat16" else nullcontext()
        with half:
            return self._lm.loss(batch, seed=0).loss


def _places(batch: SequenceBatch) -> int:
    return batch.tokens.shape[0] * batch.tokens.shape[1]


def _batches(sequences: Sequence[TokenSequence], batching: str, size: int) -> list[list[TokenSequence]]:
    groups = [list(sequences[first : first + size]) for first in range(0, len(sequences), size)]
    if batching == "as_they_come":
        return groups
    positions = sum(len(group) * max(map(len, group)) for group in groups) // len(groups)
    longest = max(map(len, sequences))
    plan = BatchPlan([Source(1.0, np.array([len(one) for one in sequences]))], BatchConfig(max(positions, longest)))
    return [[sequences[example.item] for example in batch] for batch in plan.all_once()]
