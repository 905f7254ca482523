"""Lightning data for codec training: a fresh stretch of audio for every example, and a fixed validation set."""

from __future__ import annotations

import lightning as L
from torch.utils.data import DataLoader

from unitok.data.segments import SegmentBatch, SegmentDataset, collate_segments

__all__ = ["CodecDataModule"]


class CodecDataModule(L.LightningDataModule):
    """Batches of stretches of audio, with the text of those that are whole files."""

    def __init__(
        self,
        train_manifest: str | list[str],
        val_manifest: str | list[str],
        batch_size: int = 16,
        seconds: float = 1.0,
        sample_rate_hz: int = 16000,
        speeds: list[float] | None = None,
        steps_per_epoch: int = 1000,
        val_batches: int = 4,
        num_workers: int = 0,
        seed: int = 0,
    ):
        """Set the data up.

        Args:
            train_manifest: `manifest.jsonl` to draw training audio from, or several.
            val_manifest: `manifest.jsonl` of held-out audio, or several.
            batch_size: Stretches in a batch.
            seconds: Length of a stretch, in seconds; for `CodecModule`'s `text_weight`, longer than most files.
            sample_rate_hz: Rate of the codec; audio of other rates is resampled.
            speeds: Speeds at which training audio is played, drawn for each stretch, such as [0.8, 0.9, 1.0, 1.1]: a
                codec of few voices or instruments then learns the pitches between theirs. None: as it is.
            steps_per_epoch: Batches in an epoch; an epoch is only the interval between validations.
            val_batches: Batches of the validation set.
            num_workers: Processes that read audio.
            seed: Seed of what is drawn.
        """
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[SegmentBatch]:
        """Return the batches of the current epoch."""
        h = self.hparams
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self._loader(
            h["train_manifest"], h["steps_per_epoch"], seed=h["seed"] + 1 + epoch, speeds=h["speeds"] or [1.0]
        )

    def val_dataloader(self) -> DataLoader[SegmentBatch]:
        """Return the fixed validation batches."""
        h = self.hparams
        return self._loader(h["val_manifest"], h["val_batches"], seed=h["seed"], speeds=[1.0])

    def _loader(
        self, manifests: str | list[str], batches: int, seed: int, speeds: list[float]
    ) -> DataLoader[SegmentBatch]:
        h = self.hparams
        data = SegmentDataset(
            manifests,
            size=batches * h["batch_size"],
            seconds=h["seconds"],
            sample_rate_hz=h["sample_rate_hz"],
            seed=seed,
            speeds=speeds,
        )
        return DataLoader(
            data,
            batch_size=h["batch_size"],
            num_workers=h["num_workers"],
            collate_fn=collate_segments,  # type: ignore[arg-type]
        )
