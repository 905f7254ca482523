"""Train a codec with Lightning: our own, an EnCodec or a DAC, with an adversary if wanted; exported as a tokenizer.

B batch, N samples, K codebooks.
Sources: EnCodec (arXiv:2210.13438) and DAC (arXiv:2306.06546) for the losses; SoundStream (arXiv:2107.03312) for
training with fewer codebooks now and then; a first codebook that tells what is said, as in SpeechTokenizer
(arXiv:2308.16692), Mimi (arXiv:2410.00037) and, from transcripts, CosyVoice (arXiv:2407.05407).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from unitok.data.segments import SegmentBatch
from unitok.errors import UnitokError
from unitok.model.codec import CodecConfig, CodecOutput, NeuralCodec
from unitok.model.quantizer import ResidualVectorQuantizer
from unitok.tokenizers.trainable import DacSizes, EncodecSizes, begin_codec, continue_codec, to_tokenizer
from unitok.training.adversary import Adversary, AdversaryConfig
from unitok.training.balancer import Balancer
from unitok.training.budget import last_step
from unitok.training.codebook_usage import CodebookUsage
from unitok.training.codec_losses import LossWeights, ReconstructionLoss, TextReader
from unitok.training.optimizers import OptimizerConfig, build_optimizer
from unitok.training.schedules import ScheduleConfig, schedule_factor

__all__ = ["CodecModule"]

DEFAULT_LOSSES = LossWeights()
DEFAULT_OPTIMIZER = OptimizerConfig(lr=1e-3, betas=(0.8, 0.99), weight_decay=0.01)
DEFAULT_SCHEDULE = ScheduleConfig(warmup_steps=200, final_fraction=0.02)
BALANCED = ("time", "mel", "stft", "adversarial", "features")
"""Losses of the waveform, between which EnCodec's balancer can hold the balance."""


