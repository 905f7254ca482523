"""`unitok fit | validate | test`: LightningCLI over any module and data module named by `class_path`; `fit-codec`.

A config is YAML with `trainer`, `model` and `data`; `${…}` refers to other values, and flags override any value:

    unitok fit --config configs/toy/lm.yaml --trainer.max_steps 100
    unitok fit --config configs/toy/lm.yaml --print_config
    unitok fit --config configs/toy/lm.yaml --ckpt_path out/toy/checkpoints/last.ckpt      (goes on with a run)
    unitok fit-codec --config codecs/dac_44khz --config codecs/tiny/dac
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from unitok.cards import find_card, list_cards
from unitok.errors import UnitokError, suggest

if TYPE_CHECKING:
    from unitok.training.cli import Stage

__all__ = ["calm", "check_config", "run"]

logger = logging.getLogger("unitok")

QUIET_WARNINGS = (
    r".*does not have many workers.*",
    r"Total length of `list` across ranks is zero.*",
    r".*sync_dist=True.*",
    r".*LightningCLI's args parameter.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r"(?s).*(was deprecated in v4\.|JsonargparseDeprecationWarning).*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*number of training batches .* is smaller than the logging interval.*",
    r".*You defined a `validation_step` but have no `val_dataloader`.*",
)


def run(argv: Sequence[str]) -> int:
    """Run one of the four.

    Args:
        argv: `fit`, `validate`, `test` or `fit-codec`, and its arguments.

    Returns:
        0 when done.

    Raises:
        UnitokError: If the config has mistakes.
    """
    # Lightning sets its loggers up when it is imported, so it comes before they are quieted.
    from unitok.training.cli import UnitokCLI

    command, *rest = argv
    with calm():
        try:
            if command == "fit-codec":
                from unitok.training.codec_cli import CodecCLI

                CodecCLI("fit", _find_configs(rest))
            else:
                UnitokCLI(cast("Stage", command), _find_configs(rest))
        except SystemExit as stop:
            return int(stop.code or 0)  # --help and --print_config end so
    return 0


def _find_configs(argv: Sequence[str]) -> list[str]:
    """Let `--config mini/lm.yaml` mean the card of that name wherever there is no such file."""
    found = list(argv)
    for place, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-c"):
            continue
        place, prefix, value = (place, f"{flag}=", value) if equals else (place + 1, "", "".join(argv[place + 1 :][:1]))
        if value and not Path(value).is_file():
            name = value.removesuffix(".yaml")
            if name != value and name not in list_cards("configs") and not suggest(name, list_cards("configs")):
                raise UnitokError(f"{flag}: there is no file '{value}', and no config of that name in configs/.")
            found[place] = prefix + str(find_card("configs", name))
        elif value:
            check_config(value)
    return found


def check_config(file: str | Path) -> None:
    """Refuse a file that is no config at all, of which its parser would say little.

    Raises:
        UnitokError: If it is empty, or no text.
    """
    try:
        what = "" if Path(file).read_text(encoding="utf-8").strip() else "is empty"
    except UnicodeDecodeError:
        what = "is no text"
    if what:
        raise UnitokError(f"'{file}' {what}. A config is YAML with the keys model, data and trainer.")


@contextmanager
def calm() -> Iterator[None]:
    """Keep Lightning's banners and hints away unless `--verbose` asks for them."""
    verbose = logger.isEnabledFor(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    before = [one.level for one in loggers]
    try:
        with warnings.catch_warnings():
            if not verbose:
                for one in loggers:
                    one.setLevel(logging.WARNING)
                for message in QUIET_WARNINGS:
                    warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)
