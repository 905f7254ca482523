"""Patterns: where the codes of a recording stand in the grid of a sequence, and so in which order they are generated.

The code of codebook k in frame t stands in slot k of row

    stride · t + delays[k] + passes[k] · T

of a segment's content, and what stands in a row is predicted from the rows above it. Slot 0 decides the length: once
it is through, it holds the end marker until the other slots are through too. `·` is `<empty>`, `kt` codebook k of
frame t, `</>` the end marker, in drawings of K = 3 codebooks and T = 3 frames, time from left to right.

Letters: T frames, R rows, K codebooks (slots).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["PATTERNS", "Pattern", "PatternName"]

PatternName = Literal["multiscale", "delay", "parallel", "flatten", "coarse_first"]
PATTERNS: tuple[PatternName, ...] = get_args(PatternName)


@dataclass(frozen=True)
class Pattern:
    """One rule for all audio of a model; make it with the method of its name, or `Pattern.of`."""

    name: PatternName
    """Which one; `multiscale` and `parallel` have the same rows, and differ in how a model fills them."""
    delays: tuple[int, ...]
    """Rows that each codebook is behind, K numbers; the first is 0."""
    passes: tuple[int, ...]
    """Which pass over the recording each codebook is in, K numbers; the first is 0."""
    stride: int = 1
    """Rows from one frame to the next."""

    @classmethod
    def of(cls, name: PatternName, n_codebooks: int, delays: Sequence[int] = (), groups: Sequence[int] = ()) -> Pattern:
        """Make one by its name.

        Args:
            name: One of `PATTERNS`.
            n_codebooks: K.
            delays: Of `delay`.
            groups: Of `flatten` and `coarse_first`.

        Raises:
            ValueError: If the name is unknown, the pattern does not take what is given, or it does not fit K.
        """
        takes = {"delay": ("delays",), "flatten": ("groups",), "coarse_first": ("groups",)}.get(name, ())
        given = {key: value for key, value in (("delays", delays), ("groups", groups)) if value}
        for key in given:
            if key not in takes:
                raise ValueError(f"pattern '{name}' takes no {key}. Leave them out, or change pattern.")
        if name not in PATTERNS:
            raise ValueError(f"pattern is '{name}', allowed: {', '.join(PATTERNS)}.")
        return getattr(cls, name)(n_codebooks, **given)

    @classmethod
    def multiscale(cls, n_codebooks: int) -> Pattern:
        """One frame a row, filled one codebook after the other by a local Transformer, the last ones by a refiner.

            slot 0   00  01  02  </>
            slot 1   10  11  12   ·
            slot 2   20  21  22   ·

        Source: UniAudio (arXiv:2310.00704), section 3.2; RQ-Transformer (arXiv:2203.01941).
        """
        return cls("multiscale", (0,) * n_codebooks, (0,) * n_codebooks)

    @classmethod
    def parallel(cls, n_codebooks: int) -> Pattern:
        """One frame a row, all codebooks at once: the fastest, and blind to what else is in the frame.

            slot 0   00  01  02  </>
            slot 1   10  11  12   ·
            slot 2   20  21  22   ·

        Source: MusicGen (arXiv:2306.05284), section 2.2.
        """
        return cls("parallel", (0,) * n_codebooks, (0,) * n_codebooks)

    @classmethod
    def delay(cls, n_codebooks: int, delays: Sequence[int] = ()) -> Pattern:
        """Each codebook some rows behind the first one, all slots of a row at once: it sees the coarser ones.

            slot 0   00  01  02  </> </> </>
            slot 1    ·  10  11  12   ·   ·
            slot 2    ·   ·  20  21  22   ·

        Stereo, with a codec whose codebooks are those of both channels in turn (kind `stereo`), is delays 0 0 1 1 …:
        both channels of a level at once, each level behind the one before.

            left 0    00  01  02  </>
            right 0   10  11  12   ·
            left 1     ·  20  21  22
            right 1    ·  30  31  32

        Args:
            n_codebooks: K.
            delays: Rows that each is behind, K numbers, the first 0; default 0, 1, … K-1.

        Source: MusicGen (arXiv:2306.05284), section 2.2; its stereo models, as transformers runs them
        (`MusicgenForCausalLM.build_delay_pattern_mask`).
        """
        delays = tuple(delays) or tuple(range(n_codebooks))
        _check("delays", delays, n_codebooks, "0 or more")
        return cls("delay", delays, (0,) * n_codebooks)

    @classmethod
    def flatten(cls, n_codebooks: int, groups: Sequence[int] = ()) -> Pattern:
        """Each codebook a row of its own, or a group of them: the longest sequence, and each code sees all before it.

            slot 0   00   ·   ·  01   ·   ·  02   ·   ·  </>
            slot 1    ·  10   ·   ·  11   ·   ·  12   ·   ·
            slot 2    ·   ·  20   ·   ·  21   ·   ·  22   ·

        Args:
            n_codebooks: K.
            groups: Row within the frame of each codebook, from 0, without gaps; default 0, 1, … K-1.

        Source: AudioLM (arXiv:2209.03143), section 3.2; MusicGen (arXiv:2306.05284), section 2.2.
        """
        groups = _grouped(groups or range(n_codebooks), n_codebooks)
        return cls("flatten", groups, (0,) * n_codebooks, stride=max(groups) + 1)

    @classmethod
    def coarse_first(cls, n_codebooks: int, groups: Sequence[int] = ()) -> Pattern:
        """One pass over the recording for each group of codebooks: finer ones see all of the coarser ones.

            slot 0   00  01  02  </> </> </> </>
            slot 1    ·   ·   ·  10  11  12   ·
            slot 2    ·   ·   ·  20  21  22   ·

        Args:
            n_codebooks: K.
            groups: Pass of each codebook, from 0, without gaps; default 0, 1, 1, … 1.

        Source: VALL-E's order of codebooks, as in MusicGen (arXiv:2306.05284), section 2.2.
        """
        groups = _grouped(groups or [min(k, 1) for k in range(n_codebooks)], n_codebooks)
        return cls("coarse_first", (0,) * n_codebooks, groups)

    @property
    def n_codebooks(self) -> int:
        """Codebooks K."""
        return len(self.delays)

    def n_rows(self, n_frames: int) -> int:
        """Return the rows R of a recording of T frames."""
        if n_frames == 0:
            return 0
        last = max(self.row(k, n_frames - 1, n_frames) for k in range(self.n_codebooks))
        return max(last + 1, self.stride * n_frames)

    def n_frames(self, n_rows: int) -> int:
        """Return the frames T of a recording of R rows.

        Raises:
            ValueError: If no recording has so many.
        """
        more = self.n_rows(2) - self.n_rows(1)
        n_frames = max(0, 1 + (n_rows - self.n_rows(1)) // more)
        if self.n_rows(n_frames) != n_rows:
            raise ValueError(f"pattern '{self.name}' has no recording of {n_rows} rows.")
        return n_frames

    def row(self, codebook: int, frame: int, n_frames: int) -> int:
        """Return the row in which a code stands, in a recording of T frames."""
        return self.stride * frame + self.delays[codebook] + self.passes[codebook] * n_frames

    def n_known(self, n_rows: int, n_frames: int | None) -> int:
        """Return how many frames are complete in the first R rows; T is None while slot 0 has not ended."""
        if n_frames is None and any(self.passes):
            return 0
        behind = max(self.row(k, 0, n_frames or 0) for k in range(self.n_codebooks))
        known = max(0, (n_rows - behind - 1) // self.stride + 1)
        return known if n_frames is None else min(known, n_frames)

    def slots(self, row: int, n_frames: int | None) -> list[int]:
        """Return which of the slots 1 … K-1 hold a code in a row; T is None while slot 0 has not ended."""
        found = []
        for k in range(1, self.n_codebooks):
            if n_frames is None and self.passes[k]:
                continue
            place = row - self.row(k, 0, n_frames or 0)
            in_time = n_frames is None or place < self.stride * n_frames
            if place >= 0 and place % self.stride == 0 and in_time:
                found.append(k)
        return found

    def place(self, frames: Tensor, end: int) -> Tensor:
        """Lay frames out.

        Args:
            frames: Joint ids `[T, K]`, 0 where empty.
            end: Id of the end marker.

        Returns:
            Rows `[R, K]`.
        """
        T, K = frames.shape
        n_rows = self.n_rows(T)
        if n_rows == T:  # each code in the row of its frame
            return frames
        rows = frames.new_zeros(n_rows, K)
        for k in range(K):
            rows[self._rows_of(k, T), k] = frames[:, k]
        rows[self.stride * T :, 0] = end
        return rows

    def restore(self, rows: Tensor) -> Tensor:
        """Take frames `[T, K]` from the rows `[R, K]` that `place` laid them out in."""
        T = self.n_frames(len(rows))
        return torch.stack([rows[self._rows_of(k, T), k] for k in range(rows.shape[1])], dim=1)

    def _rows_of(self, k: int, n_frames: int) -> slice:
        start = self.row(k, 0, n_frames)
        return slice(start, start + self.stride * n_frames, self.stride)


def _check(name: str, values: Sequence[int], n_codebooks: int, allowed: str) -> None:
    if len(values) != n_codebooks:
        raise ValueError(f"{name} has {len(values)} numbers, there are K={n_codebooks} codebooks: give one for each.")
    if values[0] != 0 or min(values) < 0:
        raise ValueError(f"{name}={list(values)}: the first has to be 0 and the others {allowed}.")


def _grouped(groups: Sequence[int], n_codebooks: int) -> tuple[int, ...]:
    _check("groups", groups, n_codebooks, "1 or more where the group of the one before is left")
    steps = [after - before for before, after in zip(groups[:-1], groups[1:], strict=True)]
    if any(step not in (0, 1) for step in steps):
        raise ValueError(f"groups={list(groups)}: each has to be the one before or one more.")
    return tuple(groups)
