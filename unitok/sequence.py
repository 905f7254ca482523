"""Token sequences: the value that every task becomes. It knows its segments, prints and plots itself, and splits back.

    position   0      1           2        3 …        9        10       11 …            74        75
    slot 0   <bos> <task:tts> <lang:en> <text> ▁the … </text> <audio>  c0 c0 c0 …    </audio>   <eos>
    slot 1     ·      ·           ·        ·    ·       ·        ·      c1 c1 c1 …       ·         ·
    …                                                                   …
    loss_mask                                                           1  1  1  1  …    1

Not here: how values become a sequence (`tasks/builder.py`). Letters: B batch, S positions, K slots (codebooks),
T frames. Masks are bool, True means use it.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from unitok.errors import DataError, TokenizerError, suggest
from unitok.pattern import Pattern
from unitok.vocabulary import Vocabulary, kind_index

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unitok.tokenizers.base import TextTokenizer

__all__ = [
    "FeatureBatch",
    "FeatureValue",
    "Rates",
    "Segment",
    "SequenceBatch",
    "TokenSequence",
    "collate",
    "collate_features",
]

Role = Literal["control", "condition", "target"]
SPELLED_KINDS = ("text", "label")


@dataclass(frozen=True)
class Segment:
    """A named stretch `[start, stop)` of a sequence; conditions and targets include their markers."""

    name: str
    """Name of the task's field; of a control token its name, such as `<bos>`."""
    kind: str
    """`text`, `label`, `audio`, `semantic`, `features`, or `control`."""
    role: Role
    """Which side of the task it is on."""
    start: int
    """First position."""
    stop: int
    """One past the last position."""
    aligned: bool = False
    """Its content runs alongside that of the other aligned segments: targets, and conditions whose card says so."""
    n_before: int = 1
    """Positions of its start marker; a control token has none."""
    n_after: int = 1
    """Positions of its end marker."""

    @property
    def content(self) -> slice:
        """The positions between the markers; a control token's own position."""
        if self.role == "control":
            return slice(self.start, self.stop)
        return slice(self.start + self.n_before, self.stop - self.n_after)


@dataclass(frozen=True, eq=False)
class FeatureValue:
    """What stands at the positions of a `features` segment, in place of tokens."""

    encoder: str
    """Which of the model's feature inputs it is for."""
    values: Tensor
    """States `[T, E]`, float; or what the encoder takes: ids of a text `[N]`, int64, or samples `[N]`, float."""
    encoded: bool
    """Are they states?"""


