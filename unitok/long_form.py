"""Texts and recordings of any length, a part at a time: each part is a request of its own, and nothing piles up.

Text to audio: one request a sentence, or a clause where a sentence is too long; the first sentence's voice is kept by
prompting the others with it; short silences lie between them. Audio to text: windows that end where it is quietest.

Letters: K codebooks, T codec frames, N samples.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from unitok.audio import Audio
from unitok.errors import AudioFormatError, GenerationError
from unitok.tasks import Field, Task
from unitok.tasks.settings import check_ranges
from unitok.tokenizers.symbols import time_symbol

if TYPE_CHECKING:
    from unitok.api import Model
    from unitok.generation.results import Generation

__all__ = ["LongForm", "LongFormSettings", "Part", "Sentence", "later", "split_text", "windows"]

WINDOW_S = 10.0
"""Longest audio of one request, in s, where neither the caller nor the card says another."""
EDGE_S = 0.005
"""Each sentence fades in and out so long, so that it does not click beside silence."""
SHORTEST_PROMPT_S = 1.0
"""A sentence shorter than this tells too little of a voice to prompt others with it."""
SEARCHED = 0.75
"""Share of a window, at its end, in which the quietest place is looked for."""
QUIET_S = 0.3
"""Length over which loudness is measured there: as a pause between sentences, longer than a stop within a word."""
ENDS = re.compile(r"(?:(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])\s*|\n\s*\n)")
ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|No|e\.g|i\.e|cf|etc)\.$")
CLAUSE = re.compile(r"[,;:–—)、，；]\s*")
STAMP = re.compile(r"<(\d+\.\d\d)>")


@dataclass(frozen=True)
class LongFormSettings:
    """How long inputs are cut and results joined."""

    characters: int = 200
    """Longest text of one request, or less where the task's card takes less: longer sentences are cut at clauses, else
    between words."""
    pause_seconds: float = 0.25
    """Silence after a sentence, in s; half of it after a clause."""
    window_seconds: float | None = None
    """Longest audio of one request, in s; None: what the task's card says, else `WINDOW_S`."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            GenerationError: If a setting is out of range.
        """
        check_ranges(vars(self))


class Sentence(NamedTuple):
    """Text of one request."""

    text: str
    """What to say."""
    is_whole: bool
    """Does a sentence end with it?"""


class Part(NamedTuple):
    """What became of one sentence or window."""

    text: str
    """What it says: what was asked for, or heard."""
    start_s: float
    """Where in the audio it begins, in s."""
    seconds: float
    """How long it lasts, in s."""
    stop: str
    """`end`, or `limit` where it was cut."""


class LongForm(Iterator[Any]):
    """`Audio` or text, piece by piece; `parts` says of each sentence or window where it lies."""

    target: str | None = None

    def __init__(
        self,
        model: Model,
        task: str,
        settings: LongFormSettings,
        request: dict[str, Any],
        best_of: int | None = None,
        streaming: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin; nothing is done before the first piece is asked for.

        Args:
            model: Does the work.
            task: Name of the task: from text to audio, or from audio to text.
            settings: How to cut and join.
            request: Conditions and settings, see `Model.request`.
            best_of: Candidates of each part.
            streaming: Keyword arguments of `Model.stream`, where audio is to go out while a sentence is made.

        Raises:
            GenerationError: If the task is of another kind, or its input is missing.
        """
        self.parts: list[Part] = []
        """Those that are done."""
        self._model, self._task, self._settings = model, model.task(task), settings
        self._best_of, self._streaming, self._voice = best_of, streaming, None
        source = _long_condition(self._task)
        if request.get(source.name) is None:
            raise GenerationError(f"task '{task}' needs '{source.name}' ({source.kind}), the one that may be long.")
        if streaming is not None and best_of not in (None, 1):
            raise GenerationError("best_of chooses between whole results. Stream with best_of=1.")
        value = request.pop(source.name)
        if source.kind == "text" and not isinstance(value, str):
            raise GenerationError(f"task '{task}', '{source.name}': got {type(value).__name__}, long form takes text.")
        self._request, self._source = request, source.name
        self._pieces = self._speak(value) if source.kind == "text" else self._transcribe(value)

    def __next__(self) -> Any:
        """Return the next piece."""
        return next(self._pieces)

    def close(self) -> None:
        """End it here."""
        self._pieces.close()

    @property
    def duration_s(self) -> float:
        """Length of the audio up to the end of the last part, in s."""
        return self.parts[-1].start_s + self.parts[-1].seconds if self.parts else 0.0

    def _speak(self, text: str) -> Generator[Audio, None, None]:
        field, request = _prompt(self._task, self._request), dict(self._request)
        codec = self._model.tokenizers.audio
        silence, start_s = None, 0.0
        longest = self._settings.characters
        sentences = split_text(text, min(longest, self._task.generate.max_characters or longest))
        if not sentences:
            raise GenerationError("the text is empty. Give something to say.")
        for sentence in sentences:
            if silence is not None:
                start_s += silence.duration_s
                yield silence
            result: list[Generation] = []
            n_samples = 0
            for piece in faded(self._said({**request, self._source: sentence.text}, result), codec.sample_rate_hz):
                n_samples += piece.n_samples
                yield piece
            [made], seconds = result, n_samples / codec.sample_rate_hz
            self.parts.append(Part(sentence.text, start_s, seconds, made.stop))
            start_s += seconds
            if field is not None and seconds >= SHORTEST_PROMPT_S:
                longest = round((field.max_seconds or seconds) * codec.frame_rate_hz)
                request[field.name] = made.sequence.codes(_target(self._task))[:, :longest]
                field = None
            pause = self._settings.pause_seconds * (1.0 if sentence.is_whole else 0.5)
            silence = Audio(torch.zeros(codec.channels, round(pause * codec.sample_rate_hz)), codec.sample_rate_hz)

    def _said(self, request: dict[str, Any], result: list[Any]) -> Iterator[Any]:
        """Yield the audio of one sentence; `result` gets the generation."""
        if self._streaming is None:
            prepared = self._model.request(self._task.name, **request)
            [made] = self._model.run([prepared], best_of=self._best_of)
            result.append(made)
            yield made.values[_target(self._task)]
            return
        with self._model.stream(self._task.name, **self._streaming, **request) as stream:
            yield from stream
            result.append(stream.generation)

    def _transcribe(self, value: Any) -> Generator[str, None, None]:
        start_s = 0.0
        seconds = self._settings.window_seconds or self._task.generate.window_seconds or WINDOW_S
        for window in windows(value, seconds):
            request = self._model.request(self._task.name, **{**self._request, self._source: window})
            [made] = self._model.run([request], best_of=self._best_of)
            text = later(str(made.values[_target(self._task)]), start_s)
            yield f" {text}" if self.parts else text
            self.parts.append(Part(text, start_s, window.duration_s, made.stop))
            start_s += window.duration_s


