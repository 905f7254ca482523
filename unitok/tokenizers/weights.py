"""Weights of codecs: reading files, saying which file is missing, hashing."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unitok.errors import MissingDependencyError, MissingWeightsError, TokenizerError

__all__ = [
    "WEIGHTS_FILE",
    "check_download_allowed",
    "downloads_allowed",
    "fill",
    "fingerprint",
    "missing_official",
    "missing_package",
    "quiet_build",
    "read_state",
    "write_state",
]

WEIGHTS_FILE = "model.safetensors"
OFFLINE_VARIABLE = "UNITOK_OFFLINE"


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from `.safetensors`, or from a PyTorch file that holds tensors only (also under `state_dict`).

    Raises:
        MissingWeightsError: If the file is absent.
        TokenizerError: If it cannot be read without running code from it.
    """
    if not path.is_file():
        raise MissingWeightsError(f"weights file '{path}' does not exist. Put it there, or set 'weights:' in the card.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, _safetensors_error()) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise TokenizerError(
            f"weights file '{path}' cannot be read: {reason}. It is damaged or no state dict: delete it, get it again."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TokenizerError(f"weights file '{path}' holds no state dict (name: tensor). Save model.state_dict().")
    return state


def write_state(model: nn.Module, file: Path) -> None:
    """Write a network's weights as safetensors."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, file)


def fill(model: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Load `state` into `model`, every tensor of it.

    Raises:
        TokenizerError: If names or shapes differ.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:]]
        raise TokenizerError(
            f"weights '{where}' do not fit the network that the card describes: {'; '.join(problems)[:300]}. "
            "Make 'model:' in the card that of the weights."
        ) from error


def fingerprint(kind: str, settings: Mapping[str, Any], state: Mapping[str, Tensor] | bytes) -> str:
    """Return `kind-` and 16 hexadecimal digits of what decides the codes: settings and weights."""
    digest = hashlib.sha256(json.dumps([kind, settings], sort_keys=True).encode())
    if isinstance(state, bytes):
        digest.update(state)
    else:
        for name in sorted(state):
            value = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return f"{kind}-{digest.hexdigest()[:16]}"


def downloads_allowed() -> bool:
    """Say whether anything may be fetched: not where `UNITOK_OFFLINE` is set."""
    return os.environ.get(OFFLINE_VARIABLE, "") in ("", "0")


def check_download_allowed(name: str, file: Path, url: str) -> None:
    """Stop before a download where `UNITOK_OFFLINE` is set and the file is absent.

    Raises:
        MissingWeightsError: If so.
    """
    if not file.is_file() and not downloads_allowed():
        raise missing_official(name, file, url, f"{OFFLINE_VARIABLE} is set")


def missing_official(name: str, file: Path, url: str, reason: object) -> MissingWeightsError:
    """Return the error for published weights that are not here and could not be fetched."""
    return MissingWeightsError(
        f"tokenizer '{name}' needs its published weights, which are not on this machine and could not be downloaded "
        f"({reason}). Put {url} at {file}, or set 'weights: FILE' in a card of your own."
    )


def missing_package(package: str, error: ImportError) -> MissingDependencyError:
    """Return the error for a codec's package that cannot be imported."""
    return MissingDependencyError(
        f"package '{package}' cannot be imported ({error}). Run pip install {package}, then 'unitok doctor'."
    )


@contextmanager
def quiet_build(seed: int | None = None) -> Iterator[None]:
    """Build a network without warnings about `weight_norm`; weights come from `seed`, the global state stays."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", FutureWarning)
        if seed is not None:
            torch.manual_seed(seed)
        yield


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
