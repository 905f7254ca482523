"""Steps of generation as fixed sequences of operations, which a GPU does one after the other without asking Python.

    position    tokens [n, K], each at its place in its row -> states [n, D]; keys and values are put into the cache
    frame       states [n, 1 + shadows, D] and codebook 0 -> codebooks 1 … Kc-1, guided and drawn

A frame is a thousand small operations, and a GPU is done with each sooner than Python asks for the next. On CUDA each
step is recorded once and replayed (`torch.cuda.CUDAGraph`), for so many rows and so much room in the cache, both powers
of two; what is over stays idle. Compiled (`torch.compile`), operations are fused before, which takes minutes at first
and works on CPUs too. Nothing that is recorded may wait for the GPU or depend on what it computed.

Not here: what the steps compute (`model/`), native code for CPUs (`kernels/`).

Letters: n rows, K slots, Kc AR codebooks, Vk size of codebook k, D width.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from threading import Lock

import torch
from torch import Tensor

from unitok.generation.guidance import guide_chain
from unitok.generation.sampling import draw
from unitok.kernels import wanted
from unitok.model.cache import StaticCache
from unitok.model.lm import UnitokLM

__all__ = ["Graphs"]

LEAST_ROOM = 256
"""Positions that the cache of a recorded step has room for, at least."""
WARM_UPS = 2
"""Runs before a recording, in which libraries make what they keep."""
MOST_SHAPES = 64
"""Numbers of rows and sizes of caches that `torch.compile` makes code for."""

Step = Callable[..., tuple[Tensor, ...]]


class Graphs:
    """The recorded steps of one model, made as they are needed."""

    def __init__(self, lm: UnitokLM, tokens_of_code: Sequence[Tensor], compiled: bool = False) -> None:
        """Record nothing yet.

        Args:
            lm: The model.
            tokens_of_code: Joint ids of the codes of each codebook, K times `[Vk]`, where the model is.
            compiled: Let `torch.compile` fuse operations.
        """
        self.key = _key(lm, compiled)
        self._lm, self._tokens_of_code = lm, tokens_of_code
        self._compile: Callable[[Step], Step] = _compile if compiled else lambda step: step
        self._positions: dict[tuple[int, int], _PositionGraph] = {}
        self._frames: dict[tuple[int, int], _Recording] = {}
        self._one_at_a_time = Lock()

    @staticmethod
    def of(lm: UnitokLM, tokens_of_code: Sequence[Tensor], compiled: bool, before: Graphs | None) -> Graphs | None:
        """Return graphs of a model with the weights as they are now; None where it goes without.

        It does on CPUs, unless they are to be compiled, where they are not `wanted`, and where a class of models
        computes steps in its own way.

        Args:
            lm: The model.
            tokens_of_code: As for `Graphs`.
            compiled: As for `Graphs`.
            before: Graphs made earlier, which are good as long as the weights lie where they did.
        """
        cuda = lm.embedding.weight.device.type == "cuda"
        if type(lm) is not UnitokLM or not (cuda or compiled) or not wanted():
            return None
        if before is not None and before.key == _key(lm, compiled):
            return before
        return Graphs(lm, tokens_of_code, compiled)

    def step(self, tokens: Tensor, positions: Sequence[int], cache: StaticCache) -> Tensor:
        """Run one new position of each row, as `UnitokLM.step` does.

        Args:
            tokens: `[n, K]`, on the CPU.
            positions: Where they are in their rows.
            cache: Of the rows.

        Returns:
            States `[n, D]`.

        Raises:
            ValueError: If a position is beyond the cache.
        """
        n = len(positions)
        key = _power_of_two(n), _power_of_two(max(cache.max_positions, LEAST_ROOM))
        cache.reach(max(positions) + 1)
        with self._one_at_a_time:
            graph = self._positions.get(key)
            if graph is None:
                graph = self._positions[key] = _PositionGraph(self._lm, *key, self._compile)
            graph.hold(cache)
            places = torch.tensor(positions)[:, None]
            [states] = graph.recording.run(_filled(tokens[:, None], key[0]), _filled(places, key[0]))
        return states[:n]

    def takes(self, hidden: Tensor) -> bool:
        """Are the states where the model is? All others the caller has to leave alone."""
        return hidden.device == self._lm.embedding.weight.device

    def run(
        self,
        hidden: Tensor,
        first: Tensor,
        scales: Sequence[Sequence[float]],
        filters: Tensor,
        uniform: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Draw codebooks 1 … Kc-1 of frames; arguments and results are those of `NativeFrame.run`."""
        n, n_shadows = len(first), max(map(len, scales))
        key = _power_of_two(n), n_shadows
        if n_shadows:
            hidden = hidden[_chains(scales)]  # [n, shadows + 1, D]
            # A row with fewer shadows begins with its first stage several times, which changes nothing.
            padded = [[1.0] * (n_shadows - len(of_row)) + list(of_row) for of_row in scales]
        else:
            hidden, padded = hidden[:, None], [[] for _ in scales]
        inputs = (
            _filled(hidden, key[0]), _filled(first, key[0]), _filled(torch.tensor(padded).view(n, -1), key[0]),
            _filled(filters.transpose(0, 1), key[0], 1.0), _filled(uniform.transpose(0, 1), key[0]),
        )  # fmt: skip
        with self._one_at_a_time:
            frame = self._frames.get(key)
            if frame is None:
                step = self._compile(functools.partial(_frame, self._lm, self._tokens_of_code))
                frame = self._frames[key] = _Recording(step, self._lm.embedding.weight.device)
            tokens, gained = frame.run(*inputs)
        return tokens[:n], gained[:, :n]


