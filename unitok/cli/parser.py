"""The parser of commands: what is wrong with their flags is told on one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from unitok.errors import UnitokError, suggest

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are a `UnitokError`: one line, with the nearest option when one is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        unknown = message.removeprefix("unrecognized arguments: ")
        hint = suggest(unknown.split()[0].split("=")[0], self._option_string_actions) if unknown != message else ""
        raise UnitokError(f"{message}.{hint} Run '{self.prog} --help' to see what it takes.")
