"""unitok's own codec (`unitok.model.codec`) as an audio tokenizer: the one that `mini` ships with.

C channels, N samples, T codec frames, K codebooks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unitok.errors import CardError, TokenizerError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.model.phase import follow_phases, phase_steps
from unitok.tokenizers.base import write_card
from unitok.tokenizers.chunking import Chain, Reach, chunked
from unitok.tokenizers.codec import CodecTokenizer
from unitok.tokenizers.weights import WEIGHTS_FILE, fill, fingerprint, read_state

__all__ = ["UnitokCodecTokenizer"]

CHUNK_SECONDS = 10.0
TRAINING_ONLY = (".counts", ".sums")
"""Ends of the names of what codebooks need to go on learning, but not to code."""
SCALES = ".row_scales"
"""End of the name of the scales of a weight that is stored in whole numbers."""


class UnitokCodecTokenizer(CodecTokenizer):
    """A `NeuralCodec` behind the `AudioTokenizer` protocol; long audio goes in chunks, with the codes of one pass."""

    model: NeuralCodec

    def __init__(self, codec: NeuralCodec, name: str, description: str = "", decoder_bits: int = 16):
        """Wrap a codec; it is put into evaluation mode.

        Args:
            codec: The network.
            name: Name of the tokenizer.
            description: What it is.
            decoder_bits: In which the decoder's weights are stored: 16 (float16), or 8 (whole numbers, a scale for each
                row), which takes half the space. Codes are the same.
        """
        if decoder_bits not in (8, 16):
            raise TokenizerError(f"decoder_bits is {decoder_bits}, allowed: 8 or 16.")
        self.model, self.decoder_bits = codec.eval(), decoder_bits
        self.name, self.description = name, description
        self.sample_rate_hz, self.channels = codec.config.sample_rate_hz, 1
        self.frame_rate_hz, self.codebook_size = codec.config.frame_rate_hz, codec.config.codebook_size
        self.max_codebooks = codec.config.n_codebooks
        self.set_codebooks(self.max_codebooks)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> UnitokCodecTokenizer:
        """Load a codec from its card; `weights:` names a safetensors file, relative to `folder`.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the weights are not there.
            TokenizerError: If the weights are of another codec.
        """
        try:
            config = CodecConfig(**card["model"])
            name, file = str(card["name"]), Path(folder or ".") / str(card["weights"])
        except (KeyError, TypeError, ValueError) as error:
            where = getattr(card, "file", card.get("name", "card"))
            raise CardError(f"{where}: is no card of a unitok codec ({type(error).__name__}: {error}).") from error
        codec = NeuralCodec(config)
        learning = {k: v for k, v in codec.state_dict().items() if k.endswith(TRAINING_ONLY)}
        fill(codec, {**learning, **_as_floats(read_state(file))}, file)
        codec.quantizer.start_anew()
        tokenizer = cls(codec, name, str(card.get("description", "")), int(card.get("decoder_bits", 16)))
        tokenizer.set_codebooks(int(card.get("codebooks", config.n_codebooks)))
        return tokenizer

    @classmethod
    def load(cls, folder: Path) -> UnitokCodecTokenizer:
        """Load a folder that `save` wrote.

        Raises:
            CardError: If it holds another kind of tokenizer.
        """
        from unitok.tokenizers.base import load_audio_tokenizer

        tokenizer = load_audio_tokenizer(folder)
        if not isinstance(tokenizer, cls):
            raise CardError(f"{folder} holds a {type(tokenizer).__name__}, a codec of unitok's own is needed.")
        return tokenizer

    def save(self, folder: Path) -> None:
        """Write the card and the weights: as float16, those of the decoder in 8 bits where `decoder_bits` says so."""
        from safetensors.torch import save_file

        write_card(
            folder,
            {
                "name": self.name,
                "kind": "unitok",
                "description": self.description,
                "weights": WEIGHTS_FILE,
                "codebooks": self.n_codebooks,
                **({} if self.decoder_bits == 16 else {"decoder_bits": self.decoder_bits}),
                "model": asdict(self.model.config),
                "fingerprint": self.fingerprint,
            },
        )
        weights = self._stored_weights()
        save_file(weights if self.decoder_bits == 16 else self._with_small_decoder(weights), folder / WEIGHTS_FILE)

    def _fingerprint(self) -> str:
        """Hash encoder and codebooks as they are stored; without the decoder, as a better one reads the same codes."""
        coding = {k: v for k, v in self._stored_weights().items() if not k.startswith("decoder.")}
        sizes = {k: v for k, v in asdict(self.model.config).items() if k != "phases"}
        return fingerprint("unitok", sizes, coding)

    def _stored_weights(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {k: v.cpu().half().contiguous() for k, v in state.items() if not k.endswith(TRAINING_ONLY)}

    def _with_small_decoder(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights with the decoder's matrices in whole numbers of 8 bits, and the scales of their rows."""
        stored = dict(weights)
        for name, weight in self.model.decoder.state_dict(prefix="decoder.").items():
            if weight.ndim > 1:
                rows = weight.detach().cpu().float().flatten(1)
                scales = (rows.abs().amax(dim=1) / 127).clamp_min(1e-12)
                stored[name] = (rows / scales[:, None]).round().to(torch.int8).reshape(weight.shape)
                stored[f"{name}{SCALES}"] = scales
        return stored

    def _encode_row(self, wav: Tensor) -> Tensor:
        step = self.model.config.frame_length
        padded = F.pad(wav.to(self.device), (0, -wav.shape[-1] % step))
        reach = self.model.config.context_frames
        context = Reach(reach, reach)
        encode = partial(self.model.encode, n_codebooks=self.n_codebooks)
        return chunked(padded, encode, steps=(step, 1), chunk=self._chunk_frames, context=context)[0]

    def decoder_chain(self) -> Chain:
        """Return the decoder as a chain: spectra, phases where they are integrated, overlap-add."""
        config, decoder = self.model.config, self.model.decoder
        spectrum, overlap = config.decoder_reaches

        def before(codes: Tensor) -> Tensor:
            decoded = self.model.decode_spectrum(codes[None].to(self.device))
            steps = [decoded] if decoded.is_complex() else phase_steps(decoded, config.hop)
            return torch.cat([*steps], dim=-1)[0].T

        def recurrent(steps: Tensor, state: object) -> tuple[Tensor, object]:
            if config.phases == "predicted":
                return steps, None
            turns, alone = steps.T[None].chunk(2, dim=-1)
            made, state = follow_phases(turns, alone, cast("Tensor | None", state))
            return made[0].T, state

        return Chain(
            before,
            recurrent,
            lambda piece: decoder.overlap_add(piece.T[None]).clamp(-1, 1),
            steps=(1, config.frame_stride, config.frame_length),
            contexts=(Reach(spectrum, spectrum), Reach(overlap, overlap)),
        )

    def _decode_row(self, codes: Tensor) -> Tensor:
        return self.decoder_chain().run(codes, self._chunk_frames)

    def _vectors(self, k: int) -> Tensor:
        return self.model.quantizer.codebooks[k].vectors  # type: ignore[return-value]

    @property
    def _chunk_frames(self) -> int:
        return round(CHUNK_SECONDS * self.frame_rate_hz)


def _as_floats(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stored weights as float32: whole numbers times the scales of their rows."""
    weights = {}
    for name, tensor in stored.items():
        if not name.endswith(SCALES):
            scales = stored.get(f"{name}{SCALES}")
            shape = (-1, *[1] * (tensor.ndim - 1))
            weights[name] = tensor.float() if scales is None else tensor.float() * scales.reshape(shape)
    return weights
