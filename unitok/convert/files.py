"""The files of a model in transformers' format: `config.json`, weights in safetensors, where a hub name leads.

Weights in pickles (`pytorch_model.bin`) are not read: they can run code.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unitok.errors import CheckpointError, MissingDependencyError, MissingWeightsError
from unitok.tokenizers.weights import downloads_allowed

__all__ = ["Source", "Weights", "find_folder", "license_of", "open_weights", "read_config", "weights_name"]

logger = logging.getLogger("unitok")

CONFIG, WEIGHTS = "config.json", "model.safetensors"
WANTED = ["*.json", "*.jinja", "*.model", "README.md", "LICENSE*"]
OTHER_WEIGHTS = "transformers_weights"  # key of config.json: where a repository holds a second format beside


@dataclass(frozen=True)
class Source:
    """A model in transformers' format that is to become a checkpoint."""

    folder: Path
    """Its files."""
    config: Mapping[str, Any]
    """Its `config.json`."""
    name: str
    """Of the checkpoint."""
    notes: Mapping[str, str]
    """Where it comes from, and its licence."""


class Weights:
    """The tensors of a folder, read one by one when they are asked for."""

    def __init__(self, folder: Path, files: Mapping[str, Any]) -> None:
        self._folder, self._files = folder, dict(files)
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor as it is stored.

        Raises:
            CheckpointError: If it is not there, or has another shape.
        """
        if name not in self._files:
            raise CheckpointError(f"{self._folder}: the weights have no '{name}'. Files are missing: copy it again.")
        tensor = self._files[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self._folder}: '{name}' has shape {list(tensor.shape)}, {CONFIG} makes it {list(shape)}. "
                "The files do not belong together."
            )
        self._taken.add(name)
        return tensor

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors whose names begin with `prefix`, by the rest of their names."""
        names = [name for name in self._files if name.startswith(prefix)]
        self._taken |= set(names)
        return {name.removeprefix(prefix): self._files[name].get_tensor(name) for name in names}

    def left(self) -> list[str]:
        """Return the names that nobody took."""
        return sorted(self._files.keys() - self._taken)


def find_folder(source: str | Path) -> Path:
    """Return the folder of a model given by its folder, or fetch it by its name on the hub (`owner/name`).

    Raises:
        MissingWeightsError: If there is no such folder, and it cannot be fetched.
        MissingDependencyError: If fetching needs a package that is not installed.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise MissingWeightsError(
            f"there is no folder '{source}'. Give one with {CONFIG} and {WEIGHTS}, or a name on the hub (owner/name)."
        )
    if not downloads_allowed():
        raise MissingWeightsError(
            f"there is no folder '{source}', and UNITOK_OFFLINE is set, so that it is not fetched. Give a folder."
        )
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
    except ImportError as error:
        raise MissingDependencyError(
            f"there is no folder '{source}'. Fetching it needs huggingface_hub: pip install 'unitok[hf]'."
        ) from error
    logger.info("fetching '%s' from the hub", source)
    try:
        config = read_config(Path(hf_hub_download(str(source), CONFIG)).parent)
        weights = f"{weights_name(config).split('.')[0]}*.safetensors"
        return Path(snapshot_download(str(source), allow_patterns=[*WANTED, weights]))
    except Exception as error:  # of the hub, of the network, of the file system
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingWeightsError(
            f"there is no folder '{source}', and it could not be fetched ({reason}). Download it where there is a "
            "network, and give its folder."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`.

    Raises:
        CheckpointError: If it is not there, or damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"'{folder}' has no {CONFIG}: it is no model in transformers' format.")
    return _read_object(path)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it holds no object.")
    return content


def weights_name(config: Mapping[str, Any]) -> str:
    """Return the name of the file of weights, or of its index, that a config names; else the usual one."""
    return Path(str(config.get(OTHER_WEIGHTS) or WEIGHTS)).name


@contextmanager
def open_weights(folder: Path, name: str = WEIGHTS) -> Iterator[Weights]:
    """Open the weights of a folder, in one file or in many; `name` as `weights_name` returns it.

    Raises:
        CheckpointError: If they are not there, are damaged, or are pickles.
    """
    from safetensors import SafetensorError, safe_open

    index = name if name.endswith(".json") else f"{name}.index.json"
    if (folder / index).is_file():
        shards = _read_object(folder / index).get("weight_map")
        if not isinstance(shards, dict):
            raise CheckpointError(f"{folder / index} is damaged: it has no weight_map. Copy it again.")
    elif (folder / name).is_file():
        shards = None
    else:
        pickled = " Its weights are pickles, which can run code: save them with safe_serialization=True first."
        raise CheckpointError(f"'{folder}' has no {name}.{pickled if any(folder.glob('pytorch_model*')) else ''}")
    with ExitStack() as stack:
        try:
            names = [name] if shards is None else sorted(set(shards.values()))
            files = {one: stack.enter_context(safe_open(folder / one, framework="pt")) for one in names}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder}: its weights are damaged or incomplete: {error}.") from error
        yield Weights(folder, {key: file for file in files.values() for key in file.keys()})  # noqa: SIM118


def license_of(folder: Path) -> str:
    """Return the licence that the model's card states, or that it states none."""
    readme = folder / "README.md"
    front = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8"), re.DOTALL) if readme.is_file() else None
    found = re.search(r"^license(?:_name)?:\s*(\S+)\s*$", front[1], re.MULTILINE) if front else None
    return found[1].strip("'\"") if found else "not stated in its README.md"
