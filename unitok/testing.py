"""Small real tokenizers for tests and first steps: nothing to download, nothing to train, quick on any machine.

They keep the promises of a tokenizer in a few lines each, so that a model can be tried without a codec. They do not
sound well.

C channels, N samples, T codec frames, K codebooks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unitok.cards import CardReader
from unitok.tokenizers.base import check_ids, check_text, read_tokenizer_card, write_card
from unitok.tokenizers.chunking import Reach
from unitok.tokenizers.codec import CodecTokenizer

__all__ = ["ToyAudioTokenizer", "ToyTextTokenizer"]


class ToyAudioTokenizer(CodecTokenizer):
    """Each frame's loudness, written as K digits: codebook 0 holds the coarsest digit, as in a residual quantiser.

    A frame decodes to a 200 Hz square wave of its loudness, so `encode(decode(codes))` gives the codes back, also
    through a 16-bit wav file. Pitch and words are lost.
    """

    sample_rate_hz = 16000
    channels = 1
    tone_hz = 200
    decoder_reach = Reach(0, 0)

    def __init__(
        self, n_codebooks: int = 4, codebook_size: int = 8, frame_rate_hz: float = 25.0, name: str = "toy_audio"
    ):
        """Choose its sizes.

        Args:
            n_codebooks: Codebooks K.
            codebook_size: Codes in one codebook; `codebook_size ** n_codebooks` loudness levels, 4096 unless told.
            frame_rate_hz: Frames in one second; 16000 must be a multiple of it.
            name: Name of the tokenizer.

        Raises:
            ValueError: If a frame is not a whole number of samples.
        """
        if self.sample_rate_hz % frame_rate_hz:
            raise ValueError(f"frame_rate_hz={frame_rate_hz} does not divide {self.sample_rate_hz}. Use 25, 50 or 100.")
        self.name = name
        self.codebook_size = codebook_size
        self.max_codebooks = n_codebooks
        self.frame_rate_hz = frame_rate_hz
        self.hop = int(self.sample_rate_hz / frame_rate_hz)
        self.set_codebooks(n_codebooks)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> ToyAudioTokenizer:
        """Make one from a card with `codebooks`, `codebook_size` and `frame_rate_hz`."""
        reader = CardReader(card, getattr(card, "file", "card"))
        for key in ("kind", "description", "source", "fingerprint"):
            reader.take(key, str)
        reader.take("version", int)
        tokenizer = cls(
            reader.take("max_codebooks", int, 4, minimum=1),
            reader.take("codebook_size", int, 8, minimum=2),
            reader.take("frame_rate_hz", float, 25.0, minimum=1),
            reader.take("name", str, "toy_audio"),
        )
        codebooks = reader.take("codebooks", int, tokenizer.max_codebooks, minimum=1)
        reader.finish()
        tokenizer.set_codebooks(codebooks)
        return tokenizer

    def save(self, folder: Path) -> None:
        """Write the card."""
        sizes = {
            "codebooks": self.n_codebooks,
            "max_codebooks": self.max_codebooks,
            "codebook_size": self.codebook_size,
        }
        rates = {"frame_rate_hz": self.frame_rate_hz, "fingerprint": self.fingerprint}
        write_card(folder, {"name": self.name, "kind": "toy_audio", **sizes, **rates})

    def _fingerprint(self) -> str:
        return f"toy-{self.max_codebooks}x{self.codebook_size}-{self.frame_rate_hz:g}hz"

    @property
    def _levels(self) -> int:
        return self.codebook_size**self.max_codebooks

    def _digits(self) -> Tensor:
        """Return the weight of each codebook's digit, `[K]`, coarsest first."""
        return self.codebook_size ** torch.arange(self.max_codebooks - 1, -1, -1)

    def _encode_row(self, wav: Tensor) -> Tensor:
        wav = torch.nn.functional.pad(wav[0].double().cpu(), (0, -wav.shape[-1] % self.hop))
        loudness = wav.unfold(0, self.hop, self.hop).square().mean(-1).sqrt()  # [T]
        level = (loudness * self._levels).floor().long().clamp(0, self._levels - 1)
        return (level // self._digits()[:, None] % self.codebook_size)[: self.n_codebooks]  # [K, T]

    def _decode_row(self, codes: Tensor) -> Tensor:
        digits = self._digits()[: codes.shape[0]]
        level = (codes.cpu() * digits[:, None]).sum(0) + digits[-1] / 2  # the middle of what the digits leave open
        half_period = self.sample_rate_hz // (2 * self.tone_hz)
        sign = 1 - 2 * (torch.arange(self.hop) // half_period % 2)
        return (level[:, None] / self._levels * sign).flatten()[None].float()

    def _vectors(self, k: int) -> Tensor:
        digits = torch.arange(self.codebook_size, dtype=torch.float32)
        return (digits * self._digits()[k])[:, None]


class ToyTextTokenizer:
    """One id for each character of a small alphabet; id 0 stands for every other character."""

    def __init__(self, alphabet: str = "abcdefghijklmnopqrstuvwxyz '.,?!-", name: str = "toy_text"):
        """Choose the alphabet; capital letters are read as small ones where it lacks them."""
        self.alphabet = alphabet
        self.name = name
        self._ids = {character: i + 1 for i, character in enumerate(alphabet)}

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> ToyTextTokenizer:
        """Make one from a card with `alphabet`."""
        return cls(card["alphabet"], card.get("name", "toy_text")) if "alphabet" in card else cls()

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.alphabet) + 1

    @property
    def fingerprint(self) -> str:
        """Its alphabet."""
        return f"toy_text-{self.alphabet}"

    def encode(self, text: str) -> list[int]:
        """Return one id for each character."""
        return [self._ids.get(c, self._ids.get(c.lower(), 0)) for c in check_text(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text, with `\ufffd` for id 0."""
        return "".join("\ufffd" if id == 0 else self.alphabet[id - 1] for id in check_ids(ids, self.size, self.name))

    def piece(self, id: int) -> str:
        """Return the character, `▁` for a space, `<unk>` for id 0."""
        return "<unk>" if id == 0 else self.decode([id]).replace(" ", "▁")

    def save(self, folder: Path) -> None:
        """Write the card."""
        card = {"name": self.name, "kind": "toy_text", "alphabet": self.alphabet, "fingerprint": self.fingerprint}
        write_card(folder, card)

    @classmethod
    def load(cls, folder: Path) -> ToyTextTokenizer:
        """Load a folder that `save` wrote."""
        return cls.from_card(read_tokenizer_card(folder), folder)