@dataclass(frozen=True, eq=False)
class FeatureBatch:
    """The values of a batch that are for one feature input, padded on the right with 0."""

    values: Tensor
    """States `[n, T, E]` or inputs `[n, N]`."""
    lengths: Tensor
    """`[n]`, int64: states or inputs of each."""
    rows: Tensor
    """`[n]`, int64: the sequence that each is in."""
    starts: Tensor
    """`[n]`, int64: its first position there."""
    n_positions: Tensor
    """`[n]`, int64: how many positions it fills."""
    encoded: bool
    """Are they states?"""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FeatureBatch:
        """Return the values on another device."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> FeatureBatch:
        """Return this with each tensor changed."""
        tensors = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return dataclasses.replace(self, **{k: change(v) for k, v in tensors.items() if isinstance(v, Tensor)})


class Rates(NamedTuple):
    """Frames per second of what lasts a time."""

    codec_hz: float
    """Of audio."""
    semantic_hz: float
    """Of semantic tokens."""
    deduplicated: bool = False
    """Equal semantic neighbours stand in sequences once, so that their number tells no time."""

    def of(self, kind: str) -> float:
        """Return the rate of a kind; of de-duplicated tokens the highest they can have."""
        return self.semantic_hz if kind == "semantic" else self.codec_hz


@dataclass(frozen=True, eq=False, repr=False)
class TokenSequence:
    """One laid-out task: `<bos> <task:…> [<lang:…>]`, conditions, targets, `<eos>`; without targets, a prompt."""

    tokens: Tensor
    """Joint ids `[S, K]`, int64; text and markers fill slot 0 only, the rest is `<empty>`."""
    segments: tuple[Segment, ...]
    """All stretches in order, without gaps."""
    vocabulary: Vocabulary
    """What the ids mean."""
    text_tokenizer: TextTokenizer | None = None
    """Spells text; without it text prints as a count and `split` refuses text."""
    rates: Rates | None = None
    """Frames per second of audio and of semantic tokens; without them durations are not shown."""
    loss_weights: Tensor | None = None
    """Weight of each position's loss `[S]`, float32; None means 1 at every label."""
    codebook_weights: tuple[float, ...] = ()
    """Weights of the codebooks of audio targets; empty means the model's own."""
    pattern: Pattern | None = None
    """Where the codes of audio stand; None means one frame at a position, as in the drawing above."""
    features: Mapping[str, FeatureValue] = dataclasses.field(default_factory=dict)
    """What stands in the segments of kind `features`, by their names; their tokens are `<empty>`."""

    def __post_init__(self) -> None:
        """Check that the segments cover the tokens.

        Raises:
            ValueError: If they do not, or if the tokens have another number of slots than the vocabulary has codebooks.
        """
        if self.tokens.ndim != 2 or self.tokens.shape[1] != self.vocabulary.n_codebooks:
            raise ValueError(
                f"tokens have shape {list(self.tokens.shape)}, allowed: [S, {self.vocabulary.n_codebooks}]."
            )
        edges = [0, *(segment.stop for segment in self.segments)]
        if [segment.start for segment in self.segments] != edges[:-1] or edges[-1] != len(self.tokens):
            raise ValueError(
                f"segments end at {edges[1:]}, they have to follow each other and cover {len(self.tokens)} positions."
            )

    def __len__(self) -> int:
        """Return the number of positions, S."""
        return len(self.tokens)

    def __str__(self) -> str:
        """Return the sequence as one line, see `show`."""
        return self.show()

    def __repr__(self) -> str:
        """Return the line with long texts cut short."""
        return f"TokenSequence(S={len(self)}, K={self.vocabulary.n_codebooks}: {self.show(max_pieces=8)})"

    def show(self, max_pieces: int | None = None) -> str:
        """Return the sequence as one line.

        `<bos> <task:tts> <text> ▁the ▁quick </text> <audio> [8 × 63 frames, 2.5 s] </audio> <eos>`

        Args:
            max_pieces: Pieces of each text shown, the rest is `…`; None shows all.
        """
        return " ".join(self._shown(segment, max_pieces) for segment in self.segments)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the grid: slots over positions, coloured by segment, labels of the loss marked below.

        Args:
            path: Where to write the picture (format by suffix); None only returns it, for a notebook.
        """
        from unitok.plotting import plot_sequence

        return plot_sequence(self, path)

    @property
    def frame_rate_hz(self) -> float | None:
        """Codec frames per second; None where no rates are known."""
        return self.rates.codec_hz if self.rates else None

    def segment(self, name: str) -> Segment:
        """Return the segment of one field.

        Raises:
            KeyError: If the sequence has none of that name.
        """
        for segment in self.segments:
            if segment.name == name:
                return segment
        names = [segment.name for segment in self.segments if segment.role != "control"]
        raise KeyError(f"the sequence has no segment '{name}'.{suggest(name, names)} It has: {', '.join(names)}.")

    def codes(self, name: str) -> Tensor:
        """Return the codes of an audio segment `[K', T]` or a semantic one `[1, T]`, int64.

        Raises:
            KeyError: If the sequence has no such segment.
            TokenizerError: If it holds something else.
        """
        segment = self.segment(name)
        content = self.tokens[segment.content]
        if segment.kind == "audio":
            return self.vocabulary.tokens_to_codes(self._frames(content))
        if segment.kind == "semantic":
            return torch.tensor([self.vocabulary.tokens_to_semantic(content[:, 0])], dtype=torch.int64)
        raise TokenizerError(f"segment '{name}' is {segment.kind}, it has no codes. Use split()['{name}'].")

    def text_ids(self, name: str) -> list[int]:
        """Return the text-tokenizer ids of a text or label segment."""
        return self.vocabulary.tokens_to_text(self.tokens[self.segment(name).content, 0])

    def split(self) -> dict[str, str | Tensor]:
        """Return what the sequence was built from: text of text and label segments, codes `[K', T]` of the others.

        Features are not among it: `features` has them.

        Raises:
            TokenizerError: If there is text and no text tokenizer.
        """
        values: dict[str, str | Tensor] = {}
        for segment in self.segments:
            if segment.role == "control" or segment.kind == "features":
                continue
            if segment.kind not in SPELLED_KINDS:
                values[segment.name] = self.codes(segment.name)
            elif self.text_tokenizer is None:
                raise TokenizerError(
                    f"segment '{segment.name}' is {segment.kind}: give the sequence its text_tokenizer to spell it."
                )
            else:
                values[segment.name] = self.text_tokenizer.decode(self.text_ids(segment.name))
        return values

    @property
    def loss_mask(self) -> Tensor:
        """`[S]`: slot 0 holds a label here, contents and end markers of targets."""
        return self._slot0_labels("target")

    @property
    def condition_mask(self) -> Tensor:
        """`[S]`: what `loss_mask` is for targets, for conditions."""
        return self._slot0_labels("condition")

    @property
    def frame_mask(self) -> Tensor:
        """`[S]`: slots hold codes of an audio target here, or the frame that ends it where that is its end marker."""
        audio = [s for s in self.segments if s.role == "target" and s.kind == "audio"]
        ends = [slice(s.content.stop, s.content.stop + 1) for s in audio if self._ends_with_frame(s)]
        return self._covering([s.content for s in audio] + ends)

    @property
    def target_mask(self) -> Tensor:
        """`[S]`: inside a target, markers included."""
        return self._covering([slice(s.start, s.stop) for s in self.segments if s.role == "target"])

    @property
    def prefix_mask(self) -> Tensor:
        """`[S]`: before the first target; all of a prompt."""
        first = next((s.start for s in self.segments if s.role == "target"), len(self))
        return self._covering([slice(0, first)])

    @property
    def kinds(self) -> Tensor:
        """`[S]`, int8: `kind_index` of the segment each position belongs to."""
        kinds = torch.zeros(len(self), dtype=torch.int8)
        for segment in self.segments:
            kinds[segment.start : segment.stop] = kind_index(segment.kind)
        return kinds

    @property
    def place(self) -> Tensor:
        """`[S]`, float32: how far into its segment each content position of an aligned one is, 0 to 1; -1 elsewhere."""
        place = torch.full((len(self),), -1.0)
        for segment in self.segments:
            if segment.aligned:
                n = segment.content.stop - segment.content.start
                place[segment.content] = (torch.arange(n) + 0.5) / max(n, 1)
        return place

    @property
    def loss_weight(self) -> Tensor:
        """`[S]`, float32: weight of the labels in any slot, 0 where there are none."""
        labels = (self.loss_mask | self.frame_mask).float()
        return labels if self.loss_weights is None else labels * self.loss_weights

    def _slot0_labels(self, role: Role) -> Tensor:
        mask = torch.zeros(len(self), dtype=torch.bool)
        for segment in self.segments:
            if segment.role != role or segment.kind == "features":
                continue
            start, end, stride = segment.content.start, segment.content.stop, 1
            if segment.kind == "audio" and self.pattern is not None:
                stride = self.pattern.stride
                end = start + stride * self.pattern.n_frames(
                    end - start
                )  # the first end marker, where there are several
            mask[start : min(end + 1, segment.stop) : stride] = True
        return mask

    def _ends_with_frame(self, segment: Segment) -> bool:
        return segment.n_after > 0 and bool(self.tokens[segment.content.stop, 1:].any())

    def _covering(self, stretches: Sequence[slice]) -> Tensor:
        covered = torch.zeros(len(self), dtype=torch.bool)
        for stretch in stretches:
            covered[stretch] = True
        return covered

    def _shown(self, segment: Segment, max_pieces: int | None) -> str:
        if segment.role == "control":
            return segment.name
        content = self.tokens[segment.content]
        if segment.kind in SPELLED_KINDS:
            body = self._spelled(content[:, 0], max_pieces)
        elif segment.kind == "audio":
            n_codebooks, T = self.vocabulary.tokens_to_codes(self._frames(content)).shape
            seconds = f", {T / self.frame_rate_hz:.1f} s" if self.frame_rate_hz else ""
            body = f"[{n_codebooks} × {_count(T, 'frame')}{seconds}]"
        elif segment.kind == "features":
            body = f"[{_count(len(content), 'position')} of {self.features[segment.name].encoder}]"
        elif segment.kind == "semantic" and self.rates is not None and not self.rates.deduplicated:
            seconds = f", {len(content) / self.rates.semantic_hz:.1f} s" if len(content) else ""
            body = f"[{_count(len(content), 'token')}{seconds}]"
        else:
            body = f"[{_count(len(content), 'token')}]"
        return " ".join(filter(None, [f"<{segment.kind}>", body, f"</{segment.kind}>"]))

    def _frames(self, content: Tensor) -> Tensor:
        """Return audio frames `[T, K]` of a segment's content."""
        return content if self.pattern is None else self.pattern.restore(content)

    def _spelled(self, tokens: Tensor, max_pieces: int | None) -> str:
        if self.text_tokenizer is None:
            return f"[{_count(len(tokens), 'token')}]"
        ids = self.vocabulary.tokens_to_text(tokens)
        pieces = _joined_bytes([self.text_tokenizer.piece(id) for id in ids])
        cut = [] if max_pieces is None or len(pieces) <= max_pieces else ["…"]
        return " ".join(pieces[:max_pieces] + cut)


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """Sequences side by side, padded on the right with `<empty>`; padding is False or 0 in masks, -1 in `place`."""

    tokens: Tensor
    """`[B, S, K]`, int64."""
    lengths: Tensor
    """`[B]`, int64: positions of each sequence."""
    loss_mask: Tensor
    """`[B, S]`: slot 0 holds a label here."""
    condition_mask: Tensor
    """`[B, S]`: slot 0 holds what would be a label if conditions were learnt too."""
    frame_mask: Tensor
    """`[B, S]`: slots hold codes of an audio target here."""
    prefix_mask: Tensor
    """`[B, S]`: before the first target."""
    kind: Tensor
    """`[B, S]`, int8: `vocabulary.kind_index` of the segment, 0 for control tokens and padding."""
    loss_weight: Tensor
    """`[B, S]`, float32: weight of the labels in any slot."""
    place: Tensor
    """`[B, S]`, float32: how far into its segment a position of aligned content is, 0 to 1; negative elsewhere."""
    codebook_weight: Tensor | None = None
    """`[B, K]`, float32: codebook weights of the task cards, 1 where a card has none; None where no card has any."""
    features: Mapping[str, FeatureBatch] = dataclasses.field(default_factory=dict)
    """What stands in segments of kind `features`, by the feature input it is for."""

    def __len__(self) -> int:
        """Return the number of sequences, B."""
        return len(self.tokens)

    @property
    def valid_mask(self) -> Tensor:
        """`[B, S]`: not padding."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SequenceBatch:
        """Return the batch on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SequenceBatch:
        """Return the batch in pinned memory (a DataLoader calls this)."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> SequenceBatch:
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {name: change(t) for name, t in tensors.items() if isinstance(t, Tensor)}
        features = {name: part.mapped(change) for name, part in self.features.items()}
        return dataclasses.replace(self, **changed, features=features)


def collate(sequences: Sequence[TokenSequence]) -> SequenceBatch:
    """Put sequences side by side, padded on the right.

    Raises:
        DataError: If there are none, or they are of different vocabularies.
    """
    if not sequences:
        raise DataError("a batch needs at least one sequence, got none.")
    for sequence in sequences[1:]:
        if sequence.vocabulary is not sequences[0].vocabulary:
            sequences[0].vocabulary.check_same(sequence.vocabulary, "other sequence of the batch")
    return SequenceBatch(
        tokens=_padded([s.tokens for s in sequences]),
        lengths=torch.tensor([len(s) for s in sequences]),
        loss_mask=_padded([s.loss_mask for s in sequences]),
        condition_mask=_padded([s.condition_mask for s in sequences]),
        frame_mask=_padded([s.frame_mask for s in sequences]),
        prefix_mask=_padded([s.prefix_mask for s in sequences]),
        kind=_padded([s.kinds for s in sequences]),
        loss_weight=_padded([s.loss_weight for s in sequences]),
        place=_padded([s.place for s in sequences], fill=-1.0),
        codebook_weight=_codebook_weight(sequences),
        features=collate_features(sequences),
    )


def collate_features(sequences: Sequence[TokenSequence]) -> dict[str, FeatureBatch]:
    """Return the features of sequences side by side, by the feature input they are for.

    Raises:
        DataError: If some are states and some an encoder's inputs.
    """
    found: dict[str, list[tuple[FeatureValue, int, slice]]] = {}
    for row, sequence in enumerate(sequences):
        for segment in sequence.segments:
            if segment.kind == "features":
                value = sequence.features[segment.name]
                found.setdefault(value.encoder, []).append((value, row, segment.content))
    batches = {}
    for name, parts in found.items():
        values = [value.values for value, _, _ in parts]
        encoded = parts[0][0].encoded
        if any(value.encoded != encoded for value, _, _ in parts):
            raise DataError(f"features for '{name}': some are states, some what the encoder takes. Prepare all alike.")
        batches[name] = FeatureBatch(
            values=_padded(values),
            lengths=torch.tensor([len(value) for value in values]),
            rows=torch.tensor([row for _, row, _ in parts]),
            starts=torch.tensor([content.start for _, _, content in parts]),
            n_positions=torch.tensor([content.stop - content.start for _, _, content in parts]),
            encoded=encoded,
        )
    return batches


def _codebook_weight(sequences: Sequence[TokenSequence]) -> Tensor | None:
    if not any(sequence.codebook_weights for sequence in sequences):
        return None
    weight = torch.ones(len(sequences), sequences[0].vocabulary.n_codebooks)
    for row, sequence in zip(weight, sequences, strict=True):
        given = torch.tensor(sequence.codebook_weights[: len(row)])
        row[: len(given)] = given
    return weight


def _padded(rows: list[Tensor], fill: float = 0.0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _joined_bytes(pieces: Sequence[str]) -> list[str]:
    """Return pieces with those that are single bytes, `<0xC9> <0x99>`, as the letters that they spell, `ə`."""
    joined: list[str] = []
    for is_byte, group in itertools.groupby(pieces, lambda piece: bool(re.fullmatch(r"<0x[0-9A-F]{2}>", piece))):
        run = list(group)
        try:
            letters = bytes(int(piece[3:5], 16) for piece in run).decode() if is_byte else ""
        except UnicodeDecodeError:  # no text
            letters = ""
        joined += [one if one.isprintable() else f"<0x{ord(one):02X}>" for one in letters] or run
    return joined
