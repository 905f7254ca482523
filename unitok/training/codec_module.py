"""Train a `NeuralCodec` with Lightning: spectral losses, and if wanted EnCodec's multi-scale STFT discriminators.

B batch, N samples, T codec frames.
Sources: EnCodec (arXiv:2210.13438) for discriminators and feature matching, SoundStream (arXiv:2107.03312) for training
with fewer codebooks now and then; a first codebook that tells what is said, as in SpeechTokenizer (arXiv:2308.16692),
Mimi (arXiv:2410.00037) and, from transcripts, CosyVoice (arXiv:2407.05407).
"""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from unitok.data.segments import SegmentBatch
from unitok.errors import UnitokError
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.model.quantizer import QuantizerOutput
from unitok.training.codec_losses import SpectralDistances, SpectralLoss, TextReader

__all__ = ["CodecModule"]


class CodecModule(L.LightningModule):
    """Generator and, if `adversarial_weight > 0`, discriminator steps; exported as a tokenizer folder."""

    def __init__(
        self,
        codec: CodecConfig,
        lr: float = 1e-3,
        warmup_steps: int = 200,
        final_lr_fraction: float = 0.02,
        log_weight: float = 0.3,
        mel_weight: float = 1.0,
        peak_weight: float = 2.0,
        commitment_weight: float = 0.25,
        codebook_dropout: float = 0.1,
        adversarial_weight: float = 0.0,
        feature_weight: float = 2.0,
        adversarial_start: int = 0,
        text_weight: float = 0.0,
        freeze_codes: bool = False,
        init_from: Path | None = None,
        name: str = "codec",
    ):
        """Set training up.

        Args:
            codec: Sizes of the codec; ignored where `init_from` is given.
            lr: Peak learning rate.
            warmup_steps: Steps of linear warm-up.
            final_lr_fraction: Learning rate at the last step, relative to the peak (cosine in between).
            log_weight: Weight of the distance between log-magnitudes.
            mel_weight: Weight of the distance between levels of mel bands.
            peak_weight: Weight of the distance between square roots of magnitudes, where partials count most.
            commitment_weight: Weight of the distance between latents and their codes.
            codebook_dropout: Share of batches trained with fewer codebooks than all, so that few codebooks work too.
            adversarial_weight: Weight of the generator's adversarial loss; 0 trains without discriminators.
            feature_weight: Weight of feature matching, relative to the adversarial loss.
            adversarial_start: Step at which the discriminators begin.
            text_weight: Weight of a CTC loss that reads the text from codebook 0, in nats for each of its bytes: makes
                codebook 0 say what is said and leave the voice to the others. Needs `text` in the manifest.
            freeze_codes: Train the decoder only: encoder and codebooks, hence codes of prepared data, stay as they are.
            init_from: Tokenizer folder to start from.
            name: Name of the exported tokenizer.
        """
        super().__init__()
        self.save_hyperparameters(ignore=["codec"])
        self.automatic_optimization = False
        self.codec = NeuralCodec(codec) if init_from is None else _load(init_from)
        if self.codec.config.phases != "integrated":
            raise UnitokError(
                f"{init_from}: phases is '{self.codec.config.phases}', trained are codecs with 'integrated' phases. "
                "Use that codec as it is, or train a new one."
            )
        self.spectral_loss = SpectralLoss(self.codec.config)
        self.discriminators: nn.Module | None = None
        if adversarial_weight > 0:
            from encodec.msstftd import MultiScaleSTFTDiscriminator

            self.discriminators = MultiScaleSTFTDiscriminator(filters=32)
        self.reader = TextReader(self.codec.config.code_dim) if text_weight > 0 else None
        if freeze_codes:
            self.codec.encoder.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Keep frozen codebooks from following the data."""
        if self.hparams["freeze_codes"]:
            self.codec.encoder.eval()
            self.codec.quantizer.eval()

    def training_step(self, batch: SegmentBatch, batch_idx: int) -> None:
        """Do one generator step and, once they have begun, one discriminator step."""
        h, wav = self.hparams, batch.wav
        optimizers = self.optimizers()
        generator, *discriminator = optimizers if isinstance(optimizers, list) else [optimizers]
        output = self.codec(wav, self._n_codebooks())
        distances = self.spectral_loss(output.spectrum, self.codec.pad(wav))
        loss = h["log_weight"] * distances.log + h["mel_weight"] * distances.mel + h["peak_weight"] * distances.peaks
        loss = loss + h["commitment_weight"] * output.quantized.commitment
        adversarial = self.discriminators is not None and self.global_step >= h["adversarial_start"]
        if adversarial:
            fake = self.codec.decoder.synthesize(output.spectrum)[:, : wav.shape[-1]]
            self._discriminator_step(discriminator[0], wav, fake.detach())
            loss = loss + h["adversarial_weight"] * self._generator_loss(wav, fake)
        if self.reader is not None:
            reading = self.reader.loss(output.quantized.coarsest, batch.text, batch.text_lengths)
            loss = loss + h["text_weight"] * reading
            self.log("train/text", reading, prog_bar=True)
        self._update(generator, loss, nn.ModuleList(filter(None, [self.codec, self.reader])))
        self._log("train", distances, output.quantized)
        self.log("train/lr", generator.optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: SegmentBatch, batch_idx: int) -> None:
        """Measure the reconstruction, how much of each codebook is used, and how well codebook 0 can be read."""
        output = self.codec(batch.wav)
        distances = self.spectral_loss(output.spectrum, self.codec.pad(batch.wav))
        if self.reader is not None:
            self.log("val/text", self.reader.loss(output.quantized.coarsest, batch.text, batch.text_lengths))
        self._log("val", distances, output.quantized)
        size = self.codec.config.codebook_size
        for k in (0, self.codec.config.n_codebooks - 1):
            used = output.quantized.codes[:, k].unique().numel() / min(size, output.quantized.codes[:, k].numel())
            self.log(f"val/usage.{k}", used)

    def configure_optimizers(self) -> Any:
        """Return AdamW for the generator and, if there are any, for the discriminators."""
        parts = filter(None, [self.codec, self.reader])
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        optimizers = [torch.optim.AdamW(trained, lr=self.hparams["lr"], betas=(0.8, 0.99), weight_decay=0.01)]
        if self.discriminators is not None:
            optimizers.append(
                torch.optim.AdamW(self.discriminators.parameters(), lr=self.hparams["lr"] / 3, betas=(0.8, 0.99))
            )
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["initial_lr"] = group["lr"]
        return optimizers

    def export(self, folder: str | Path) -> None:
        """Write the codec as a tokenizer folder that `unitok.tokenizers.load_audio_tokenizer` reads."""
        from unitok.tokenizers import save_tokenizer
        from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer

        # A copy: a tokenizer puts its network into evaluation mode, and training goes on with this one.
        save_tokenizer(UnitokCodecTokenizer(copy.deepcopy(self.codec), name=self.hparams["name"]), folder)

    def _log(self, stage: str, distances: SpectralDistances, quantized: QuantizerOutput) -> None:
        measured = {**distances._asdict(), "commitment": quantized.commitment}
        self.log_dict({f"{stage}/{name}": value for name, value in measured.items()}, prog_bar=True)

    def _n_codebooks(self) -> int | None:
        draw = random.Random(self.global_step)  # the same on every device, or their codebook updates would not match
        if self.hparams["freeze_codes"] or draw.random() >= self.hparams["codebook_dropout"]:
            return None
        return draw.randint(1, self.codec.config.n_codebooks)

    def _lr_scale(self) -> float:
        h, total = self.hparams, self.trainer.estimated_stepping_batches / len(self.trainer.optimizers)
        step = self.global_step / len(self.trainer.optimizers)
        if step < h["warmup_steps"]:
            return (step + 1) / h["warmup_steps"]
        progress = min(1.0, (step - h["warmup_steps"]) / max(1, total - h["warmup_steps"]))
        return h["final_lr_fraction"] + (1 - h["final_lr_fraction"]) * 0.5 * (1 + math.cos(math.pi * progress))

    def _update(self, optimizer: Any, loss: Tensor, module: nn.Module) -> None:
        for group in optimizer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._lr_scale()
        optimizer.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    def _discriminator_step(self, optimizer: Any, real: Tensor, fake: Tensor) -> None:
        assert self.discriminators is not None
        real_logits, _ = self.discriminators(real[:, None])
        fake_logits, _ = self.discriminators(fake[:, None])
        pairs = list(zip(real_logits, fake_logits, strict=True))
        loss = sum((torch.relu(1 - r).mean() + torch.relu(1 + f).mean() for r, f in pairs), real.new_zeros(())) / len(
            pairs
        )
        self._update(optimizer, loss, self.discriminators)
        self.log("train/discriminator", loss, prog_bar=True)

    def _generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        assert self.discriminators is not None
        with torch.no_grad():
            _, real_features = self.discriminators(real[:, None])
        logits, features = self.discriminators(fake[:, None])
        adversarial = sum((torch.relu(1 - x).mean() for x in logits), real.new_zeros(())) / len(logits)
        distances = [
            (r - f).abs().mean() / r.abs().mean().clamp_min(1e-5)
            for rs, fs in zip(real_features, features, strict=True)
            for r, f in zip(rs, fs, strict=True)
        ]
        matching = torch.stack(distances).mean()
        self.log_dict({"train/adversarial": adversarial, "train/matching": matching})
        return adversarial + self.hparams["feature_weight"] * matching


def _load(folder: Path) -> NeuralCodec:
    from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer

    # Tokenizers are in evaluation mode, where codebooks do not follow the data.
    return UnitokCodecTokenizer.load(folder).model.train()
