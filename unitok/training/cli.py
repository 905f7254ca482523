"""LightningCLI as unitok uses it: omegaconf configs, everything of a run under one folder in `out/`, little noise."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import OmegaConf

from unitok.errors import UnitokError, suggest
from unitok.training.callbacks import ProgressLines, ResumePoint
from unitok.training.mistakes import reason

__all__ = ["Stage", "UnitokCLI"]

Stage = Literal["fit", "validate", "test"]


class UnitokCLI(LightningCLI):
    """Train, validate or test any LightningModule with any LightningDataModule, named by `class_path` in the config.

    Under `trainer.default_root_dir` (default `out/fit`) go `config.yaml`, TensorBoard's files and
    `checkpoints/last.ckpt`, which `--ckpt_path` takes up again.
    """

    module: ClassVar[type[L.LightningModule]] = L.LightningModule
    """What is trained: this class, or, where `any_class`, one derived from it."""
    data: ClassVar[type[L.LightningDataModule]] = L.LightningDataModule
    """Likewise of its data."""
    any_class: ClassVar[bool] = True
    """Does the config name the classes by `class_path`?"""
    command: ClassVar[str] = ""
    """What users call it, where that is not the stage."""
    root: ClassVar[str] = "out/fit"
    """Folder of a run, unless told otherwise."""
    trainer_defaults: ClassVar[dict[str, Any]] = {}
    """Settings of the trainer, unless told otherwise."""

    def __init__(self, stage: Stage, args: list[str], callbacks: Sequence[L.Callback] = (), parse_only: bool = False):
        """Parse `args`, build everything, and run `stage`, with `callbacks` beside those of the config.

        With `parse_only` nothing is built: it is found out whether `args` have a mistake.

        Lightning's own subcommands are not used: under them `${trainer.…}` would have to be `${fit.trainer.…}`.

        Raises:
            UnitokError: If the config or a flag has a mistake, or the parts do not take what the config gives them.
        """
        self.stage: Stage = stage
        self._more_callbacks, self._parse_only = callbacks, parse_only
        # Texts under dataclass fields become the help of their flags.
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        super().__init__(
            model_class=self.module,
            datamodule_class=self.data,
            subclass_mode_model=self.any_class,
            subclass_mode_data=self.any_class,
            args=args,
            run=False,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "default_root_dir": self.root,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 20,
                **self.trainer_defaults,
            },
            # `omegaconf+` resolves ${…} after flags are applied, so that an overridden value is overridden everywhere.
            parser_kwargs={
                "prog": f"unitok {self.command or stage}",
                "parser_mode": "omegaconf+",
                "exit_on_error": False,
            },
        )
        if parse_only:
            return
        self._check_weights()
        if getattr(self.model, "keeps_modes", False):
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        getattr(self.trainer, stage)(self.model, datamodule=self.datamodule, ckpt_path=self.config.get("ckpt_path"))

    def _check_weights(self) -> None:
        """Refuse to measure weights that nothing was learned by."""
        settings = (self.config["model"].get("init_args") or {}) if self.any_class else {}
        if self.stage != "fit" and not self.config.get("ckpt_path") and settings.get("init_from", "") is None:
            raise UnitokError(
                f"unitok {self.stage}: there are no weights to measure. Name a run's: "
                "--ckpt_path out/…/checkpoints/last.ckpt, or a model: --model.init_args.init_from FOLDER."
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what Lightning's subcommands would add."""
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="Training checkpoint to go on from, or to measure."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the flags; an unknown one is told with the setting that may be meant."""
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            remedy = f"Run 'unitok {self.command or self.stage} --help' to see what there is."
            raise UnitokError(f"{reason(error, parser.get_defaults().keys())} {remedy}") from error
        self._check_keys(args, {action.dest.split(".")[0] for action in parser._actions})

    def _check_keys(self, args: Sequence[str], known: set[str]) -> None:
        """Refuse keys of config files that jsonargparse drops without a word: those with nothing in them."""
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("-c", "--config", action="append", default=[])
        for file in finder.parse_known_args(args)[0].config:
            for key in OmegaConf.load(file) if Path(file).is_file() else ():
                if key not in known:
                    raise UnitokError(f"{file}: there is no setting '{key}'.{suggest(str(key), known)}")

    def instantiate_classes(self) -> None:
        """Make model, data and trainer; what they refuse is the config's mistake."""
        if self._parse_only:
            return
        try:
            super().instantiate_classes()
        except (ValueError, TypeError) as error:
            if isinstance(error, UnitokError):
                raise
            raise UnitokError(f"the config does not work: {reason(error)}") from error

    def default_callbacks(self, root: Path, given: Sequence[L.Callback]) -> list[L.Callback]:
        """Return callbacks of a run in `root` beside those that are `given`."""
        return []

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer, with logger, resumable checkpoint and progress display unless the config has its own."""
        given = self.config_init["trainer"]
        root = Path(given["default_root_dir"] or self.root)
        callbacks = [*(given["callbacks"] or []), *self._more_callbacks]
        callbacks += self.default_callbacks(root, callbacks)
        if given["logger"] in (None, True) and not given["fast_dev_run"]:
            kwargs["logger"] = TensorBoardLogger(save_dir=root, name="", version="")
        if isinstance(given["val_check_interval"], int) and given["check_val_every_n_epoch"] == 1:
            kwargs["check_val_every_n_epoch"] = None  # so many steps are counted across epochs, which may be shorter
        if given["enable_progress_bar"] is not False:
            # A bar on a terminal, a line now and then in a file or a pipe.
            callbacks.append(RichProgressBar() if sys.stderr.isatty() else ProgressLines())
            kwargs["enable_progress_bar"] = sys.stderr.isatty()
        if given["enable_checkpointing"] is None and not any(isinstance(one, ModelCheckpoint) for one in callbacks):
            kwargs["enable_checkpointing"] = False  # Lightning's own, which writes at every epoch
            if self.stage == "fit" and not any(isinstance(one, ResumePoint) for one in callbacks):
                callbacks.append(ResumePoint(root / "checkpoints"))
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)
