"""`unitok generate`: one task on one input, or a whole manifest of them.

One input: text goes to stdout, audio to `--out`; semantic ids to `--out`, or else to stdout. A manifest:
`DIR/<id>.wav`, `DIR/<id>.npy` and `DIR/results.jsonl`; a row that fails is reported there and the rest is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unitok.cli.request import add_model_options, add_stage_options, add_task_options, load_models, progress, values
from unitok.errors import GenerationError, suggest
from unitok.tasks import Sampling, Task

if TYPE_CHECKING:
    from unitok.api import Candidate, Generation, TargetLength
    from unitok.sequence import TokenSequence

__all__ = [
    "PIPE",
    "add_arguments",
    "add_generation_options",
    "asked_for",
    "describe",
    "in_detail",
    "remarks",
    "run",
    "settings",
]

logger = logging.getLogger("unitok")

PIPE = "-"
"""`--out` that means stdout."""
LIMITS = ("max_seconds", "max_text_tokens", "answers", "regex", "instruction")
SETTINGS = ("lang", "seed", *(field.name for field in dataclasses.fields(Sampling)), "guidance", *LIMITS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `unitok generate`; those of the task come with `--task`."""
    add_model_options(parser)
    add_stage_options(parser)
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="file to write, audio or ids (.npy, .json, .txt); '-' is WAV on stdout; with --manifest, the folder",
    )
    parser.add_argument("--json", action="store_true", help="print what was made as JSON, one object a line")
    parser.add_argument("--plot", metavar="FILE", help="draw the audio (waveform and spectrogram) or the sequence")
    add_generation_options(parser)
    add_stream_options(parser)
    many = parser.add_argument_group("many at once")
    many.add_argument("--manifest", metavar="FILE", help='JSON Lines: {"id": "a", "task": "tts", "text": "Hi."}')
    many.add_argument("--batch-size", type=int, default=16, metavar="N", help="rows at once (default: 16)")
    parser.epilog = 'example: unitok generate --task tts --text "The quick brown fox." --out fox.wav --plot fox.png'
    add_task_options(parser, with_pipelines=True)


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Add the settings of generation; `settings` reads them."""
    how = parser.add_argument_group("how to generate (default: as the task's card says)")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same result (default: 0)")
    how.add_argument("--temperature", type=float, metavar="X", help="lower is safer, higher more varied; 0 is --greedy")
    how.add_argument("--top-k", type=int, metavar="N", help="draw from the N likeliest ids; 0 means all")
    how.add_argument("--top-p", type=float, metavar="X", help="draw from the likeliest ids that hold this probability")
    how.add_argument(
        "--min-p", type=float, metavar="X", help="draw from ids at least X times as likely as the likeliest"
    )
    how.add_argument(
        "--repetition-window",
        type=int,
        metavar="N",
        help="leave loops: draw a code anew that fills too much of the last N positions (VALL-E 2: 10); 0 is off",
    )
    how.add_argument(
        "--repetition-threshold", type=float, metavar="X", help="how much of them is too much (usually 0.1)"
    )
    how.add_argument(
        "--codebook-temperatures",
        type=float,
        nargs="+",
        metavar="X",
        help="temperature of codebook 0, 1, … of audio; the last stands for all after it",
    )
    how.add_argument("--greedy", action="store_true", default=None, help="take the likeliest id at every step")
    how.add_argument(
        "--guidance",
        type=guidance,
        metavar="X",
        help="follow the conditions more closely than 1, which is off; or by name: text=1.75,voice=1.3",
    )
    how.add_argument("--max-seconds", type=float, metavar="S", help="longest audio made")
    how.add_argument("--max-text-tokens", type=int, metavar="N", help="longest text made")
    how.add_argument("--beams", type=int, metavar="N", help="beam search over N texts, for tasks that make one text")
    how.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="of beams: 0 prefers short texts, 1 the likeliest by the token",
    )
    how.add_argument(
        "--word-weight",
        type=float,
        metavar="X",
        help="of beams: what likely words count, 0 is off; for languages that the model has words of",
    )
    how.add_argument("--refine-passes", type=int, metavar="N", help="passes of a model with masked refinement")
    how.add_argument("--answers", nargs="+", metavar="TEXT", help="what the text made may be: one of these")
    how.add_argument("--regex", metavar="PATTERN", help="regular expression that the text made has to match")
    how.add_argument("--instruction", metavar="TEXT", help="say in words what to do, for models that learned a task so")
    how.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="make N, keep the one that the model's own asr hears best; 1 is fastest",
    )


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of results that go out while they are made."""
    stream = parser.add_argument_group("while it is made")
    stream.add_argument(
        "--stream", action="store_true", help="write audio and print text as they are made (one candidate)"
    )
    stream.add_argument("--raw", action="store_true", help="with --out -: 16-bit samples without a WAV header")
    stream.add_argument("--chunk-seconds", type=float, metavar="S", help="audio decoded at once (default: 0.25)")
    stream.add_argument(
        "--look-ahead-seconds",
        type=float,
        metavar="S",
        help="wait for no more until audio is decoded: sooner, less exact (default: what the codec needs)",
    )
    stream.add_argument("--refine-seconds", type=float, metavar="S", help="audio refined at once (default: 1)")
    stream.add_argument(
        "--refine-ahead-seconds", type=float, metavar="S", help="audio that the refiner sees after it (default: 0.5)"
    )
    long = parser.add_argument_group("long texts and recordings")
    long.add_argument(
        "--long-form", action="store_true", help="sentence by sentence with one voice, or window by window; any length"
    )
    long.add_argument("--characters", type=int, metavar="N", help="longest text spoken at once (default: 200)")
    long.add_argument("--pause-seconds", type=float, metavar="S", help="silence between sentences (default: 0.25)")
    long.add_argument(
        "--window-seconds", type=float, metavar="S", help="longest audio heard at once (default: the card's, else 10)"
    )


