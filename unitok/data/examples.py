"""From a record to a task's sequence: which records a task can use, how long they get, and what is random about them.

K codebooks, T codec frames.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from unitok.data.mixing import Example
from unitok.data.records import FeatureColumn, RecordReader
from unitok.errors import DataError, suggest
from unitok.sequence import TokenSequence
from unitok.tasks import Field, SequenceBuilder, Task
from unitok.tasks.builder import cut_pieces
from unitok.tasks.field import CUT_SOURCES, names_in, numbered
from unitok.tokenizers.lexicon import WORD, Pronounced, words_of

__all__ = ["MixDataset", "TaskExamples"]

SPEAKER_FIELD = "speaker"


class TaskExamples:
    """All examples of one task over one set of records."""

    def __init__(
        self,
        reader: RecordReader,
        task: Task,
        builder: SequenceBuilder,
        *,
        optional_dropout: float = 0.0,
        guided_dropout: float = 0.0,
        without: Collection[str] = (),
        loss_weight: float = 1.0,
        instructed: float = 0.0,
        spelled: float = 0.0,
        longest: int | None = None,
    ):
        """Find the records that have what the task needs.

        Args:
            reader: The records.
            task: The task.
            builder: Makes the sequences.
            optional_dropout: Probability that an optional condition is left out.
            guided_dropout: Probability that guided conditions are left out; which of several, each set of them is as
                likely (InstructPix2Pix, arXiv:2211.09800, section 3.2.1).
            without: Names of optional conditions that are always left out.
            loss_weight: Multiplies the weight of every label.
            instructed: Probability that one of the task's instructions stands in place of `<task:…>`.
            spelled: Probability that a word of a `pronounced` condition stands as it is written (`Lexicon.pronounce`).
            longest: Longest sequence used, in positions.

        Raises:
            DataError: If the records lack a field that the task needs, or hold other codes than the builder's.
        """
        self.reader, self.task, self.builder = reader, task, builder
        self.optional_dropout, self.guided_dropout = optional_dropout, guided_dropout
        self.loss_weight, self.instructed, self.spelled = loss_weight, instructed, spelled
        _check_optional(task, without)
        if instructed and not task.instructions:
            raise DataError(f"task '{task.name}' has no instructions in its card. Add some, or leave 'instructed' out.")
        self.fields = [field for field in task.fields if field.name not in without]
        _check_codes(reader, builder, task)
        lengths = np.full(len(reader), 4 + self._longest_instruction())  # <bos> <task> <lang> <eos>
        usable = np.ones(len(reader), bool)
        self._peers = self._same_speaker() if any(f.source == "same_speaker" for f in self.fields) else None
        for field in self.fields:
            if field.optional and not self._is_stored(field):
                continue
            present, positions = self._measure_all(field)
            usable &= present | field.optional
            lengths += positions
        self.n_too_long = int((usable & (lengths > longest)).sum()) if longest else 0
        self.records = np.flatnonzero(usable & (lengths <= longest) if longest else usable)
        """Indices of the records used, `[n]`."""
        self.lengths = lengths[self.records]
        """Upper bound of each sequence's positions, `[n]`."""
        self._check_langs()

    def __len__(self) -> int:
        return len(self.records)

    def sequence(self, item: int, rng: np.random.Generator) -> TokenSequence:
        """Build example `item`; `rng` decides on optional conditions and on which prompt, and where it is cut."""
        record = int(self.records[item])
        values: dict[str, Any] = {}
        pieces = []
        for field in self.fields:
            if field.optional and rng.random() < self.optional_dropout:
                continue
            if field.source in CUT_SOURCES:
                pieces.append(field)
            elif (value := self._values(field, record, rng)) is not None:
                values[field.name] = value
        if pieces:
            values = cut_pieces(replace(self.task, conditions=tuple(pieces)), values, self.builder.rates, rng)
        lang = _text(self.reader.value(self.task.lang_field, record)) if self._has_langs else None
        self._pronounce(values, lang, rng)
        without = self._unguided(rng)
        instruction = self._instruction(values.keys() - set(without), rng)
        sequence = self.builder.build(self.task, values, lang=lang, without=without, instruction=instruction)
        if self.loss_weight == 1.0 or sequence.loss_weights is None:
            return sequence
        return replace(sequence, loss_weights=sequence.loss_weights * self.loss_weight)

    def _pronounce(self, values: dict[str, Any], lang: str | None, rng: np.random.Generator) -> None:
        """Write the words of pronounced conditions as they are said, but for a share of them."""
        for field in self.fields:
            text, lexicon = values.get(field.name), self.builder.lexicon(field, lang)
            if isinstance(text, str) and lexicon is not None:
                values[field.name] = lexicon.pronounce(text, self.spelled, rng)

    def _instruction(self, present: Collection[str], rng: np.random.Generator) -> str | None:
        """Draw an instruction that names nothing but conditions that are there; None: the task's own token."""
        if not self.instructed or rng.random() >= self.instructed:
            return None
        fitting = [text for text in self.task.instructions if names_in(text) <= set(present)]
        return fitting[int(rng.integers(len(fitting)))] if fitting else None

    def _longest_instruction(self) -> int:
        """Return the positions that an instruction may add, without the conditions that it may hold."""
        encode = self.builder.text_tokenizer.encode
        return max((len(encode(text)) + 2 for text in self.task.instructions), default=0) if self.instructed else 0

    def _unguided(self, rng: np.random.Generator) -> list[str]:
        """Return which guided conditions to leave out."""
        guided = [field.name for field in self.fields if field.guided]
        if not guided or rng.random() >= self.guided_dropout:
            return []
        chosen = int(rng.integers(1, 2 ** len(guided)))
        return [name for i, name in enumerate(guided) if chosen >> i & 1]

    def _check_langs(self) -> None:
        """Refuse languages that the model lacks at once, and not hours later, when the first record is drawn."""
        if not self._has_langs:
            return
        known, langs = self.builder.vocabulary.lang_names, self.reader.values(self.task.lang_field)
        unknown = sorted({text for i in self.records if (text := _text(langs[i]))} - set(known))
        if unknown:
            raise DataError(
                f"{self.reader.paths[0].parent}: '{self.task.lang_field}' of records that task '{self.task.name}' uses "
                f"says {', '.join(unknown)}; the model's languages are {', '.join(known)}. "
                "Name all in model.init_args.langs."
            )

    @property
    def _has_langs(self) -> bool:
        return bool(self.builder.vocabulary.lang_names) and self.task.lang_field in self.reader.fields

    def _is_stored(self, field: Field) -> bool:
        if field.kind == "features":
            return self._feature_column(field) is not None or self._is_raw(field)
        if field.kind == "semantic" and self.reader.meta.semantic is None:
            return False
        return field.field in self.reader.fields and (
            field.source != "same_speaker" or SPEAKER_FIELD in self.reader.fields
        )

    def _feature_column(self, field: Field) -> FeatureColumn | None:
        return self.reader.feature_column(field.field, field.encoder)

    def _is_raw(self, field: Field) -> bool:
        """Is a text there that the encoder can take as it is?"""
        return field.takes == "text" and field.field in self.reader.fields and field.encoder in self.builder.encoders

    def _values(self, field: Field, record: int, rng: np.random.Generator) -> Any:
        """Return the value of a field, of a repeated one a list; None: there is none.

        Of recordings of the same speaker a random number, each another one; of what the record has all, or the last of
        them where the card allows fewer.
        """
        if not field.repeated:
            return self._value(field, record, rng)
        if field.source == "same_speaker":
            several = [self._piece(field, peer, rng) for peer in self._some_peers(field, record, rng)]
        elif field.is_timed:
            several = [self._value(copy, record, rng) for copy in field.copies(_n_stored(field, self.reader))]
        else:
            several = _listed(self.reader.value(field.field, record)) if self._is_stored(field) else []
        several = [one for one in several if one is not None]
        return several[-(field.most or 0) :] or None

    def _some_peers(self, field: Field, record: int, rng: np.random.Generator) -> list[int]:
        """Draw how many other records of the speaker a repeated condition has, one or more, and which."""
        peers = self._peers[record] if self._peers and self._is_stored(field) else []
        n_others = _n_others(peers, record)
        if n_others == 0:
            return []
        n = int(rng.integers(1, min(n_others, field.most or 1) + 1))
        drawn = rng.choice(n_others, n, replace=False).tolist()
        return [peers[-1] if peers[i] == record else peers[i] for i in drawn]

    def _value(self, field: Field, record: int, rng: np.random.Generator) -> str | Tensor | None:
        if not self._is_stored(field):
            return None
        if field.kind == "features" and (column := self._feature_column(field)) is not None:
            return self.reader.features(column, record)
        if not field.is_timed:
            return _text(self.reader.value(field.field, record))
        if field.source == "same_speaker":
            peer = _another(self._peers[record] if self._peers else [], record, rng)
            if peer is None:
                return None
            record = peer
        return self._piece(field, record, rng)

    def _piece(self, field: Field, record: int, rng: np.random.Generator) -> Tensor | None:
        """Return the piece of a record's recording that a field uses: its start, or anywhere in another's."""
        codes = self._frames(field, record)
        if codes is None or codes.shape[1] == 0:
            return None
        limit = self._limit(field)
        if field.source == "same_speaker" and limit is not None and codes.shape[1] > limit:
            first = int(rng.integers(codes.shape[1] - limit + 1))
            return codes[:, first : first + limit]
        return codes if limit is None else codes[:, :limit]

    def _frames(self, field: Field, record: int) -> Tensor | None:
        """Return codes `[K, T]`, or semantic ids of all frames `[1, T]`; the builder collapses them."""
        if field.kind == "semantic":
            runs = self.reader.semantic(field.field, record)
            return None if runs is None else runs.frames()[None]
        codes = self.reader.codes(field.field, record)
        return None if codes is None else codes[: self.builder.vocabulary.n_codebooks]

    def _limit(self, field: Field) -> int | None:
        rate = self.builder.rates.of(field.kind)
        return None if field.max_seconds is None else max(1, round(field.max_seconds * rate))

    def _measure_all(self, field: Field) -> tuple[np.ndarray, np.ndarray]:
        """Return which records have the field, and the most positions it takes with its markers, both `[records]`."""
        if not field.repeated:
            present, content = self._measure(field)
            return present, np.where(present, self._n_rows(field, content) + 2, 0)
        if field.source == "same_speaker":
            present, content = self._measure(field)
            n_others = np.array([_n_others(peers, i) for i, peers in enumerate(self._peers or [])], np.int64)
            return present, (self._n_rows(field, content) + 2) * np.minimum(n_others, field.most or 1)
        if field.is_timed:
            copies = [self._measure_all(copy) for copy in field.copies(_n_stored(field, self.reader))]
            return np.any([present for present, _ in copies], axis=0), np.sum([n for _, n in copies], axis=0)
        encode = self.builder.text_tokenizer.encode
        lists = [_listed(self.reader.value(field.field, i))[-(field.most or 0) :] for i in range(len(self.reader))]
        positions = [sum(len(encode(text)) + 2 for text in texts) for texts in lists]
        return np.array([len(texts) > 0 for texts in lists], bool), np.array(positions, np.int64)

    def _n_rows(self, field: Field, content: np.ndarray) -> np.ndarray:
        """Return the positions of so many frames, or of other content as many."""
        if field.kind != "audio":
            return content
        if field.source in CUT_SOURCES:  # of the target's frames, but with rows of its own at the end
            return np.full(len(self.reader), self.builder.pattern.n_rows(1))
        n_rows = np.array([self.builder.pattern.n_rows(n) for n in range(int(content.max(initial=0)) + 1)])
        return n_rows[content]

    def _measure(self, field: Field) -> tuple[np.ndarray, np.ndarray]:
        """Return which records have the field, and its positions without markers, both `[records]`."""
        if field.kind == "features":
            return self._measure_features(field)
        if field.is_timed:
            frames = self._n_positions(field)
            if field.source == "same_speaker":
                return self._measure_peers(frames, self._limit(field))
            if field.source in CUT_SOURCES:
                # The cut may go through a run of equal ids, of which both sides then have one.
                more = int(field.kind == "semantic" and self.builder.rates.deduplicated)
                return frames > (1 if field.source == "start" else 2), np.full_like(frames, more)
            limit = self._limit(field)
            return frames > 0, frames if limit is None else np.minimum(frames, limit)
        encode = self.builder.text_tokenizer.encode
        texts = [_text(value) for value in self.reader.values(field.field)]
        if field.pronounced and self.builder.lexicons:
            return self._measure_pronounced(texts)
        count = {text: 0 if text is None else len(encode(text)) for text in set(texts)}
        return np.array([text is not None for text in texts], bool), np.array([count[text] for text in texts], np.int64)

    def _measure_pronounced(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Measure texts of which each word may stand as it is written or as it is said, in whatever language."""
        encode, lexicons = self.builder.text_tokenizer.encode, self.builder.lexicons.values()

        @cache
        def longest(part: str) -> int:
            if len(words := words_of(part)) > 1:  # of which one may be said and another spelled
                return sum(map(longest, words)) + len(encode(Pronounced(WORD.sub("", part))))
            said = [lexicon.pronounce(part) for lexicon in lexicons]
            return max(len(encode(Pronounced(f" {one}"))) for one in (part, *said))

        positions = [sum(map(longest, text.split())) if text else 0 for text in texts]
        return np.array([text is not None for text in texts], bool), np.array(positions, np.int64)

    def _n_positions(self, field: Field) -> np.ndarray:
        """Return how many frames, or runs of them, each record has of a field that lasts a time."""
        if field.kind == "semantic":
            return self.reader.semantic_lengths(field.field, "runs" if self.builder.rates.deduplicated else "frames")
        return self.reader.frames(field.field)

    def _measure_features(self, field: Field) -> tuple[np.ndarray, np.ndarray]:
        name, column = field.encoder, self._feature_column(field)
        if name not in self.builder.feature_inputs:
            raise DataError(
                f"task '{self.task.name}', '{field.name}': the model has no feature input '{name}'."
                f"{suggest(name, self.builder.feature_inputs)} Name it in model.init_args.lm.features."
            )
        if column is None and not self._is_raw(field):
            option = "--feature-inputs" if self.builder.feature_inputs[name].trained else "--features"
            raise DataError(
                f"{self.reader.paths[0].parent}: task '{self.task.name}' needs '{field.field}' for the encoder "
                f"'{name}', which is not stored. Prepare again with {option} {name}={field.field}."
            )
        if column is None:
            texts = [_text(value) for value in self.reader.values(field.field)]
            n_states = np.array([self._text_states(name, text) if text else 0 for text in texts], np.int64)
        else:
            self._check_feature_column(column)
            lengths = self.reader.feature_lengths(column).astype(np.int64)
            encoder = self.builder.encoders.get(name)
            n_states = (
                lengths
                if column.dim or encoder is None
                else np.array([n and encoder.n_states(n) for n in lengths.tolist()])
            )
        positions = self.builder.feature_inputs[name].n_positions
        return n_states > 0, np.array([n and positions(n) for n in n_states.tolist()], np.int64)

    def _text_states(self, name: str, text: str) -> int:
        encoder = self.builder.encoders[name]
        return encoder.n_states(len(encoder.inputs(text)))

    def _check_feature_column(self, column: FeatureColumn) -> None:
        """Refuse states where the encoder is trained, states of another encoder, and samples where there is none."""
        name, where = column.encoder, self.reader.paths[0].parent
        encoder, trained = self.builder.encoders.get(name), self.builder.feature_inputs[name].trained
        if trained and column.dim:
            raise DataError(
                f"{where} holds states of '{name}', which is to be trained. Prepare again with "
                f"--feature-inputs {name}={column.field}, or set trained: false."
            )
        if not column.dim and encoder is None:
            raise DataError(f"{where} holds samples for '{name}', which is not loaded.")
        if column.dim and encoder is not None and column.fingerprint != encoder.fingerprint:
            raise DataError(
                f"{where}: states of '{name}' were made with another encoder (fingerprint {column.fingerprint}, the "
                f"model's is {encoder.fingerprint}). Prepare again."
            )

    def _measure_peers(self, frames: np.ndarray, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        if self._peers is None:
            raise DataError(
                f"task '{self.task.name}' takes a prompt from the same speaker, but the records in "
                f"{self.reader.paths[0].parent} have no field '{SPEAKER_FIELD}'. "
                "Add it to the manifest and prepare again."
            )
        longest_of = {id(peers): max((int(frames[peer]) for peer in peers), default=0) for peers in self._peers}
        present = np.array(
            [len(peers) > 1 or bool(peers and peers[0] != i) for i, peers in enumerate(self._peers)], bool
        )
        longest = np.array([longest_of[id(peers)] for peers in self._peers], np.int64)
        return present, longest if limit is None else np.minimum(longest, limit)

    def _same_speaker(self) -> list[list[int]] | None:
        """Return, for each record, the records of its speaker that have the audio of the prompt."""
        if SPEAKER_FIELD not in self.reader.fields:
            return None
        speakers = [_text(value) for value in self.reader.values(SPEAKER_FIELD)]
        field = next(f.field for f in self.task.conditions if f.source == "same_speaker")
        if field not in self.reader.fields:
            return None
        has_audio = self.reader.frames(field) > 0
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, speaker in enumerate(speakers):
            if speaker is not None and has_audio[index]:
                groups[speaker].append(index)
        nobody: list[int] = []
        return [groups.get(speaker, nobody) for speaker in speakers]


class MixDataset(Dataset[TokenSequence]):
    """Sequences of several tasks, asked for by `Example`; the same example always gives the same sequence."""

    def __init__(self, parts: Sequence[TaskExamples], seed: int):
        self.parts, self.seed = list(parts), seed

    def __getitem__(self, example: Example) -> TokenSequence:
        rng = np.random.default_rng([self.seed, 3, example.epoch, example.position])
        return self.parts[example.source].sequence(example.item, rng)


def _n_stored(field: Field, reader: RecordReader) -> int:
    """Return how many recordings a repeated field has in records, at most: `turns`, `turns.2` and so on."""
    names, n = reader.meta.audio_fields, 1
    while numbered(field.field, n) in names:
        n += 1
    return n


def _listed(value: Any) -> list[str]:
    """Return the texts of a record's field, of which one alone may stand without a list."""
    texts = [_text(one) for one in (value if isinstance(value, list) else [value])]
    return [text for text in texts if text is not None]


def _text(value: Any) -> str | None:
    """Return what a record's field says; None: nothing."""
    return None if value is None or value == "" else str(value)


def _n_others(peers: Sequence[int], record: int) -> int:
    """Return how many of `peers`, which are in order, are not `record`."""
    place = bisect_left(peers, record)
    return len(peers) - (place < len(peers) and peers[place] == record)


def _another(peers: Sequence[int], record: int, rng: np.random.Generator) -> int | None:
    """Return one of `peers` other than `record`, each with the same probability; None if there is none."""
    n_others = _n_others(peers, record)
    if n_others == 0:
        return None
    peer = peers[int(rng.integers(n_others))]
    return peers[-1] if peer == record else peer


def _check_optional(task: Task, names: Collection[str]) -> None:
    optional = [field.name for field in task.fields if field.optional]
    for name in names:
        if name not in optional:
            allowed = ", ".join(optional) or "none"
            raise DataError(
                f"task '{task.name}' cannot go without '{name}'.{suggest(name, optional)} Optional: {allowed}."
            )


def _check_codes(reader: RecordReader, builder: SequenceBuilder, task: Task) -> None:
    meta, where = reader.meta, reader.paths[0].parent
    if meta.n_codebooks < builder.vocabulary.n_codebooks:
        raise DataError(
            f"{where} holds {meta.n_codebooks} codebooks, the model has {builder.vocabulary.n_codebooks}. "
            "Prepare with more codebooks, or train with fewer."
        )
    if abs(meta.frame_rate_hz - builder.frame_rate_hz) > 1e-6:
        raise DataError(
            f"{where} has {meta.frame_rate_hz:g} frames/s, the model's codec has {builder.frame_rate_hz:g}. "
            "Prepare it with that codec."
        )
    for field in task.fields:
        if field.kind == "semantic" and not (field.optional and meta.semantic is None):
            _check_semantic(reader, builder, task)
        if field.is_timed and field.field in reader.fields and field.field not in meta.audio_fields:
            raise DataError(
                f"{where}: task '{task.name}' takes audio from '{field.field}', which is stored as "
                f"{dict(meta.plain_fields).get(field.field)}. "
                f"Prepare again with --audio-fields {','.join([*meta.audio_fields, field.field])}."
            )


def _check_semantic(reader: RecordReader, builder: SequenceBuilder, task: Task) -> None:
    stored, wanted, where = reader.meta.semantic, builder.semantic_tokenizer, reader.paths[0].parent
    if stored is None:
        raise DataError(
            f"{where}: task '{task.name}' takes semantic tokens, which are not stored. Prepare again with "
            "--semantic-tokenizer NAME."
        )
    if wanted is not None and stored.fingerprint != wanted.fingerprint:
        raise DataError(
            f"{where}: semantic tokens were made with '{stored.tokenizer}' (fingerprint {stored.fingerprint}), the "
            f"model has '{wanted.name}' (fingerprint {wanted.fingerprint}). Prepare again with the model's."
        )
