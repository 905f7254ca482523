"""What happens beside the training steps: resumable checkpoints, checkpoint folders, lines of progress."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L

from unitok.errors import UnitokError

__all__ = ["CheckpointFolder", "ProgressLines", "ResumePoint"]

logger = logging.getLogger("unitok")


class ResumePoint(L.Callback):
    """Keep `last.ckpt`, from which `unitok fit --ckpt_path` goes on as if it had never stopped."""

    def __init__(self, dirpath: str | Path, every_minutes: float = 10.0):
        """Say where and how often.

        Args:
            dirpath: Folder of `last.ckpt`.
            every_minutes: Time between two writes; the end of training writes too.
        """
        self.path, self.every_s = Path(dirpath) / "last.ckpt", every_minutes * 60
        self._written_at, self._step = time.monotonic(), 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._written_at, self._step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Write if it is time, after whole steps: no checkpoint holds gradients. Rank 0 decides for all."""
        is_whole, self._step = trainer.global_step != self._step, trainer.global_step
        due = is_whole and time.monotonic() - self._written_at >= self.every_s
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last state."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        # Lightning writes under a temporary name first, so a crash leaves the file before.
        trainer.save_checkpoint(self.path)
        self._written_at = time.monotonic()


class CheckpointFolder(L.Callback):
    """Export the model as a folder for use: at the end, every so many steps, and the best in validation apart.

    The module has `export(folder)`, as `LMModule` and `CodecModule` have.
    """

    def __init__(
        self,
        dirpath: str | Path,
        every_n_steps: int = 0,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
    ):
        """Say where and when.

        Args:
            dirpath: Folder of the latest weights; the best go to a folder beside it whose name ends in `-best`.
            every_n_steps: Optimizer steps between exports; 0 exports at the end only.
            monitor: Metric, such as `val/loss`, whose best value is exported apart; None: none.
            mode: Whether the smallest or the largest value is the best.
        """
        self.dirpath, self.every_n_steps, self.monitor, self.mode = Path(dirpath), every_n_steps, monitor, mode
        self.best: float | None = None
        self._exported_at = -1

    @property
    def best_path(self) -> Path:
        """Folder of the best weights."""
        return self.dirpath.with_name(self.dirpath.name + "-best")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that the module can be exported, before hours of training rather than after."""
        if not callable(getattr(pl_module, "export", None)):
            raise UnitokError(
                f"CheckpointFolder exports with {type(pl_module).__name__}.export(folder), which is not there. "
                "Add it or leave the callback out."
            )

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Export every so many steps."""
        step = trainer.global_step
        if self.every_n_steps and step and step % self.every_n_steps == 0 and step != self._exported_at:
            self._exported_at = step
            self._export(trainer, pl_module, self.dirpath)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Export if the metric is better than ever."""
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.monitor not in trainer.callback_metrics:
            raise UnitokError(
                f"CheckpointFolder: there is no metric '{self.monitor}'. "
                f"There are: {', '.join(sorted(trainer.callback_metrics))}."
            )
        value = float(trainer.callback_metrics[self.monitor])
        if self._is_better(value):
            self.best = value
            self._export(trainer, pl_module, self.best_path)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Export the final weights."""
        self._export(trainer, pl_module, self.dirpath)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value so far."""
        self.best = state_dict["best"]

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)  # of which nothing is better
        return value < self.best if self.mode == "min" else value > self.best

    def _export(self, trainer: L.Trainer, pl_module: L.LightningModule, folder: Path) -> None:
        if trainer.is_global_zero:
            pl_module.export(folder)  # type: ignore[operator]
            logger.info("exported step %d to %s", trainer.global_step, folder)


class ProgressLines(L.Callback):
    """Log a line now and then where there is no terminal for a progress bar."""

    def __init__(self, every_s: float = 10.0):
        """Say how often.

        Args:
            every_s: Least time between two lines, in seconds.
        """
        self.every_s = every_s
        self._last = (time.monotonic(), 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._last = (time.monotonic(), trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Log if it is time."""
        now, (then, step) = time.monotonic(), self._last
        if now - then >= self.every_s and trainer.is_global_zero:
            self._log(trainer, (trainer.global_step - step) / (now - then))
            self._last = (now, trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation's metrics."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val")}
        if metrics and trainer.is_global_zero and not trainer.sanity_checking:
            logger.info("step %d  %s", trainer.global_step, _shown(metrics))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log where training ended."""
        if trainer.is_global_zero:
            self._log(trainer, None)

    def _log(self, trainer: L.Trainer, steps_per_s: float | None) -> None:
        metrics = {
            name: float(value) for name, value in trainer.progress_bar_metrics.items() if not name.startswith("v_num")
        }
        total = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
        speed = "" if steps_per_s is None else f"  {steps_per_s:.1f} steps/s"
        logger.info("step %d%s%s  %s", trainer.global_step, total, speed, _shown(metrics))


def _shown(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
