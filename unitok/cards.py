"""Cards, the YAML files of tasks, tokenizers and training recipes: finding them, reading them, saying what is wrong.

A card is data, never code. Cards live in `tasks/`, `tokenizers/`, `features/` and `configs/` of the checkout
(`unitok/_cards/` in an installed wheel), and in folders of the user laid out alike. This module imports neither torch
nor, until a card is read, OmegaConf.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unitok.errors import CardError, suggest

__all__ = [
    "CARD_KINDS",
    "CardReader",
    "add_user_root",
    "card_root",
    "find_card",
    "list_cards",
    "read_card",
    "user_roots",
]

CARD_KINDS = ("tasks", "tokenizers", "features", "configs")
ENVIRONMENT_VARIABLE = "UNITOK_CARDS"
SUFFIXES = (".yaml", ".yml")


def card_root() -> Path:
    """Return the folder that holds unitok's own `tasks/`, `tokenizers/`, `features/` and `configs/`.

    Raises:
        CardError: If neither the wheel's copy nor a checkout of unitok is there.
    """
    package = Path(__file__).resolve().parent
    packaged = package / "_cards"
    if packaged.is_dir():
        return packaged
    checkout = package.parent
    project = checkout / "pyproject.toml"
    if project.is_file() and 'name = "unitok"' in project.read_text(encoding="utf-8").splitlines():
        return checkout
    raise CardError(
        f"unitok's own cards are missing: there is no folder {packaged}, and {project} is not unitok's. "
        "Reinstall unitok: pip install --force-reinstall unitok"
    )


def user_roots() -> list[Path]:
    """Return the user's card folders, from the environment variable `UNITOK_CARDS` (split like `PATH`), in order.

    Raises:
        CardError: If one of them is not a folder.
    """
    named = [Path(part).expanduser() for part in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if part]
    for root in named:
        if not root.is_dir():
            raise CardError(
                f"card folder '{root}' (from --cards or {ENVIRONMENT_VARIABLE}) is not a folder. "
                "Name a folder that holds tasks/, tokenizers/, features/ or configs/."
            )
    return list({root.resolve(): root for root in named}.values())


def add_user_root(folder: str | Path) -> None:
    """Search `folder` before unitok's own cards (`--cards DIR`); worker processes inherit it by the environment."""
    others = os.environ.get(ENVIRONMENT_VARIABLE, "")
    os.environ[ENVIRONMENT_VARIABLE] = os.pathsep.join(filter(None, [str(folder), others]))
    user_roots()


def list_cards(kind: str) -> dict[str, Path]:
    """Return the cards of one kind, name -> file, sorted by name.

    A name is the path below the kind's folder without its suffix (`tts`, `mini/lm`). A user's card hides unitok's.

    Args:
        kind: `"tasks"`, `"tokenizers"`, `"features"` or `"configs"`.

    Raises:
        CardError: If two user folders own one name.
    """
    if kind not in CARD_KINDS:
        raise CardError(f"card kind is '{kind}', allowed: {', '.join(CARD_KINDS)}.{suggest(kind, CARD_KINDS)}")
    mine: dict[str, Path] = {}
    for root in user_roots():
        for name, path in _cards_below(root / kind):
            if name in mine:
                raise CardError(
                    f"two cards own the name '{name}' of {kind}: {mine[name]} and {path}. Rename or remove one of them."
                )
            mine[name] = path
    return dict(sorted({**dict(_cards_below(card_root() / kind)), **mine}.items()))


def find_card(kind: str, name: str | Path) -> Path:
    """Return the file of a card given by its name (`tts`) or by a path to a YAML file (`./my/tts.yaml`).

    Raises:
        CardError: If there is no such card or file.
    """
    if Path(name).suffix in SUFFIXES:
        if not Path(name).is_file():
            raise CardError(f"card file '{name}' does not exist. Give a path to a .yaml file, or the name of a card.")
        return Path(name)
    cards = list_cards(kind)
    if str(name) not in cards:
        hint = suggest(str(name), cards)
        if not hint and len(Path(name).parts) > 1 and kind != "configs":
            raise CardError(
                f"there is no folder '{name}', and no card of that name in {kind}. "
                "Check the path, or run first what makes it."
            )
        raise CardError(
            f"{kind} has no card '{name}'.{hint} There are: {_overview(cards)}. "
            "A folder of your own is added with --cards DIR."
        )
    return cards[str(name)]


def _overview(names: Iterable[str]) -> str:
    """Return the names, and of folders how many are in each."""
    counts = Counter(f"{name.partition('/')[0]}/…" if "/" in name else name for name in names)
    return ", ".join(f"{name} ({n})" if name.endswith("/…") else name for name, n in counts.items()) or "none"


