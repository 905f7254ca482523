"""The `unitok` command: finds the command's module, sets up logging, turns errors into one line.

What a command does is in its own module, `unitok/cli/<name>.py`, which is imported only when that command is asked for,
so that `unitok --help` stays quick and imports no torch.

Exit status: 0 done, 1 some rows failed, 2 the user's mistake, 70 a bug in unitok, 130 Ctrl-C, 141 the reader of a pipe
left.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

import unitok
from unitok.cards import ENVIRONMENT_VARIABLE, add_user_root
from unitok.cli.parser import Parser
from unitok.errors import UnitokError, suggest

__all__ = ["COMMANDS", "Command", "build_parser", "main"]

EXIT_USER = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

logger = logging.getLogger("unitok")


class Command(NamedTuple):
    """One row of the table of commands."""

    module: str
    """Module under `unitok.cli` with `add_arguments(parser)` and `run(args)`."""
    help: str
    """What it does, on one line."""
    raw: bool = False
    """The module parses its own arguments: `run(argv)` gets them as they are, the command's name first."""


COMMANDS: dict[str, Command] = {
    "generate": Command("generate", "make audio or text: one task, one input, or a whole manifest"),
    "score": Command("score", "log-probabilities of given answers, to classify or to rank"),
    "evaluate": Command("evaluate", "measure a model on a manifest, with a report that has the worst items first"),
    "tasks": Command("tasks", "list the tasks, show one, or check a card of yours"),
    "tokenizers": Command("tokenizers", "list the tokenizers, show one, or check a card of yours"),
    "tokenize": Command("tokenize", "turn audio files into codec codes"),
    "detokenize": Command("detokenize", "turn codec codes back into audio"),
    "inspect": Command("inspect", "print or draw the token sequence of an input or of a stored record"),
    "prepare": Command("prepare", "turn a manifest into record shards to train on"),
    "synth": Command("synth", "make a procedural corpus: speech, sounds, music"),
    "leakage": Command("leakage", "fail if held-out data is trained on"),
    "train-tokenizer": Command("train_tokenizer", "learn a SentencePiece vocabulary from texts"),
    "lexicon": Command("lexicon", "write down how words are said, for models that speak from that"),
    "words": Command("words", "count words and what follows them, for models that search for what they hear"),
    "train-kmeans": Command("train_kmeans", "learn the centroids of semantic tokens from audio"),
    "init": Command("init", "begin a model with the weights and the tokenizer of a text model"),
    "export": Command("export", "write a model in one piece, or its text part for transformers"),
    "predict-codes": Command("predict_codes", "codes as a model says them, to train a codec's decoder on"),
    "fit": Command("fit", "train: unitok fit --config FILE.yaml", raw=True),
    "fit-codec": Command("fit", "train or fine-tune a codec: EnCodec, DAC, or unitok's own", raw=True),
    "compare": Command("compare", "train several settings alike and compare them", raw=True),
    "validate": Command("fit", "measure the validation loss of a checkpoint", raw=True),
    "test": Command("fit", "measure the test loss of a checkpoint", raw=True),
    "bench": Command("bench", "measure how fast this machine generates, trains, codes and reads, beside others"),
    "doctor": Command("doctor", "check this installation and say how to mend it"),
}

EXAMPLE = 'unitok generate --task tts --text "The quick brown fox." --out fox.wav'


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program's name; default: those of the process.

    Returns:
        The exit status (see the module's docstring).
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in argv
    try:
        flags, rest = _global_flags().parse_known_args(argv)
        _set_up_logging(flags)
        with _card_folders(flags.cards):
            status = _dispatch(flags, rest)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED, debug)
    except BrokenPipeError:
        # Nobody reads any more (`unitok tasks | head -1`): say nothing, and keep Python from flushing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except (UnitokError, OSError) as error:
        return _fail(_one_line(error), EXIT_USER, debug)
    except Exception:
        traceback.print_exc()
        return _fail("this is a bug in unitok; the traceback above is what a report needs.", EXIT_BUG, debug=False)


def build_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of the command `name`, with the arguments its module adds.

    Args:
        name: A key of `COMMANDS` whose `raw` is false.
    """
    command = COMMANDS[name]
    parser = Parser(
        prog=f"unitok {name}",
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        allow_abbrev=False,
    )
    _module(command).add_arguments(parser)
    _add_global_flags(parser)
    return parser


def _dispatch(flags: argparse.Namespace, rest: list[str]) -> int:
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(_overview(), file=sys.stdout if rest else sys.stderr)
        return 0 if rest else EXIT_USER
    name, *argv = rest
    if name == "--version":
        print(f"unitok {unitok.__version__}")
        return 0
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        hint = suggest(name, [*COMMANDS, "--help", "--version", *_global_flags()._option_string_actions])
        raise UnitokError(f"unknown {what} '{name}'.{hint} Run 'unitok --help' to see them all.")
    command = COMMANDS[name]
    if command.raw:
        return _module(command).run([name, *argv])
    args = build_parser(name).parse_args(argv, namespace=flags)
    return _module(command).run(args)


def _module(command: Command):
    return import_module(f"unitok.cli.{command.module}")


def _global_flags() -> argparse.ArgumentParser:
    """Return a parser of nothing but the flags that stand before or after the command's name."""
    parser = Parser(prog="unitok", add_help=False, allow_abbrev=False)
    _add_global_flags(parser)
    return parser


def _add_global_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("everywhere")
    group.add_argument("--quiet", action="store_true", help="only warnings and errors on stderr")
    group.add_argument("--verbose", action="store_true", help="say more on stderr")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group.add_argument(
        "--cards", action="append", metavar="DIR", help="look for cards here first (may be repeated; also UNITOK_CARDS)"
    )


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: unitok [--quiet | --verbose] [--debug] [--cards DIR] COMMAND ...",
            "",
            "Every audio task as one token sequence.",
            "",
            "commands:",
            *rows,
            "",
            f"example:\n  {EXAMPLE}",
            "",
            "'unitok COMMAND --help' explains one command; 'unitok --version' prints the version.",
        ]
    )


class _StderrHandler(logging.Handler):
    """Write records to whatever `sys.stderr` is at that moment (a test or a progress bar may have replaced it)."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _set_up_logging(flags: argparse.Namespace) -> None:
    logger.handlers = [_StderrHandler()]
    logger.setLevel(logging.DEBUG if flags.verbose else logging.WARNING if flags.quiet else logging.INFO)
    if not flags.verbose:  # the hub tells each of its tries; unitok's error says what they came to
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")


@contextmanager
def _card_folders(folders: Sequence[str] | None) -> Iterator[None]:
    """Search `folders` for cards, in this process and in the workers that it starts, until the command is done."""
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    try:
        for folder in reversed(folders or ()):
            add_user_root(folder)
        yield
    finally:
        if before is None:
            os.environ.pop(ENVIRONMENT_VARIABLE, None)
        else:
            os.environ[ENVIRONMENT_VARIABLE] = before


def _one_line(error: Exception) -> str:
    """Return what to tell a user about `error`."""
    if isinstance(error, UnitokError) or not isinstance(error, OSError):
        return str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"'{error.filename}': a file is where a folder should be. Choose another place."
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if "torchaudio" in str(error):
        return f"torchaudio cannot be imported: {error}. Run 'unitok doctor --fix'."
    return f"{error}."


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"unitok: {message}", file=sys.stderr)
    return status
