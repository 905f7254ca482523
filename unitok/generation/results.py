"""What a caller gets of one request: values, the sequence they are in, and how they came about.

Letters: K codebooks, T codec frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from unitok.audio import Audio
from unitok.generation.constraints import StopReason
from unitok.generation.lengths import TargetLength
from unitok.generation.reranking import Candidate
from unitok.sequence import TokenSequence
from unitok.tokenizers.runs import ID_SUFFIXES, write_ids

__all__ = ["Generation", "Value"]

Value: TypeAlias = "Audio | str | Tensor"


@dataclass(frozen=True)
class Generation:
    """What a model made of one request."""

    values: Mapping[str, Value]
    """Each target by its name: `Audio`, text, or ids `[1, T]` of a semantic target. Audio made for a place in a
    recording comes with what is before and after it; `sequence.codes(name)` has what was made alone."""
    sequence: TokenSequence
    """The whole sequence, conditions and targets."""
    log_probability: float
    """Sum of the targets' log-probabilities, see `GenerationResult`."""
    stop: StopReason
    """`end`, or `limit` where a target was cut at its longest."""
    lengths: tuple[TargetLength, ...] = ()
    """How long each audio and semantic target got, beside what the task's card expects."""
    candidates: tuple[Candidate, ...] = ()
    """What there was to choose from, with their scores (`best_of`); empty where only one was made."""
    chosen: int | None = None
    """Which of the candidates this is."""
    codes: Mapping[str, Tensor] = field(default_factory=dict)
    """Codes `[K, T]` of each audio target, ids `[1, T]` of each semantic one, of all that `values` has."""
    stages: Mapping[str, Generation] = field(default_factory=dict)
    """Of a pipeline: what each stage made; `sequence` is then that of the last stage, of its last piece if it had
    several."""

    @property
    def value(self) -> Any:
        """The one target, or a dict where the task has several."""
        return next(iter(self.values.values())) if len(self.values) == 1 else dict(self.values)

    def write(self, path: str | Path) -> dict[str, str]:
        """Write the audio and the semantic ids that were made.

        The first audio goes to `path`, more to `path` with the target's name before the suffix; ids to `path` if its
        suffix is one of theirs, else to `.npy` in its place.

        Returns:
            Target name -> file.
        """
        path, files = Path(path), dict[str, str]()
        for name, value in self.values.items():
            if isinstance(value, str):
                continue
            suffix = path.suffix if isinstance(value, Audio) or path.suffix in ID_SUFFIXES else ".npy"
            taken = {Path(file).suffix for file in files.values()}
            file = path.with_suffix(f".{name}{suffix}" if suffix in taken else suffix)
            files[name] = str(value.write(file) if isinstance(value, Audio) else write_ids(file, value))
        return files