def split_text(text: str, longest: int) -> list[Sentence]:
    """Cut a text into sentences, and those into clauses that are too long; never within a word.

    Args:
        text: Any text.
        longest: Most characters of a piece; only a longer word makes a longer one.
    """
    pieces: list[Sentence] = []
    for sentence in _sentences(text):
        while len(sentence) > longest:
            at = _cut_at(sentence, longest)
            if at >= len(sentence):
                break
            pieces.append(Sentence(sentence[:at].strip(), False))
            sentence = sentence[at:].strip()
        pieces.append(Sentence(sentence, True))
    return pieces


def windows(value: Any, seconds: float) -> Iterator[Audio]:
    """Cut a recording into windows that end where it is quietest; a file is read as it is needed.

    Args:
        value: What `Audio.of` takes.
        seconds: Longest window, in s; the cut is in the last `SEARCHED` of it.

    Raises:
        AudioFormatError: If it cannot be read, or holds no samples.
    """
    rest: Tensor | None = None
    rate = 0
    for block, rate in _blocks(value, seconds):
        rest = block if rest is None else torch.cat([rest, block], dim=1)
        longest = round(seconds * rate)
        while rest.shape[1] > longest:
            at = _quietest(rest[:, :longest], rate)
            yield Audio(rest[:, :at].clone(), rate)
            rest = rest[:, at:]
    if rest is None or not rest.shape[1]:
        raise AudioFormatError("the recording holds no samples. Give one that does.")
    yield Audio(rest.clone(), rate)


def later(text: str, seconds: float) -> str:
    """Return a text whose time stamps (`<1.30>`) are later by some seconds."""
    return STAMP.sub(lambda found: time_symbol(float(found[1]) + seconds), text)