def read_card(path: str | Path) -> dict[str, Any]:
    """Read one YAML file into plain dicts and lists, with OmegaConf's `${...}` references resolved.

    Raises:
        CardError: If the file is missing, is not YAML, or does not hold `key: value` pairs.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    shown = _shown(path)
    try:
        config = OmegaConf.load(path)
        if isinstance(config, DictConfig):
            card = OmegaConf.to_container(config, resolve=True)
            assert isinstance(card, dict), f"OmegaConf turned a mapping into {type(card)}"
            return {str(key): value for key, value in card.items()}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CardError(f"{shown}: not valid YAML: {_one_line(error)}") from error
    except OmegaConfBaseException as error:
        raise CardError(f"{shown}: a ${{...}} reference does not resolve: {_one_line(error)}") from error
    except OSError as error:
        raise CardError(f"{shown}: cannot be read: {error.strerror or error}") from error
    raise CardError(f"{shown}: holds a list, a card holds 'key: value' pairs.")


class CardReader:
    """Takes the keys of one card one by one and collects every problem, so that the user sees all of them at once.

    ```python
    reader = CardReader(read_card(path), path)
    name = reader.take("name", str)
    targets = [Field.from_reader(part) for part in reader.parts("targets")]
    reader.finish()              # raises one CardError with all problems; unknown keys are problems too
    ```
    """

    def __init__(self, card: Mapping[str, Any], file: str | Path, *, _key: str = "", _root: CardReader | None = None):
        """Read `card`, calling it `file` in messages."""
        self.card = card
        self.file = _shown(file)
        self._key = _key
        self._known: list[str] = []
        self._parts: list[CardReader] = []
        self._problems: list[str] = _root._problems if _root else []

    def problem(self, key: str, message: str) -> None:
        """Note that `key` is wrong; `message` says what it is and what is allowed."""
        self._problems.append(f"{self.file}: {self._full(key)}: {message}")

    def take(
        self,
        key: str,
        kind: type,
        default: Any = None,
        *,
        required: bool = False,
        choices: Iterable[str] | None = None,
        minimum: float | None = None,
    ) -> Any:
        """Return the value of `key`, or `default` where it is absent, null or wrong (wrong is noted as a problem).

        Args:
            key: The key.
            kind: `str`, `int`, `float` (takes whole numbers too), `bool`, `list` or `dict`.
            default: Value of an absent key.
            required: An absent key is a problem.
            choices: The values allowed.
            minimum: The least number allowed.
        """
        self._known.append(key)
        value = self.card.get(key)
        if value is None:
            if required:
                self.problem(key, f"missing. Add '{key}: …' ({_described(kind)}).")
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            self.problem(key, f"is {_described(value)}, allowed: {_described(kind)}.{_quote_hint(value, kind)}")
            return default
        options = list(choices) if choices is not None else None
        if options is not None and value not in options:
            self.problem(key, f"is '{value}', allowed: {', '.join(options)}.{suggest(str(value), options)}")
            return default
        if minimum is not None and value < minimum:
            self.problem(key, f"is {value}, allowed: {minimum:g} or more.")
            return default
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a list of texts (empty where absent)."""
        return tuple(self._items(key, str))

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return a list of numbers of at least 0 (empty where absent)."""
        items = self._items(key, float)
        for i, item in enumerate(items):
            if item < 0:
                self.problem(f"{key}[{i}]", f"is {item:g}, allowed: 0 or more.")
        return tuple(items)

    def part(self, key: str) -> CardReader:
        """Return a reader of the mapping under `key` (empty where absent)."""
        return self._part(key, self.take(key, dict, {}))

    def parts(self, key: str, *, required: bool = False) -> list[CardReader]:
        """Return one reader for each mapping of the list under `key`."""
        items = self.take(key, list, [], required=required)
        readers = []
        for i, item in enumerate(items):
            if isinstance(item, dict):
                readers.append(self._part(f"{key}[{i}]", item))
            else:
                self.problem(f"{key}[{i}]", f"is {_described(item)}, allowed: 'key: value' pairs.")
        return readers

    def finish(self) -> None:
        """Note the keys that nobody took, then raise all problems together.

        Raises:
            CardError: If there is any problem: one line each, `file: key: what is wrong, what is allowed`.
        """
        self._note_unknown_keys()
        if self._problems:
            raise CardError("\n".join(self._problems))

    def _note_unknown_keys(self) -> None:
        for key in self.card:
            if key not in self._known:
                allowed = ", ".join(sorted(self._known))
                self.problem(str(key), f"unknown key.{suggest(str(key), self._known)} Allowed: {allowed}.")
        for part in self._parts:
            part._note_unknown_keys()

    def _items(self, key: str, kind: type) -> list[Any]:
        items = self.take(key, list, [])
        good = []
        for i, item in enumerate(items):
            if kind is float and type(item) is int:
                item = float(item)
            if type(item) is kind:
                good.append(item)
            else:
                hint = _quote_hint(item, kind)
                self.problem(f"{key}[{i}]", f"is {_described(item)}, allowed: {_described(kind)}.{hint}")
        return good

    def _part(self, key: str, card: Mapping[str, Any]) -> CardReader:
        part = CardReader(card, self.file, _key=self._full(key), _root=self)
        self._parts.append(part)
        return part

    def _full(self, key: str) -> str:
        return f"{self._key}.{key}" if self._key else key


def _cards_below(folder: Path) -> list[tuple[str, Path]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in paths]


def _shown(path: str | Path) -> str:
    """Return `path` relative to the current folder where it lies below it, as the user would type it."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "'key: value' pairs",
    type(None): "nothing",
}


def _described(value: Any) -> str:
    """Name a type in the user's words; a short plain value is shown."""
    if isinstance(value, type):
        return _WORDS.get(value, value.__name__)
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (str, int, float):
        return f"'{value}'" if type(value) is str else str(value)
    return _WORDS.get(type(value), type(value).__name__)


def _quote_hint(value: Any, kind: type) -> str:
    """YAML reads a bare `no`, `on` or `1` as something else than text."""
    return " Put it in quotes." if kind is str and type(value) in (bool, int, float) else ""
