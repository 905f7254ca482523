r"""Learning-rate schedules by step, as a factor of the peak.

    cosine /‾‾\__   linear /‾\__   wsd /‾‾‾‾\_   exponential /\___   inverse_sqrt /\-.__   constant /‾‾‾‾

WSD (warm-up, stable, decay): MiniCPM (arXiv:2404.06395), section 4. Inverse square root: Transformer
(arXiv:1706.03762), section 5.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["ScheduleConfig", "schedule_factor"]


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes over the steps."""

    name: Literal["cosine", "linear", "wsd", "exponential", "inverse_sqrt", "constant"] = "cosine"
    """Shape after the warm-up."""
    warmup_steps: int = 100
    """Steps in which the rate rises linearly to its peak."""
    total_steps: int | None = None
    """Step at which the decay ends; None: the trainer's last step, or when `trainer.max_time` is over."""
    final_fraction: float = 0.1
    """Rate at the end, relative to the peak."""
    decay_fraction: float = 0.2
    """Last part of all steps in which `wsd` decays."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.name == "inverse_sqrt" and self.warmup_steps < 1:
            raise ValueError(
                "schedule: inverse_sqrt falls from the end of its warm-up on: set warmup_steps to 1 or more."
            )
        if self.warmup_steps < 0:
            raise ValueError(f"schedule: warmup_steps={self.warmup_steps}, allowed: 0 or more.")
        for name in ("final_fraction", "decay_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"schedule: {name}={getattr(self, name)}, allowed: 0 to 1.")
        if self.name == "exponential" and not self.final_fraction:
            raise ValueError("schedule: final_fraction=0 is never reached by an exponential. Use 0.01, or linear.")


def schedule_factor(step: int, config: ScheduleConfig, total_steps: float) -> float:
    """Return the learning rate of `step` relative to the peak.

    Args:
        step: Optimizer steps done, from 0.
        config: The schedule.
        total_steps: Where the decay ends; the rate stays at `final_fraction` from then on. `inverse_sqrt` never ends.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.name == "inverse_sqrt":
        return math.sqrt(config.warmup_steps / (step + 1))
    start = config.warmup_steps
    if config.name == "wsd":
        start = max(start, round(total_steps * (1 - config.decay_fraction)))
    progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
    if config.name == "constant":
        return 1.0
    if config.name == "exponential":
        return config.final_fraction**progress
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if config.name == "cosine" else 1.0 - progress
    return config.final_fraction + (1 - config.final_fraction) * shape
