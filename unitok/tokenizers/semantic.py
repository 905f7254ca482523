"""Semantic tokens: the states of a layer of a speech encoder, each as the id of its nearest centroid (k-means).

    audio --encoder, layer n--> states [T, E] --nearest of V centroids--> ids [T]

Sources: GSLM (arXiv:2102.01192), HuBERT (arXiv:2106.07447), AudioLM (arXiv:2209.03143).
B batch, C channels, N samples, T frames, E width of a state, V clusters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unitok.audio import Audio
from unitok.errors import AudioFormatError, MissingWeightsError, TokenizerError
from unitok.features.base import FeatureEncoder, load_feature_encoder, write_encoder_card
from unitok.tokenizers.base import EncodedAudio, write_card
from unitok.tokenizers.codec import rows_of_audio, side_by_side
from unitok.tokenizers.settings import SemanticSettings, weights_file
from unitok.tokenizers.weights import fingerprint, read_state

__all__ = ["CENTROIDS", "KMeansTokenizer", "states_of"]

KIND = "semantic"
ENCODER, CENTROIDS = "encoder", "centroids.safetensors"
"""Names in a tokenizer folder."""


class KMeansTokenizer:
    """An encoder and its centroids; satisfies `SemanticTokenizer`."""

    def __init__(self, settings: SemanticSettings, encoder: FeatureEncoder, centroids: Tensor):
        """Put the parts together.

        Args:
            settings: The card.
            encoder: Hears the audio.
            centroids: `[V, E]`, floating point.

        Raises:
            TokenizerError: If the encoder gives no states of frames, or parts or card do not fit each other.
        """
        name = settings.name
        rate = encoder.frame_rate_hz
        if rate is None or encoder.sample_rate_hz is None:
            raise TokenizerError(
                f"tokenizer '{name}': encoder '{encoder.name}' gives no state for each frame of audio. Use one that "
                "does, such as hubert_base."
            )
        if centroids.ndim != 2 or centroids.shape[1] != encoder.dim or not bool(torch.isfinite(centroids).all()):
            raise TokenizerError(
                f"tokenizer '{name}': centroids are {list(centroids.shape)}, encoder '{encoder.name}' has states of "
                f"width {encoder.dim}: [V, {encoder.dim}], finite, are needed. Use the encoder they were made with."
            )
        self.settings, self.encoder, self.name = settings, encoder.eval(), name
        self.centroids = centroids.float()
        self.sample_rate_hz, self.frame_rate_hz, self.size = encoder.sample_rate_hz, rate, len(centroids)
        self.deduplicate = settings.deduplicate
        has = {"sample_rate_hz": self.sample_rate_hz, "frame_rate_hz": rate, "codebook_size": self.size}
        for key, value in has.items():
            said = getattr(settings, key)
            if said is not None and not math.isclose(said, value, rel_tol=1e-6):
                raise TokenizerError(
                    f"tokenizer '{name}': its card says {key}: {said:g}, it has {value:g}. Correct it."
                )

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> KMeansTokenizer:
        """Load the encoder and the centroids that a card names.

        Raises:
            CardError: If the card has mistakes, or names no encoder.
            MissingWeightsError: If the centroids or the encoder's weights are not here.
            TokenizerError: If they do not fit each other.
        """
        settings = SemanticSettings.from_card(card)
        centroids = _read_centroids(settings, folder)  # before the encoder, which may be large
        return cls(settings, load_feature_encoder(settings.encoder_card(folder), settings.layer), centroids)

    @torch.inference_mode()
    def encode(self, wav: Tensor, sample_rate_hz: int, lengths: Tensor | None = None) -> EncodedAudio:
        """Turn audio into ids of frames; `runs.collapse` makes runs of them.

        Args:
            wav: `[B, C, N]`, floating point, nominally in [-1, 1]; resampled and mixed as the encoder needs it.
            sample_rate_hz: Rate of `wav`.
            lengths: Samples of each row, `[B]`; default: N. What lies after them is not looked at.

        Returns:
            Codes `[B, 1, T]` in [0, V), on the device of `wav`. A row gets what it would get alone.

        Raises:
            AudioFormatError: If `wav` has another shape or type, or a row is too short for one frame.
        """
        rows = rows_of_audio(wav, sample_rate_hz, lengths)
        return side_by_side([self._encode_row(row, sample_rate_hz)[None].to(wav.device) for row in rows])

    def nearest(self, states: Tensor) -> Tensor:
        """Return the ids of the centroids nearest to states `[T, E]`, `[T]`, int64."""
        centroids = self.centroids.to(states.device)
        middle = centroids.mean(0)  # distances stay, numbers get smaller: rounding counts less
        centroids, states = centroids - middle, states.float() - middle
        return (centroids.square().sum(1) - 2 * states @ centroids.T).argmin(1)

    def to(self, device: str | torch.device) -> KMeansTokenizer:
        """Move the weights; audio and ids stay where they are."""
        self.encoder.to(device)
        self.centroids = self.centroids.to(device)
        return self

    @property
    def fingerprint(self) -> str:
        """Encoder, layer and centroids in one word; computed once."""
        return self._known_fingerprint

    @cached_property
    def _known_fingerprint(self) -> str:
        settings = {"version": self.settings.version, "encoder": self.encoder.fingerprint}
        return fingerprint(KIND, settings, {"centroids": self.centroids})

    def save(self, folder: Path) -> None:
        """Write the card, the centroids, and the encoder: of one on the hub its card, of another all."""
        from safetensors.torch import save_file

        save_file({"centroids": self.centroids.cpu().contiguous()}, folder / CENTROIDS)
        if getattr(self.encoder.settings, "on_hub", False):
            write_encoder_card(self.encoder, folder / ENCODER)
        else:
            (folder / ENCODER).mkdir()
            self.encoder.save(folder / ENCODER)
        settings = replace(
            self.settings,
            encoder=f"./{ENCODER}",
            layer=None,  # the encoder's card says it
            centroids=CENTROIDS,
            deduplicate=self.deduplicate,
            codebook_size=self.size,
            sample_rate_hz=self.sample_rate_hz,
            frame_rate_hz=self.frame_rate_hz,
            fingerprint=self.fingerprint,
        )
        write_card(folder, {"kind": KIND, **settings.to_card()})

    def _encode_row(self, row: Tensor, sample_rate_hz: int) -> Tensor:
        return self.nearest(states_of(self.encoder, Audio(row.float(), sample_rate_hz)))


def states_of(encoder: FeatureEncoder, audio: Audio) -> Tensor:
    """Return the states `[T, E]`, float32, of a recording, on the device of the encoder.

    Raises:
        AudioFormatError: If it is too short for one.
    """
    wav = encoder.waveform(audio)
    if encoder.n_states(len(wav)) < 1:
        raise AudioFormatError(
            f"audio of {audio.duration_s:.3f} s is too short for one frame of '{encoder.name}'. Leave it out."
        )
    return encoder.encode_one(encoder.inputs(wav).to(encoder.device)).float()


def _read_centroids(settings: SemanticSettings, folder: Path | None) -> Tensor:
    path = weights_file(settings.centroids, folder)
    if not path.is_file():
        layer = "" if settings.layer is None else f" --layer {settings.layer}"
        raise MissingWeightsError(
            f"tokenizer '{settings.name}' needs its centroids, which are not at {path}. Put them there "
            f"(docs/semantic.md says how), or train some: unitok train-kmeans --manifest FILE --features "
            f"{settings.encoder}{layer} --clusters {settings.codebook_size or 500} --out FOLDER, and name FOLDER as "
            "the tokenizer."
        )
    if path.suffix == ".npy":
        import numpy as np

        try:
            return torch.from_numpy(np.load(path, allow_pickle=False)).float()
        except (ValueError, EOFError, TypeError) as error:
            raise TokenizerError(f"centroids '{path}' cannot be read: {str(error).splitlines()[0]}.") from error
    state = read_state(path)
    if "centroids" not in state:
        raise TokenizerError(f"centroids '{path}' hold {', '.join(state)}, a tensor 'centroids' [V, E] is needed.")
    return state["centroids"].float()