class CodecModule(L.LightningModule):
    """Generator and, with an adversary, discriminator steps. Steps are those of the generator."""

    def __init__(
        self,
        codec: CodecConfig | None = None,
        encodec: EncodecSizes | None = None,
        dac: DacSizes | None = None,
        init_from: str | None = None,
        name: str = "codec",
        freeze_codes: bool = False,
        losses: LossWeights = DEFAULT_LOSSES,
        adversary: AdversaryConfig | None = None,
        balance: bool = False,
        optimizer: OptimizerConfig = DEFAULT_OPTIMIZER,
        schedule: ScheduleConfig = DEFAULT_SCHEDULE,
        clip_norm: float | None = 1.0,
        codebook_dropout: float = 0.1,
        codebook_decay: float | None = None,
    ):
        """Set training up.

        Args:
            codec: Train unitok's own codec (spectra in, spectra out, inverse STFT) of these sizes.
            encodec: Train an EnCodec of these sizes instead.
            dac: Train a DAC of these sizes instead.
            init_from: Go on from a tokenizer of one of these kinds, a folder or the name of a card (`encodec_24khz`);
                sizes given above are then ignored.
            name: Name of the exported tokenizer.
            freeze_codes: Train the decoder only: encoder and codebooks, hence codes of prepared data, stay as they are.
                Then, for unitok's own codec, rows may bring `codes` to decode (`unitok predict-codes`).
            losses: Weights of the losses.
            adversary: Discriminators to train against; None: none.
            balance: Weights of losses on the waveform are shares of the gradient (EnCodec's balancer), not factors.
            optimizer: How weights are updated, of discriminators too.
            schedule: How the learning rate goes.
            clip_norm: Largest norm of a gradient; larger ones are scaled down to it. None: as they are.
            codebook_dropout: Share of batches trained with fewer codebooks than all, so that few codebooks work too.
            codebook_decay: How slowly codebooks follow the data, and how soon unused codes start anew; None: 0.98 for
                codec, 0.99 for encodec (its paper's). Those of dac follow gradients.

        Raises:
            UnitokError: If it is not said what to train, or the parts do not go together.
        """
        super().__init__()
        self.automatic_optimization = False
        if optimizer.name != "adamw":
            raise UnitokError(f"model.optimizer.name is '{optimizer.name}', codecs are trained with: adamw.")
        self.tokenizer_name, self.freeze_codes, self.clip_norm = name, freeze_codes, clip_norm
        self.codebook_dropout = codebook_dropout
        self.optimizer_config, self.schedule_config = optimizer, schedule
        self.codec = continue_codec(init_from) if init_from else begin_codec(_only(codec, encodec, dac), name)
        if codebook_decay is not None:
            _set_decay(self.codec.quantizer, codebook_decay)
        self.distances = ReconstructionLoss(self.codec, losses)
        self.weights = {**self.distances.weights, "text": losses.text}
        self.adversary = Adversary(adversary, self.codec.sample_rate_hz) if adversary else None
        if adversary:
            self.weights |= {"adversarial": adversary.weight, "features": adversary.feature_weight}
        balanced = {name: self.weights[name] for name in BALANCED if self.weights.get(name)}
        if balance and not balanced:
            raise UnitokError("model.balance: there is no loss on the waveform to balance. Set losses.waveform.mel.")
        self.balancer = Balancer(balanced) if balance else None
        self.reader = TextReader(self.codec.code_dim) if losses.text > 0 else None
        if freeze_codes:
            if not init_from:
                raise UnitokError(
                    "model.freeze_codes needs init_from: the codes of an untrained codec are worth nothing."
                )
            self.codec.encoder.requires_grad_(False)
            self.codec.quantizer.requires_grad_(False)
        shape = (self.codec.n_codebooks, self.codec.codebook_size)
        self._train_usage, self._val_usage = CodebookUsage(*shape), CodebookUsage(*shape)
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._end: Callable[[int], float] = lambda step: 1.0

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the codec's audio, which its data has to have."""
        return self.codec.sample_rate_hz

    @property
    def frame_length(self) -> int | None:
        """Samples in a frame, where the decoder can be trained on codes that are not those of the audio."""
        return self.codec.config.frame_length if self.freeze_codes and isinstance(self.codec, NeuralCodec) else None

    def on_train_epoch_start(self) -> None:
        """Keep frozen codebooks from following the data."""
        if self.freeze_codes:
            self.codec.encoder.eval()
            self.codec.quantizer.eval()

    def training_step(self, batch: SegmentBatch, batch_idx: int) -> None:
        """Do one generator step and, once they have begun, one discriminator step."""
        draw = self._seed_step()
        optimizers = self.optimizers()
        generator, *discriminator = optimizers if isinstance(optimizers, list) else [optimizers]
        output = self._coded(batch, self._n_codebooks(draw))
        wanted = self.codec.pad(batch.wav)
        adversary = self._present_adversary()
        got = self.codec.waveform(output) if adversary or self.distances.needs_waveform else None
        losses = self._losses(output, wanted, got, batch)
        if adversary and got is not None:
            if draw.random() < adversary.config.update_share:
                self._discriminator_step(discriminator[0], adversary, wanted, got)
            losses |= adversary.generator_losses(wanted, got)
        self._update(generator, self._total(losses, got), nn.ModuleList(filter(None, [self.codec, self.reader])))
        self._train_usage.add(output.quantized.codes, output.quantized.resets)
        for name, loss in losses.items():
            self.log(f"train/{name}", loss, prog_bar=bool(self.weights[name]))
        self.log("train/lr", generator.optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs: Any, batch: SegmentBatch, batch_idx: int) -> None:
        """Say how the codebooks were used since the last time, when it is time."""
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log_usage("train", self._train_usage)

    def validation_step(self, batch: SegmentBatch, batch_idx: int) -> None:
        """Measure the reconstruction, and how well codebook 0 can be read."""
        output = self._coded(batch)
        wanted = self.codec.pad(batch.wav)
        losses = self._losses(output, wanted, self.codec.waveform(output), batch)
        losses["loss"] = self._weighted(losses)
        self._val_usage.add(output.quantized.codes)
        self.log_dict({f"val/{name}": loss for name, loss in losses.items()}, prog_bar=True, batch_size=len(batch.wav))

    def on_validation_epoch_end(self) -> None:
        """Say how the codebooks were used."""
        self._log_usage("val", self._val_usage)

    def configure_optimizers(self) -> Any:
        """Return AdamW for the generator and, if there are any, for the discriminators."""
        fixed = self.schedule_config.total_steps
        self._end = (lambda step: fixed) if fixed is not None else last_step(self.trainer)
        config = self.optimizer_config
        optimizers = [build_optimizer(nn.ModuleList(filter(None, [self.codec, self.reader])), config)]
        if self.adversary is not None:
            lr = self.adversary.config.lr or config.lr
            optimizers.append(build_optimizer(self.adversary, replace(config, lr=lr)))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["initial_lr"] = group["lr"]
        return optimizers

    def export(self, folder: str | Path) -> None:
        """Write the codec as a tokenizer folder that `unitok.tokenizers.load_audio_tokenizer` reads."""
        from unitok.tokenizers import save_tokenizer

        save_tokenizer(to_tokenizer(self.codec, self.tokenizer_name, same_codes=self.freeze_codes), folder)

    def _coded(self, batch: SegmentBatch, n_codebooks: int | None = None) -> CodecOutput:
        if batch.codes is None:
            return self.codec(batch.wav, n_codebooks)
        return self.codec(batch.wav, n_codebooks, batch.codes)

    def _losses(
        self, output: CodecOutput, wanted: Tensor, got: Tensor | None, batch: SegmentBatch
    ) -> dict[str, Tensor]:
        losses = self.distances(output, wanted, got)
        if self.reader is not None:
            losses["text"] = self.reader.loss(output.quantized.coarsest, batch.text, batch.text_lengths)
        return losses

    def _present_adversary(self) -> Adversary | None:
        adversary = self.adversary
        return adversary if adversary is not None and self.global_step >= adversary.config.start_step else None

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.weights[name] * loss for name, loss in losses.items() if self.weights[name]]).sum()

    def _total(self, losses: Mapping[str, Tensor], got: Tensor | None) -> Tensor:
        """Return what the generator descends."""
        if self.balancer is None or got is None:
            return self._weighted(losses)
        balanced = {name: loss for name, loss in losses.items() if name in self.balancer.weights}
        others = {name: loss for name, loss in losses.items() if name not in balanced}
        return self._weighted(others) + self.balancer(balanced, got)

    def _discriminator_step(self, optimizer: Any, adversary: Adversary, real: Tensor, fake: Tensor) -> None:
        loss = adversary.discriminator_loss(real, fake)
        # Lightning would count this as a step of its own: steps, schedules and max_steps would go twice as fast.
        optimizer._on_before_step = optimizer._on_after_step = lambda: None
        self._update(optimizer, loss, adversary)
        self.log("train/discriminator", loss, prog_bar=True)

    def _update(self, optimizer: Any, loss: Tensor, module: nn.Module) -> None:
        factor = schedule_factor(self.global_step, self.schedule_config, self._end(self.global_step))
        for group in optimizer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), self.clip_norm)
        optimizer.step()

    def _log_usage(self, stage: str, usage: CodebookUsage) -> None:
        books, resets = usage.take(lambda counts: self.trainer.strategy.reduce(counts, reduce_op="sum"))
        for k, book in enumerate(books):
            if book is not None:
                self.log_dict({f"{stage}/perplexity.{k}": book.perplexity, f"{stage}/used.{k}": book.used})
        if stage == "train":
            self.log("train/resets", float(resets))

    def _n_codebooks(self, draw: random.Random) -> int | None:
        share, n = draw.random(), draw.randint(1, self.codec.n_codebooks)
        return None if self.freeze_codes or share >= self.codebook_dropout else n

    def _seed_step(self) -> random.Random:
        """Seed what is random in this step by its number, for resumed runs; the same on every device."""
        seed = (self._seed * 1_000_003 + self.trainer.fit_loop.epoch_loop.batch_progress.total.ready) % 2**63
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        return random.Random(seed)


def _set_decay(quantizer: nn.Module, decay: float) -> None:
    if not isinstance(quantizer, ResidualVectorQuantizer):
        raise UnitokError("model.codebook_decay: codebooks of dac follow gradients and have none. Leave it out.")
    if not 0.0 < decay < 1.0:
        raise UnitokError(f"model.codebook_decay is {decay}, allowed: between 0 and 1, such as 0.99.")
    for codebook in quantizer.codebooks:
        codebook.decay = decay  # type: ignore[assignment]


def _only(*sizes: CodecConfig | EncodecSizes | DacSizes | None) -> CodecConfig | EncodecSizes | DacSizes:
    given = [one for one in sizes if one is not None]
    if len(given) != 1:
        what = "nothing" if not given else " and ".join(type(one).__name__ for one in given)
        raise UnitokError(
            f"model: {what} is given, allowed: one of codec, encodec, dac (with sizes; '{{}}' takes the defaults), or "
            "init_from: a tokenizer to go on from."
        )
    return given[0]
