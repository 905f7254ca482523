"""Levels of mel bands, and a Conformer on them, as in LauraGPT; the Conformer is torchaudio's.

Sources: Conformer (arXiv:2005.08100), LauraGPT (arXiv:2310.04673).
N samples, M mel bands, T states, E width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unitok.cards import CardReader
from unitok.features.base import EncoderSettings, FeatureEncoder, write_encoder_card
from unitok.tokenizers.weights import WEIGHTS_FILE, fill, read_state, write_state

__all__ = ["Conformer", "LogMel"]


@dataclass(frozen=True, kw_only=True)
class LogMelSettings(EncoderSettings):
    """A card with `kind: log_mel`."""

    sample_rate_hz: int = 16000
    """Rate of the audio."""
    n_mels: int = 80
    """Mel bands M."""
    hop: int = 160
    """Samples from one frame to the next."""
    window: int = 400
    """Samples of a frame."""

    @classmethod
    def of(cls, card: Mapping[str, Any], file: str | Path) -> Any:
        """Check a card.

        Raises:
            CardError: With every mistake of it.
        """
        reader = CardReader(card, file)
        values = cls.read(reader)
        reader.finish()
        return cls(**values)

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of the card."""
        sizes = {"sample_rate_hz": 16000, "n_mels": 80, "hop": 160, "window": 400}
        given = {name: reader.take(name, int, default, minimum=1) for name, default in sizes.items()}
        return {**EncoderSettings.read(reader), **given}


@dataclass(frozen=True, kw_only=True)
class ConformerSettings(LogMelSettings):
    """A card with `kind: conformer`."""

    stride: int = 4
    """Frames side by side in one state."""
    dim: int = 256
    """Width of a state, E."""
    n_layers: int = 6
    """Conformer blocks."""
    n_heads: int = 4
    """Attention heads."""
    ff_dim: int = 1024
    """Width inside the feed-forward parts."""
    kernel_size: int = 31
    """Taps of the depthwise convolution, odd."""
    weights: str = "random"
    """`random`, to be trained, or a file."""
    seed: int = 0
    """Seed of random weights."""

    @classmethod
    def read(cls, reader: CardReader) -> dict[str, Any]:
        """Take the keys of the card."""
        sizes = {"stride": 4, "dim": 256, "n_layers": 6, "n_heads": 4, "ff_dim": 1024, "kernel_size": 31}
        given: dict[str, Any] = {name: reader.take(name, int, default, minimum=1) for name, default in sizes.items()}
        if given["kernel_size"] % 2 == 0:
            reader.problem("kernel_size", f"is {given['kernel_size']}, allowed: odd numbers.")
        if given["dim"] % given["n_heads"]:
            reader.problem("n_heads", f"is {given['n_heads']}, which does not divide dim={given['dim']}.")
        given |= {"weights": reader.take("weights", str, "random"), "seed": reader.take("seed", int, 0, minimum=0)}
        return {**LogMelSettings.read(reader), **given}


class LogMel(FeatureEncoder):
    """Levels of mel bands in nats, `[T, M]`, one state a hop; nothing in it is trained."""

    kind = "log_mel"
    takes = "audio"
    identity: tuple[str, ...] = ("sample_rate_hz", "n_mels", "hop", "window")
    settings: LogMelSettings

    def __init__(self, settings: LogMelSettings):
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        self.settings, self.sample_rate_hz, self.dim = settings, settings.sample_rate_hz, settings.n_mels
        bands = melscale_fbanks(
            settings.window // 2 + 1, 0.0, settings.sample_rate_hz / 2, settings.n_mels, settings.sample_rate_hz
        )
        self.bands: Tensor
        self.window: Tensor
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("window", torch.hann_window(settings.window), persistent=False)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path) -> LogMel:
        """Make it of its card.

        Raises:
            CardError: If the card has mistakes.
        """
        return cls(LogMelSettings.of(card, folder / str(card.get("name", "card"))))

    def inputs(self, value: str | Tensor) -> Tensor:
        """Return samples as they are."""
        assert isinstance(value, Tensor), "the builder gives audio to encoders of audio"
        return value

    def n_states(self, n_inputs: int) -> int:
        """Return the number of frames."""
        return self._n_frames(n_inputs)

    def _n_frames(self, n_samples: int) -> int:
        return n_samples // self.settings.hop + 1  # one centred on each hop

    def encode_one(self, inputs: Tensor) -> Tensor:
        """Turn samples `[N]` into levels `[T, M]`."""
        return self.log_mel(inputs)

    def log_mel(self, wav: Tensor) -> Tensor:
        """Return levels `[T, M]` of samples `[N]`."""
        s = self.settings
        padded = nn.functional.pad(wav.float(), (s.window // 2, s.window // 2))
        spectrum = torch.fft.rfft(padded.unfold(0, s.window, s.hop)[: self._n_frames(len(wav))] * self.window)
        return (spectrum.abs().square() @ self.bands).clamp_min(1e-5).log()

    def save(self, folder: Path) -> None:
        """Write the card."""
        write_encoder_card(self, folder)


class Conformer(LogMel):
    """A Conformer on log-mel frames; trained with the language model, since it comes without weights."""

    kind = "conformer"
    identity = (*LogMel.identity, "stride", "n_heads")
    settings: ConformerSettings

    def __init__(self, settings: ConformerSettings):
        from torchaudio.models import Conformer as Network

        super().__init__(settings)
        self.dim = settings.dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.project = nn.Linear(settings.n_mels * settings.stride, settings.dim)
            self.blocks = Network(
                settings.dim,
                settings.n_heads,
                settings.ff_dim,
                settings.n_layers,
                settings.kernel_size,
                use_group_norm=True,  # values go through one at a time: there is no batch to normalise over
            )

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path) -> Conformer:
        """Load it, or draw its weights.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the weights file is absent.
        """
        settings = ConformerSettings.of(card, folder / str(card.get("name", "card")))
        encoder = cls(settings)
        if settings.weights != "random":
            fill(encoder, read_state(folder / settings.weights), folder / settings.weights)
        return encoder

    def n_states(self, n_inputs: int) -> int:
        """Return the number of states: frames in groups of `stride`."""
        return -(-self._n_frames(n_inputs) // self.settings.stride)

    def encode_one(self, inputs: Tensor) -> Tensor:
        """Turn samples `[N]` into states `[T, E]`."""
        frames = self.log_mel(inputs)
        frames = nn.functional.pad(frames, (0, 0, 0, -len(frames) % self.settings.stride))
        x = self.project(frames.reshape(-1, frames.shape[1] * self.settings.stride))[None]
        return self.blocks(x, torch.tensor([x.shape[1]], device=x.device))[0][0]

    def save(self, folder: Path) -> None:
        """Write the card and the weights."""
        write_state(self, folder / WEIGHTS_FILE)
        write_encoder_card(self, folder, weights=WEIGHTS_FILE)
