"""What is wrong in a config or with a flag, on one line: jsonargparse tells it as a tree of all types that it tried."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from pydoc import locate
from typing import cast

from unitok.errors import suggest

__all__ = ["reason"]

_SKIPPED = re.compile(r"(- )?(Does not validate against|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>)")
_KEY = re.compile(r"(- )?Parser key \"(?P<key>.*)\":$")
_CLASS = re.compile(r"(- )?Problem with given class_path '(?P<path>.*)':$")


def reason(error: Exception, known: Iterable[str] = ()) -> str:
    """Return what was refused: the key as a user writes it, what it is, what is allowed.

    Args:
        error: What jsonargparse or a class raised.
        known: Names of settings, the closest of which is proposed in place of an unknown flag.
    """
    text = str(error)
    if flag := re.match(r"unrecognized arguments: --([\w.]+)", text):
        return f"{text}.{suggest(flag[1], known)}"
    if missing := re.match(r"the following arguments are required: (.*)", text):
        return f"nothing says what {missing[1]} shall be. Name a config: --config FILE.yaml, or flags."
    keys: list[str] = []
    allowed: list[str] = []
    told: list[tuple[int, str]] = []
    for line in filter(None, map(str.rstrip, text.splitlines())):
        stripped = line.strip()
        if found := _KEY.match(stripped):
            keys.append(found["key"])
        elif found := _CLASS.match(stripped):
            allowed, flat = _settings(found["path"])
            keys += [] if flat else ["init_args"]
        elif not _SKIPPED.match(stripped):
            told.append((len(line) - len(line.lstrip()), _leaf(stripped.removeprefix("- "), allowed)))
    if not told:
        return _sentence(" ".join(text.split()))
    if by_flag := re.findall(r"NestedArg\(key='([\w.]+)'", text):  # the whole of it is told last, keys of dicts too
        keys = [keys[0], *(["init_args"] if "init_args" in keys[:2] else []), by_flag[-1]]
    deepest = max(depth for depth, _ in told)  # other types that were tried are told nearer to the margin
    what = " ".join(line for depth, line in told if depth == deepest)
    return _sentence(f"{'.'.join(keys)}: {what}" if keys else what)


def _settings(path: str) -> tuple[list[str], bool]:
    """Return which settings a class has, and whether they stand without `init_args`, as those of a dataclass do."""
    made = locate(path)
    if not callable(made):
        return [], True
    return list(inspect.signature(cast(Callable[..., object], made)).parameters), dataclasses.is_dataclass(made)


def _leaf(line: str, allowed: Iterable[str]) -> str:
    if found := re.match(r"Expected a typing\.Literal\[(.*)\]\. Got value: (.*)", line):
        choices = [choice.strip("' ") for choice in found[1].split(",")]
        return f"got '{found[2]}', allowed: {', '.join(choices)}.{suggest(found[2], choices)}"
    if found := re.match(r"Expected a (?:<class '(.*?)'>|(.*))\. Got value: (.*)", line):
        return f"got '{found[3]}', expected {found[1] or found[2]}."
    if found := re.match(r"Option '(.*)' is not accepted", line):
        return f"there is no setting '{found[1]}'.{suggest(found[1], allowed)}"
    if found := re.match(r"Group '(.*)' does not accept option '(.*)'", line):
        return f"there is no setting '{found[1]}.{found[2]}'."
    return line


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."