def run(args: argparse.Namespace) -> int:
    """Generate; 0, or 1 if rows of a manifest failed."""
    if args.long_form:
        from unitok.cli.generate_long import run_long

        return run_long(args, settings(args))
    if args.stream or args.out == PIPE:
        from unitok.cli.generate_stream import run_stream, run_whole

        return (run_stream if args.stream else run_whole)(args, settings(args))
    if args.manifest:
        from unitok.cli.generate_many import run_manifest

        return run_manifest(args, settings(args))
    return _run_one(args)


def guidance(text: str) -> float | dict[str, float]:
    """Read `1.75` as a number, `text=1.75,voice=1.3` as numbers by name."""
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(scale) for name, scale in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"is '{text}', allowed: a number, or numbers by name: text=1.75,voice=1.3"
        ) from error


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the generation settings that were given, as `Model.request` takes them.

    Raises:
        GenerationError: If a setting of a stage is none.
    """
    given = {name: value for name in SETTINGS if (value := getattr(args, name, None)) is not None}
    return given if not args.per_stage else {**given, "per_stage": _stage_settings(args.per_stage)}


def _stage_settings(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read `read.top_k=0` and the like, by stage, with the options of the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_generation_options(parser)
    found: dict[str, dict[str, Any]] = {}
    for one in given:
        place, equals, value = one.partition("=")
        stage, _, name = place.partition(".")
        option = parser._option_string_actions.get(f"--{name.replace('_', '-')}")
        if not equals or not stage or option is None or option.dest not in SETTINGS:
            names = [name for name in SETTINGS if name != "lang"]
            raise GenerationError(
                f"--per-stage: is '{one}', allowed: STAGE.SETTING=X, such as speak.temperature=0.7."
                f"{suggest(name, names)} Settings: {', '.join(names)}."
            )
        words = value.split(",") if option.nargs == "+" else [] if (option.nargs, value) == (0, "true") else [value]
        try:
            parsed, rest = parser.parse_known_args([option.option_strings[0], *words])
        except argparse.ArgumentError as error:
            raise GenerationError(f"--per-stage {one}: {error}.") from error
        if rest:
            raise GenerationError(f"--per-stage {one}: allowed is {place}=true.")
        found.setdefault(stage, {})[option.dest] = getattr(parsed, option.dest)
    return found


def asked_for(args: argparse.Namespace) -> Task:
    """Return the task of one input.

    Raises:
        GenerationError: If none was named, or it makes audio and nothing says where to.
        UnitokError: If what it makes cannot be written to `--out`.
    """
    task: Task | None = args.card
    if task is None:
        raise GenerationError("say what to do: --task NAME, or --manifest FILE. 'unitok tasks' lists the tasks.")
    if args.out is None and any(target.kind == "audio" for target in task.targets):
        raise GenerationError(f"task '{task.name}' makes audio: say where to, with --out FILE.wav.")
    if args.out not in (None, PIPE):
        _check_out(task, args.out)
    return task


def _check_out(task: Task, out: str) -> None:
    """Refuse a name that the result cannot have, before the model is loaded."""
    from unitok.audio import audio_suffix
    from unitok.tokenizers.runs import ids_suffix

    kinds = {target.kind for target in task.targets}
    if "audio" in kinds:
        audio_suffix(out)
    elif "semantic" in kinds:
        ids_suffix(out)
    else:
        raise GenerationError(f"task '{task.name}' makes no audio for '{out}', text goes to stdout: leave --out out.")


def _run_one(args: argparse.Namespace) -> int:
    task = asked_for(args)
    if args.plot:
        from unitok.plotting import check_figure_path

        check_figure_path(args.plot)
    model, stages = load_models(args)
    request = model.request(task.name, stage_models=stages or None, **settings(args), **values(args, task.conditions))
    with progress(args, task.name) as on_step:
        [generation] = model.run([request], best_of=args.best_of, hear=in_detail(args), on_step=on_step)
    files = generation.write(args.out) if args.out else {}
    if args.plot:
        _plot(generation, args.plot)
    if args.json:
        print(json.dumps({"task": task.name, **describe(generation, files)}, ensure_ascii=False))
    else:
        _print(generation, files)
    for remark in remarks(generation, task.generate.window_seconds):
        logger.warning(remark)
    if generation.chosen is not None:
        logger.debug(_choice(generation, task.checked_by))
    return 0


def in_detail(args: argparse.Namespace) -> bool:
    """Was more asked for than the result alone?"""
    return args.json or args.verbose


def remarks(generation: Generation, window_s: float | None = None) -> list[str]:
    """Return a line on each target whose length is no good sign, and on a recording far beyond a window."""
    lines = []
    if window_s is not None and (given := _seconds(generation)) > 2 * window_s:
        lines.append(f"{given:.1f} s at once, where {window_s:g} s are heard best: --long-form takes them in windows.")
    for length in generation.lengths:
        per_text = "" if length.n_characters is None else f" for {length.n_characters} characters"
        usual = "" if length.expected_seconds is None else f", about {length.expected_seconds:.1f} s would be usual"
        made = f"{length.target}: {length.seconds:.1f} s{per_text}{usual}"
        if length.verdict == "cut":
            lines.append(f"{made}; cut at its longest, the end may be missing: --max-seconds sets how long that is.")
        elif length.verdict == "short":
            lines.append(f"{made}; words may be missing: try another --seed, or --best-of.")
        elif length.verdict == "long":
            lines.append(f"{made}; it may repeat itself: try another --seed, or --best-of.")
    if generation.stop == "limit" and not any(length.cut for length in generation.lengths):
        lines.append("cut at its longest: --max-text-tokens sets how long that is.")
    return lines


def _choice(generation: Generation, checked_by: str) -> str:
    """Say which candidate was kept, and why."""
    scores = " ".join(f"{candidate.score:.1f}" for candidate in generation.candidates)
    kept = generation.candidates[generation.chosen or 0]
    heard = "" if kept.heard is None else f", {checked_by} hears {kept.heard!r}"
    number = (generation.chosen or 0) + 1
    return f"best of {len(generation.candidates)}: number {number} (--seed {kept.seed}), scores {scores}{heard}"


def describe(generation: Generation, files: dict[str, str]) -> dict[str, Any]:
    """Return what was made as plain values.

    `audio` and `semantic` are the first files, `text` the last text; `targets` has them all where there are several.
    `seconds` is how long the audio made lasts, or where none was made, the audio that was given. `lengths` has what was
    expected of the length of each audio made, `candidates` what there was to choose from, `chosen` which of them this
    is; `stages` what each stage of a pipeline made.
    """
    from unitok.audio import Audio

    row: dict[str, Any] = {}
    texts = {name: value for name, value in generation.values.items() if isinstance(value, str)}
    for name, file in files.items():
        # A stream has passed its audio on.
        is_audio = isinstance(generation.values.get(name), Audio | None)
        row.setdefault("audio" if is_audio else "semantic", file)
    if texts:
        row["text"] = list(texts.values())[-1]
    row["seconds"] = _seconds(generation)
    if len(generation.values) > 1:
        row["targets"] = {**texts, **files}
    row |= {"log_probability": round(generation.log_probability, 4), "stop": generation.stop}
    if generation.lengths:
        row["lengths"] = {length.target: _length(length) for length in generation.lengths}
    if generation.candidates:
        row |= {"candidates": [_candidate(one) for one in generation.candidates], "chosen": generation.chosen}
    if generation.stages:
        row["stages"] = {name: describe(one, {}) for name, one in generation.stages.items()}
    return row


def _seconds(generation: Generation) -> float:
    """Return how long the audio made lasts; where there is none, that of the conditions, of a pipeline the first."""
    from unitok.audio import Audio

    if not generation.stages:
        return _seconds_of(generation.sequence)
    made = sum(value.duration_s for value in generation.values.values() if isinstance(value, Audio))
    return round(made, 3) or next(filter(None, (_seconds_of(one.sequence) for one in generation.stages.values())), 0.0)


def _seconds_of(sequence: TokenSequence) -> float:
    """Return how long the audio of the targets lasts, or where there is none, that of the conditions, in s."""
    sides = {segment.role for segment in sequence.segments if segment.kind == "audio"}
    side = "target" if "target" in sides else "condition"
    frames = sum(
        segment.content.stop - segment.content.start
        for segment in sequence.segments
        if segment.kind == "audio" and segment.role == side
    )
    return round(frames / (sequence.frame_rate_hz or 1.0), 3)


def _length(length: TargetLength) -> dict[str, Any]:
    values = {
        "seconds": length.seconds,
        "characters": length.n_characters,
        "expected_seconds": length.expected_seconds,
        "shortest_seconds": length.shortest_seconds,
        "longest_seconds": length.longest_seconds,
        "verdict": length.verdict,
    }
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in values.items()
        if value is not None
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    row = {"seed": candidate.seed, "score": round(candidate.score, 4), "seconds": round(candidate.seconds, 3)}
    return row if candidate.heard is None else {**row, "heard": candidate.heard}


def _print(generation: Generation, files: dict[str, str]) -> None:
    """Print texts, and ids without a file, on stdout (one alone, several with names); where files went is a message."""
    from torch import Tensor

    printed = {name: value for name, value in generation.values.items() if name not in files}
    for name, value in printed.items():
        text = " ".join(map(str, value.flatten().tolist())) if isinstance(value, Tensor) else str(value)
        print(text if len(printed) == 1 else f"{name}\t{text}")
    for name, file in files.items():
        value = generation.values[name]
        logger.info("%s: %s", file, f"{value.numel()} semantic ids" if isinstance(value, Tensor) else repr(value))


def _plot(generation: Generation, path: str) -> None:
    from matplotlib import pyplot

    from unitok.audio import Audio

    audio = next((value for value in generation.values.values() if isinstance(value, Audio)), None)
    pyplot.close(generation.sequence.plot(path) if audio is None else audio.plot(path))
