"""From a task and its values to a token sequence.

The one place where sequences are laid out, in training and in generation. Letters: S positions, K codebooks, T frames.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from unitok.errors import DataError, TokenizerError, VocabularyMismatchError, suggest
from unitok.markers import Markers
from unitok.pattern import Pattern
from unitok.sequence import FeatureValue, Rates, Role, Segment, TokenSequence
from unitok.tasks.field import CUT_SOURCES, Field
from unitok.tasks.task import Task
from unitok.tokenizers.runs import collapse
from unitok.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unitok.features import FeatureEncoder
    from unitok.tokenizers.base import SemanticTokenizer, TextTokenizer
    from unitok.tokenizers.lexicon import Lexicon

__all__ = ["SequenceBuilder", "cut_pieces"]


class FeatureSizes(Protocol):
    """What the layout needs to know of a feature input (`LMConfig.features`)."""

    dim: int | None
    """Width of its states."""
    trained: bool
    """Is its encoder trained with the model?"""

    def n_positions(self, n_states: int) -> int:
        """Return how many positions so many states take."""
        ...


INSTRUCTION = Field("instruction", "text")
SHORTEST_SPAN, LONGEST_SPAN = 0.1, 0.6
"""Of a recording, for a target between what is `before` and `after` it."""


class SequenceBuilder:
    """Lays out tasks with one vocabulary, text tokenizer and codec frame rate."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        text_tokenizer: TextTokenizer,
        frame_rate_hz: float,
        pattern: Pattern | None = None,
        feature_inputs: Mapping[str, FeatureSizes] | None = None,
        encoders: Mapping[str, FeatureEncoder] | None = None,
        spelling: Mapping[str, Sequence[Sequence[int]]] | None = None,
        semantic_tokenizer: SemanticTokenizer | None = None,
        lexicons: Mapping[str, Lexicon] | None = None,
    ):
        """Keep the parts.

        Args:
            vocabulary: What ids mean.
            text_tokenizer: Spells text.
            frame_rate_hz: Codec frames per second.
            pattern: Where the codes of audio stand (`LMConfig.layout`); None means one frame at a position.
            feature_inputs: How many positions features take (`LMConfig.features`), by the names that cards use.
            encoders: What takes values of kind `features`, by the same names; without one there, only states.
            spelling: How the model spells its markers (`LMConfig.spelling`); None means each as its own id.
            semantic_tokenizer: Makes semantic ids; says how many there are in a second and whether equal neighbours
                stand in sequences once. Without one: as many as codec frames, all of them.
            lexicons: How words are said, by language; for conditions that a card marks `pronounced`.

        Raises:
            ValueError: If the spelling does not fit the vocabulary.
            VocabularyMismatchError: If a tokenizer has more ids than the vocabulary has room for.
        """
        if semantic_tokenizer is not None and semantic_tokenizer.size > vocabulary.semantic_size:
            raise VocabularyMismatchError(
                f"semantic tokenizer '{semantic_tokenizer.name}' has {semantic_tokenizer.size} ids, the vocabulary has "
                f"{vocabulary.semantic_size}. Use the semantic tokenizer the vocabulary was made for."
            )
        if text_tokenizer.size > vocabulary.text_size:
            raise VocabularyMismatchError(
                f"text tokenizer '{text_tokenizer.name}' has {text_tokenizer.size} ids, the vocabulary has "
                f"{vocabulary.text_size}. Use the text tokenizer the vocabulary was made for, or "
                f"grow(text_size={text_tokenizer.size})."
            )
        self.vocabulary = vocabulary
        self.text_tokenizer = text_tokenizer
        self.pattern = pattern or Pattern.multiscale(vocabulary.n_codebooks)
        self.feature_inputs = dict(feature_inputs or {})
        self.encoders = dict(encoders or {})
        self.markers = Markers(vocabulary, spelling or {})
        self.semantic_tokenizer = semantic_tokenizer
        self.lexicons = dict(lexicons or {})
        semantic_rate = frame_rate_hz if semantic_tokenizer is None else semantic_tokenizer.frame_rate_hz
        self.rates = Rates(frame_rate_hz, semantic_rate, bool(semantic_tokenizer and semantic_tokenizer.deduplicate))

    @property
    def frame_rate_hz(self) -> float:
        """Codec frames per second."""
        return self.rates.codec_hz

    def build(
        self,
        task: Task,
        values: Mapping[str, Any],
        lang: str | None = None,
        targets: bool = True,
        without: Collection[str] = (),
        instruction: str | None = None,
    ) -> TokenSequence:
        """Lay one task out.

        Args:
            task: The task.
            values: A value for each field, by its name: text for kinds text and label; codes `[K', T]`, integer, for
                audio, where K' may be less than the vocabulary's K; semantic ids of all frames, `[T]` or `[1, T]`,
                collapsed here where the semantic tokenizer says so; for features states
                `[T, E]`, or what the encoder takes: text, or samples `[N]` at its rate. Of a repeated condition a list
                of these, whose segments are called `prompt`, `prompt.2`, …, or each by that name. Optional fields may
                be left out or None. A condition longer than its `max_seconds` is cut to its start.
            lang: Language of `<lang:…>`; None leaves the token out.
            without: Names of conditions to leave out, whether optional or not, as guidance does.
            targets: False stops after the conditions, a prompt for generation; targets' values are not looked at.
            instruction: What to do in words, in place of `<task:…>`: a text segment of that name. It may hold
                conditions (`Task.instructed`).

        Returns:
            The sequence, `[S, K]`.

        Raises:
            DataError: If a value is missing, unknown or of the wrong type.
            TokenizerError: If codes do not fit the vocabulary.
            VocabularyMismatchError: If the vocabulary lacks the task or the language.
        """
        task, values = task.expanded(values)
        without = {one.name for one in task.conditions if one.name.partition(".")[0] in without}
        _check_names(task, values)
        layout = _Layout(self.markers)
        shaped = task.shaped({name: value for name, value in values.items() if name not in without})
        values = {f.name: self._prepared(task, f, shaped[f.name], lang) for f in task.fields}
        within = task.names_within
        layout.control("<bos>")
        self.vocabulary.task_id(task.name)
        if instruction is None:
            layout.control(f"<task:{task.name}>")
        if lang:
            self.vocabulary.lang_id(lang)
            layout.control(f"<lang:{lang}>")
        if instruction is not None:
            spelled, held = task.instructed(instruction, values)
            within |= held
            self._add(layout, task, INSTRUCTION, "condition", spelled)
        for field in task.conditions:
            if field.name not in without and field.name not in within:
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
            rates=self.rates,
            loss_weights=torch.cat(layout.weights),
            codebook_weights=task.codebook_weights,
            pattern=self.pattern,
            features={
                segment.name: value
                for segment in layout.segments
                if isinstance(value := values.get(segment.name), FeatureValue)
            },
        )

    def lexicon(self, field: Field, lang: str | None) -> Lexicon | None:
        """Return the lexicon that says how words of a field are said in a language; without one, in the only one."""
        if not field.pronounced or not self.lexicons or (lang is None and len(self.lexicons) > 1):
            return None
        return next(iter(self.lexicons.values())) if lang is None else self.lexicons.get(lang)

    def _prepared(self, task: Task, field: Field, value: Any, lang: str | None) -> Any:
        """Return a value; text as it is said where that is wanted, and one of kind features as what stands there."""
        if isinstance(value, str) and (lexicon := self.lexicon(field, lang)) is not None:
            return lexicon.pronounce(value)
        if field.kind != "features" or value is None or isinstance(value, FeatureValue):
            return value
        name = field.encoder
        if name not in self.feature_inputs:
            raise DataError(
                f"task '{task.name}', '{field.name}': the model has no feature input '{name}'."
                f"{suggest(name, self.feature_inputs)} It has: {', '.join(self.feature_inputs) or 'none'}."
            )
        if isinstance(value, Tensor) and value.ndim == 2 and value.is_floating_point():
            if value.shape[1] != self.feature_inputs[name].dim:
                raise DataError(
                    f"task '{task.name}', '{field.name}': states are {value.shape[1]} wide, those of '{name}' are "
                    f"{self.feature_inputs[name].dim}. Encode with the model's own encoder."
                )
            return FeatureValue(name, value, encoded=True)
        if name not in self.encoders:
            raise DataError(
                f"task '{task.name}', '{field.name}': the encoder '{name}' is not loaded, so states [T, "
                f"{self.feature_inputs[name].dim}] are needed."
            )
        is_audio = isinstance(value, Tensor) and value.ndim == 1 and value.is_floating_point()
        if not (is_audio if field.takes == "audio" else isinstance(value, str)):
            raise _wrong_type(task, field, value, "text" if field.takes == "text" else "audio, or states [T, E]")
        return FeatureValue(name, self.encoders[name].inputs(value), encoded=False)

    def _add(
        self, layout: _Layout, task: Task, field: Field, role: Role, value: str | Tensor | FeatureValue | None
    ) -> None:
        if value is not None:
            layout.segment(field, role, self._content(task, field, value))
        elif not field.optional:
            raise DataError(
                f"task '{task.name}' needs {role} '{field.name}' (kind {field.kind}), which is missing. "
                f"Pass {field.name}=…, on the command line --{field.name.replace('_', '-')} …."
            )

    def n_positions(self, value: FeatureValue) -> int:
        """Return how many positions features take."""
        n = len(value.values)
        n_states = n if value.encoded else self.encoders[value.encoder].n_states(n)
        return self.feature_inputs[value.encoder].n_positions(n_states)

    def _content(self, task: Task, field: Field, value: str | Tensor | FeatureValue) -> Tensor:
        """Return the positions of a field's value, `[T, K]`."""
        if isinstance(value, FeatureValue):
            return torch.full((self.n_positions(value), self.vocabulary.n_codebooks), self.vocabulary.empty_id)
        if field.kind in ("text", "label"):
            if not isinstance(value, str):
                raise _wrong_type(task, field, value, "text")
            return self._slot0(self.vocabulary.text_to_tokens(self.text_tokenizer.encode(value)))
        if not isinstance(value, Tensor) or value.is_floating_point():
            raise _wrong_type(task, field, value, "a tensor of integer codes")
        codes: Tensor = value
        if field.max_seconds is not None:
            codes = field.shortened(codes, max(1, round(field.max_seconds * self.rates.of(field.kind))))
        if field.kind == "semantic":
            return self._slot0(self.vocabulary.semantic_to_tokens(self._semantic(task, field, codes)))
        codes = codes if field.codebooks is None else codes[: field.codebooks]
        try:
            frames = self.vocabulary.codes_to_tokens(codes.cpu())
        except TokenizerError as error:
            raise TokenizerError(f"task '{task.name}', '{field.name}': {error}") from error
        return self.pattern.place(frames, self.markers.end_id(field.kind))

    def _semantic(self, task: Task, field: Field, value: Tensor) -> Tensor:
        if value.numel() and value.numel() != max(value.shape):
            raise DataError(
                f"task '{task.name}', '{field.name}': semantic ids are {list(value.shape)}, allowed: [T] or [1, T]."
            )
        ids = value.reshape(-1).cpu()
        return collapse(ids).ids if self.rates.deduplicated else ids

    def _slot0(self, tokens: list[int]) -> Tensor:
        rows = torch.zeros(len(tokens), self.vocabulary.n_codebooks, dtype=torch.int64)
        rows[:, 0] = torch.tensor(tokens, dtype=torch.int64)
        return rows


