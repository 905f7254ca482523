"""From a task and its values to a token sequence.

The one place where sequences are laid out, in training and in generation. Letters: S positions, K codebooks, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unitok.errors import DataError, TokenizerError, VocabularyMismatchError, suggest
from unitok.pattern import Pattern
from unitok.sequence import Role, Segment, TokenSequence
from unitok.tasks.task import Field, Task
from unitok.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unitok.tokenizers.base import TextTokenizer

__all__ = ["SequenceBuilder", "cut_starts"]


class SequenceBuilder:
    """Lays out tasks with one vocabulary, text tokenizer and codec frame rate."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        text_tokenizer: TextTokenizer,
        frame_rate_hz: float,
        pattern: Pattern | None = None,
    ):
        """Keep the parts.

        Args:
            vocabulary: What ids mean.
            text_tokenizer: Spells text.
            frame_rate_hz: Codec frames per second.
            pattern: Where the codes of audio stand (`LMConfig.layout`); None means one frame at a position.

        Raises:
            VocabularyMismatchError: If the text tokenizer has more ids than the vocabulary has room for.
        """
        if text_tokenizer.size > vocabulary.text_size:
            raise VocabularyMismatchError(
                f"text tokenizer '{text_tokenizer.name}' has {text_tokenizer.size} ids, the vocabulary has "
                f"{vocabulary.text_size}. Use the text tokenizer the vocabulary was made for, or "
                f"grow(text_size={text_tokenizer.size})."
            )
        self.vocabulary = vocabulary
        self.text_tokenizer = text_tokenizer
        self.frame_rate_hz = frame_rate_hz
        self.pattern = pattern or Pattern.multiscale(vocabulary.n_codebooks)

    def build(
        self,
        task: Task,
        values: Mapping[str, str | Tensor],
        lang: str | None = None,
        targets: bool = True,
        unguided: bool = False,
    ) -> TokenSequence:
        """Lay one task out.

        Args:
            task: The task.
            values: A value for each field, by its name: text for kinds text and label; codes `[K', T]`, integer, for
                audio, where K' may be less than the vocabulary's K; semantic ids `[T]` or `[1, T]`. Optional fields
                may be left out or None. A condition longer than its `max_seconds` is cut to its start.
            lang: Language of `<lang:…>`; None leaves the token out.
            unguided: Leave `guided` conditions out even if they are no optional ones.
            targets: False stops after the conditions, a prompt for generation; targets' values are not looked at.

        Returns:
            The sequence, `[S, K]`.

        Raises:
            DataError: If a value is missing, unknown or of the wrong type.
            TokenizerError: If codes do not fit the vocabulary.
            VocabularyMismatchError: If the vocabulary lacks the task or the language.
        """
        _check_names(task, values)
        layout = _Layout(self.vocabulary)
        layout.control("<bos>")
        self.vocabulary.task_id(task.name)
        layout.control(f"<task:{task.name}>")
        if lang:
            self.vocabulary.lang_id(lang)
            layout.control(f"<lang:{lang}>")
        for field in task.conditions:
            if not (unguided and field.guided):
                self._add(layout, task, field, "condition", values.get(field.name))
        if targets:
            for field in task.targets:
                self._add(layout, task, field, "target", values.get(field.name))
            layout.control("<eos>")
        return TokenSequence(
            tokens=torch.cat(layout.rows),
            segments=tuple(layout.segments),
            vocabulary=self.vocabulary,
            text_tokenizer=self.text_tokenizer,
            frame_rate_hz=self.frame_rate_hz,
            loss_weights=torch.cat(layout.weights),
            codebook_weights=task.codebook_weights,
            pattern=self.pattern,
        )

    def _add(self, layout: _Layout, task: Task, field: Field, role: Role, value: str | Tensor | None) -> None:
        if value is not None:
            layout.segment(field, role, self._content(task, field, value))
        elif not field.optional:
            raise DataError(
                f"task '{task.name}' needs {role} '{field.name}' (kind {field.kind}), which is missing. "
                f"Pass {field.name}=…."
            )

    def _content(self, task: Task, field: Field, value: str | Tensor) -> Tensor:
        """Return the positions of a field's value, `[T, K]`."""
        if field.kind in ("text", "label"):
            if not isinstance(value, str):
                raise _wrong_type(task, field, value, "text")
            return self._slot0(self.vocabulary.text_to_tokens(self.text_tokenizer.encode(value)))
        if not isinstance(value, Tensor) or value.is_floating_point():
            raise _wrong_type(task, field, value, "a tensor of integer codes")
        if field.max_seconds is not None:
            value = value[..., : max(1, round(field.max_seconds * self.frame_rate_hz))]
        if field.kind == "semantic":
            return self._slot0(self.vocabulary.semantic_to_tokens(value.reshape(-1)))
        try:
            frames = self.vocabulary.codes_to_tokens(value.cpu())
        except TokenizerError as error:
            raise TokenizerError(f"task '{task.name}', '{field.name}': {error}") from error
        return self.pattern.place(frames, self.vocabulary.end_id(field.kind))

    def _slot0(self, tokens: list[int]) -> Tensor:
        rows = torch.zeros(len(tokens), self.vocabulary.n_codebooks, dtype=torch.int64)
        rows[:, 0] = torch.tensor(tokens, dtype=torch.int64)
        return rows


