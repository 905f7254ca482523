"""Cross-entropy in parts: what a training step minimises, and what it reports per segment kind and codebook.

Letters: n labels, V ids or codes to choose from, B batch, S positions, R targets, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from unitok.vocabulary import KINDS, kind_index

__all__ = ["NO_LABEL", "LMOutput", "LossTally", "frame_rows"]

NO_LABEL = -100
"""Where a frame leaves a codebook empty; takes no part in any loss."""


@dataclass(frozen=True)
class LMOutput:
    """What `UnitokLM.loss` returns. Names of parts: kinds (`text`, `label`, …) for slot 0, `audio.k` for codebook k.

    `audio.0` includes the end marker `</audio>`, which is drawn in its place. `conditions` is all of theirs together.
    """

    loss: Tensor
    """Weighted mean of the cross-entropy over all labels, scalar, float32, in nats; the one with gradients."""
    parts: dict[str, Tensor]
    """Mean cross-entropy of each part, unweighted, scalars, float32, in nats. Parts without labels are left out."""
    counts: dict[str, int]
    """Labels that each part was measured on (of a sampled part: those drawn)."""
    accuracy: dict[str, Tensor]
    """Share of each part's labels that got the highest logit, scalars, float32."""


@dataclass
class LossTally:
    """Adds up parts into one `LMOutput`."""

    total_weight: Tensor
    """Sum of the weights of all labels of the batch, scalar: what the weighted sum is divided by."""
    _sum: Tensor | float = 0.0
    _parts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: Tensor | str, logits: Tensor, labels: Tensor, weights: Tensor, scale: float = 1.0) -> None:
        """Add labels.

        Args:
            name: The part they belong to, or the kind of each, `[n]`, integer (`vocabulary.kind_index`).
            logits: `[n, V]`.
            labels: `[n]`, int64; NO_LABEL where there is none.
            weights: `[n]`, float32.
            scale: How many labels each one stands for, where they were drawn from more.
        """
        # In float32 whatever autocast or the weights are: sums over thousands of exponentials.
        nats = F.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="none")
        self._sum = self._sum + scale * (nats * weights).sum()
        hits = logits.detach().argmax(dim=-1) == labels
        measured = torch.stack([nats.detach(), hits.float(), (labels != NO_LABEL).float()], dim=1)  # [n, 3]
        if isinstance(name, str):
            self._parts[name] = self._parts.get(name, 0.0) + measured.sum(dim=0)
            return
        sums = measured.new_zeros(len(KINDS) + 1, 3).index_add(0, name.long(), measured)
        for kind in KINDS:
            self._parts["audio.0" if kind == "audio" else kind] = sums[kind_index(kind)]

    def output(self) -> LMOutput:
        """Return the sum so far as a weighted mean, and the parts that have labels."""
        floor = torch.finfo(torch.float32).tiny  # no labels at all: a loss of 0, not NaN
        loss = torch.as_tensor(self._sum) / self.total_weight.clamp(min=floor)
        sums = torch.stack(list(self._parts.values()))
        counts = {name: int(count) for name, count in zip(self._parts, sums[:, 2].tolist(), strict=True) if count}
        means = {name: self._parts[name] / count for name, count in counts.items()}
        return LMOutput(
            loss=loss,
            parts={name: mean[0] for name, mean in means.items()},
            counts=counts,
            accuracy={name: mean[1] for name, mean in means.items()},
        )


def frame_rows(frame_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the runs of frames, each of which is one audio target: markers keep two targets apart.

        frame_mask   0 1 1 0 1      rows  0 0 1      positions  1 2      valid_mask  1 1
                     0 0 1 1 1                                  4 .                  1 0
                                                                2 3 4 …

    Args:
        frame_mask: `[B, S]`, bool.

    Returns:
        rows `[R, 1]`: sequence of each target; positions `[R, T]` within it, its first where there is padding;
        valid_mask `[R, T]`.
    """
    edges = F.pad(frame_mask.to(torch.int8), (1, 1)).diff(dim=1)  # [B, S + 1]: 1 at a start, -1 behind an end
    rows, starts = (edges == 1).nonzero(as_tuple=True)
    stops = (edges == -1).nonzero(as_tuple=True)[1]
    lengths = stops - starts
    T = int(lengths.max()) if len(lengths) else 0
    steps = torch.arange(T, device=frame_mask.device)
    valid_mask = steps < lengths[:, None]
    return rows[:, None], torch.where(valid_mask, starts[:, None] + steps, starts[:, None]), valid_mask
