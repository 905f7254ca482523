"""Compare two recordings: intelligibility, distortion, length, tune, direction; aligned, their cepstra and pitch.

N samples, T frames, of 10 ms at 16 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from unitok.errors import DataError, MissingDependencyError
from unitok.evaluation.metric import register_metric
from unitok.evaluation.statistics import mean, ratio

if TYPE_CHECKING:
    from unitok.audio import Audio
    from unitok.evaluation.tools import Tools

__all__ = ["align", "cepstral_distance", "chroma", "mel_cepstra", "pitch_hz"]

RATE_HZ = 16000
HOP, WINDOW = 160, 1024
N_MELS, N_CEPSTRA = 80, 13
FLOOR = 1e-3
"""Of mel amplitudes, under the recording's highest: 60 dB below it nothing is told apart."""
F0_HZ = (60.0, 500.0)
SILENCE = 1e-9
"""Mean square of a channel, 90 dB below full scale: what is quieter counts as this."""


@register_metric(
    "stoi", takes="audio", better="higher", digits=3, value=mean, library="pystoi", source="Taal et al., 2011"
)
def _stoi(reference: Audio, made: Audio, tools: Tools) -> float:
    """Short-time objective intelligibility, up to 1, mean over items."""
    from unitok.evaluation.codecs import stoi

    return stoi(*_alike(reference, made))


@register_metric(
    "pesq", takes="audio", better="higher", value=mean, library="pesq", source="ITU-T P.862.2 (wide band, 16 kHz)"
)
def _pesq(reference: Audio, made: Audio, tools: Tools) -> float:
    """Perceptual evaluation of speech quality, 1 to 4.6, mean over items."""
    try:
        from pesq import PesqError, pesq  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingDependencyError(
            f"PESQ needs the package pesq, which compiles C as it is installed ({error}). "
            'Run: pip install "unitok[pesq]"'
        ) from error
    first, second = (audio.samples[0].numpy() for audio in _alike(reference.resample(RATE_HZ), made))
    try:
        return float(pesq(RATE_HZ, first, second, "wb"))
    except PesqError as error:
        raise DataError(f"PESQ cannot compare these recordings: {_message(error)}.") from error


@register_metric(
    "si_sdr", takes="audio", better="higher", unit=" dB", value=mean, library="torchmetrics",
    source="Le Roux et al., 2019 (arXiv:1811.02508)",
)  # fmt: skip
def _si_sdr(reference: Audio, made: Audio, tools: Tools) -> float:
    """Scale-invariant signal-to-distortion ratio, mean over items."""
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    first, second = (audio.samples[0] for audio in _alike(reference, made))
    return float(scale_invariant_signal_distortion_ratio(second, first, zero_mean=True))


@register_metric("mel_distance", takes="audio", better="lower", unit=" dB", value=mean)
def _mel_distance(reference: Audio, made: Audio, tools: Tools) -> float:
    """Mean difference of the levels of 80 mel bands, without alignment, mean over items."""
    from unitok.evaluation.codecs import mel_distance

    return mel_distance(*_alike(reference, made))


@register_metric(
    "mcd", takes="audio", better="lower", unit=" dB", value=mean, library="librosa", source="Kubichek, 1993"
)
def _mcd(reference: Audio, made: Audio, tools: Tools) -> float:
    """Mel-cepstral distance of 13 coefficients, without the level, along the alignment, mean over items."""
    return _aligned(reference, made)[1]


@register_metric("f0_error", takes="audio", better="lower", unit=" st", value=lambda those: math.sqrt(ratio(those)),
                 library="librosa", source="pYIN: Mauch and Dixon, 2014")  # fmt: skip
def _f0_error(reference: Audio, made: Audio, tools: Tools) -> tuple[float, float]:
    """Root mean square difference of pitch in semitones, where both are voiced, along the alignment."""
    first, second = _pitches(reference, made)
    both = np.isfinite(first) & np.isfinite(second)
    if not both.any():
        raise DataError("no stretch in which both recordings have a pitch.")
    semitones = 12 * np.log2(second[both] / first[both])
    return float((semitones**2).sum()), float(both.sum())


@register_metric("voicing_error", takes="audio", better="lower", unit=" %", scale=100, digits=1, value=ratio,
                 library="librosa", source="pYIN: Mauch and Dixon, 2014")  # fmt: skip
def _voicing_error(reference: Audio, made: Audio, tools: Tools) -> tuple[float, float]:
    """Share of frames in which one recording has a pitch and the other has none, along the alignment."""
    first, second = _pitches(reference, made)
    return float((np.isfinite(first) != np.isfinite(second)).sum()), float(len(first))


@register_metric("chroma_similarity", takes="audio", better="higher", digits=3, value=mean, library="librosa",
                 source="MusicGen (arXiv:2306.05284), section 4.2")  # fmt: skip
def _chroma_similarity(reference: Audio, made: Audio, tools: Tools) -> float:
    """Cosine of the chroma of two recordings in each frame, mean over frames, then over items: is it the same tune?"""
    first, second = (chroma(audio) for audio in _alike(reference.resample(RATE_HZ), made))
    lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    sounding = lengths > 0
    if not sounding.any():
        raise DataError("no frame in which both recordings sound.")
    return float(((first * second).sum(axis=0)[sounding] / lengths[sounding]).mean())


@register_metric("level_difference_error", takes="audio", better="lower", unit=" dB", digits=1, value=mean)
def _level_difference_error(reference: Audio, made: Audio, tools: Tools) -> float:
    """How far the difference of the levels of left and right is from that of the reference, mean over items."""
    return abs(_level_difference_db(reference) - _level_difference_db(made))