def faded(pieces: Iterator[Audio], sample_rate_hz: int) -> Iterator[Audio]:
    """Let audio begin and end softly: its first and its last 5 ms are ramps. The end is held back for that."""
    n, held, begun = round(EDGE_S * sample_rate_hz), None, False
    for piece in pieces:
        samples = piece.samples if held is None else torch.cat([held, piece.samples], dim=1)
        if not begun and samples.shape[1] > 2 * n:
            samples, begun = torch.cat([samples[:, :n] * _ramp(n), samples[:, n:]], dim=1), True
        held = samples
        if begun and samples.shape[1] > n:
            held = samples[:, -n:]
            yield Audio(samples[:, :-n], sample_rate_hz)
    if held is not None:
        m = min(n, held.shape[1])
        yield Audio(
            torch.cat([held[:, : held.shape[1] - m], held[:, held.shape[1] - m :] * _ramp(m).flip(0)], 1),
            sample_rate_hz,
        )


def _ramp(n: int) -> Tensor:
    return (torch.arange(n) + 0.5) / max(n, 1)


def _sentences(text: str) -> list[str]:
    """Return the sentences of a text, not cut after abbreviations and initials."""
    found, begun = [], 0
    for end in ENDS.finditer(text):
        before = text[begun : end.end()].rstrip()
        is_paragraph = "\n\n" in end[0].replace(" ", "")
        if not is_paragraph and ABBREVIATION.search(before):
            continue
        found.append(before)
        begun = end.end()
    # Where there is no letter ("* * *"), there is nothing to say.
    return [" ".join(one.split()) for one in [*found, text[begun:]] if any(map(str.isalnum, one))]


def _cut_at(sentence: str, longest: int) -> int:
    """Return where to cut a sentence: after its last clause that fits, else its last word, else its first word."""
    clauses = [found.end() for found in CLAUSE.finditer(sentence, 0, longest + 1) if found.end() <= longest + 1]
    clauses = [
        at for at in clauses if at < len(sentence) and (sentence[at - 1].isspace() or sentence[at - 1] in "、，；")
    ]
    if clauses and clauses[-1] > longest // 4:
        return clauses[-1]
    space = sentence.rfind(" ", 1, longest + 1)
    if space < 0:
        space = sentence.find(" ", longest)
    return space + 1 if space >= 0 else len(sentence)


def _quietest(samples: Tensor, rate: int) -> int:
    """Return the middle of the quietest stretch in the last part of a window `[C, N]`; of equal ones, the latest."""
    n = max(1, round(QUIET_S * rate))
    first = round(samples.shape[1] * (1 - SEARCHED))
    tail = samples[:, first:].mean(dim=0)
    level = tail.unfold(0, n, max(1, n // 4)).square().mean(dim=1)
    at = len(level) - 1 - int(level.flip(0).argmin())
    return first + at * max(1, n // 4) + n // 2


def _blocks(value: Any, seconds: float) -> Iterator[tuple[Tensor, int]]:
    """Yield a recording as blocks `[C, N]` with their rate."""
    if not isinstance(value, str | Path):
        audio = Audio.of(value)
        yield audio.samples, audio.sample_rate_hz
        return
    if not Path(value).is_file():
        Audio.read(value)  # says what is wrong
    try:
        with soundfile.SoundFile(value) as file:
            size = max(1, round(seconds * file.samplerate))
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield torch.from_numpy(block.T.copy()), file.samplerate
    except soundfile.SoundFileError as error:
        raise AudioFormatError(
            f"audio file '{value}' cannot be read: {error}. ffmpeg turns others into wav."
        ) from error


def _long_condition(task: Task) -> Field:
    """Return the condition that may be long.

    Raises:
        GenerationError: If the task does not make one audio of a text, or one text of audio.
    """
    kinds = [target.kind for target in task.targets]
    needed = [field for field in task.conditions if field.needed and field.kind in ("text", "audio")]
    pair = (needed[0].kind, *kinds) if len(needed) == 1 else ()
    if pair not in (("text", "audio"), ("audio", "text")):
        raise GenerationError(
            f"task '{task.name}' makes {', '.join(kinds)} of {', '.join(field.name for field in task.conditions)}; "
            "long form is for tasks that make one audio of a text (tts) or one text of a recording (asr)."
        )
    return needed[0]


def _prompt(task: Task, request: dict[str, Any]) -> Field | None:
    """Return the condition that keeps a voice, unless the caller says whose it is."""
    if any(request.get(field.name) is not None for field in task.conditions if field.kind in ("label", "audio")):
        return None
    wanted = (field for field in task.conditions if field.kind == "audio" and field.source == "same_speaker")
    return next(wanted, None)


def _target(task: Task) -> str:
    return task.targets[0].name
