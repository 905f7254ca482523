"""What a model makes, handed out while it makes it: audio in pieces, texts in pieces.

```python
stream = model.stream("tts", text="The quick brown fox.", seed=0)
for piece in stream:              # Audio
    play(piece)
stream.timing                     # when the first piece was there, how long 1 s of audio took
```

Pieces of audio are together what decoding the same codes at once gives, where the codec allows it (`exact`).

Letters: K codebooks, n frames or ids, N samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any, Protocol

import torch
from torch import Tensor

from unitok.audio import Audio
from unitok.generation.engine import Engine, GenerationRequest, GenerationResult, Piece
from unitok.generation.refinement import RefineWindow
from unitok.generation.results import Generation, Value
from unitok.sequence import TokenSequence
from unitok.tasks import Task
from unitok.tasks.settings import check_ranges
from unitok.tokenizers.base import AudioTokenizer, TextTokenizer
from unitok.tokenizers.chunking import FadedStream, PieceStream, Reach
from unitok.tokenizers.codec import FADE_S, FADED_LOOK_AHEAD_S, FADED_PAST_S, CodecTokenizer
from unitok.vocabulary import Vocabulary

__all__ = [
    "AudioPieces",
    "Pieces",
    "SemanticPieces",
    "Stream",
    "StreamSettings",
    "TextPieces",
    "Timing",
    "codes_around",
    "open_decoder",
    "open_stream",
]

REFINE_PAST_S = 4.0
"""What the refiner of a stream sees of the past, in s."""


@dataclass(frozen=True)
class StreamSettings:
    """How much audio goes through each stage at once."""

    chunk_seconds: float = 0.25
    """Audio decoded at once, in s."""
    look_ahead_seconds: float | None = None
    """Audio after it that the codec may wait for, in s; None: as much as it needs."""
    refine_seconds: float = 1.0
    """Audio refined at once, in s, in a model with Kc < K."""
    refine_ahead_seconds: float = 0.5
    """Audio after it that the refiner sees, in s."""

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            GenerationError: If a setting is out of range.
        """
        check_ranges(vars(self))


@dataclass
class Timing:
    """How fast a stream was; time in which nobody asked for a piece does not count."""

    first_s: float | None = None
    """Time until the first piece was there, in s; None while there is none."""
    working_s: float = 0.0
    """Time that all pieces took, in s."""
    audio_s: float = 0.0
    """Audio handed out, in s."""

    @property
    def real_time_factor(self) -> float | None:
        """Time for 1 s of audio, in s: below 1 is faster than it plays; None where there is no audio."""
        return self.working_s / self.audio_s if self.audio_s else None


class Pieces(Protocol):
    """Turns the ids of one target into values."""

    def take(self, tokens: Tensor, is_last: bool) -> Iterator[Value]:
        """Take joint ids `[n, K]` or `[n, 1]` and return what can be told by now."""
        ...


class Stream(Iterator[Any]):
    """Values as they are made: `Audio`, text, or ids `[1, n]` of semantic targets, of all targets in turn.

    `close()`, or the end of a `with`, ends it early and frees what it held.
    """

    def __init__(
        self,
        pieces: Generator[Piece, None, GenerationResult],
        open_target: Callable[[str, str], Pieces],
        finish: Callable[[GenerationResult], Generation],
    ) -> None:
        """Begin; nothing is done before the first piece is asked for.

        Args:
            pieces: From `Engine.stream`.
            open_target: (name, kind) -> what turns its ids into values.
            finish: Makes the result.
        """
        self.target: str | None = None
        """Name of the target that the last value is part of."""
        self.generation: Generation | None = None
        """All of it, once the stream has ended: sequence, texts, lengths, how it stopped. Its audio has gone out."""
        self.timing = Timing()
        """How long it took."""
        self._values = self._run(pieces, open_target, finish)

    def __iter__(self) -> Stream:
        """Return itself: a stream can be read once."""
        return self

    def __next__(self) -> Any:
        """Return the next value."""
        began = time.perf_counter()
        try:
            value = next(self._values)
        finally:
            self.timing.working_s += time.perf_counter() - began
        if self.timing.first_s is None:
            self.timing.first_s = self.timing.working_s
        if isinstance(value, Audio):
            self.timing.audio_s += value.duration_s
        return value

    def close(self) -> None:
        """End it here."""
        self._values.close()

    def __enter__(self) -> Stream:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it here."""
        self.close()

    def _run(
        self,
        pieces: Generator[Piece, None, GenerationResult],
        open_target: Callable[[str, str], Pieces],
        finish: Callable[[GenerationResult], Generation],
    ) -> Generator[Value, None, None]:
        readers: dict[str, Pieces] = {}
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as stop:
                    self.generation = finish(stop.value)
                    return
                if piece.target not in readers:
                    readers = {piece.target: open_target(piece.target, piece.kind)}
                self.target = piece.target
                yield from readers[piece.target].take(piece.tokens, piece.is_last)
        finally:
            pieces.close()


class AudioPieces:
    """Codes to audio, some frames at a time."""

    def __init__(
        self,
        decoder: PieceStream,
        sample_rate_hz: int,
        vocabulary: Vocabulary,
        chunk: int,
        before: Tensor | None = None,
        after: Tensor | None = None,
    ) -> None:
        """Begin.

        Args:
            decoder: Takes the codes.
            sample_rate_hz: Of the audio.
            vocabulary: What ids mean.
            chunk: Frames that are decoded at once; the first piece waits for as many as the decoder looks ahead, too.
            before: Codes `[K, n]` that stand before the target.
            after: Codes that stand after it.
        """
        self._decoder, self._rate, self._vocabulary = decoder, sample_rate_hz, vocabulary
        self._chunk, self._waiting_for = chunk, chunk + decoder.look_ahead
        self._codes: list[Tensor] = []
        self._after = after
        if before is not None:
            self._add(before)

    def take(self, tokens: Tensor, is_last: bool) -> Iterator[Audio]:
        """Take frames `[n, K]`; yield audio where there is some."""
        if len(tokens):
            self._add(self._vocabulary.tokens_to_codes(tokens))
        if is_last and self._after is not None:
            self._add(self._after)
        if self._waiting_for > 0 and not is_last:
            return
        if not self._codes:  # a target without any frame
            return
        codes = torch.cat(self._codes, dim=1)
        with torch.inference_mode():
            wav = self._decoder.push(codes, last=is_last)
        self._codes, self._waiting_for = [codes[:, :0]], self._chunk
        if wav.shape[-1]:
            yield Audio(wav.float().cpu().clone(), self._rate)

    def _add(self, codes: Tensor) -> None:
        self._codes.append(codes.cpu())
        self._waiting_for -= codes.shape[1]


class TextPieces:
    """Ids to text, as far as no later id can change it."""

    def __init__(self, tokenizer: TextTokenizer, vocabulary: Vocabulary) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._ids: list[int] = []
        self._said = ""

    def take(self, tokens: Tensor, is_last: bool) -> Iterator[str]:
        """Take ids `[n, 1]`; yield the text that they add, where they add any."""
        self._ids += self._vocabulary.tokens_to_text(tokens[:, 0])
        text = self._tokenizer.decode(self._ids)
        if not is_last:
            text = text.rstrip()  # spaces at the end, and bytes of half a character, may turn into something else
            text = "" if text.endswith("\ufffd") else text
        if (is_last or text.startswith(self._said)) and text != self._said:
            yield text[len(commonprefix([text, self._said])) :]  # what was said, stays said
            self._said = text


class SemanticPieces:
    """Ids as they are."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def take(self, tokens: Tensor, is_last: bool) -> Iterator[Tensor]:
        """Take ids `[n, 1]`; yield them as ids of the semantic tokenizer, `[1, n]`."""
        if len(tokens):
            yield torch.tensor([self._vocabulary.tokens_to_semantic(tokens[:, 0])], dtype=torch.int64)


