"""`unitok bench data`: how fast records become batches to train on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import unitok
from unitok.benchmark.machine import interleaved, settings
from unitok.benchmark.models import FRAME_RATE_HZ
from unitok.benchmark.report import Report
from unitok.benchmark.training import FRAMES_PER_CHARACTER, lognormal_frames

__all__ = ["measure_reading"]

RECORDS, SHARD_SIZE = 4096, 512
CODEBOOKS, CODES = 8, 1024


def measure_reading(
    records: str | Path | None, *, tasks: Sequence[str], workers: Sequence[int], batch_tokens: int, repeats: int
) -> Report:
    """Make the batches of an epoch from records, as training does.

    Args:
        records: Folder of record shards; None: random ones, 4 096 of 1 to 15 s.
        tasks: What the records are used for.
        workers: Processes in the background; 0 is none.
        batch_tokens: Positions of a batch.
        repeats: Of each, in turn.
    """
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(records) if records is not None else _random_records(Path(scratch))
        loaders = {f"{n} workers": _loader(where, tasks, n, batch_tokens) for n in workers}
        counts = {name: _count(loader) for name, loader in loaders.items()}

        timings = interleaved({name: partial(_count, loader) for name, loader in loaders.items()}, repeats)
    rows = []
    for name, (n_batches, n_sequences, n_valid, n_places) in counts.items():
        seconds = timings[name].seconds
        rows.append(
            {
                "reader": name,
                "sequences_per_s": round(n_sequences / seconds),
                "positions_per_s": round(n_valid / seconds),
                "ms_per_batch": round(1e3 * seconds / n_batches, 2),
                "padding_percent": round(100 * (1 - n_valid / n_places), 2),
                "clean": timings[name].clean,
            }
        )
    heads = {
        "reader": "READER", "sequences_per_s": "SEQUENCES/S", "positions_per_s": "POSITIONS/S",
        "ms_per_batch": "MS/BATCH", "padding_percent": "PADDING %", "clean": "CLEAN",
    }  # fmt: skip
    about = {**settings(), "tasks": list(tasks), "batch_tokens": batch_tokens}
    note = f"an epoch of {', '.join(tasks)}, batches of {batch_tokens} positions, {about['threads']} threads."
    return Report(heads, rows, about, note, shown="positions_per_s")


def _loader(where: Path, tasks: Sequence[str], n_workers: int, batch_tokens: int) -> Any:
    from unitok.data.datamodule import RecordDataModule
    from unitok.data.mixing import BatchConfig
    from unitok.data.records import RecordReader
    from unitok.tasks import SequenceBuilder, Task
    from unitok.tokenizers.bytes import ByteTokenizer
    from unitok.vocabulary import Vocabulary

    meta, text = RecordReader(where).meta, ByteTokenizer()
    vocabulary = Vocabulary.create(list(tasks), [], text.size, [meta.codebook_size] * meta.n_codebooks)
    module = RecordDataModule(
        str(where), tasks=list(tasks), batching=BatchConfig(batch_tokens), num_workers=n_workers, optional_dropout=0.0
    )
    module.attach(SequenceBuilder(vocabulary, text, meta.frame_rate_hz), {name: Task.load(name) for name in tasks})
    module.setup("fit")
    return module.train_dataloader()


def _count(loader: Any) -> tuple[int, int, int, int]:
    """Return batches, sequences, positions that hold something, and positions in all."""
    counts = torch.tensor([(1, len(b), int(b.lengths.sum()), b.tokens[..., 0].numel()) for b in loader])
    return tuple(counts.sum(dim=0).tolist())


def _random_records(folder: Path) -> Path:
    from unitok.data.records import RecordMeta, RecordWriter

    meta = RecordMeta(
        fingerprint="random", tokenizer="random", frame_rate_hz=FRAME_RATE_HZ, n_codebooks=CODEBOOKS,
        codebook_size=CODES, sample_rate_hz=16000, audio_fields=("audio",),
        plain_fields=(("text", "string"), ("speaker", "string"), ("lang", "string")),
        unitok_version=unitok.__version__,
    )  # fmt: skip
    generator, writer = torch.Generator().manual_seed(0), RecordWriter(folder, meta)
    frames = lognormal_frames(RECORDS)
    for shard, first in enumerate(range(0, RECORDS, SHARD_SIZE)):
        rows = [
            {
                "id": str(i),
                "text": "x" * (T // FRAMES_PER_CHARACTER),
                "speaker": str(i % 8),
                "lang": "en",
                "audio": torch.randint(CODES, (CODEBOOKS, T), generator=generator),
            }
            for i, T in enumerate(frames[first : first + SHARD_SIZE], start=first)
        ]
        writer.write(shard, rows)
    return folder
