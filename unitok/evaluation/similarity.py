"""Compare what recordings have in common, as an embedder hears it: voices, sets of sounds, sounds and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unitok.errors import DataError
from unitok.evaluation.metric import register_metric
from unitok.evaluation.statistics import mean

if TYPE_CHECKING:
    from unitok.audio import Audio
    from unitok.evaluation.tools import Tools

__all__ = ["cosine", "frechet_distance"]

Sets = tuple[np.ndarray, np.ndarray]


@register_metric("speaker_similarity", takes="voice", better="higher", digits=3, value=mean, uses="speaker")
def _speaker_similarity(reference: Audio, made: Audio, tools: Tools) -> float:
    """Cosine between the voice asked for (the prompt, else the reference) and the one made, mean over items."""
    first, second = (tools.embedded("speaker", audio).mean(axis=0) for audio in (reference, made))
    return cosine(first, second)


@register_metric(
    "clap_score", takes="caption", better="higher", digits=3, value=mean, uses="caption",
    source="CLAP: arXiv:2211.06687",
)  # fmt: skip
def _clap_score(caption: str, made: Audio, tools: Tools) -> float:
    """Cosine between the text and the sound made of it, in the space of a model of both, mean over items."""
    return cosine(tools.embedded("caption", caption).mean(axis=0), tools.embedded("caption", made).mean(axis=0))


def _fad(observations: Sequence[Sets]) -> float:
    asked, made = (np.concatenate(side) for side in zip(*observations, strict=True))
    return frechet_distance(asked, made)


@register_metric(
    "fad", takes="audio", better="lower", digits=3, value=_fad, per_item=False, paired=False, draws=100,
    uses="sound", library="numpy", source="Kilgour et al., 2019 (arXiv:1812.08466)",
)  # fmt: skip
def _observe_fad(reference: Audio, made: Audio, tools: Tools) -> Sets:
    """Fréchet distance between Gaussians of the embeddings of all references and of all that was made."""
    return tools.embedded("sound", reference), tools.embedded("sound", made)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` of two sets of vectors, `[n, E]` and `[m, E]`.

    The covariances are those of samples (n - 1); one vector alone has none, 0.

    Raises:
        DataError: If the vectors differ in width.
    """
    if first.shape[1] != second.shape[1]:
        raise DataError(f"embeddings are {first.shape[1]} and {second.shape[1]} wide. Embed both with one embedder.")
    covariances = [np.cov(x, rowvar=False).reshape(x.shape[1], -1) if len(x) > 1 else 0 for x in (first, second)]
    distance = float(((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum())
    one, other = (np.broadcast_to(c, (first.shape[1],) * 2).astype(np.float64) for c in covariances)
    # The root of C1 C2 has the trace of that of C1^(1/2) C2 C1^(1/2), which is symmetric: real and stable.
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    return max(0.0, distance + float(np.trace(one) + np.trace(other) - 2 * shared))


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the cosine of the angle between two vectors `[E]`.

    Raises:
        DataError: If one is all zeros.
    """
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    if not norms:
        raise DataError("an embedding is all zeros.")
    return float(first @ second) / norms