def open_decoder(tokenizer: AudioTokenizer, look_ahead_s: float | None) -> PieceStream:
    """Begin to decode codes as they come.

    Args:
        tokenizer: The codec; one of another kind than `CodecTokenizer` is taken for one that sees everything.
        look_ahead_s: Wait for no more audio than this, in s, see `CodecTokenizer.decoder_stream`.

    Raises:
        TokenizerError: If the codec cannot do with so little.
    """
    rate = tokenizer.frame_rate_hz
    if isinstance(tokenizer, CodecTokenizer):
        return tokenizer.decoder_stream(None if look_ahead_s is None else round(look_ahead_s * rate))
    context = Reach(
        round(FADED_PAST_S * rate), round((FADED_LOOK_AHEAD_S if look_ahead_s is None else look_ahead_s) * rate)
    )
    step = round(tokenizer.sample_rate_hz / rate)
    return FadedStream(
        lambda codes: tokenizer.decode(codes[None])[0], step, context, round(FADE_S * tokenizer.sample_rate_hz)
    )


def open_stream(
    engine: Engine,
    request: GenerationRequest,
    codec: AudioTokenizer,
    text_tokenizer: TextTokenizer,
    settings: StreamSettings,
    finish: Callable[[GenerationResult], Generation],
) -> Stream:
    """Begin to carry out a request; arguments are the model's parts, `finish` makes the result.

    Raises:
        GenerationError: If the settings or the request cannot be streamed.
    """
    settings.check()
    rate, vocabulary = codec.frame_rate_hz, engine.vocabulary
    window = RefineWindow(
        chunk=max(1, round(settings.refine_seconds * rate)),
        ahead=round(settings.refine_ahead_seconds * rate),
        past=round(REFINE_PAST_S * rate),
    )
    if any(target.kind == "audio" for target in request.task.targets):
        open_decoder(codec, settings.look_ahead_seconds)  # refuses what it cannot do before any work

    def open_target(name: str, kind: str) -> Pieces:
        if kind == "semantic":
            return SemanticPieces(vocabulary)
        if kind != "audio":
            return TextPieces(text_tokenizer, vocabulary)
        decoder = open_decoder(codec, settings.look_ahead_seconds)
        around = codes_around(request.task, request.prompt, name)
        chunk = max(1, round(settings.chunk_seconds * rate))
        return AudioPieces(decoder, codec.sample_rate_hz, vocabulary, chunk, *around)

    return Stream(engine.stream(request, window), open_target, finish)


def codes_around(task: Task, sequence: TokenSequence, name: str) -> tuple[Tensor | None, Tensor | None]:
    """Return the codes that stand before and after an audio target, for a target with a place in a recording.

    What has fewer codebooks than the target cannot be joined with it, and is left out.
    """
    target = next(one for one in task.targets if one.name == name)
    given, found = {segment.name for segment in sequence.segments}, dict[str, Tensor]()
    for one in task.conditions:
        if one.source in ("before", "after") and (one.field, one.kind) == (target.field, target.kind):
            codes = sequence.codes(one.name) if one.name in given else None
            if codes is not None and len(codes) == sequence.vocabulary.n_codebooks:
                found[one.source] = codes
    return found.get("before"), found.get("after")
