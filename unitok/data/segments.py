"""Random stretches of audio files, for training a codec: stretch i of a seed is always the same.

A row with `codes` (a .npy file `[K, T]`, see `unitok predict-codes`) is of audio that the decoder is to make of them.

N samples, L bytes of text, K codebooks, T frames.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from unitok.audio import Audio, audio_info
from unitok.data.manifest import check_fields, read_manifest, resolve_path
from unitok.errors import DataError

__all__ = ["Segment", "SegmentBatch", "SegmentDataset", "collate_segments"]


class Segment(NamedTuple):
    """One stretch of audio."""

    wav: Tensor
    """`[N]`, float32."""
    text: bytes
    """Its words in lower case, empty where not all of them are heard."""
    codes: Tensor | None = None
    """What the decoder is given instead of the codes of `wav`, `[K, T]`, int64; -1 where nothing is."""


class SegmentBatch(NamedTuple):
    """Stretches of audio side by side."""

    wav: Tensor
    """`[B, N]`, float32."""
    text: Tensor
    """UTF-8 bytes of the words in lower case, `[B, L]`, int64, 0 after the end of a row."""
    text_lengths: Tensor
    """`[B]`, int64; 0 where the text is not known, or not all of it is heard."""
    codes: Tensor | None = None
    """What the decoder is given instead of the codes of `wav`, `[B, K, T]`, int64, -1 where nothing is."""


class SegmentDataset(Dataset[Segment]):
    """`size` mono stretches `[N]` of fixed length, drawn from the audio files of manifests with weight by duration.

    With a stretch comes the text of its manifest row if the stretch holds the whole file. It is scaled to a random
    peak, so that the codec meets quiet and loud audio, and played at one of `speeds` as a tape would be, so that it
    meets other pitches than those of the files. Files shorter than a stretch are padded with zeros. Item 0 is stretch
    `first` of the seed. Audio of rows with codes stays as it is, and its stretches begin with a frame of
    `frame_length` samples; without a frame length codes are left alone.
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
        frame_length: int | None = None,
    ):
        self.rows: list[dict[str, Any]] = []
        for manifest in [manifests] if isinstance(manifests, str | Path) else manifests:
            rows = read_manifest(manifest)
            check_fields(rows, ["audio"], manifest)
            self.rows += [
                row | {name: resolve_path(row[name], manifest) for name in ("audio", "codes") if row.get(name)}
                for row in rows
                if row.get("audio")
            ]
        self.weights = [_seconds(row) for row in self.rows]
        if not any(self.weights):
            raise DataError(f"{manifests}: the audio files hold no samples.")
        self.size, self.seconds, self.sample_rate_hz, self.seed = size, seconds, sample_rate_hz, seed
        self.peak_range, self.speeds, self.first, self.frame_length = peak_range, speeds, first, frame_length

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Segment:
        rng = random.Random(f"{self.seed}/{self.first + index}")
        row = rng.choices(self.rows, self.weights)[0]
        codes = None
        if self.frame_length is not None and row.get("codes"):
            wav, codes, whole = self._read_with_codes(row, rng, self.frame_length)
        else:
            wav, whole = self._read(row["audio"], rng)
            wav = wav * (rng.uniform(*self.peak_range) / max(float(wav.abs().max()), 1e-3))
        length = round(self.seconds * self.sample_rate_hz)
        wav = F.pad(wav, (0, max(0, length - len(wav))))[:length]
        return Segment(wav, " ".join(str(row.get("text") or "").lower().split()).encode() if whole else b"", codes)

    def _read(self, path: Path, rng: random.Random) -> tuple[Tensor, bool]:
        info = audio_info(path)
        rate, varied = info.samplerate, any(speed != 1.0 for speed in self.speeds)
        if varied:  # rates in hundreds of Hz, or resampling would need long filters
            rate = int(round(rng.choice(self.speeds) * rate, -2))
        wanted = round(self.seconds * rate)
        start = rng.randint(0, max(0, info.frames - wanted))
        return self._piece(path, start, wanted, rate), info.frames <= wanted

    def _read_with_codes(self, row: Mapping[str, Any], rng: random.Random, frame: int) -> tuple[Tensor, Tensor, bool]:
        codes = torch.from_numpy(np.load(row["codes"]).astype(np.int64))  # [K, T]
        T = -(-round(self.seconds * self.sample_rate_hz) // frame)
        start, rate = rng.randint(0, max(0, codes.shape[1] - T)), audio_info(row["audio"]).samplerate
        at, wanted = (round(n * frame * rate / self.sample_rate_hz) for n in (start, T))
        whole = codes.shape[1] <= T
        codes = F.pad(codes[:, start : start + T], (0, max(0, T - codes.shape[1])), value=-1)
        return self._piece(row["audio"], at, wanted, rate), codes, whole

    def _piece(self, path: Path, start: int, n: int, rate: int) -> Tensor:
        return Audio(Audio.read(path, start, n).samples, rate).mono().resample(self.sample_rate_hz).samples[0]


def _seconds(row: Mapping[str, Any]) -> float:
    """Return how long a row's audio is, as the manifest or else the file says."""
    said = row.get("seconds")
    return float(said) if isinstance(said, int | float) and said > 0 else float(audio_info(row["audio"]).duration)


def collate_segments(segments: Sequence[Segment]) -> SegmentBatch:
    """Put stretches side by side."""
    lengths = torch.tensor([len(segment.text) for segment in segments])
    padded = torch.zeros(len(segments), int(lengths.max()), dtype=torch.int64)
    for row, segment in zip(padded, segments, strict=True):
        row[: len(segment.text)] = torch.tensor(list(segment.text), dtype=torch.int64)
    given = next((segment.codes for segment in segments if segment.codes is not None), None)
    codes = None
    if given is not None:
        nothing = torch.full_like(given, -1)
        codes = torch.stack([nothing if segment.codes is None else segment.codes for segment in segments])
    return SegmentBatch(torch.stack([segment.wav for segment in segments]), padded, lengths, codes)
