"""Audio as a value: samples and their rate, read from and written to files, resampled, drawn, played in a notebook.

Letters: C channels, N samples.
"""

from __future__ import annotations

import base64
import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from unitok.errors import AudioFormatError, suggest
from unitok.files import partial_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Audio", "AudioWriter", "PipeWriter", "audio_info", "audio_suffix", "resampled"]

LARGEST_TERM = 2000
"""Of a ratio of two rates that is not in small numbers; off by 2.1e-4 at most, of rates from 4 to 400 kHz."""


@dataclass(frozen=True, eq=False, repr=False)
class Audio:
    """Samples with their rate."""

    samples: Tensor
    """`[C, N]`, float32, nominally in [-1, 1]."""
    sample_rate_hz: int
    """Samples per second and channel."""

    def __post_init__(self) -> None:
        """Check shape, type and values; other floating-point types become float32.

        Raises:
            AudioFormatError: If the samples are not `[C, N]`, floating point and finite, or the rate is not positive.
        """
        samples, rate = self.samples, self.sample_rate_hz
        if not isinstance(samples, Tensor) or samples.ndim != 2 or not samples.shape[0]:
            got = list(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise AudioFormatError(
                f"samples are {got}, allowed: a tensor [C, N]. Audio.of((samples, rate)) takes arrays and [N] too."
            )
        if not samples.is_floating_point():
            raise AudioFormatError(
                f"samples are {samples.dtype}, allowed: floating point in [-1, 1]. Divide 16-bit samples by 32768."
            )
        if not isinstance(rate, Real) or rate % 1 or rate <= 0:  # of NaN and infinity the remainder is NaN
            raise AudioFormatError(f"sample rate is {rate}, allowed: a whole number of Hz above 0.")
        if not bool(torch.isfinite(samples).all()):
            bad = int((~torch.isfinite(samples)).sum())
            raise AudioFormatError(f"{bad} of {samples.numel()} samples are NaN or infinite. Look at what made them.")
        object.__setattr__(self, "samples", samples.detach().to(torch.float32))
        object.__setattr__(self, "sample_rate_hz", int(rate))

    @classmethod
    def of(cls, value: Audio | str | Path | tuple[Any, int]) -> Audio:
        """Return audio from an `Audio`, a file, or `(samples, sample_rate_hz)`.

        Samples are `[N]` or `[C, N]`, a tensor, an array or a list.

        Raises:
            AudioFormatError: If it is none of these, or not usable as audio.
        """
        if isinstance(value, Audio):
            return value
        if isinstance(value, str | Path):
            return cls.read(value)
        if isinstance(value, tuple) and len(value) == 2:
            samples, rate = value
            try:
                samples = torch.as_tensor(samples)
            except (TypeError, ValueError, RuntimeError) as error:
                raise AudioFormatError(f"samples cannot be read as numbers [N] or [C, N]: {error}.") from error
            return cls(samples[None] if samples.ndim == 1 else samples, rate)
        raise AudioFormatError(f"got {type(value).__name__}, allowed: Audio, a path, or (samples, sample_rate_hz).")

    @classmethod
    def read(cls, path: str | Path, first: int = 0, n_samples: int = -1) -> Audio:
        """Read a file of any format libsndfile knows (wav, flac, ogg, mp3, …), or a stretch of it.

        Args:
            path: The file.
            first: First sample.
            n_samples: How many of each channel, fewer where the file ends before; -1: all.

        Raises:
            AudioFormatError: If the file is missing, is not audio, or holds no samples.
        """
        path = Path(path)
        with _reading(path):
            samples, rate = soundfile.read(path, n_samples, first, dtype="float32", always_2d=True)
        if not len(samples):
            raise AudioFormatError(f"audio file '{path}' holds no samples.")
        try:
            return cls(torch.from_numpy(np.ascontiguousarray(samples.T)), rate)
        except AudioFormatError as error:
            raise AudioFormatError(f"audio file '{path}': {error}") from error

    def write(self, path: str | Path) -> Path:
        """Write a file, its format by its suffix (16-bit where the format has it); values beyond [-1, 1] are clipped.

        The file appears whole or not at all. Folders are made.

        Returns:
            The path.

        Raises:
            AudioFormatError: If the format is unknown or cannot hold this audio.
        """
        with AudioWriter(path, self.sample_rate_hz, self.n_channels) as file:
            file.write(self)
        return Path(path)

    def resample(self, sample_rate_hz: int) -> Audio:
        """Return the audio at another rate, band-limited (windowed sinc); itself where the rate is the same.

        `N` becomes `ceil(N * new / old)`.
        """
        if sample_rate_hz == self.sample_rate_hz:
            return self
        if sample_rate_hz <= 0:
            raise AudioFormatError(f"sample rate is {sample_rate_hz}, allowed: a whole number of Hz above 0.")
        return Audio(resampled(self.samples, self.sample_rate_hz, sample_rate_hz), sample_rate_hz)

    def mono(self) -> Audio:
        """Return the mean of the channels, `[1, N]`."""
        return self if self.n_channels == 1 else Audio(self.samples.mean(0, keepdim=True), self.sample_rate_hz)

    @property
    def n_channels(self) -> int:
        """Number of channels, C."""
        return self.samples.shape[0]

    @property
    def n_samples(self) -> int:
        """Number of samples in each channel, N."""
        return self.samples.shape[1]

    @cached_property
    def duration_s(self) -> float:
        """Length in s."""
        return self.n_samples / self.sample_rate_hz

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw waveform and log-mel spectrogram.

        Args:
            path: Where to write the picture (format by suffix); None only returns it, for a notebook.
        """
        from unitok.plotting import plot_audio

        return plot_audio(self, path)

    def __repr__(self) -> str:
        """Return `Audio(2.52 s, 16000 Hz, mono)`."""
        channels = {1: "mono", 2: "stereo"}.get(self.n_channels, f"{self.n_channels} channels")
        return f"Audio({self.duration_s:.2f} s, {self.sample_rate_hz} Hz, {channels})"

    def _repr_html_(self) -> str:
        """Return a player for a notebook."""
        file = io.BytesIO()
        soundfile.write(file, self.samples.cpu().numpy().T, self.sample_rate_hz, subtype="PCM_16", format="WAV")
        data = base64.b64encode(file.getvalue()).decode()
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio> {self!r}'


class AudioWriter:
    """A file that audio is written into piece by piece; it appears whole at the end, or not at all.

    ```python
    with AudioWriter("x.wav", 16000) as file:
        for piece in pieces:
            file.write(piece)
    ```
    """

    def __init__(self, path: str | Path, sample_rate_hz: int, n_channels: int = 1) -> None:
        """Begin; folders are made.

        Args:
            path: Where the file is to be, its format by its suffix (16-bit where the format has it).
            sample_rate_hz: Of all pieces.
            n_channels: Of all pieces, C.

        Raises:
            AudioFormatError: If the format is unknown or cannot hold such audio.
            UnitokError: If no file can be there.
        """
        self.path = path = Path(path)
        self.sample_rate_hz, self.n_channels, self.n_samples = sample_rate_hz, n_channels, 0
        kind = audio_suffix(path)
        self._partial = partial_file(path)
        try:
            self._file = soundfile.SoundFile(
                self._partial, "w", sample_rate_hz, n_channels, subtype=_subtype(kind), format=_formats()[kind]
            )
        except soundfile.SoundFileError as error:
            self._partial.unlink(missing_ok=True)
            raise AudioFormatError(
                f"cannot write '{path}': {kind} does not take {sample_rate_hz} Hz and {n_channels} channels ({error}). "
                "Resample it, or write .wav."
            ) from error

    def write(self, audio: Audio) -> None:
        """Append a piece; values beyond [-1, 1] are clipped.

        Raises:
            AudioFormatError: If it has another rate or other channels than the file.
        """
        self._file.write(interleaved(audio, self.sample_rate_hz, self.n_channels))
        self._file.flush()
        self.n_samples += audio.n_samples

    def close(self, *, keep: bool = True) -> None:
        """Finish the file, and give it its name or remove it."""
        self._file.close()
        if keep:
            self._partial.replace(self.path)
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> AudioWriter:
        """Return itself."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Finish the file; after an error there is none."""
        self.close(keep=kind is None)


class PipeWriter:
    """Audio into a pipe, as it comes: 16-bit samples, after a WAV header that names no length, or raw.

    Players read it so (`| aplay`, `| ffplay -i -`, `| sox -t wav - …`), as they do what ffmpeg writes into a pipe.
    """

    def __init__(self, pipe: BinaryIO, sample_rate_hz: int, n_channels: int = 1, *, raw: bool = False) -> None:
        """Begin; the header goes out at once.

        Args:
            pipe: Where to, such as `sys.stdout.buffer`.
            sample_rate_hz: Of all pieces.
            n_channels: Of all pieces, C.
            raw: Leave the header out: little-endian, channels side by side (`aplay -t raw -f S16_LE -r 16000`).
        """
        self.pipe, self.sample_rate_hz, self.n_channels, self.n_samples = pipe, sample_rate_hz, n_channels, 0
        if not raw:
            frame = 2 * n_channels
            sizes = (16, 1, n_channels, sample_rate_hz, frame * sample_rate_hz, frame, 16)
            head = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", *sizes) + b"data\xff\xff\xff\xff"
            self._send(head)

    def write(self, audio: Audio) -> None:
        """Send a piece; values beyond [-1, 1] are clipped.

        Raises:
            AudioFormatError: If it has another rate or other channels than the first.
        """
        samples = interleaved(audio, self.sample_rate_hz, self.n_channels)
        self._send(np.rint(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
        self.n_samples += audio.n_samples

    def _send(self, data: bytes) -> None:
        self.pipe.write(data)
        self.pipe.flush()


def resampled(samples: Tensor, rate_hz: int, new_rate_hz: int) -> Tensor:
    """Return samples `[C, N]` at another rate, `[C, ceil(N * new / old)]`.

    The filters of rates with hardly a common divisor (44101 and 16000 Hz) would take gigabytes and minutes. Such a
    ratio is taken as the nearest in small numbers.

    Source: `torchaudio.functional.resample`.
    """
    from torchaudio.functional import resample

    ratio = Fraction(new_rate_hz, rate_hz)
    if ratio.numerator * ratio.denominator <= LARGEST_TERM**2:
        return resample(samples, rate_hz, new_rate_hz)
    near = ratio.limit_denominator(int(LARGEST_TERM / math.sqrt(ratio)))
    N = -(-samples.shape[-1] * new_rate_hz // rate_hz)
    made = resample(samples, near.denominator, near.numerator)[..., :N]
    return torch.nn.functional.pad(made, (0, N - made.shape[-1]))


def interleaved(audio: Audio, sample_rate_hz: int, n_channels: int) -> np.ndarray:
    """Return samples `[N, C]` of a piece.

    Raises:
        AudioFormatError: If it has another rate or other channels than the pieces before.
    """
    if (audio.sample_rate_hz, audio.n_channels) != (sample_rate_hz, n_channels):
        raise AudioFormatError(
            f"a piece is {audio!r}, the file has {sample_rate_hz} Hz and {n_channels} channels. "
            "Resample it, or mix its channels."
        )
    return audio.samples.cpu().numpy().T


def audio_info(path: str | Path) -> Any:
    """Return what soundfile says of a file, `samplerate`, `frames` (samples N) and `duration` in s, without reading it.

    Raises:
        AudioFormatError: If the file is missing, or is not audio.
    """
    with _reading(Path(path)):
        return soundfile.info(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in plain words why a file cannot be read."""
    if not path.is_file():
        raise AudioFormatError(f"audio file '{path}' {'is a folder' if path.is_dir() else 'does not exist'}.")
    try:
        yield
    except (soundfile.SoundFileError, OSError) as error:
        reason = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
        raise AudioFormatError(
            f"audio file '{path}' cannot be read: {reason}. Readable: {', '.join(sorted(_formats()))}; "
            "ffmpeg turns others into wav."
        ) from error


def audio_suffix(path: str | Path) -> str:
    """Return the suffix of a file to be written, in lower case and without its dot.

    Raises:
        AudioFormatError: If it is that of no format.
    """
    suffix, formats = Path(path).suffix, _formats()
    kind = suffix[1:].lower()
    if kind not in formats:
        raise AudioFormatError(
            f"cannot write '{path}': its suffix is '{suffix}'.{suggest(kind, formats)} "
            f"Allowed: {', '.join(sorted(formats))}."
        )
    return kind


def _formats() -> dict[str, str]:
    """Return suffix -> libsndfile format."""
    formats = {name.lower(): name for name in soundfile.available_formats() if name != "RAW"}
    return formats | {"aif": "AIFF", "opus": "OGG"}


def _subtype(kind: str) -> str | None:
    if kind == "opus":
        return "OPUS"
    return "PCM_16" if soundfile.check_format(_formats()[kind], "PCM_16") else None
