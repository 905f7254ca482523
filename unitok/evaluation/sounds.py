"""Tell which sounds are heard, in what order, how often and how high, beside recordings of the sounds in question.

Knows nothing of how the sounds were made: spectra are told apart by a classifier fitted to the recordings, events are
counted by peaks of the level, pitch is where the spectrum peaks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from unitok.audio import Audio
from unitok.errors import DataError, MissingDependencyError

__all__ = ["HeardSound", "SoundCheck", "SoundReference"]

RATE_HZ = 16000
HOP = 160
"""Samples from frame to frame: 10 ms."""
WINDOW = 512
N_MELS = 48
WINDOW_FRAMES, WINDOW_HOP = 40, 5
"""Frames of a stretch that is classified, and from one to the next."""
QUIET_DB = -50.0
"""Level under the recording's peak, below which nothing is heard."""
CHANGE_COST = 6.0
"""What a change of sound costs, in nats: so much evidence is needed before another sound is believed."""
EVIDENCE = 0.35
"""Weight of a stretch; neighbours overlap and repeat each other."""
SHORTEST_FRAMES = 6


@dataclass(frozen=True)
class SoundReference:
    """A recording of one sound."""

    audio: Audio
    """Mono or not, of any rate."""
    count: int | None = None
    """How many events it has; None for a sound that goes on."""
    pitch: str | None = None
    """Which of its pitches, if it has several."""


class HeardSound(NamedTuple):
    """A stretch in which one sound is heard."""

    name: str
    start_s: float
    stop_s: float
    count: int
    """Events; of a sound that goes on, no more than a number."""
    pitch: str | None
    """The pitch of the references that it is nearest to; None where they have none."""


class _Counter(NamedTuple):
    """How the events of one sound are counted: peaks of its level, in dB."""

    smoothing: int
    """Frames over which the level is smoothed."""
    prominence_db: float
    distance: int
    """Frames from one peak to the next, at least."""
    per_event: int
    """Peaks of one event."""

    def count(self, level_db: np.ndarray) -> int:
        from scipy.signal import find_peaks

        kernel = np.hanning(self.smoothing + 2)
        power = np.convolve(np.pad(10 ** (level_db / 10), self.smoothing), kernel / kernel.sum(), mode="same")
        smooth = 10 * np.log10(power + 10 ** (QUIET_DB / 10))
        peaks, _ = find_peaks(
            smooth, height=smooth.max() - 25, prominence=self.prominence_db, distance=max(1, self.distance)
        )
        return max(1, round(len(peaks) / self.per_event))


COUNTERS = [_Counter(*c) for c in product((3, 8, 15, 25), (1.5, 3.0, 6.0, 12.0), (8, 18, 35), (1, 2))]


class SoundCheck:
    """Extremely randomised trees (scikit-learn) over stretches of 0.4 s, and Viterbi over a recording."""

    def __init__(self, references: Mapping[str, Sequence[SoundReference]], seed: int = 0):
        """Fit.

        Args:
            references: Recordings of each sound by itself, at least 5, with all its pitches and counts.
            seed: Seed of the trees.

        Raises:
            DataError: If there are too few.
            MissingDependencyError: If scikit-learn or librosa is not installed.
        """
        try:
            from sklearn.ensemble import ExtraTreesClassifier
        except ImportError as error:
            raise MissingDependencyError('SoundCheck needs scikit-learn: pip install "unitok[eval]".') from error
        few = [f"{name}: {len(those)}" for name, those in references.items() if len(those) < 5]
        if few or len(references) < 2:
            raise DataError(
                f"SoundCheck needs two sounds or more with at least 5 recordings each, got {', '.join(few) or 'one'}."
            )
        features, names = [], []
        self._counters: dict[str, _Counter] = {}
        self._pitches: dict[str, dict[str, float]] = {}
        for name, those in references.items():
            heard = [_analyse(reference.audio) for reference in those]
            for spectrum, level in heard:
                stretches, loud = _stretches(spectrum, level)
                features.append(stretches[loud])
                names += [name] * int(loud.sum())
            counted = [(level, r.count) for (_, level), r in zip(heard, those, strict=True) if r.count]
            if counted:
                self._counters[name] = _fitted_counter(counted)
            heights = defaultdict(list)
            for (spectrum, level), reference in zip(heard, those, strict=True):
                if reference.pitch:
                    heights[reference.pitch].append(_height(spectrum, level))
            self._pitches[name] = {pitch: float(np.median(values)) for pitch, values in heights.items()}
        trees = ExtraTreesClassifier(200, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=-1)
        self._model: Any = trees.fit(np.concatenate(features), names)

    def listen(self, audio: Audio) -> list[HeardSound]:
        """Return the sounds of a recording, one after the other; silence has none."""
        spectrum, level = _analyse(audio)
        stretches, loud = _stretches(spectrum, level)
        if not loud.any():
            return []
        scores = np.zeros((len(stretches), len(self._model.classes_)))
        scores[loud] = EVIDENCE * np.log(self._model.predict_proba(stretches[loud]) + 1e-3)
        path = _viterbi(scores)
        edges = [0, *(np.flatnonzero(np.diff(path)) + 1), len(path)]
        sounds = []
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            start, stop = first * WINDOW_HOP, len(level) if last == len(path) else last * WINDOW_HOP
            heard = level[start:stop] > QUIET_DB
            if heard.sum() >= SHORTEST_FRAMES:
                sounds.append(self._sound(str(self._model.classes_[path[first]]), start, spectrum, level, stop))
        return sounds

    def _sound(self, name: str, start: int, spectrum: np.ndarray, level: np.ndarray, stop: int) -> HeardSound:
        counter, pitches = self._counters.get(name), self._pitches[name]
        height = _height(spectrum[start:stop], level[start:stop])
        return HeardSound(
            name,
            start * HOP / RATE_HZ,
            stop * HOP / RATE_HZ,
            counter.count(level[start:stop]) if counter else 1,
            min(pitches, key=lambda pitch: abs(pitches[pitch] - height)) if pitches else None,
        )


