"""Lightning data for codec training: a fresh stretch of audio for every example, and a fixed validation set."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader

from unitok.data.segments import SegmentBatch, SegmentDataset, collate_segments
from unitok.errors import UnitokError

__all__ = ["CodecDataModule"]


class _Loader(DataLoader[SegmentBatch]):
    """A loader that Lightning may resume: what it gives follows from the trainer's count of batches."""

    def state_dict(self) -> dict[str, object]:
        """Return nothing: the trainer knows."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Do nothing: `CodecDataModule.train_dataloader` begins where the run was stopped."""


class CodecDataModule(L.LightningDataModule):
    """Batches of stretches of audio, with the text of those that are whole files."""

    def __init__(
        self,
        train_manifest: str | list[str],
        val_manifest: str | list[str],
        batch_size: int = 16,
        seconds: float = 1.0,
        sample_rate_hz: int | None = None,
        speeds: list[float] | None = None,
        steps_per_epoch: int = 1000,
        val_batches: int = 4,
        num_workers: int = 0,
        seed: int = 0,
    ):
        """Set the data up.

        Args:
            train_manifest: `manifest.jsonl` to draw training audio from, or several. Those that `unitok predict-codes`
                wrote teach the decoder what a language model says.
            val_manifest: `manifest.jsonl` of held-out audio, or several.
            batch_size: Stretches in a batch.
            seconds: Length of a stretch, in seconds; for `CodecModule`'s `losses.text`, longer than most files.
            sample_rate_hz: Rate of the codec; audio of other rates is resampled. None: that of the module trained.
            speeds: Speeds at which training audio is played, drawn for each stretch, such as [0.8, 0.9, 1.0, 1.1]: a
                codec of few voices or instruments then learns the pitches between theirs. None: as it is.
            steps_per_epoch: Batches in an epoch; an epoch is only the interval between validations.
            val_batches: Batches of the validation set.
            num_workers: Processes that read audio.
            seed: Seed of what is drawn.
        """
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Take the codec's rate over.

        Raises:
            UnitokError: If the config says another one.
        """
        h = self.hparams
        rate = getattr(self.trainer.lightning_module, "sample_rate_hz", None) if self.trainer else None
        if rate is not None and h["sample_rate_hz"] not in (None, rate):
            raise UnitokError(
                f"data.sample_rate_hz is {h['sample_rate_hz']}, the codec's rate is {rate}. "
                "Leave data.sample_rate_hz out."
            )
        self.sample_rate_hz = rate or h["sample_rate_hz"] or 16000
        self.frame_length = getattr(self.trainer.lightning_module, "frame_length", None) if self.trainer else None

    def train_dataloader(self) -> DataLoader[SegmentBatch]:
        """Return the batches of the current epoch; in a resumed run, those that it has not seen."""
        h, seen, epoch = self.hparams, 0, 0
        if self.trainer:
            epoch = self.trainer.current_epoch
            seen = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self.trainer.world_size
            seen %= h["steps_per_epoch"]  # all of them, where the epoch is over
        return self._loader(
            h["train_manifest"],
            h["steps_per_epoch"],
            seed=h["seed"] + 1 + epoch,
            speeds=h["speeds"] or [1.0],
            first=seen * h["batch_size"],
        )

    def val_dataloader(self) -> DataLoader[SegmentBatch]:
        """Return the fixed validation batches."""
        h = self.hparams
        return self._loader(h["val_manifest"], h["val_batches"], seed=h["seed"], speeds=[1.0])

    def _loader(
        self, manifests: str | list[str], batches: int, seed: int, speeds: list[float], first: int = 0
    ) -> DataLoader[SegmentBatch]:
        h = self.hparams
        data = SegmentDataset(
            manifests,
            size=batches * h["batch_size"],
            seconds=h["seconds"],
            sample_rate_hz=self.sample_rate_hz,
            seed=seed,
            first=first,
            speeds=speeds,
            frame_length=self.frame_length,
        )
        return _Loader(
            data,  # type: ignore[arg-type]
            batch_size=h["batch_size"],
            num_workers=h["num_workers"],
            collate_fn=collate_segments,  # type: ignore[arg-type]
        )
