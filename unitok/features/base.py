"""What every encoder of text or audio has, and how its card is loaded and saved.

    text or samples --inputs--> [N] --forward--> states [T, E]        T = n_states(N)

N inputs (ids of a text, or samples), T states, E their width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unitok.audio import Audio
from unitok.cards import CardReader, find_card, read_card
from unitok.errors import CardError, TokenizerError, suggest
from unitok.files import written_whole
from unitok.tokenizers.base import CARD_FILE, write_card
from unitok.tokenizers.weights import fingerprint

__all__ = ["EncoderSettings", "FeatureEncoder", "Takes", "load_feature_encoder", "save_feature_encoder"]

Takes = Literal["text", "audio"]
KINDS = {
    "transformers": "unitok.features.transformers_encoder:TransformersEncoder",
    "log_mel": "unitok.features.conformer:LogMel",
    "conformer": "unitok.features.conformer:Conformer",
}
"""`kind:` in a card -> class."""


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """What every card of an encoder has."""

    name: str
    """Name of the encoder; the card's file is called so too."""
    description: str = ""
    """One sentence."""
    source: str = ""
    """Paper, repository, licence."""
    fingerprint: str | None = None
    """Only in a saved folder: what the loaded encoder must have."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the shared keys from `reader`."""
        reader.take("kind", str, required=True)
        return {
            "name": reader.take("name", str, "", required=True),
            "description": reader.take("description", str, ""),
            "source": reader.take("source", str, ""),
            "fingerprint": reader.take("fingerprint", str),
        }


class FeatureEncoder(nn.Module, ABC):
    """An encoder. Values go through it one at a time, so that what a value gives does not depend on its neighbours."""

    kind: str
    """`kind:` of its cards."""
    settings: Any
    """Its card."""
    takes: Takes
    """Text or audio."""
    dim: int
    """Width of its states, E."""
    sample_rate_hz: int | None = None
    """Rate of the audio that it takes."""

    @property
    def name(self) -> str:
        """Name of its card."""
        return str(self.settings.name)

    @classmethod
    @abstractmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path) -> FeatureEncoder:
        """Load it; relative paths of the card start from `folder`."""

    @abstractmethod
    def inputs(self, value: str | Tensor) -> Tensor:
        """Turn a text, or samples `[N]` at `sample_rate_hz`, into what `forward` takes, `[N]`."""

    @abstractmethod
    def n_states(self, n_inputs: int) -> int:
        """Return how many states so many inputs give."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the card and what it needs into a folder."""

    @abstractmethod
    def encode_one(self, inputs: Tensor) -> Tensor:
        """Turn inputs `[N]` into states `[T, E]`."""

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.parameters(), next(self.buffers(), torch.empty(0))).device

    @property
    def frame_rate_hz(self) -> float | None:
        """States in one second of audio; None: it takes text, or gives one state of anything."""
        if self.sample_rate_hz is None or self.n_states(60 * self.sample_rate_hz) < 2:
            return None
        first, last = (_least_inputs(self.n_states, n) for n in (2, 102))
        return 100 * self.sample_rate_hz / (last - first)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Turn inputs, each `[N]`, into states, each `[T, E]`."""
        return [self.encode_one(row) for row in inputs]

    @torch.inference_mode()
    def encode(self, value: str | Audio | Tensor) -> Tensor:
        """Turn one text or recording into states `[T, E]`, float32, on the CPU.

        Raises:
            TokenizerError: If the recording is too short for a single state.
        """
        raw = self.waveform(value) if isinstance(value, Audio) else value
        inputs = self.inputs(raw)
        if self.sample_rate_hz is not None and self.n_states(len(inputs)) < 1:
            raise TokenizerError(
                f"encoder '{self.name}' makes nothing of {len(inputs)} samples at {self.sample_rate_hz} Hz: too short."
            )
        return self.eval().encode_one(inputs.to(self.device)).float().cpu()

    def waveform(self, audio: Audio) -> Tensor:
        """Return what `inputs` takes of a recording: samples `[N]` at its rate, one channel.

        Raises:
            TokenizerError: If it takes text.
        """
        if self.sample_rate_hz is None:
            raise TokenizerError(f"encoder '{self.name}' takes text, got audio.")
        return audio.mono().resample(self.sample_rate_hz).samples[0]

    @property
    def fingerprint(self) -> str:
        """Changes with the card's settings and the weights."""
        own = {key: value for key, value in vars(self.settings).items() if key in self.identity}
        return fingerprint(self.kind, own, self.state_dict())

    identity: tuple[str, ...] = ()
    """Settings that change the states."""


def load_feature_encoder(name_or_path: str | Path, layer: int | None = None) -> FeatureEncoder:
    """Load an encoder.

    Args:
        name_or_path: Name of its card (`t5_base`), a card's file, or a folder.
        layer: Its states after this layer, in place of those that the card says.

    Raises:
        CardError: If there is no such card, it has mistakes, or its encoder has no layers to choose from.
        MissingWeightsError: If its weights are not here and cannot be fetched.
        TokenizerError: If they are not those that the folder was saved with.
    """
    from importlib import import_module

    path = Path(name_or_path)
    file = path / CARD_FILE if (path / CARD_FILE).is_file() else find_card("features", name_or_path)
    card = read_card(file)
    if layer is not None and layer != card.get("layer"):
        card = {**card, "layer": layer, "fingerprint": None}
    kind = card.get("kind")
    if kind not in KINDS:
        got = "missing" if kind is None else f"'{kind}'"
        raise CardError(f"{file}: kind: is {got}, allowed: {', '.join(KINDS)}.{suggest(str(kind), KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    encoder: FeatureEncoder = getattr(import_module(module), name).from_card(card, file.parent)
    saved_as = card.get("fingerprint")
    if saved_as is not None and saved_as != encoder.fingerprint:
        raise TokenizerError(
            f"{file}: was saved with fingerprint {saved_as}, what loads now has {encoder.fingerprint}: other "
            "weights or settings. Put the original weights back."
        )
    return encoder.eval()


def _least_inputs(n_states: Callable[[int], int], n: int) -> int:
    """Return the least number of inputs that give `n` states."""
    most = 1
    while n_states(most) < n:
        most *= 2
    return bisect_left(range(most + 1), n, key=n_states)


def save_feature_encoder(encoder: FeatureEncoder, folder: str | Path) -> Path:
    """Write an encoder's folder, whole or not at all; an older one is replaced."""
    with written_whole(folder, CARD_FILE) as partial:
        encoder.save(partial)
    return Path(folder)


def card_of(encoder: FeatureEncoder, **changes: Any) -> dict[str, Any]:
    """Return the card of a saved encoder."""
    values = {**vars(encoder.settings), "fingerprint": encoder.fingerprint, **changes}
    return {"kind": encoder.kind, **{key: value for key, value in values.items() if value not in (None, "")}}


def write_encoder_card(encoder: FeatureEncoder, folder: Path, **changes: Any) -> None:
    """Write `card.yaml` of a saved encoder."""
    write_card(folder, card_of(encoder, **changes))