def _level_difference_db(audio: Audio) -> float:
    if audio.samples.shape[0] != 2:
        raise DataError(f"a recording has {audio.samples.shape[0]} channels; direction is heard in two.")
    left, right = (max(float(channel.square().mean()), SILENCE) for channel in audio.samples)
    if left == right == SILENCE:
        raise DataError("a recording is silent.")
    return 10 * math.log10(left / right)


def _length_ratio(lengths: Sequence[tuple[float, float]]) -> float:
    return sum(made for made, _ in lengths) / max(1e-9, sum(reference for _, reference in lengths))


@register_metric("duration_ratio", takes="audio", better="one", value=_length_ratio)
def _duration_ratio(reference: Audio, made: Audio, tools: Tools) -> tuple[float, float]:
    """Length of what was made over that of the reference, summed over items."""
    return made.duration_s, reference.duration_s


@lru_cache(maxsize=8)
def mel_cepstra(audio: Audio) -> np.ndarray:
    """Return mel cepstra 1 to 13 of a recording, `[T, 13]`, of log amplitudes (natural), whatever its level.

    `c_n = 2/M sum_k ln A_k cos(pi n (k + 1/2) / M)`, so that `ln A = c_0 + sum c_n cos(…)`, as vocoders' mel cepstra.

    Raises:
        DataError: If the recording is silent.
        MissingDependencyError: If librosa is not installed.
    """
    librosa, wav = _librosa(), _wav(audio)
    mels = librosa.feature.melspectrogram(
        y=wav, sr=RATE_HZ, n_fft=WINDOW, hop_length=HOP, n_mels=N_MELS, power=1.0
    ).T  # [T, M]
    if mels.max() < 1e-6:
        raise DataError("a recording is silent.")
    basis = np.cos(np.pi * np.outer(np.arange(N_MELS) + 0.5, np.arange(1, N_CEPSTRA + 1)) / N_MELS)
    return np.log(np.maximum(mels / mels.max(), FLOOR)) @ basis * 2 / N_MELS


@lru_cache(maxsize=8)
def pitch_hz(audio: Audio) -> np.ndarray:
    """Return the pitch of each frame `[T]` in Hz by pYIN, NaN where there is none."""
    f0, _, _ = _librosa().pyin(
        _wav(audio), fmin=F0_HZ[0], fmax=F0_HZ[1], sr=RATE_HZ, frame_length=WINDOW, hop_length=HOP
    )
    return f0


def chroma(audio: Audio) -> np.ndarray:
    """Return how much of each of the 12 semitones sounds in each frame `[12, T]`, in any octave."""
    return _librosa().feature.chroma_stft(
        y=_wav(audio), sr=RATE_HZ, n_fft=4 * WINDOW, hop_length=4 * HOP, tuning=0.0, norm=None
    )


def cepstral_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance in dB of each pair of frames, `[T1, n]` and `[T2, n]` -> `[T1, T2]`.

    `10 / ln 10 sqrt(2 sum (c_n - c'_n)^2)`: the root mean square difference of the levels of their smooth spectra.
    """
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return 10 / math.log(10) * np.sqrt(2 * np.maximum(squares, 0))


def align(costs: np.ndarray) -> np.ndarray:
    """Return the cheapest path from the first to the last pair, `[n, 2]`, that goes on by one in either or both (DTW).

    Args:
        costs: Of each pair, `[T1, T2]`.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):  # pairs on one diagonal do not depend on each other
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        total[i + 1, j + 1] = costs[i, j] + np.minimum(total[i, j], np.minimum(total[i, j + 1], total[i + 1, j]))
    i, j = rows - 1, columns - 1
    path = [(i, j)]
    while i or j:
        before = {(i - 1, j - 1): total[i, j], (i - 1, j): total[i, j + 1], (i, j - 1): total[i + 1, j]}
        i, j = min(before, key=before.__getitem__)
        path.append((i, j))
    return np.array(path[::-1])


@lru_cache(maxsize=4)
def _aligned(reference: Audio, made: Audio) -> tuple[np.ndarray, float]:
    """Return the path along which two recordings are nearest, and how far they are from each other on it, in dB."""
    costs = cepstral_distance(mel_cepstra(reference), mel_cepstra(made))
    path = align(costs)
    return path, float(costs[path[:, 0], path[:, 1]].mean())


def _pitches(reference: Audio, made: Audio) -> tuple[np.ndarray, np.ndarray]:
    path, _ = _aligned(reference, made)
    return pitch_hz(reference)[path[:, 0]], pitch_hz(made)[path[:, 1]]


def _alike(reference: Audio, made: Audio) -> tuple[Audio, Audio]:
    """Return both in mono, at the reference's rate and the length of the shorter one."""
    from unitok.audio import Audio

    rate = reference.sample_rate_hz
    both = [audio.mono().resample(rate) for audio in (reference, made)]
    n = min(audio.n_samples for audio in both)
    if not n or not all(bool(audio.samples[:, :n].any()) for audio in both):
        raise DataError("a recording is silent.")
    first, second = (Audio(audio.samples[:, :n].cpu(), rate) for audio in both)
    return first, second


def _wav(audio: Audio) -> np.ndarray:
    return audio.mono().resample(RATE_HZ).samples[0].cpu().numpy().astype(np.float64)


def _librosa():
    try:
        import librosa
    except ImportError as error:
        raise MissingDependencyError('mel cepstra and pitch need librosa. Run: pip install "unitok[eval]"') from error
    return librosa


def _message(error: Exception) -> str:
    what = error.args[0] if error.args else error
    return what.decode() if isinstance(what, bytes) else str(what)
