"""Several settings trained on the same records with the same budget, measured alike, in one table and one plot.

Each setting is a run of `unitok fit` under a folder of its own, without the callbacks of its config, and leaves its
model and `outcome.json` there: a comparison that was stopped goes on with the settings that are missing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from unitok.api import Model
from unitok.audio import Audio
from unitok.data.datamodule import RecordDataModule
from unitok.data.mixing import Example
from unitok.errors import UnitokError
from unitok.evaluation.outcomes import Outcome, measure
from unitok.files import write_text
from unitok.generation.engine import GenerationRequest
from unitok.generation.requests import sampling
from unitok.sequence import SequenceBatch, TokenSequence
from unitok.tasks import Task
from unitok.training.callbacks import CheckpointFolder
from unitok.training.cli import UnitokCLI
from unitok.training.lm_module import LMModule
from unitok.training.samples import prompt_of

__all__ = ["Comparison", "FrameMeter", "compare", "draw", "table"]

OUTCOME = "outcome.json"
WARM_UP_STEPS = 5
"""Left out of speeds: caches fill, memory is asked for."""

logger = logging.getLogger("unitok")


@dataclass(frozen=True)
class Comparison:
    """What came out of one setting."""

    name: str
    """Of the setting."""
    arguments: tuple[str, ...]
    """With which `unitok fit` ran."""
    n_parameters: int = 0
    """Weights of the model."""
    n_codebooks: int = 0
    """Codebooks of a frame."""
    steps: int = 0
    """Optimizer steps."""
    frames: int = 0
    """Frames of audio targets that were trained on."""
    training_s: float = 0.0
    """Time of the training steps, without reading data, validation and exports."""
    training_frames_per_s: float = 0.0
    """Frames in a second of training."""
    generated_frames_per_s: float = 0.0
    """Frames in a second of generation, one request at a time, as the cards say, but one candidate of each."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Validation losses in nats: `text`, `audio.0`, …"""
    quality: Mapping[str, str] = field(default_factory=dict)
    """`task metric` -> figure with its interval."""
    error: str = ""
    """Why there is nothing else."""

    @property
    def frame_loss(self) -> float | None:
        """Sum of the losses of a frame's codebooks: comparable over patterns, which all predict each code once.

        None where validation had too few batches for a refiner, which draws one codebook for each, to come to all.
        """
        parts = [loss for name, loss in self.losses.items() if name.startswith("audio.")]
        return sum(parts) if len(parts) >= max(1, self.n_codebooks) else None


class FrameMeter(L.Callback):
    """Counts frames of audio targets, and the time of the steps they were trained in."""

    def __init__(self) -> None:
        self.frames, self.training_s = 0, 0.0
        self._measured_frames, self._measured_s, self._begun, self._first_codes = 0, 0.0, 0.0, torch.empty(0)

    @property
    def frames_per_s(self) -> float:
        """Speed, without the first steps."""
        return self._measured_frames / self._measured_s if self._measured_s else 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look up which ids are codes of the first codebook: a frame has one, whatever the pattern."""
        if isinstance(pl_module, LMModule):
            self._first_codes = pl_module.vocabulary.ids_of("audio.0").to(pl_module.device)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Stop the clock and count."""
        if batch.tokens.is_cuda:
            torch.cuda.synchronize()
        passed = time.perf_counter() - self._begun
        n = int(torch.isin(batch.tokens[..., 0][batch.frame_mask], self._first_codes).sum())
        self.frames, self.training_s = self.frames + n, self.training_s + passed
        if trainer.global_step > WARM_UP_STEPS:
            self._measured_frames, self._measured_s = self._measured_frames + n, self._measured_s + passed


def compare(settings: Mapping[str, Sequence[str]], out: Path, n_items: int = 8, seed: int = 0) -> list[Comparison]:
    """Train and measure settings, one after the other.

    Args:
        settings: Name -> arguments of `unitok fit`; `trainer.default_root_dir` is set here.
        out: Folder for the runs, the table (`compare.md`, `compare.json`) and the plot (`compare.png`).
        n_items: Validation examples of each task that are generated and measured.
        seed: Of their sampling.

    Returns:
        One for each setting; one that failed says why.

    Raises:
        UnitokError: If all settings have the same mistake in their arguments; nothing is written then.
    """
    _check(settings)
    done: list[Comparison] = []
    for name, arguments in settings.items():
        folder = out / name
        one = _read(folder / OUTCOME)
        if one is None or one.arguments != tuple(arguments) or one.error:
            logger.info("compare: %s", name)
            one = _run(name, arguments, folder, n_items, seed)
            write_text(folder / OUTCOME, json.dumps(asdict(one), indent=1) + "\n")
        done.append(one)
        write_text(out / "compare.json", json.dumps([asdict(one) for one in done], indent=1) + "\n")
        write_text(out / "compare.md", table(done) + "\n")
    draw(done, out / "compare.png")
    return done


