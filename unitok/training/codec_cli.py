"""`unitok fit-codec`: the LightningCLI with `CodecModule` and `CodecDataModule` filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning as L

from unitok.training.callbacks import CheckpointFolder
from unitok.training.cli import UnitokCLI
from unitok.training.codec_data import CodecDataModule
from unitok.training.codec_module import CodecModule

__all__ = ["CodecCLI"]


class CodecCLI(UnitokCLI):
    """Train a codec, and leave it in `tokenizer/` under the run's folder unless the config exports it elsewhere."""

    module = CodecModule
    data = CodecDataModule
    any_class = False
    command = "fit-codec"
    root = "out/codec"
    trainer_defaults = {"reload_dataloaders_every_n_epochs": 1}  # or every epoch would have the stretches of the first

    def default_callbacks(self, root: Path, given: Sequence[L.Callback]) -> list[L.Callback]:
        """Export the tokenizer."""
        return [] if any(isinstance(one, CheckpointFolder) for one in given) else [CheckpointFolder(root / "tokenizer")]
