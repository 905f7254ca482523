"""Means of losses and accuracies over many batches, computed when they are asked for and not before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unitok.model.losses import LMOutput

__all__ = ["LossMeter"]


class LossMeter:
    """Collects the outputs of `UnitokLM.loss`; a step costs no arithmetic and no wait for the device."""

    def __init__(self, names: Sequence[str]):
        """Set up.

        Args:
            names: All parts that can occur, in one order on all ranks: `text`, `audio.0`, …
        """
        self.names = tuple(names)
        self._outputs: list[LMOutput] = []

    def add(self, output: LMOutput) -> None:
        """Note one batch."""
        self._outputs.append(replace(output, loss=output.loss.detach()))

    def take(self, reduce: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Return the means since the last call, and forget.

        Args:
            reduce: Sums a tensor over ranks.

        Returns:
            `loss`, and `loss/<part>`, `accuracy/<part>` for each part that had labels, weighted by their number.
        """
        if not self._outputs:
            return {}
        device = self._outputs[0].loss.device
        sums = torch.zeros(len(self.names) + 1, 3, dtype=torch.float64, device=device)  # loss, accuracy, count
        for output in self._outputs:
            total = sum(output.counts.values())
            sums[-1, 0] += output.loss * total
            sums[-1, 2] += total
            for name, loss in output.parts.items():
                row, count = sums[self.names.index(name)], output.counts[name]
                row[0] += loss * count
                row[1] += output.accuracy[name] * count
                row[2] += count
        self._outputs.clear()
        *parts, whole = reduce(sums).tolist()
        means = {"loss": whole[0] / max(whole[2], 1)}
        for name, (loss, accuracy, count) in zip(self.names, parts, strict=True):
            if count:
                means |= {f"loss/{name}": loss / count, f"accuracy/{name}": accuracy / count}
        return means
