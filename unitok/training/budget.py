"""Where a training ends: at a step, or, where only `trainer.max_time` ends it, where the clock will have brought it."""

from __future__ import annotations

import math
from collections.abc import Callable

import lightning as L
from lightning.pytorch.callbacks import Timer

from unitok.errors import UnitokError

__all__ = ["last_step"]


def last_step(trainer: L.Trainer) -> Callable[[int], float]:
    """Return a function that says, at each step, which step is the last.

    By the clock this is an estimate from the speed so far, which a schedule follows: it has decayed when time is up,
    whatever the machine's speed. Such a run cannot be repeated exactly.

    Raises:
        UnitokError: If nothing ends the training.
    """
    steps = trainer.estimated_stepping_batches
    if steps != math.inf:
        return lambda step: steps
    timer = next((one for one in trainer.callbacks if isinstance(one, Timer)), None)  # type: ignore[attr-defined]
    if timer is None or timer.time_remaining() is None:
        raise UnitokError(
            "training has no last step: set trainer.max_steps, trainer.max_time, or "
            "model.init_args.schedule.total_steps."
        )

    def by_the_clock(step: int) -> float:
        elapsed, remaining = timer.time_elapsed(), timer.time_remaining() or 0.0
        if trainer.world_size > 1:  # one clock for all processes, or their weights would drift apart
            elapsed, remaining = trainer.strategy.broadcast((elapsed, remaining))
        passed = elapsed / max(elapsed + remaining, 1e-9)
        return step / min(1.0, passed) if step and passed else 1e9

    return by_the_clock
