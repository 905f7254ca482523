"""`unitok generate --stream`, and `--out -`: results that go out while they are made, and audio that goes into a pipe.

A file grows under a temporary name beside its own and gets its own when it is whole. Text is printed piece by piece.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unitok.cli.generate import PIPE, asked_for, describe, remarks
from unitok.cli.request import load_model, load_models, progress, values
from unitok.errors import GenerationError

if TYPE_CHECKING:
    from unitok.audio import AudioWriter, PipeWriter
    from unitok.long_form import LongForm
    from unitok.streaming import Stream, Timing
    from unitok.tasks import Task

__all__ = ["no_writer", "open_writer", "pass_on", "refuse_for_pipes", "run_stream", "run_whole", "stream_options"]

logger = logging.getLogger("unitok")

OPTIONS = ("chunk_seconds", "look_ahead_seconds", "refine_seconds", "refine_ahead_seconds")


def run_stream(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Carry out one task as a stream; settings are keyword arguments of `Model.request`."""
    if args.manifest:
        raise GenerationError("--stream is for one input; with --manifest leave it out.")
    task = asked_for(args)
    _refuse_unstreamed(args, task)
    refuse_for_pipes(args, task)
    model = load_model(args)
    codec = model.tokenizers.audio
    stream = model.stream(
        task.name, best_of=args.best_of, **stream_options(args), **settings, **values(args, task.conditions)
    )
    audio = next((target.name for target in task.targets if target.kind == "audio"), None)
    with open_writer(args, codec.sample_rate_hz, codec.channels) if audio else no_writer() as writer:
        pass_on(stream, writer, is_printed=not args.json and args.out != PIPE)
    assert stream.generation is not None, "the stream ended without a result"
    files = {audio: str(args.out)} if audio and args.out != PIPE else {}
    if args.json:
        row = {"task": task.name, **describe(stream.generation, files), **_speeds(stream.timing)}
        print(json.dumps(row, ensure_ascii=False))
    for remark in remarks(stream.generation, task.generate.window_seconds):
        logger.warning(remark)
    logger.debug(_described(stream.timing))
    return 0


def run_whole(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Carry out one task and write the audio to stdout when it is whole."""
    from unitok.audio import Audio

    if args.manifest:
        raise GenerationError("--manifest writes into a folder: name it with --out DIR.")
    task = asked_for(args)
    refuse_for_pipes(args, task)
    model, stages = load_models(args)
    request = model.request(task.name, stage_models=stages or None, **settings, **values(args, task.conditions))
    with progress(args, task.name) as on_step:
        [generation] = model.run([request], best_of=args.best_of, on_step=on_step)
    audio = next(value for value in generation.values.values() if isinstance(value, Audio))
    with open_writer(args, audio.sample_rate_hz, audio.n_channels) as writer:
        writer.write(audio)
    for remark in remarks(generation):
        logger.warning(remark)
    return 0


@contextlib.contextmanager
def open_writer(args: argparse.Namespace, sample_rate_hz: int, n_channels: int) -> Iterator[AudioWriter | PipeWriter]:
    """Lend what takes the audio for `--out`: a file that is whole at the end or not there, or stdout."""
    from unitok.audio import AudioWriter, PipeWriter

    if args.out == PIPE:
        yield PipeWriter(sys.stdout.buffer, sample_rate_hz, n_channels, raw=args.raw)
        return
    with AudioWriter(args.out, sample_rate_hz, n_channels) as file:
        yield file


def stream_options(args: argparse.Namespace) -> dict[str, float]:
    """Return the keyword arguments of `Model.stream` that were given."""
    return {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}


def refuse_for_pipes(args: argparse.Namespace, task: Task) -> None:
    """Refuse what does not go with audio on stdout, and `--raw` elsewhere.

    Raises:
        GenerationError: If something was asked for that does not.
    """
    if args.out != PIPE:
        if args.raw:
            raise GenerationError("--raw is for audio on stdout: add --out -.")
        return
    if not any(target.kind == "audio" for target in task.targets):
        raise GenerationError(f"--out -: task '{task.name}' makes no audio; text goes to stdout anyway. Leave it out.")
    if args.json or args.plot:
        raise GenerationError(f"--out - fills stdout: leave {'--json' if args.json else '--plot'} out, or name a file.")
    if sys.stdout.isatty():
        raise GenerationError("--out - is for a pipe, stdout is a terminal: add '| aplay', or name a file.")


def _refuse_unstreamed(args: argparse.Namespace, task: Task) -> None:
    if args.plot:
        raise GenerationError("--plot draws whole results: leave --stream or --plot out.")
    audio = [target.name for target in task.targets if target.kind == "audio"]
    if len(audio) > 1:
        raise GenerationError(f"--stream: task '{task.name}' makes audio twice ({', '.join(audio)}): leave it out.")
    if args.out is not None and not audio:
        raise GenerationError(f"--stream: task '{task.name}' makes no audio for '{args.out}': leave --out out.")


@contextlib.contextmanager
def no_writer() -> Iterator[None]:
    """Lend nothing, for tasks that make no audio."""
    yield None


def pass_on(stream: Stream | LongForm, writer: AudioWriter | PipeWriter | None, is_printed: bool) -> None:
    """Write audio as it comes, and print text and ids."""
    from unitok.audio import Audio

    target, is_open = None, False
    for value in stream:
        if isinstance(value, Audio):
            assert writer is not None, f"audio of '{stream.target}' has nowhere to go"
            writer.write(value)
        elif is_printed:
            if target not in (None, stream.target):
                print()
            target, is_open = stream.target, True
            shown = value if isinstance(value, str) else "".join(f"{id} " for id in value.flatten().tolist())
            print(shown, end="", flush=True)
    if is_open:
        print()


def _speeds(timing: Timing) -> dict[str, float]:
    speeds = {"first_seconds": timing.first_s, "real_time_factor": timing.real_time_factor}
    return {name: round(value, 3) for name, value in speeds.items() if value is not None}


def _described(timing: Timing) -> str:
    if timing.first_s is None:
        return "nothing came out"
    line = f"first piece after {timing.first_s:.2f} s, all after {timing.working_s:.2f} s"
    factor = timing.real_time_factor
    return line if factor is None else f"{line}: {factor:.2f} s for 1 s of audio"
