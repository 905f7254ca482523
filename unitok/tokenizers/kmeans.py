"""Train the centroids of a semantic tokenizer: states of random audio files, clustered by scikit-learn.

F frames that are clustered, E width of a state, V clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unitok.audio import Audio, audio_info
from unitok.errors import AudioFormatError, DataError, MissingDependencyError
from unitok.features.base import FeatureEncoder
from unitok.tokenizers.semantic import CENTROIDS, KMeansTokenizer, states_of
from unitok.tokenizers.settings import SemanticSettings

__all__ = ["KMeansReport", "train_kmeans"]

# As HuBERT's own k-means (fairseq, examples/hubert/simple_kmeans) but for fewer starts and reassigned empty clusters.
BATCH_SIZE, MAX_EPOCHS, MAX_NO_IMPROVEMENT, N_STARTS = 10_000, 100, 100, 3
CHUNK = 65_536
"""Frames whose distances to all centroids are held at once."""


@dataclass(frozen=True)
class KMeansReport:
    """What was clustered, and how well."""

    files: int
    """Audio files heard."""
    seconds: float
    """Their length, in s."""
    frames: int
    """Frames clustered, F."""
    clusters: int
    """Centroids, V."""
    used: int
    """Centroids that are the nearest of some frame."""
    perplexity: float
    """exp of the entropy of their use: V where all are used alike."""
    inertia: float
    """Mean squared distance of a frame to its centroid."""
    variance: float
    """Mean squared distance of a frame to the mean of all: the inertia of one cluster."""
    problems: tuple[str, ...] = ()
    """Files that could not be heard, and why."""


def train_kmeans(
    files: Sequence[str | Path],
    encoder: FeatureEncoder,
    clusters: int,
    *,
    name: str,
    seed: int = 0,
    deduplicate: bool = False,
    max_hours: float | None = None,
    max_frames: int = 1_000_000,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[KMeansTokenizer, KMeansReport]:
    """Cluster the states of audio files. The same files, encoder and seed give the same centroids.

    Args:
        files: Audio of any length; long files cost memory in the encoder.
        encoder: Its states are clustered.
        clusters: Centroids, V.
        name: Name of the tokenizer.
        seed: Decides on files, frames and the start of the clustering.
        deduplicate: Of the tokenizer.
        max_hours: Random files of this length in all are heard; None: all of them.
        max_frames: Most frames clustered, random ones of each file alike; F * E * 4 bytes are held in memory.
        on_progress: Called with the files heard and all files.

    Returns:
        The tokenizer, and how well its centroids fit.

    Raises:
        DataError: If there are fewer frames than clusters.
        MissingDependencyError: If scikit-learn is not installed.
    """
    minibatch = _scikit_learn()
    heard = _hear([Path(file) for file in files], encoder, seed, max_hours, max_frames, on_progress)
    if len(heard.states) < clusters:
        reason = f" {heard.problems[0]}" if heard.problems else ""
        raise DataError(
            f"{len(files)} files give {len(heard.states)} frames, too few for {clusters} clusters. Give more audio, or "
            f"fewer clusters.{reason}"
        )
    model = minibatch(
        clusters,
        batch_size=BATCH_SIZE,
        max_iter=MAX_EPOCHS,
        max_no_improvement=MAX_NO_IMPROVEMENT,
        n_init=N_STARTS,
        random_state=seed,
    ).fit(heard.states)
    layer = getattr(encoder.settings, "layer", None)
    of_layer = "" if layer is None else f", layer {layer}"
    settings = SemanticSettings(
        name=name,
        description=f"{clusters} clusters of {encoder.name}{of_layer}, from {heard.seconds / 3600:.3g} h of audio.",
        source=encoder.settings.source,
        encoder=encoder.name,
        centroids=CENTROIDS,
        deduplicate=deduplicate,
    )
    tokenizer = KMeansTokenizer(settings, encoder, torch.from_numpy(model.cluster_centers_.astype(np.float32)))
    return tokenizer, _report(tokenizer, heard)


@dataclass(frozen=True)
class _Heard:
    """What random files gave."""

    states: np.ndarray
    """`[F, E]`, float32."""
    files: int
    seconds: float
    problems: tuple[str, ...]


def _hear(
    files: Sequence[Path],
    encoder: FeatureEncoder,
    seed: int,
    max_hours: float | None,
    max_frames: int,
    on_progress: Callable[[int, int], None] | None,
) -> _Heard:
    rng = np.random.default_rng(seed)
    chosen, problems = _chosen(files, rng, max_hours)
    n_expected = sum(seconds for _, seconds in chosen) * (encoder.frame_rate_hz or 0)
    share = min(1.0, max_frames / max(n_expected, 1.0))
    states = [np.zeros((0, encoder.dim), np.float32)]
    heard = 0.0
    for i, (path, seconds) in enumerate(chosen):
        try:
            states.append(_some(_states(encoder, path), share, rng))
            heard += seconds
        except (AudioFormatError, DataError) as error:  # DataError: longer than the encoder takes
            problems.append(f"{path}: {error}")
        if on_progress:
            on_progress(i + 1, len(chosen))
    return _Heard(np.concatenate(states), len(states) - 1, heard, tuple(problems))


def _scikit_learn() -> type:
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise MissingDependencyError(
            f"training centroids needs scikit-learn ({error}). Run pip install 'unitok[semantic]'."
        ) from error
    return MiniBatchKMeans


def _chosen(
    files: Sequence[Path], rng: np.random.Generator, max_hours: float | None
) -> tuple[list[tuple[Path, float]], list[str]]:
    """Return random files with their seconds, up to `max_hours`, and what is wrong with others."""
    chosen, problems, seconds = [], [], 0.0
    for i in rng.permutation(len(files)):
        if max_hours is not None and seconds >= max_hours * 3600:
            break
        path = files[i]
        try:
            duration = float(audio_info(path).duration)
        except AudioFormatError as error:
            problems.append(str(error))
            continue
        chosen.append((path, duration))
        seconds += duration
    return chosen, problems


@torch.inference_mode()
def _states(encoder: FeatureEncoder, path: Path) -> np.ndarray:
    return states_of(encoder, Audio.read(path)).cpu().numpy()


def _some(states: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random share of the rows, in order, at least one."""
    if share >= 1:
        return states
    return states[np.sort(rng.permutation(len(states))[: max(1, round(share * len(states)))])]


def _report(tokenizer: KMeansTokenizer, heard: _Heard) -> KMeansReport:
    """Measure how well centroids fit the states they were made of."""
    counts, total = torch.zeros(tokenizer.size, dtype=torch.float64), 0.0
    centroids = tokenizer.centroids.cpu()
    for part in torch.from_numpy(heard.states).split(CHUNK):
        ids = tokenizer.nearest(part.to(tokenizer.centroids.device)).cpu()
        counts += torch.bincount(ids, minlength=tokenizer.size)
        total += float((part - centroids[ids]).double().square().sum())
    p = counts[counts > 0] / counts.sum()
    return KMeansReport(
        files=heard.files,
        seconds=heard.seconds,
        frames=len(heard.states),
        clusters=tokenizer.size,
        used=len(p),
        perplexity=math.exp(float(-(p * p.log()).sum())),
        inertia=total / len(heard.states),
        variance=float(heard.states.var(0, dtype=np.float64).sum()),
        problems=heard.problems,
    )
