"""SNAC, the multi-scale codec, at 24 kHz, mono, through the package `snac` (pip install snac).

Its levels have different rates. A frame here is as long as one code of the coarsest level, and holds the codes of all
levels in that time in the order in which they begin, coarse before fine; for strides 4, 2, 1 seven of them:

    level 0   k=0
    level 1   k=1            k=4
    level 2   k=2     k=3    k=5     k=6

That is the order in which language models of it speak (Orpheus). Only whole frames can be decoded, so that all
codebooks are always in use. A recording goes through in one piece. The decoder adds noise of its own; here it is drawn
from a fixed seed.

Source: Siuzdak et al. 2024 (arXiv:2410.14411), https://github.com/hubertsiuzdak/snac 1.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unitok.errors import MissingWeightsError, TokenizerError
from unitok.tokenizers.codec import PublishedCodec, load_network
from unitok.tokenizers.settings import SnacSettings
from unitok.tokenizers.weights import downloads_allowed, missing_package, quiet_build, read_state

__all__ = ["SnacTokenizer"]

HUB = "hubertsiuzdak/snac_{release}"
FILE = "pytorch_model.bin"


class SnacTokenizer(PublishedCodec):
    """SNAC; see the module's docstring for what its codes are."""

    kind = "snac"

    def __init__(self, settings: SnacSettings, model: Any):
        """Wrap a network.

        Args:
            settings: The card.
            model: A `snac.SNAC` of the sizes in `settings.model`.
        """
        strides = settings.model.vq_strides
        steps = range(strides[0])
        self._places = [
            (level, step // stride) for step in steps for level, stride in enumerate(strides) if not step % stride
        ]
        self._n_levels = len(strides)
        self._snac = model
        super().__init__(settings, model)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], folder: Path | None = None) -> SnacTokenizer:
        """Build the network and load its weights.

        Raises:
            CardError: If the card has mistakes.
            MissingWeightsError: If the weights are not here and cannot be downloaded.
            MissingDependencyError: If the package is not installed.
        """
        settings = SnacSettings.from_card(card)
        return cls(settings, load_network(settings, folder, build, official_weights))

    def set_codebooks(self, n: int) -> None:
        """Accept the number of codes in a frame.

        Raises:
            TokenizerError: If it is another one.
        """
        if n != self.max_codebooks:
            raise TokenizerError(
                f"codebooks are {n}, tokenizer '{self.name}' has {self.max_codebooks} codes in a frame, which it needs "
                f"all. Use {self.max_codebooks}."
            )
        self.n_codebooks = n

    def _encode_row(self, wav: Tensor) -> Tensor:
        n_frames = self.n_frames(wav.shape[-1])
        wav = F.pad(wav, (0, self.n_samples(n_frames) - wav.shape[-1]))
        levels = self._snac.encode(wav[None].to(self.device))
        per_frame = [level[0].reshape(n_frames, -1) for level in levels]
        return torch.stack([per_frame[level][:, place] for level, place in self._places]).long()

    def _decode_row(self, codes: Tensor) -> Tensor:
        if len(codes) != self.max_codebooks:
            raise TokenizerError(
                f"codes have {len(codes)} codebooks, '{self.name}' decodes whole frames: {self.max_codebooks}."
            )
        levels = [
            torch.stack([codes[k] for k, (of, _) in enumerate(self._places) if of == level], dim=1).reshape(1, -1)
            for level in range(self._n_levels)
        ]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            return self._snac.decode([level.to(self.device) for level in levels])[0]

    def _vectors(self, k: int) -> Tensor:
        quantizer = self._snac.quantizer.quantizers[self._places[k][0]]
        codes = torch.arange(self.codebook_size, device=self.device)[None]
        return quantizer.out_proj(quantizer.decode_code(codes))[0].T


def build(settings: SnacSettings) -> Any:
    """Return the network with weights drawn from the card's seed.

    Raises:
        MissingDependencyError: If the package cannot be imported.
    """
    with quiet_build(settings.seed):
        try:
            import snac
        except ImportError as error:
            raise missing_package("snac", error) from error
        sizes: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings.model).items()
        }
        sizes |= {"sampling_rate": settings.sample_rate_hz, "attn_window_size": None}
        return snac.SNAC(**sizes).eval()


def official_weights(settings: SnacSettings) -> dict[str, Tensor]:
    """Return the published weights, fetched from the hub if they are not there.

    Raises:
        MissingWeightsError: If they are absent and cannot be fetched.
    """
    repository = HUB.format(release=settings.release)
    try:
        from huggingface_hub import hf_hub_download

        file = hf_hub_download(repository, FILE, local_files_only=not downloads_allowed())
    except Exception as error:  # of the hub, of the network, of the file system; or the package is missing
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingWeightsError(
            f"tokenizer '{settings.name}' needs its published weights, which are not on this machine and could not be "
            f"fetched ({reason}). Put https://huggingface.co/{repository}/resolve/main/{FILE} beside a card of your "
            f"own, with 'weights: {FILE}'."
        ) from error
    return read_state(Path(file))
