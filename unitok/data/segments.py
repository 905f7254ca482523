"""Random stretches of audio files, for training a codec: stretch i of a seed is always the same.

N samples, L bytes of text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unitok.audio import Audio
from unitok.data.manifest import check_fields, read_manifest, resolve_path

__all__ = ["SegmentBatch", "SegmentDataset", "collate_segments"]


class SegmentBatch(NamedTuple):
    """Stretches of audio side by side."""

    wav: Tensor
    """`[B, N]`, float32."""
    text: Tensor
    """UTF-8 bytes of the words in lower case, `[B, L]`, int64, 0 after the end of a row."""
    text_lengths: Tensor
    """`[B]`, int64; 0 where the text is not known, or not all of it is heard."""


class SegmentDataset(Dataset[tuple[Tensor, bytes]]):
    """`size` mono stretches `[N]` of fixed length, drawn from the audio files of manifests with weight by duration.

    With a stretch comes the text of its manifest row if the stretch holds the whole file. It is scaled to a random
    peak, so that the codec meets quiet and loud audio, and played at one of `speeds` as a tape would be, so that it
    meets other pitches than those of the files. Files shorter than a stretch are padded with zeros. Item 0 is stretch
    `first` of the seed.
    """

    def __init__(
        self,
        manifests: str | Path | Sequence[str | Path],
        *,
        size: int,
        seconds: float,
        sample_rate_hz: int,
        seed: int = 0,
        peak_range: tuple[float, float] = (0.1, 0.95),
        speeds: Sequence[float] = (1.0,),
        first: int = 0,
    ):
        self.rows: list[dict[str, Any]] = []
        for manifest in [manifests] if isinstance(manifests, str | Path) else manifests:
            rows = read_manifest(manifest)
            check_fields(rows, ["audio"], manifest)
            self.rows += [row | {"audio": resolve_path(row["audio"], manifest)} for row in rows]
        self.weights = [float(row.get("seconds") or soundfile.info(row["audio"]).duration) for row in self.rows]
        self.size, self.seconds, self.sample_rate_hz, self.seed = size, seconds, sample_rate_hz, seed
        self.peak_range, self.speeds, self.first = peak_range, speeds, first

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, bytes]:
        rng = random.Random(f"{self.seed}/{self.first + index}")
        row = rng.choices(self.rows, self.weights)[0]
        wav, whole = self._read(row["audio"], rng)
        wav = wav * (rng.uniform(*self.peak_range) / max(float(wav.abs().max()), 1e-3))
        length = round(self.seconds * self.sample_rate_hz)
        wav = torch.nn.functional.pad(wav, (0, max(0, length - len(wav))))[:length]
        return wav, " ".join(str(row.get("text", "")).lower().split()).encode() if whole else b""

    def _read(self, path: Path, rng: random.Random) -> tuple[Tensor, bool]:
        info = soundfile.info(path)
        # Rates in hundreds of Hz, or resampling would need long filters.
        rate = int(round(rng.choice(self.speeds) * info.samplerate, -2)) if len(self.speeds) > 1 else info.samplerate
        wanted = round(self.seconds * rate)
        start = rng.randint(0, max(0, info.frames - wanted))
        samples, _ = soundfile.read(path, frames=wanted, start=start, dtype="float32", always_2d=True)
        wav = Audio(torch.from_numpy(samples.T.copy()), rate).mono().resample(self.sample_rate_hz).samples[0]
        return wav, info.frames <= wanted


def collate_segments(segments: Sequence[tuple[Tensor, bytes]]) -> SegmentBatch:
    """Put stretches side by side."""
    lengths = torch.tensor([len(text) for _, text in segments])
    padded = torch.zeros(len(segments), int(lengths.max()), dtype=torch.int64)
    for row, (_, text) in zip(padded, segments, strict=True):
        row[: len(text)] = torch.tensor(list(text), dtype=torch.int64)
    return SegmentBatch(torch.stack([wav for wav, _ in segments]), padded, lengths)
