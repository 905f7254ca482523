"""The sequence that a card's example makes, without a model: to see what a card means before anything is trained.

Text is spelled as bytes; audio is half a second of a toy codec, T = 12 frames of K = 2 codebooks; features are as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from unitok.sequence import FeatureValue, TokenSequence
from unitok.tasks.builder import SequenceBuilder
from unitok.tasks.field import SPELLED_KINDS, Field
from unitok.tasks.task import Task
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.vocabulary import Vocabulary

__all__ = ["example_sequence"]

T, K, CODES = 12, 2, 8
FRAME_RATE_HZ = 24.0
UNKNOWN = "..."
"""Stands for a text that the example does not give: the targets."""


@dataclass
class _Features:
    """One position for each state."""

    dim: int | None = 1
    trained: bool = False

    def n_positions(self, n_states: int) -> int:
        """Return as many."""
        return n_states


def example_sequence(task: Task, instruction: str | None = None) -> TokenSequence:
    """Lay the example of a card out; optional conditions are there where the example or the instruction has them.

    Args:
        task: The task.
        instruction: One of its instructions, in place of its token.

    Raises:
        DataError: If the instruction names what the task does not have.
    """
    lang = task.example.get("lang")
    tokenizer = ByteTokenizer()
    vocabulary = Vocabulary.create(
        [task.name], [lang] if lang else [], tokenizer.size, [CODES] * K, semantic_size=CODES
    )
    inputs = {field.encoder: _Features() for field in task.conditions if field.kind == "features"}
    builder = SequenceBuilder(vocabulary, tokenizer, FRAME_RATE_HZ, feature_inputs=inputs)
    values = {field.name: _values(field, task, instruction or "") for field in task.fields}
    return builder.build(task, values, lang=lang, instruction=instruction)


def _values(field: Field, task: Task, instruction: str) -> Any:
    """Return the value of a field; of a repeated one as many as the example has."""
    given = task.example.get(field.name)
    if not isinstance(given, list):
        return _value(field, task, instruction)
    several: list[str] = given
    return [_value(field, replace(task, example={field.name: one}), instruction) for one in several]


def _value(field: Field, task: Task, instruction: str) -> Any:
    named = f"{{{field.name}}}" in instruction
    if field.optional and field.name not in task.example and not named:
        return None
    if field.kind in SPELLED_KINDS:
        return task.example.get(field.name, UNKNOWN)
    if field.kind == "features":
        return FeatureValue(field.encoder, torch.zeros(T, 1), encoded=True)
    return torch.zeros(1 if field.kind == "semantic" else K, T, dtype=torch.int64)
