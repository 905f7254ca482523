"""Long sequences through a network in pieces, as they come, with the result of one pass over the whole.

A piece carries as much context on either side as the network can see (`reach`), and what the context gave is dropped.
Memory then depends on the piece, not on the whole; only the result grows. What comes out is behind what went in by the
context on the right, until the last piece.

```
whole    |........................|          payload = kept, context = computed and dropped
piece 0  |payload.|ctx            |
piece 1       |ctx|payload.|ctx   |
piece 2               |ctx|payload|
```

`Chain` says what the network is made of, `ChainStream` takes one sequence through it, `FadedStream` does what it can
with a network that sees everything, or more than one wants to wait for.

T frames (the coarser of the two rates), D width. A step is the number of input or output samples in one frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Chain",
    "ChainStream",
    "ConvShape",
    "FadedStream",
    "Network",
    "PieceStream",
    "Reach",
    "causal_layers",
    "chunked",
    "conv_layers",
    "identity",
    "reach",
]


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


Network = Callable[[Tensor], Tensor]
"""Maps a piece `[.., n * step before]` to `[.., n * step after]`."""
Recurrent = Callable[[Tensor, object], tuple[Tensor, object]]
"""Maps frames `[.., n * step]` and a state (None at the start) to as many and the next state."""


def identity(x: Tensor) -> Tensor:
    """Return `x`."""
    return x


def stateless(x: Tensor, state: object) -> tuple[Tensor, object]:
    """Return `x` and the state."""
    return x, state


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


def conv_layers(network: nn.Module) -> list[ConvShape]:
    """Return PyTorch's convolutions of a network in order; what lies beside them may not see further (kernel 1)."""
    return [
        ConvShape(
            module.kernel_size[0],
            module.stride[0],
            module.dilation[0],
            int(module.padding[0]),
            isinstance(module, nn.ConvTranspose1d),
        )
        for module in network.modules()
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
    ]


def causal_layers(network: nn.Module) -> list[ConvShape]:
    """Return the convolutions of a SEANet in order, as EnCodec and Mimi pad them: all on the left where `causal`.

    Works on the modules of the package `encodec` and of transformers, which have the same attributes.
    """
    shapes = []
    for module in network.modules():
        conv = _inner_conv(module) if hasattr(module, "causal") else None
        if conv is None:
            continue
        kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
        total, transposed = (kernel - 1) * dilation - (stride - 1), isinstance(conv, nn.ConvTranspose1d)
        right = total // 2
        if module.causal:
            right = math.ceil(total * float(module.trim_right_ratio)) if transposed else 0  # type: ignore[arg-type]
        shapes.append(ConvShape(kernel, stride, dilation, total - right, transposed))
    return shapes


def _inner_conv(module: nn.Module) -> nn.Conv1d | nn.ConvTranspose1d | None:
    """Return the convolution that a module of a SEANet wraps, once or twice."""
    inner = getattr(module, "conv", getattr(module, "convtr", None))
    inner = getattr(inner, "conv", getattr(inner, "convtr", inner))
    return inner if isinstance(inner, nn.Conv1d | nn.ConvTranspose1d) else None


@dataclass(frozen=True)
class Chain:
    """Convolutions, a layer that sees the whole past, convolutions; each may be missing.

    No overlap would do for the layer in the middle: its state goes from piece to piece, which makes the result that of
    one pass.
    """

    before: Network = identity
    """What comes before the recurrent layer."""
    recurrent: Recurrent = stateless
    """The recurrent layer."""
    after: Network = identity
    """What comes after it."""
    steps: tuple[int, int, int] = (1, 1, 1)
    """Samples in a frame of the input, of what the recurrent layer takes and gives, and of the output."""
    contexts: tuple[Reach, Reach] = (Reach(0, 0), Reach(0, 0))
    """Reach of `before` and of `after`."""

    @property
    def look_ahead(self) -> int:
        """Frames that have to be known after one until it can be computed."""
        return self.contexts[0].right + self.contexts[1].right

    def run(self, x: Tensor, chunk: int) -> Tensor:
        """Return the result for all of `x [.., N]`, `chunk` frames or more at a time, on the device of `x`.

        The last frame of `x` may be incomplete.
        """
        chunk = max(chunk, sum(self.contexts[0]), 1) * self.steps[0]
        stream, pieces = ChainStream(self), x.split(chunk, dim=-1)
        made = [stream.push(piece, i == len(pieces)) for i, piece in enumerate(pieces, start=1)]
        return torch.cat([piece for piece in made if piece.shape[-1]], dim=-1)