def cut_starts(task: Task, values: Mapping[str, str | Tensor], frame_rate_hz: float) -> dict[str, str | Tensor]:
    """Cut the start off a target for each condition `from: start` that reads the same record field.

        codes of the record    a b c d e f g h i j      (max_seconds covers four frames)
        condition              a b c d
        target                         e f g h i j

    Args:
        task: The task.
        values: The record's values by field name; the targets hold whole recordings.
        frame_rate_hz: Codec frames per second.

    Returns:
        The values with starts cut off. The condition gets at most half of a recording, so that the target keeps some.
    """
    cut = dict(values)
    for condition in task.conditions:
        if condition.source != "start" or condition.max_seconds is None:
            continue
        target = next(t for t in task.targets if (t.field, t.kind) == (condition.field, condition.kind))
        whole = cut.get(target.name)
        if isinstance(whole, Tensor):
            n_frames = min(max(1, round(condition.max_seconds * frame_rate_hz)), whole.shape[-1] // 2)
            cut[condition.name], cut[target.name] = whole[..., :n_frames], whole[..., n_frames:]
    return cut


class _Layout:
    """Grows a sequence position by position."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self.rows: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.segments: list[Segment] = []

    def control(self, name: str) -> None:
        self._append(name, "control", "control", self._marker(name), 0.0)

    def segment(self, field: Field, role: Role, content: Tensor) -> None:
        rows = torch.cat([self._marker(f"<{field.kind}>"), content, self._marker(f"</{field.kind}>")])
        weight = field.loss_weight if role == "target" else 0.0
        self._append(field.name, field.kind, role, rows, weight, aligned=field.aligned or role == "target")

    def _append(self, name: str, kind: str, role: Role, rows: Tensor, weight: float, aligned: bool = False) -> None:
        start = self.segments[-1].stop if self.segments else 0
        self.segments.append(Segment(name, kind, role, start, start + len(rows), aligned))
        self.rows.append(rows)
        self.weights.append(torch.full((len(rows),), weight))

    def _marker(self, name: str) -> Tensor:
        row = torch.zeros(1, self.vocabulary.n_codebooks, dtype=torch.int64)
        row[0, 0] = self.vocabulary.id(name)
        return row


def _check_names(task: Task, values: Mapping[str, str | Tensor]) -> None:
    names = [field.name for field in task.fields]
    for name in values:
        if name not in names:
            raise DataError(
                f"task '{task.name}' has no field '{name}'.{suggest(name, names)} It has: {', '.join(names)}."
            )


def _wrong_type(task: Task, field: Field, value: object, allowed: str) -> DataError:
    got = f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    return DataError(f"task '{task.name}', '{field.name}': got {got}, kind {field.kind} takes {allowed}.")