class _WholeCache(StaticCache):
    """All of its room counts as used: shapes stay as they are, and no one has to ask a GPU for a position."""

    in_place = False  # for native code, which has no part in this

    def advance(self, positions: Tensor, used: int | None = None) -> Tensor:
        return super().advance(positions, used=self.max_positions)


class _PositionGraph:
    """One new position of so many rows, in a cache of its own memory."""

    def __init__(self, lm: UnitokLM, n_rows: int, room: int, compiled: Callable[[Step], Step]) -> None:
        config, weight = lm.transformer.config, next(lm.transformer.parameters())
        self._cache = _WholeCache(
            config.n_layers, n_rows, config.kv_heads, room, config.head_width, dtype=weight.dtype, device=weight.device
        )
        self._owner: weakref.ref[StaticCache] | None = None
        step = functools.partial(_position, lm, self._cache)
        self.recording = _Recording(compiled(step), weight.device)

    def hold(self, cache: StaticCache) -> None:
        """Let the keys and values of a cache lie in this graph's memory; another one's that do move out."""
        if cache.keys[0].data_ptr() == self._cache.keys[0].data_ptr():
            return
        before = None if self._owner is None else self._owner()
        if before is not None and before.keys[0].data_ptr() == self._cache.keys[0].data_ptr():
            before.keep(torch.arange(len(before.keys[0]), device=before.keys[0].device))
        cache.keys = [_moved(key, memory) for key, memory in zip(cache.keys, self._cache.keys, strict=True)]
        cache.values = [_moved(value, memory) for value, memory in zip(cache.values, self._cache.values, strict=True)]
        self._owner = weakref.ref(cache)


class _Recording:
    """A step with its inputs and outputs in memory of its own: on CUDA recorded when it first runs."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._inputs: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the step's outputs; inputs may lie on the CPU and have the shapes of the first call."""
        if not self._inputs:
            self._inputs = [one.to(self._device, copy=True).contiguous() for one in inputs]
            if self._device.type == "cuda":
                with torch.cuda.device(self._device):
                    self._record()
        for memory, one in zip(self._inputs, inputs, strict=True):
            memory.copy_(one)
        if self._graph is None:
            return self._step(*self._inputs)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return tuple(output.clone() for output in self._outputs)

    def _record(self) -> None:
        here, beside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self._step(*self._inputs)
        here.wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._step(*self._inputs)


def _position(lm: UnitokLM, cache: _WholeCache, tokens: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
    """Run positions, tokens `[n, 1, K]` at `[n, 1]`; return their states `[n, D]`."""
    return (lm.step(tokens, positions, cache)[:, 0],)


def _frame(
    lm: UnitokLM,
    tokens_of_code: Sequence[Tensor],
    hidden: Tensor,
    first: Tensor,
    scales: Tensor,
    filters: Tensor,
    uniform: Tensor,
) -> tuple[Tensor, ...]:
    """Draw frames.

    Args:
        lm: The model.
        tokens_of_code: K times `[Vk]`.
        hidden: `[n, 1 + shadows, D]`: of each row's emptiest prompt, …, of its whole one.
        first: Joint ids of codebook 0, `[n]`.
        scales: Of guidance, `[n, shadows]`.
        filters: Temperature, top-k, top-p, min-p, `[n, Kc-1, 4]`.
        uniform: Numbers from [0, 1), `[n, Kc-1]`.

    Returns:
        Tokens `[n, Kc]`, and log-probabilities of the drawn ones, `[Kc-1, n]`.
    """
    n, n_stages, _ = hidden.shape
    stage = lm.local_stage(hidden.flatten(0, 1))
    tokens, gained = [first], []
    for k in range(1, lm.n_coarse):
        logits = stage.logits(tokens[-1][:, None].expand(n, n_stages).flatten()).unflatten(0, (n, n_stages)).float()
        temperature, top_k, top_p, min_p = filters[:, k - 1].unbind(dim=1)
        codes = draw(guide_chain(logits, scales), temperature, top_k, top_p, min_p, uniform[:, k - 1])
        gained.append(logits[:, -1].log_softmax(dim=-1).gather(1, codes[:, None])[:, 0])
        tokens.append(tokens_of_code[k][codes])
    return torch.stack(tokens, dim=1), torch.stack(gained)


def _compile(step: Step) -> Step:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
    return torch.compile(step, fullgraph=True, dynamic=False)


def _key(lm: UnitokLM, compiled: bool) -> tuple[object, ...]:
    """Return what recorded steps are good for: weights that lie where they lie now."""
    return (compiled, *(tensor.data_ptr() for tensor in (*lm.parameters(), *lm.buffers())))


def _chains(scales: Sequence[Sequence[float]]) -> Tensor:
    """Return where the stages of each row are, `[n, shadows + 1]`, among all rows and then the shadows of all."""
    most, at = max(map(len, scales)), len(scales)
    chains = []
    for row, of_row in enumerate(scales):
        chain = [*range(at, at + len(of_row)), row]
        at += len(of_row)
        chains.append([chain[0]] * (most - len(of_row)) + chain)
    return torch.tensor(chains)


def _filled(tensor: Tensor, n: int, value: float = 0.0) -> Tensor:
    """Return `[n, …]`: the rows of a tensor, and idle ones."""
    if len(tensor) == n:
        return tensor
    return torch.cat([tensor, tensor.new_full((n - len(tensor), *tensor.shape[1:]), value)])


def _moved(tensor: Tensor, memory: Tensor) -> Tensor:
    """Put keys or values into the first rows of memory with more room, and return them there."""
    there = memory[: len(tensor)]
    there[:, :, tensor.shape[2] :] = 0.0  # what is masked must be a number nonetheless
    there[:, :, : tensor.shape[2]] = tensor
    return there[:, :, : tensor.shape[2]]


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
