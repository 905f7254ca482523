"""`unitok generate --long-form`: texts and recordings of any length, written and printed as they go."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from typing import Any

from unitok.cli.generate import PIPE, asked_for
from unitok.cli.generate_stream import no_writer, open_writer, pass_on, refuse_for_pipes, stream_options
from unitok.cli.request import load_model, values
from unitok.errors import GenerationError

__all__ = ["run_long"]

logger = logging.getLogger("unitok")


def run_long(args: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Carry out one task in parts; settings are keyword arguments of `Model.request`."""
    if args.manifest or args.plot:
        raise GenerationError(f"--long-form is for one input; leave {'--manifest' if args.manifest else '--plot'} out.")
    task = asked_for(args)
    refuse_for_pipes(args, task)
    has_audio = any(target.kind == "audio" for target in task.targets)
    model = load_model(args)
    from unitok.long_form import LongFormSettings

    names = [field.name for field in dataclasses.fields(LongFormSettings)]
    how = LongFormSettings(**{name: getattr(args, name) for name in names if getattr(args, name) is not None})
    streaming = stream_options(args) if args.stream else None
    given = {**settings, **values(args, task.conditions)}
    long = model.long_form(task.name, settings=how, best_of=args.best_of, streaming=streaming, **given)
    codec = model.tokenizers.audio
    with open_writer(args, codec.sample_rate_hz, codec.channels) if has_audio else no_writer() as writer:
        pass_on(long, writer, is_printed=not args.json)
    if args.json:
        made = {"audio": args.out} if has_audio else {"text": " ".join(part.text for part in long.parts)}
        parts = [
            {**part._asdict(), "start_s": round(part.start_s, 3), "seconds": round(part.seconds, 3)}
            for part in long.parts
        ]
        row = {"task": task.name, **made, "seconds": round(long.duration_s, 3), "parts": parts}
        print(json.dumps(row, ensure_ascii=False))
    cut = sum(part.stop == "limit" for part in long.parts)
    if cut:
        logger.warning(
            "%d of %d parts were cut at their longest: ask for shorter ones by --characters or --window-seconds.",
            cut,
            len(long.parts),
        )
    logger.debug("%d parts, %.1f s", len(long.parts), long.duration_s)
    if has_audio and args.out != PIPE:
        logger.info("%s: %.2f s, %d parts", args.out, long.duration_s, len(long.parts))
    return 0