def table(outcomes: Sequence[Comparison]) -> str:
    """Return the outcomes as a Markdown table."""
    measured = list(dict.fromkeys(name for one in outcomes for name in one.quality))
    parts = sorted({part for one in outcomes for part in one.losses}, key=_order)
    head = ["setting", "parameters", "steps", "frames", "frames/s trained", "frames/s generated", "loss of a frame"]
    rows = [[*head, *parts, *measured]]
    rows.append(["---"] * len(rows[0]))
    for one in outcomes:
        if one.error:
            rows.append([one.name, one.error, *[""] * (len(rows[0]) - 2)])
            continue
        frame_loss = "" if one.frame_loss is None else f"{one.frame_loss:.3f}"
        speeds = [f"{one.training_frames_per_s:.0f}", f"{one.generated_frames_per_s:.0f}"]
        losses = [f"{one.losses[part]:.3f}" if part in one.losses else "" for part in parts]
        sizes = [f"{one.n_parameters / 1e6:.2f} M", str(one.steps), str(one.frames)]
        rows.append([one.name, *sizes, *speeds, frame_loss, *losses, *(one.quality.get(name, "") for name in measured)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def draw(outcomes: Sequence[Comparison], path: Path) -> None:
    """Draw the losses of the codebooks, and the speeds; nothing where all settings failed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    outcomes = [one for one in outcomes if not one.error]
    if not outcomes:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for one in outcomes:
        losses = {int(name[6:]): loss for name, loss in one.losses.items() if name.startswith("audio.")}
        left.plot(list(losses), list(losses.values()), marker="o", label=one.name)
    left.set(xlabel="codebook", ylabel="validation loss (nats)")
    left.legend(fontsize="small")
    places = range(len(outcomes))
    right.barh([p - 0.2 for p in places], [one.training_frames_per_s for one in outcomes], 0.4, label="training")
    right.barh([p + 0.2 for p in places], [one.generated_frames_per_s for one in outcomes], 0.4, label="generation")
    right.set_yticks(list(places), [one.name for one in outcomes])
    right.invert_yaxis()
    right.set(xlabel="frames/s", xscale="log")
    right.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _check(settings: Mapping[str, Sequence[str]]) -> None:
    """Refuse a mistake that all settings have, such as a mistyped flag."""
    mistakes: set[str] = set()
    for arguments in settings.values():
        try:
            UnitokCLI("fit", list(arguments), parse_only=True)
            return
        except UnitokError as error:
            mistakes.add(str(error))
    if len(mistakes) == 1:
        raise UnitokError(mistakes.pop())


def _run(name: str, arguments: Sequence[str], folder: Path, n_items: int, seed: int) -> Comparison:
    meter = FrameMeter()
    try:
        where = [f"--trainer.default_root_dir={folder}", "--trainer.callbacks=null"]
        cli = UnitokCLI("fit", [*arguments, *where], callbacks=[meter, CheckpointFolder(folder / "model")])
        module, data = cli.model, cli.datamodule
        if not isinstance(module, LMModule) or not isinstance(data, RecordDataModule):
            raise UnitokError("compare trains LMModule on RecordDataModule; this config has other classes.")
        [metrics] = cli.trainer.validate(module, datamodule=data, verbose=False) or [{}]
        losses = {key.removeprefix("val/loss/"): value for key, value in metrics.items() if key.startswith("val/loss/")}
        quality, generated_frames_per_s = _generated(module, data, n_items, seed)
    except UnitokError as error:
        return Comparison(name, tuple(arguments), error=str(error))
    return Comparison(
        name,
        tuple(arguments),
        n_parameters=sum(parameter.numel() for parameter in module.lm.parameters()),
        n_codebooks=module.vocabulary.n_codebooks,
        steps=cli.trainer.global_step,
        frames=meter.frames,
        training_s=meter.training_s,
        training_frames_per_s=meter.frames_per_s,
        generated_frames_per_s=generated_frames_per_s,
        losses=losses,
        quality=quality,
    )


def _generated(module: LMModule, data: RecordDataModule, n_items: int, seed: int) -> tuple[dict[str, str], float]:
    """Generate from the first validation examples of each task; return what was measured, and frames per second."""
    quality: dict[str, str] = {}
    n_frames, seconds = 0, 0.0
    with module.averaged_weights() as lm:
        model = Model(module.as_checkpoint(lm))
        for task, sequences in _examples(data, n_items):
            outcomes = []
            for i, reference in enumerate(sequences):
                request = GenerationRequest(prompt_of(reference), task, sampling(task, {}), seed=seed + i)
                begun = time.perf_counter()
                [made] = model.engine.generate([request])
                if task.targets[-1].kind == "audio":
                    seconds += time.perf_counter() - begun
                    n_frames += int(made.sequence.codes(task.targets[-1].name).shape[1])
                outcomes.append(Outcome(_values(model, reference), _values(model, made.sequence)))
            found = measure(task, outcomes)
            quality |= {f"{task.name} {name}": str(estimate) for name, estimate in found.items()}
    return quality, n_frames / seconds if seconds else 0.0


def _examples(data: RecordDataModule, n_items: int) -> Iterator[tuple[Task, list[TokenSequence]]]:
    dataset = data.dataset("val")
    if dataset is None:
        raise UnitokError("compare needs validation records: set data.init_args.val.")
    seen: set[str] = set()
    for source, part in enumerate(dataset.parts):
        if part.task.name not in seen:
            seen.add(part.task.name)
            yield part.task, [dataset[Example(0, i, source, i)] for i in range(min(n_items, len(part)))]


def _values(model: Model, sequence: TokenSequence) -> dict[str, Any]:
    """Return the values of a sequence, codes as audio."""
    values: dict[str, Any] = {}
    for name, value in sequence.split().items():
        if isinstance(value, Tensor) and sequence.segment(name).kind == "audio":
            with torch.inference_mode():
                wav = model.tokenizers.audio.decode(value[None])[0]
            value = Audio(wav.cpu(), model.tokenizers.audio.sample_rate_hz)
        values[name] = value
    return values


def _order(part: str) -> tuple[bool, str]:
    return not part.startswith("audio."), part


def _read(path: Path) -> Comparison | None:
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    return Comparison(**{**values, "arguments": tuple(values["arguments"])})