def cut_pieces(
    task: Task, values: Mapping[str, str | Tensor], rates: Rates, rng: np.random.Generator
) -> dict[str, str | Tensor]:
    """Cut the conditions that are pieces of a target's recording off it; the target keeps the rest.

        codes of the record    a b c d e f g h i j
        from: start            a b c d                  (max_seconds covers four frames)
        target                         e f g h i j
        from: before           a b c
        from: after                        g h i j
        target                       d e f              (drawn; up to the edge where one of the two is not there)

    Args:
        task: The task, with those conditions that are there.
        values: The record's values by field name; the targets hold whole recordings.
        rates: Frames per second.
        rng: Draws the target's span where there is something before or after it.

    Returns:
        The values with the pieces cut off. A start gets at most half of a recording, so that the target keeps some;
        one too short to be cut stays whole where the task can do without pieces.
    """
    cut = dict(values)
    for target in task.targets:
        whole = cut.get(target.name)
        pieces = {
            c.source: c
            for c in task.conditions
            if c.source in CUT_SOURCES and (c.field, c.kind) == (target.field, target.kind)
        }
        if not pieces or not isinstance(whole, Tensor):
            continue
        T = whole.shape[-1]
        needed = any(not piece.optional for piece in pieces.values())
        if len(pieces) >= T and not needed:  # a frame for each, and one for the target
            continue
        if start := pieces.get("start"):
            first, stop = min(max(1, round((start.max_seconds or 0.0) * rates.of(target.kind))), T // 2), T
            cut[start.name] = whole[..., :first]
        else:
            first, stop = _span(T, "before" in pieces, "after" in pieces, rng)
            cut |= {pieces["before"].name: whole[..., :first]} if "before" in pieces else {}
            cut |= {pieces["after"].name: whole[..., stop:]} if "after" in pieces else {}
        cut[target.name] = whole[..., first:stop]
    return cut


def _span(n_frames: int, before: bool, after: bool, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a stretch `[first, stop)` of a recording that leaves a frame or more on the sides that are wanted."""
    longest = max(1, n_frames - before - after)
    n = min(max(1, round(n_frames * rng.uniform(SHORTEST_SPAN, LONGEST_SPAN))), longest)
    if not (before and after):
        return (n_frames - n, n_frames) if before else (0, n)
    first = 1 + int(rng.integers(max(1, n_frames - n - 1)))
    return first, first + n


class _Layout:
    """Grows a sequence position by position."""

    def __init__(self, markers: Markers):
        self.markers = markers
        self.rows: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.segments: list[Segment] = []

    def control(self, name: str) -> None:
        if rows := self.markers.rows(name):
            self._append(Segment(name, "control", "control", *self._span(len(rows))), self.markers.tensor(rows), 0.0)

    def segment(self, field: Field, role: Role, content: Tensor) -> None:
        before, after = self.markers.start(field.kind, role), self.markers.end(field.kind, role)
        rows = torch.cat([self.markers.tensor(before), content, self.markers.tensor(after)])
        aligned = field.aligned or role == "target"
        span = self._span(len(rows))
        segment = Segment(field.name, field.kind, role, *span, aligned, n_before=len(before), n_after=len(after))
        self._append(segment, rows, field.loss_weight if role == "target" else 0.0)

    def _span(self, n_rows: int) -> tuple[int, int]:
        start = self.segments[-1].stop if self.segments else 0
        return start, start + n_rows

    def _append(self, segment: Segment, rows: Tensor, weight: float) -> None:
        self.segments.append(segment)
        self.rows.append(rows)
        self.weights.append(torch.full((len(rows),), weight))


def _check_names(task: Task, values: Mapping[str, Any]) -> None:
    names = [field.name for field in task.fields]
    for name in values:
        if name not in names:
            raise DataError(
                f"task '{task.name}' has no field '{name}'.{suggest(name, names)} It has: {', '.join(names)}."
            )


def _wrong_type(task: Task, field: Field, value: object, allowed: str) -> DataError:
    got = f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    return DataError(f"task '{task.name}', '{field.name}': got {got}, kind {field.kind} takes {allowed}.")
