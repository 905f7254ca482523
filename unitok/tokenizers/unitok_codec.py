"""unitok's own codec (`unitok.model.codec`) as an audio tokenizer: the one that `mini` ships with.

B batch, C channels, N samples, T codec frames, K codebooks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unitok.audio import Audio
from unitok.errors import AudioFormatError, CardError, MissingWeightsError, TokenizerError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.tokenizers.base import EncodedAudio, write_card
from unitok.tokenizers.chunking import Reach, chunked

__all__ = ["UnitokCodecTokenizer"]

WEIGHTS_FILE = "model.safetensors"
CHUNK_SECONDS = 10.0


class UnitokCodecTokenizer:
    """A `NeuralCodec` behind the `AudioTokenizer` protocol; long audio goes in chunks, with the codes of one pass."""

    def __init__(self, codec: NeuralCodec, name: str, description: str = ""):
        """Wrap a codec; it is put into evaluation mode."""
        self.codec = codec.eval().requires_grad_(False)
        self.name = name
        self.description = description
        self.n_codebooks = codec.config.n_codebooks
        self.channels = 1

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None) -> UnitokCodecTokenizer:
        """Load a codec from its card; `weights:` names a safetensors file, relative to `folder`.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the weights are not there.
            TokenizerError: If the weights are of another codec.
        """
        file = getattr(card, "file", card.get("name", "card"))
        try:
            config = CodecConfig(**card["model"])
            name, weights = str(card["name"]), Path(folder or ".") / str(card["weights"])
        except (KeyError, TypeError, ValueError) as error:
            raise CardError(f"{file}: is no card of a unitok codec ({type(error).__name__}: {error}).") from error
        if not weights.is_file():
            raise MissingWeightsError(
                f"{file}: weights '{weights}' do not exist. Put the codec's safetensors file there."
            )
        codec = NeuralCodec(config)
        try:
            codec.load_state_dict(
                {key: value.to(codec.state_dict()[key].dtype) for key, value in load_file(weights).items()}
            )
        except (KeyError, RuntimeError) as error:
            raise TokenizerError(
                f"{weights}: does not hold the weights of the codec that {file} describes ({error})."
            ) from error
        tokenizer = cls(codec, name, str(card.get("description", "")))
        tokenizer.set_codebooks(int(card.get("codebooks", config.n_codebooks)))
        return tokenizer

    @classmethod
    def load(cls, folder: Path) -> UnitokCodecTokenizer:
        """Load a folder that `save` wrote."""
        from unitok.tokenizers.base import load_audio_tokenizer

        tokenizer = load_audio_tokenizer(folder)
        if not isinstance(tokenizer, cls):
            raise TokenizerError(f"{folder} holds a {type(tokenizer).__name__}, a codec of unitok's own is needed.")
        return tokenizer

    def save(self, folder: Path) -> None:
        """Write `card.yaml` and the weights, which are stored as float16 (so is what the fingerprint is taken of)."""
        card = {
            "name": self.name,
            "kind": "unitok",
            "description": self.description,
            "weights": WEIGHTS_FILE,
            "codebooks": self.n_codebooks,
            "model": self.codec.config.to_dict(),
            "fingerprint": self.fingerprint,
        }
        write_card(Path(folder), card)
        save_file(self._stored_weights(), Path(folder) / WEIGHTS_FILE)

    @property
    def sample_rate_hz(self) -> int:
        """Rate of decoded audio, in Hz."""
        return self.codec.config.sample_rate_hz

    @property
    def frame_rate_hz(self) -> float:
        """Frames in one second."""
        return self.codec.config.frame_rate_hz

    @property
    def codebook_size(self) -> int:
        """Codes in one codebook."""
        return self.codec.config.codebook_size

    @property
    def fingerprint(self) -> str:
        """Sizes, encoder and codebooks in one word. The decoder is no part of it: a better one reads the same codes."""
        digest = hashlib.sha256(json.dumps(self.codec.config.to_dict(), sort_keys=True).encode())
        for key, value in sorted(self._stored_weights().items()):
            if not key.startswith("decoder."):
                digest.update(key.encode() + value.cpu().numpy().tobytes())
        return f"unitok:{digest.hexdigest()[:16]}"

    def set_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks from now on.

        Raises:
            TokenizerError: If the codec has fewer.
        """
        if not 1 <= n <= self.codec.config.n_codebooks:
            raise TokenizerError(
                f"codebooks is {n}, allowed: 1 to {self.codec.config.n_codebooks}, the codebooks of '{self.name}'."
            )
        self.n_codebooks = n

    def to(self, device: str | torch.device) -> UnitokCodecTokenizer:
        """Move the weights; audio and codes may be anywhere."""
        self.codec.to(device)
        return self

    @torch.inference_mode()
    def encode(self, wav: Tensor, sample_rate_hz: int, lengths: Tensor | None = None) -> EncodedAudio:
        """Turn audio into codes.

        Args:
            wav: `[B, C, N]`, float in [-1, 1]; resampled and mixed down where needed.
            sample_rate_hz: Its rate, in Hz.
            lengths: True samples of each row, `[B]`; default: N.

        Returns:
            Codes `[B, K, T]`, `T = ceil(N / samples per frame)` at the codec's rate.

        Raises:
            AudioFormatError: If `wav` is not 3-D, is empty or is not floating point.
        """
        if wav.ndim != 3 or not wav.is_floating_point() or 0 in wav.shape:
            raise AudioFormatError(
                f"wav has shape {list(wav.shape)} and type {wav.dtype}, allowed: floats [B, C, N], none of them 0."
            )
        rows = [
            row if lengths is None else row[:, : int(n)]
            for row, n in zip(wav, lengths if lengths is not None else wav, strict=True)
        ]
        mono = [Audio(row, sample_rate_hz).mono().resample(self.sample_rate_hz).samples[0] for row in rows]
        step = self.codec.config.frame_length
        frames = torch.tensor([max(1, -(-len(row) // step)) for row in mono])
        codes = torch.zeros(len(rows), self.n_codebooks, int(frames.max()), dtype=torch.int64, device=wav.device)

        def network(piece: Tensor) -> Tensor:
            return self.codec.encode(piece, self.n_codebooks)

        for T, members in _by_length(frames):
            padded = torch.stack([torch.nn.functional.pad(mono[i], (0, T * step - len(mono[i]))) for i in members])
            codes[members, :, :T] = self._chunked(padded, network, (step, 1)).to(wav.device)
        return EncodedAudio(codes, frames.to(wav.device))

    @torch.inference_mode()
    def decode(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn codes into audio.

        Args:
            codes: `[B, K', T]`, integer, the first K' codebooks.
            lengths: True frames of each row, `[B]`; default: T.

        Returns:
            Audio `[B, 1, T * samples per frame]`, silent after a row's end.

        Raises:
            TokenizerError: If the codes are of another shape or range.
        """
        self._check(codes)
        B, _, T = codes.shape
        step = self.codec.config.frame_length
        frames = torch.full((B,), T) if lengths is None else lengths.cpu()
        wav = torch.zeros(B, 1, T * step, device=codes.device)
        for n, members in _by_length(frames):
            if n:
                wav[members, 0, : n * step] = self._chunked(codes[members, :, :n], self.codec.decode, (1, step)).to(
                    codes.device
                )
        return wav.clamp(-1, 1)

    def _chunked(self, x: Tensor, network: Callable[[Tensor], Tensor], steps: tuple[int, int]) -> Tensor:
        reach = self.codec.config.context_frames
        chunk = round(CHUNK_SECONDS * self.frame_rate_hz)
        return chunked(
            x.to(next(self.codec.parameters()).device), network, steps=steps, chunk=chunk, context=Reach(reach, reach)
        )

    def _check(self, codes: Tensor) -> None:
        K = self.codec.config.n_codebooks
        if codes.ndim != 3 or codes.is_floating_point() or not 1 <= codes.shape[1] <= K:
            raise TokenizerError(
                f"codes have shape {list(codes.shape)} and type {codes.dtype}, allowed: integers [B, 1 to {K}, T]."
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise TokenizerError(
                f"codes go from {int(codes.min())} to {int(codes.max())}, allowed: 0 to {self.codebook_size - 1}. They come "
                f"from another tokenizer than '{self.name}'."
            )

    def _stored_weights(self) -> dict[str, Tensor]:
        return {k: v.half().contiguous() if v.is_floating_point() else v for k, v in self.codec.state_dict().items()}


def _by_length(lengths: Tensor) -> list[tuple[int, Tensor]]:
    """Group rows of equal length: next to padding, a row's last frames would differ from what they are alone."""
    return [(int(n), (lengths == n).nonzero()[:, 0]) for n in lengths.unique()]