def chunked(x: Tensor, network: Network, *, steps: tuple[int, int], chunk: int, context: Reach) -> Tensor:
    """Apply a network with a finite reach.

    Args:
        x: Input `[.., N]`; the last frame may be incomplete.
        network: What to apply.
        steps: Input and output samples in one frame, (before, after).
        chunk: Frames in one piece.
        context: Reach of the network.

    Returns:
        `[.., T * after]` with `T = ceil(N / before)`, on the device of `x`.
    """
    return Chain(network, steps=(steps[0], steps[1], steps[1]), contexts=(context, Reach(0, 0))).run(x, chunk)


class PieceStream(Protocol):
    """One sequence, going through a network piece by piece."""

    @property
    def exact(self) -> bool:
        """Are the pieces together what one pass gives, but for the rounding of sums?"""
        ...

    @property
    def look_ahead(self) -> int:
        """Frames that the result is behind."""
        ...

    def push(self, x: Tensor, /, last: bool = False) -> Tensor:
        """Take the next frames `[.., n]` and return what can be told by now, all the rest with the last piece.

        Where nothing can be told yet, the result has no samples: `shape[-1]` is 0.
        """
        ...


class ChainStream:
    """One sequence on its way through a `Chain`."""

    exact = True

    def __init__(self, chain: Chain):
        """Begin."""
        self._chain, self.look_ahead = chain, chain.look_ahead
        into, middle, out = chain.steps
        self._before = _Window(chain.before, into, middle, chain.contexts[0])
        self._after = _Window(chain.after, middle, out, chain.contexts[1])
        self._state: object = None

    @torch.no_grad()
    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Take the next frames and return what can be told by now, on their device.

        Args:
            x: `[.., N]` of whole frames; the last piece may have none, or an incomplete one at its end.
            last: Does nothing follow?
        """
        fresh = self._before.push(x, last)
        if fresh.shape[-1]:
            fresh, self._state = self._chain.recurrent(fresh, self._state)
        elif self._after.kept is None:
            return fresh
        return self._after.push(fresh, last).to(x.device)


class _Window:
    """A network with a finite reach, and the input that it may still have to see."""

    def __init__(self, network: Network, before: int, after: int, context: Reach):
        self.network, self.before, self.after, self.context = network, before, after, context
        self.kept: Tensor | None = None  # input from frame `first` on
        self.first = self.known = self.done = 0
        self.empty = torch.zeros(0, 0)

    def push(self, x: Tensor, last: bool) -> Tensor:
        """Return the output that input so far decides, beyond what was returned before."""
        self.kept = x if self.kept is None else torch.cat([self.kept, x.to(self.kept.device)], dim=-1)
        self.known = self.first - (-self.kept.shape[-1] // self.before)
        ready = self.known if last else self.known - self.context.right
        if ready <= self.done:
            return self.empty
        y = self.network(self.kept)
        start, stop = ((frame - self.first) * self.after for frame in (self.done, ready))
        y = y[..., start:stop]
        if y.shape[-1] < stop - start:  # a network that ends a few samples early
            y = F.pad(y, (0, stop - start - y.shape[-1]))
        self.done, self.empty = ready, y[..., :0]
        first = max(self.first, ready - self.context.left)
        self.kept, self.first = self.kept[..., (first - self.first) * self.before :], first
        return y


class FadedStream:
    """Pieces of a network that sees more than it is shown: each fades into the next, so that seams do not click.

    ```
    piece 0  |payload.|~ctx           |          ~ fades from what the piece before said to what this one says
    piece 1       |ctx|~payload|ctx   |
    ```
    """

    exact = False

    def __init__(self, network: Network, step: int, context: Reach, fade: int):
        """Begin.

        Args:
            network: Maps frames `[.., n]` to samples `[.., n * step]`.
            step: Samples in a frame.
            context: Frames that each piece is shown on either side, at least one on the right.
            fade: Samples that a piece fades in over, at most those of the context on the right.
        """
        self.look_ahead = max(context.right, 1)
        self._fade = min(fade, self.look_ahead * step)
        left = max(context.left, 1)
        self._window = _Window(self._faded, 1, step, Reach(left, self.look_ahead))
        self._network, self._step = network, step
        self._tail: Tensor | None = None

    @torch.no_grad()
    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Take the next frames `[.., n]` and return what can be told by now; all the rest with the last piece."""
        return self._window.push(x, last)

    def _faded(self, x: Tensor) -> Tensor:
        """Apply the network to what the window shows, and blend where the piece before has been there."""
        y = self._network(x).clone()
        start = (self._window.done - self._window.first) * self._step
        if self._tail is not None:
            n = min(self._tail.shape[-1], y.shape[-1] - start)
            share = (torch.arange(n, device=y.device) + 0.5) / max(n, 1)
            y[..., start : start + n] = (1 - share) * self._tail[..., :n] + share * y[..., start : start + n]
        ready = (self._window.known - self.look_ahead - self._window.first) * self._step
        self._tail = y[..., ready : ready + self._fade]
        return y
