"""Long sequences through a convolutional network in pieces, with the result of one pass over the whole.

A piece carries as much context on either side as the network can see (`reach`), and what the context gave is dropped.
Memory then depends on the piece, not on the whole; only the result grows.

```
whole    |........................|          payload = kept, context = computed and dropped
piece 0  |payload.|ctx            |
piece 1       |ctx|payload.|ctx   |
piece 2               |ctx|payload|
```

T frames (the coarser of the two rates), D width. A step is the number of input or output samples in one frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ConvShape", "Reach", "Span", "chunked", "chunked_recurrent", "reach", "spans"]


class ConvShape(NamedTuple):
    """What of a 1-D convolution decides how far it sees."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    left: int = 0
    """Samples padded on the left (or, where transposed, trimmed)."""
    transposed: bool = False


class Reach(NamedTuple):
    """Frames on either side that a frame depends on."""

    left: int
    right: int


class Span(NamedTuple):
    """One piece: frames `[start, stop)` are kept, `[first, last)` are computed."""

    start: int
    stop: int
    first: int
    last: int


def reach(layers: Iterable[ConvShape], *, reflect: bool = False) -> Reach:
    """Return how far a chain of convolutions sees, in frames.

    Args:
        layers: The longest path through the network, in order; strides go one way: down, or up where transposed.
        reflect: The layers pad by reflection: at the true ends a frame then sees what lies on its other side too.
    """
    unit, left, right = Fraction(1), Fraction(0), Fraction(0)
    for layer in layers:
        width = (layer.kernel - 1) * layer.dilation
        if layer.transposed:
            unit /= layer.stride
            left, right = left + (width - layer.left) * unit, right + layer.left * unit
        else:
            left, right = left + layer.left * unit, right + (width - layer.left) * unit
            unit *= layer.stride
    if reflect:
        left = right = left + right
    frame = max(unit, Fraction(1))
    return Reach(math.ceil(left / frame), math.ceil(right / frame))


def spans(n_frames: int, chunk: int, context: Reach) -> Iterator[Span]:
    """Cut `n_frames` into pieces of `chunk` frames and widen each by `context` where there is something."""
    chunk = max(chunk, context.left + context.right, 1)
    for start in range(0, n_frames, chunk):
        stop = min(start + chunk, n_frames)
        yield Span(start, stop, max(start - context.left, 0), min(stop + context.right, n_frames))


@dataclass(frozen=True)
class _Steps:
    """Samples in one frame before and after a network."""

    before: int
    after: int

    def cut(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return frames `[first, last)` of a network's input."""
        return x[..., first * self.before : last * self.before]

    def keep(self, y: Tensor, skip: int, n: int) -> Tensor:
        """Return `n` frames of a network's output after `skip`, with zeros where a network ends a few samples early."""
        y = y[..., skip * self.after : (skip + n) * self.after]
        return F.pad(y, (0, n * self.after - y.shape[-1]))


def chunked(
    x: Tensor, network: Callable[[Tensor], Tensor], *, steps: tuple[int, int], chunk: int, context: Reach
) -> Tensor:
    """Apply a network with a finite reach.

    Args:
        x: Input `[.., N]`; the last frame may be incomplete.
        network: Maps a piece `[.., n * before]` to `[.., n * after]`.
        steps: Input and output samples in one frame, (before, after).
        chunk: Frames in one piece.
        context: Reach of the network.

    Returns:
        `[.., T * after]` with `T = ceil(N / before)`, on the device of `x`.
    """
    sizes = _Steps(*steps)
    n_frames = -(-x.shape[-1] // sizes.before)
    pieces = []
    for span in spans(n_frames, chunk, context):
        y = network(sizes.cut(x, span.first, span.last))
        pieces.append(sizes.keep(y, span.start - span.first, span.stop - span.start).to(x.device))
    return torch.cat(pieces, dim=-1)


Recurrent = Callable[[Tensor, object], tuple[Tensor, object]]


def chunked_recurrent(
    x: Tensor,
    before: Callable[[Tensor], Tensor],
    recurrent: Recurrent,
    after: Callable[[Tensor], Tensor],
    *,
    steps: tuple[int, int],
    chunk: int,
    contexts: tuple[Reach, Reach],
) -> Tensor:
    """Apply convolutions, a recurrent layer and convolutions; the recurrent layer's state goes from piece to piece.

    A recurrent layer sees the whole past, so no overlap would do; its state makes the result that of one pass.

    Args:
        x: Input `[.., N]`; the last frame may be incomplete.
        before: Convolutions that end at the frame rate.
        recurrent: Maps frames `[.., n]` and a state (None at the start) to frames and the next state.
        after: Convolutions that start at the frame rate.
        steps: Input samples in a frame of `before`, and output samples in a frame of `after`.
        chunk: Frames in one piece.
        contexts: Reach of `before` and of `after`.

    Returns:
        `[.., T * steps[1]]` with `T = ceil(N / steps[0])`, on the device of `x`.
    """
    into, out = _Steps(steps[0], 1), _Steps(1, steps[1])
    n_frames = -(-x.shape[-1] // steps[0])
    chunk = max(chunk, sum(contexts[0]))
    state: object = None
    pieces: list[Tensor] = []
    known, known_from, done = None, 0, 0  # known: the recurrent layer's output on frames [known_from, done)
    for span in spans(n_frames, chunk, contexts[1]):
        if known is not None:
            known, known_from = known[..., span.first - known_from :], span.first
        if span.last > done:
            first, last = max(done - contexts[0].left, 0), min(span.last + contexts[0].right, n_frames)
            fresh = into.keep(before(into.cut(x, first, last)), done - first, span.last - done)
            fresh, state = recurrent(fresh, state)
            known, done = fresh if known is None else torch.cat([known, fresh], dim=-1), span.last
        assert known is not None, f"the first of {n_frames} frames was not computed"
        y = after(known)
        pieces.append(out.keep(y, span.start - span.first, span.stop - span.start).to(x.device))
    return torch.cat(pieces, dim=-1)
