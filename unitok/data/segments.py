"""Random stretches of audio files, for training a codec: stretch i of a seed is always the same.

N samples.
"""

from __future__ import annotations

import random
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unitok.audio import Audio
from unitok.data.manifest import check_fields, read_manifest, resolve_path

__all__ = ["SegmentDataset"]


class SegmentDataset(Dataset[Tensor]):
    """`size` mono stretches `[N]` of fixed length, drawn from the audio files of a manifest with weight by duration.

    A stretch is scaled to a random peak, so that the codec meets quiet and loud audio. Files shorter than a stretch are
    padded with zeros.
    """

    def __init__(
        self,
        manifest: Path,
        *,
        size: int,
        seconds: float,
        sample_rate_hz: int,
        seed: int = 0,
        peak_range: tuple[float, float] = (0.1, 0.95),
    ):
        rows = read_manifest(manifest)
        check_fields(rows, ["audio"], manifest)
        self.paths = [resolve_path(row["audio"], manifest) for row in rows]
        self.weights = [
            float(row.get("seconds") or soundfile.info(path).duration)
            for row, path in zip(rows, self.paths, strict=True)
        ]
        self.size, self.seconds, self.sample_rate_hz, self.seed, self.peak_range = (
            size,
            seconds,
            sample_rate_hz,
            seed,
            peak_range,
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        rng = random.Random(f"{self.seed}/{index}")
        path = rng.choices(self.paths, self.weights)[0]
        wav = self._read(path, rng)
        wav = wav * (rng.uniform(*self.peak_range) / max(float(wav.abs().max()), 1e-3))
        length = round(self.seconds * self.sample_rate_hz)
        return torch.nn.functional.pad(wav, (0, max(0, length - len(wav))))[:length]

    def _read(self, path: Path, rng: random.Random) -> Tensor:
        info = soundfile.info(path)
        wanted = round(self.seconds * info.samplerate)
        start = rng.randint(0, max(0, info.frames - wanted))
        samples, rate = soundfile.read(path, frames=wanted, start=start, dtype="float32", always_2d=True)
        return Audio(torch.from_numpy(samples.T.copy()), rate).mono().resample(self.sample_rate_hz).samples[0]