def _analyse(audio: Audio) -> tuple[np.ndarray, np.ndarray]:
    """Return log-mels in dB `[T, mels]` and levels in dB under the peak `[T]`."""
    try:
        import librosa
    except ImportError as error:
        raise MissingDependencyError('SoundCheck needs librosa: pip install "unitok[eval]".') from error
    wav = audio.mono().resample(RATE_HZ).samples[0].numpy().astype(np.float64)
    power = librosa.feature.melspectrogram(
        y=wav, sr=RATE_HZ, n_fft=WINDOW, hop_length=HOP, win_length=WINDOW, n_mels=N_MELS, fmin=40
    ).T
    total = power.sum(axis=1)
    peak = max(float(total.max()), 1e-8)
    return 10 * np.log10(power / peak + 1e-7), 10 * np.log10(total / peak + 1e-7)


def _stretches(spectrum: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features of stretches `[W, features]`, and which of them are heard `[W]`."""
    half = WINDOW_FRAMES // 2
    spectrum = np.pad(spectrum, ((half, half), (0, 0)), constant_values=-70.0)
    level = np.pad(level, half, constant_values=-70.0)
    starts = np.arange(0, len(level) - 2 * half, WINDOW_HOP) if len(level) > 2 * half else np.array([0])
    features = [_features(spectrum[s : s + WINDOW_FRAMES], level[s : s + WINDOW_FRAMES]) for s in starts]
    loud = np.array([level[s : s + WINDOW_FRAMES].max() > QUIET_DB + 10 for s in starts])
    return np.stack(features), loud


def _features(spectrum: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Describe a stretch `[F, mels]` whatever its level: mean spectrum, how it moves, how its level moves."""
    weight = 10 ** ((level - level.max()) / 10)
    weight = weight / weight.sum()
    shape = spectrum - level[:, None]
    mean = weight @ shape
    spread = np.sqrt(np.maximum(weight @ (shape - mean) ** 2, 0))
    bands = np.arange(N_MELS)
    power = 10 ** (shape / 10)
    centroid = power @ bands / power.sum(axis=1)
    peak = shape.argmax(axis=1).astype(float)
    relative = np.maximum(level - level.max(), -40)
    change = np.diff(relative)
    rhythm = np.abs(np.fft.rfft(10 ** (relative / 20) - np.mean(10 ** (relative / 20))))[1:16]
    moments = [f(weight, value) for value in (centroid, peak) for f in (_mean, _spread, _slope)]
    temporal = [
        relative.mean(), relative.std(), np.abs(change).mean(), change.max(), change.min(),
        float((weight**2).sum()), float(np.mean(relative > -10)),
    ]  # fmt: skip
    return np.concatenate([mean, spread, moments, temporal, rhythm])


def _mean(weight: np.ndarray, value: np.ndarray) -> float:
    return float(weight @ value)


def _spread(weight: np.ndarray, value: np.ndarray) -> float:
    return float(np.sqrt(weight @ (value - weight @ value) ** 2))


def _slope(weight: np.ndarray, value: np.ndarray) -> float:
    time = np.linspace(-1, 1, len(value))
    time = time - weight @ time
    return float(weight @ (time * value) / max(weight @ time**2, 1e-3))


def _height(spectrum: np.ndarray, level: np.ndarray) -> float:
    """Return how high a sound is: the mel band in which it is loudest, weighed by level."""
    weight = 10 ** (level / 10)
    return float(np.average(spectrum.argmax(axis=1), weights=weight))


def _fitted_counter(recordings: Sequence[tuple[np.ndarray, int]]) -> _Counter:
    """Return the counter that is right most often, and wrong by least."""

    def errors(counter: _Counter) -> tuple[int, int]:
        wrong = [abs(counter.count(level) - count) for level, count in recordings]
        return sum(e > 0 for e in wrong), sum(wrong)

    return min(COUNTERS, key=errors)


def _viterbi(scores: np.ndarray) -> np.ndarray:
    """Return the likeliest state of each row of `scores [W, states]`, where a change costs `CHANGE_COST`."""
    best, came_from = scores[0].copy(), np.zeros(scores.shape, dtype=int)
    for i in range(1, len(scores)):
        other = int(best.argmax())
        changed = best[other] - CHANGE_COST
        came_from[i] = np.where(best >= changed, np.arange(len(best)), other)
        best = np.maximum(best, changed) + scores[i]
    path = [int(best.argmax())]
    for i in range(len(scores) - 1, 0, -1):
        path.append(int(came_from[i][path[-1]]))
    return np.array(path[::-1])
