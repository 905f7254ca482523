"""From the states of an encoder to positions of the global Transformer: fewer of them, and of its width.

    states [n, T, E] --reduce--> [n, P, E'] --project--> [n, P, D], added at the positions of a `<features>` segment

The encoder (`unitok.features`) may be part of it: frozen, or trained with the rest.
Sources: stacking frames (Listen, Attend and Spell, arXiv:1508.01211), pooling (GAMA, arXiv:2406.11768), a Q-Former over
windows (SALMONN, arXiv:2310.13289).

Letters: n values, T states, P positions, E width of the encoder, D width of the model, W windows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from unitok.model.config import FeatureInputConfig
from unitok.sequence import FeatureBatch

__all__ = ["FeatureInput", "Resampler"]


class FeatureInput(nn.Module):
    """One way in: an encoder if there is one, a reducer, a projector."""

    def __init__(self, config: FeatureInputConfig, d_model: int) -> None:
        super().__init__()
        if config.dim is None:
            raise ValueError(f"features: dim of '{config.encoder}' is not set, the width of the encoder's states.")
        self.config = config
        width = config.dim * (config.factor if config.reduce == "stack" else 1)
        self.resampler = Resampler(config) if config.reduce == "resample" else None
        self.norm = nn.LayerNorm(width)
        if config.projector == "mlp":
            self.project: nn.Module = nn.Sequential(nn.Linear(width, d_model), nn.GELU(), nn.Linear(d_model, d_model))
        else:
            self.project = nn.Linear(width, d_model)
        self.encoder: nn.Module | None = None
        self._frozen: list[nn.Module] = []  # in a list: no part of the state, never trained

    def attach(self, encoder: nn.Module) -> None:
        """Give it the encoder that turns inputs into states."""
        if self.config.trained:
            self.encoder = encoder.requires_grad_(True).eval()
        else:
            self._frozen = [encoder.requires_grad_(False).eval()]

    def train(self, mode: bool = True) -> FeatureInput:
        """Set the mode of all but the encoder: dropout and masking of its own are drawn from elsewhere, so never."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    def detach(self) -> None:
        """Forget the encoder: values are then states."""
        self.encoder, self._frozen = None, []

    @property
    def attached(self) -> Any:
        """The encoder, or None."""
        return self.encoder or (self._frozen[0] if self._frozen else None)

    def forward(self, batch: FeatureBatch) -> Tensor:
        """Return the positions of all values, `[n, P, D]`; those behind a value's own mean nothing.

        Raises:
            ValueError: If values are an encoder's inputs, and there is no encoder.
        """
        states, lengths = batch.values, batch.lengths
        if not batch.encoded:
            states, lengths = self._encode(batch)
        mask = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        states = states.to(self.norm.weight.dtype) * mask[..., None]
        return self.project(self.norm(self._reduced(states, mask)))

    def _encode(self, batch: FeatureBatch) -> tuple[Tensor, Tensor]:
        encoder = self.attached
        if encoder is None:
            raise ValueError(f"values for '{self.config.encoder}' are its inputs, and it is not loaded.")
        encoder.to(batch.values.device)
        inputs = [row[:length] for row, length in zip(batch.values, batch.lengths.tolist(), strict=True)]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trained):
            states = encoder(inputs)
        lengths = torch.tensor([len(row) for row in states], device=batch.values.device)
        return nn.utils.rnn.pad_sequence(states, batch_first=True), lengths

    def _reduced(self, states: Tensor, mask: Tensor) -> Tensor:
        factor = self.config.factor or states.shape[1]
        if self.config.reduce == "none":
            return states
        missing = -states.shape[1] % factor
        states, mask = F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        if self.resampler is not None:
            return self.resampler(states, mask, factor)
        if self.config.reduce == "stack":
            return rearrange(states, "n (p f) e -> n p (f e)", f=factor)
        counts = rearrange(mask, "n (p f) -> n p f", f=factor).sum(dim=2, keepdim=True).clamp(min=1)
        return rearrange(states, "n (p f) e -> n p f e", f=factor).sum(dim=2) / counts


class Resampler(nn.Module):
    """Learned queries that read each window of states: so many positions a window, whatever its length."""

    def __init__(self, config: FeatureInputConfig) -> None:
        super().__init__()
        assert config.dim is not None
        self.queries = nn.Parameter(torch.randn(config.queries, config.dim) * 0.02)
        layer = nn.TransformerDecoderLayer(
            config.dim,
            config.n_heads,
            4 * config.dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerDecoder(layer, config.n_layers)
        for weight in self.layers.parameters():
            if weight.ndim > 1:  # the layers of a TransformerDecoder begin as copies of one
                nn.init.xavier_uniform_(weight)

    def forward(self, states: Tensor, mask: Tensor, window: int) -> Tensor:
        """Return `[n, W * queries, E]` of states `[n, W * window, E]`; windows without a state give zeros."""
        n = len(states)
        windows = rearrange(states, "n (w t) e -> (n w) t e", t=window)
        known = rearrange(mask, "n (w t) -> (n w) t", t=window)
        filled = known.any(dim=1)
        queries = repeat(self.queries, "q e -> b q e", b=int(filled.sum()))
        read = self.layers(queries, windows[filled], memory_key_padding_mask=~known[filled])
        out = read.new_zeros(len(windows), *read.shape[1:])
        out[filled] = read
        return rearrange(out, "(n w) q e -> n (w q) e", n=n)
