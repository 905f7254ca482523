"""`LMModule`: a `UnitokLM` with its vocabulary, tokenizers and tasks, trained by Lightning, exported as a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import lightning as L
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from unitok.adapters import Base, begin_adapter, save_adapter
from unitok.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unitok.errors import CheckpointError, UnitokError, suggest
from unitok.features import load_feature_encoder
from unitok.model.adapter import Adapter
from unitok.model.alignment import AlignmentPrior, attention_bias
from unitok.model.compact import weight_type
from unitok.model.config import LMConfig
from unitok.model.lm import UnitokLM
from unitok.model.transformer import Block
from unitok.sequence import SequenceBatch
from unitok.tasks import SequenceBuilder, Task
from unitok.tokenizers import (
    AudioTokenizer,
    SemanticTokenizer,
    TextTokenizer,
    load_audio_tokenizer,
    load_semantic_tokenizer,
    load_text_tokenizer,
)
from unitok.tokenizers.codec import CodecTokenizer
from unitok.tokenizers.lexicon import Lexicon
from unitok.tokenizers.sentencepiece import SentencePieceTokenizer
from unitok.tokenizers.word_model import WordModel
from unitok.training.budget import last_step
from unitok.training.ema import WeightAverage
from unitok.training.meter import LossMeter
from unitok.training.optimizers import OptimizerConfig, build_optimizer
from unitok.training.schedules import ScheduleConfig, schedule_factor
from unitok.vocabulary import Vocabulary

__all__ = ["LMModule", "Objective"]

T = TypeVar("T")


@dataclass(frozen=True)
class Objective:
    """What training asks of a model that is gone on from; None: what its checkpoint says. See `LMConfig`."""

    local_fraction: float | None = None
    """Share of frames that codebooks 1 … Kc-1 are learned on in a step."""
    codebook_weights: tuple[float, ...] | None = None
    """Weight of each codebook's loss."""
    condition_weight: float | None = None
    """Weight of the conditions' loss."""
    history_dropout: float | None = None
    """Largest share of a target's earlier frames to hide."""
    history_sampling: float | None = None
    """Share of a target's earlier frames to replace by what the model says."""


DEFAULT_OPTIMIZER, DEFAULT_SCHEDULE = OptimizerConfig(), ScheduleConfig()


class LMModule(L.LightningModule):
    """Train a language model of codec tokens on any mix of tasks."""

    keeps_modes = True
    """What is in evaluation mode when training starts is so on purpose (encoders of features): no warning of it."""

    def __init__(
        self,
        lm: LMConfig | None = None,
        text_tokenizer: str | None = None,
        audio_tokenizer: str | None = None,
        semantic_tokenizer: str | None = None,
        tasks: list[str] | None = None,
        langs: list[str] | None = None,
        generate: dict[str, dict[str, Any]] | None = None,
        init_from: str | None = None,
        lexicons: dict[str, Path] | None = None,
        words: dict[str, Path] | None = None,
        objective: Objective | None = None,
        n_codebooks: int | None = None,
        place_codes: bool = True,
        optimizer: OptimizerConfig = DEFAULT_OPTIMIZER,
        schedule: ScheduleConfig = DEFAULT_SCHEDULE,
        alignment_prior: AlignmentPrior | None = None,
        adapter: Adapter | None = None,
        recompute_activations: bool = False,
        ema_decay: float = 0.0,
        store_as: Literal["float32", "bfloat16", "float16"] = "float32",
        model_card: Path | None = None,
    ):
        """Build the parts, or take them from a checkpoint folder.

        Args:
            lm: Sizes of the model; with `init_from`, those of the checkpoint.
            text_tokenizer: Name, card or folder of the text tokenizer; with `init_from`, that of the checkpoint, or one
                that was grown from it (`unitok train-tokenizer --grow`).
            audio_tokenizer: Name, card or folder of the codec; with `init_from`, that of the checkpoint.
            semantic_tokenizer: Name, card or folder of what makes semantic tokens, for tasks with fields of that kind;
                with `init_from`, that of the checkpoint, or one for a checkpoint that has none.
            tasks: Names or files of the task cards; with `init_from`, tasks to add to those of the checkpoint.
            langs: Languages, whose tokens stand in front of the conditions; with `init_from`, languages to add.
            generate: Defaults of generation that suit this model, in place of those of its tasks' cards:
                `{tts: {guidance: 1.75}}`.
            init_from: Checkpoint folder to go on from (fine-tuning): weights, vocabulary, tokenizers and tasks.
            lexicons: Files that say how words are said, by language (`unitok.tokenizers.lexicon`), for conditions that
                cards mark `pronounced`; with `init_from`, more of them. A model without languages has one, of any name.
            words: Word models (`unitok.tokenizers.word_model`), by language, for texts that are searched for; likewise.
            objective: With `init_from`: what training asks of the model, in place of what the checkpoint says.
            n_codebooks: Codebooks K of the codec to model; None: all.
            place_codes: Begin with embeddings of codes that lie as the codec's own vectors do, instead of random ones;
                a codec that does not tell its vectors gets random ones.
            optimizer: How weights are updated.
            schedule: How the learning rate goes.
            alignment_prior: Show in the first steps where in its conditions a target is (cards say which run alongside
                it: `aligned`), which teaches to read long before the loss alone does; None: never.
            adapter: With `init_from`: train only this, low-rank matrices and chosen weights, and export it as a small
                folder that belongs to the checkpoint; None: train everything.
            recompute_activations: Compute the insides of Transformer blocks again in the backward pass instead of
                keeping them: less memory for more time.
            ema_decay: Decay of a moving average of the weights, such as 0.999, used in validation and export; 0: none.
            store_as: Type of the weights in the exported folder; they are trained in float32 whatever it is.
            model_card: Markdown file that becomes the README.md of the exported folder; None: what the parts tell.

        Raises:
            UnitokError: If settings are missing or contradict each other.
        """
        super().__init__()
        if model_card is not None and not Path(model_card).is_file():
            raise UnitokError(
                f"model.init_args.model_card: '{model_card}' does not exist. Write it, or leave the setting out."
            )
        self.optimizer_config, self.schedule_config, self.alignment_prior = optimizer, schedule, alignment_prior
        self._instructed: set[str] = set()
        if init_from is not None:
            settings = {
                "lm": lm,
                "audio_tokenizer": audio_tokenizer,
                "n_codebooks": n_codebooks,
            }
            _check_not_set(settings, init_from)
            base = load_checkpoint(init_from)
            self._instructed = {name for name, task in base.tasks.items() if task.instructions}
            self._adapter = (adapter, Base.of(init_from, base)) if adapter else None
            parts = _continued(base, tasks or [], langs or [], adapter, semantic_tokenizer, text_tokenizer)
            _change_objective(parts.lm, objective)
        elif adapter is not None:
            raise UnitokError("model.init_args: adapter needs init_from: an adapter belongs to a trained model.")
        elif objective is not None:
            raise UnitokError("model.init_args: objective is for init_from; of a new model, lm says it.")
        else:
            self._adapter = None
            parts = _begun(
                lm, text_tokenizer, audio_tokenizer, semantic_tokenizer, tasks or [], langs or [], n_codebooks
            )
            if place_codes and isinstance(parts.audio_tokenizer, CodecTokenizer):
                parts.lm.place_codes(parts.audio_tokenizer.codebook_vectors(), parts.vocabulary)
        known = parts.vocabulary.lang_names
        self._lexicons = {**parts.lexicons, **_by_language("lexicons", lexicons, Lexicon.load, known, adapter)}
        self._words = {**parts.words, **_by_language("words", words, WordModel.load, known, adapter)}
        parts.lm.recompute_activations(recompute_activations)
        self.lm, self.vocabulary, self.tasks = parts.lm, parts.vocabulary, _with_defaults(parts.tasks, generate or {})
        # Not attributes of their own: a codec is a module, whose weights are neither trained nor stored here.
        self._tokenizers = (parts.text_tokenizer, parts.audio_tokenizer, parts.semantic_tokenizer)
        rate = self.audio_tokenizer.frame_rate_hz
        self.builder = SequenceBuilder(
            self.vocabulary,
            self.text_tokenizer,
            rate,
            self.lm.pattern,
            self.lm.config.features,
            parts.encoders,
            self.lm.config.spelling,
            parts.semantic_tokenizer,
            self._lexicons,
        )
        names = ("text", "label", "semantic", "conditions", *(f"audio.{k}" for k in range(self.vocabulary.n_codebooks)))
        self._train_meter, self._val_meter = LossMeter(names), LossMeter(names)
        self._store_as, self._model_card = store_as, Path(model_card) if model_card else None
        self._average = WeightAverage(self.lm, ema_decay) if ema_decay else None
        self._n_positions: list[Tensor] = []
        self._clock = time.perf_counter()
        self._logged_at, self._paused_at = 0, 0.0
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", 0))

    @property
    def text_tokenizer(self) -> TextTokenizer:
        """The text tokenizer."""
        return self._tokenizers[0]

    @property
    def audio_tokenizer(self) -> AudioTokenizer:
        """The codec."""
        return self._tokenizers[1]

    @property
    def semantic_tokenizer(self) -> SemanticTokenizer | None:
        """What makes semantic tokens, where the model has any."""
        return self._tokenizers[2]

    def as_checkpoint(self, lm: UnitokLM, name: str = "model", **notes: Any) -> Checkpoint:
        """Return the parts of the model, with `lm` for its weights; cards keep instructions that were trained."""
        tasks = {
            name: task if name in self._instructed else replace(task, instructions=())
            for name, task in self.tasks.items()
        }
        return Checkpoint(
            lm,
            self.vocabulary,
            self.text_tokenizer,
            self.audio_tokenizer,
            tasks,
            name,
            notes,
            semantic_tokenizer=self.semantic_tokenizer,
            lexicons=self._lexicons,
            words=self._words,
        )

    @property
    def codec_fingerprint(self) -> str:
        """Fingerprint that prepared records must carry."""
        return self.audio_tokenizer.fingerprint

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch; what is random in it depends on the batch's number alone, for resumed runs."""
        seed = self._seed_step()
        output = self.lm.loss(batch, seed, self._attention_bias(batch, seed))
        self._train_meter.add(output)
        self._n_positions.append(batch.lengths)
        return output.loss

    def on_train_start(self) -> None:
        """Note which tasks are asked for in words, and start the clock of tokens per second."""
        self._instructed |= getattr(self.trainer.datamodule, "instructed", frozenset())  # type: ignore[attr-defined]
        self._n_positions.clear()
        self._clock = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: SequenceBatch, batch_idx: int) -> None:
        """Log what has gathered since the last time, when it is time: nothing waits for the device in between."""
        step = self.global_step
        if step == self._logged_at or step % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self._logged_at = step
        means = self._train_meter.take()
        n_positions = int(torch.cat(self._n_positions).sum()) * self.trainer.world_size if self._n_positions else 0
        now = time.perf_counter()
        self._log("train", means, len(batch))
        self.log("tokens_per_s", n_positions / (now - self._clock), prog_bar=True)
        self.log("lr", self.trainer.optimizers[0].param_groups[-1]["lr"], prog_bar=True)
        self._n_positions, self._clock = [], now

    def on_validation_start(self) -> None:
        """Validate with the averaged weights, where there are any."""
        self._paused_at = time.perf_counter()
        if self._average is not None:
            self._average.swap()

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Gather the loss of one batch; the same levels and frames are drawn each time."""
        self._val_meter.add(self.lm.loss(batch, seed=self._seed_of(batch_idx)))

    def on_validation_epoch_end(self) -> None:
        """Log the means, and go back to the weights being trained before any callback stores them."""
        self._log("val", self._val_meter.take(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum")), 1)
        if self._average is not None:
            self._average.swap()

    def on_validation_end(self) -> None:
        """Leave validation, and what callbacks did after it, out of tokens per second."""
        self._clock += time.perf_counter() - self._paused_at

    def on_test_start(self) -> None:
        """Test as validation does."""
        self.on_validation_start()

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Gather the loss of one batch."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the means."""
        self._log("test", self._val_meter.take(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum")), 1)
        if self._average is not None:
            self._average.swap()

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and the schedule, by steps."""
        optimizer = build_optimizer(
            self.lm, self.optimizer_config, [part for part in self.lm.modules() if isinstance(part, Block)]
        )
        fixed = self.schedule_config.total_steps
        end = (lambda step: fixed) if fixed is not None else last_step(self.trainer)
        scheduler = LambdaLR(optimizer, lambda step: schedule_factor(step, self.schedule_config, end(step)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and let the moving average follow."""
        super().optimizer_step(*args, **kwargs)
        if self._average is not None:
            self._average.update()

    @contextmanager
    def averaged_weights(self) -> Iterator[UnitokLM]:
        """Lend the model as it is exported: with the averaged weights where there are any, in evaluation mode."""
        training = self.lm.training
        if self._average is not None:
            self._average.swap()
        try:
            yield self.lm.eval()
        finally:
            self.lm.train(training)
            if self._average is not None:
                self._average.swap()

    def export(self, folder: str | Path) -> None:
        """Write a checkpoint folder, or an adapter's, that `unitok.load` reads."""
        with self.averaged_weights() as lm:
            parts = self.as_checkpoint(lm, Path(folder).name, steps=self.global_step)
            readme = self._model_card.read_text(encoding="utf-8") if self._model_card else None
            if self._adapter:
                save_adapter(folder, parts, *self._adapter, readme=readme)
            else:
                save_checkpoint(folder, parts, dtype=self._store_as, readme=readme)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the vocabulary's hash and the averaged weights."""
        checkpoint["vocabulary"] = self.vocabulary.hash
        if self._average is not None:
            checkpoint["average"] = self._average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a run with another vocabulary: its ids would mean something else.

        Raises:
            CheckpointError: If it is another one.
        """
        stored = checkpoint.get("vocabulary")
        if stored != self.vocabulary.hash:
            raise CheckpointError(
                f"the run to resume has vocabulary {stored}, this config makes {self.vocabulary.hash}: tasks, "
                "languages or tokenizers changed. Resume with the config it was started with, or start from its "
                "checkpoint folder with init_from."
            )
        if self._average is not None and "average" in checkpoint:
            self._average.load_state_dict(checkpoint["average"])

    def _log(self, stage: str, means: dict[str, float], batch_size: int) -> None:
        for name, value in means.items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "loss", batch_size=batch_size)

    def _attention_bias(self, batch: SequenceBatch, seed: int) -> Tensor | None:
        """Return the alignment prior of this step, for each sequence as strong as drawn: some must do without."""
        if self.alignment_prior is None or not (strength := self.alignment_prior.strength(self.global_step)):
            return None
        drawn = torch.rand(len(batch), generator=torch.Generator().manual_seed(seed + 1)) * strength
        return attention_bias(batch, self.alignment_prior.width, drawn)

    def _seed_step(self) -> int:
        """Return the seed of this training batch; torch's own generator, which dropout draws from, gets it too."""
        seed = self._seed_of(self.trainer.fit_loop.epoch_loop.batch_progress.total.completed)
        # Not torch.manual_seed, which takes milliseconds to ask every kind of device.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        return seed

    def _seed_of(self, number: int) -> int:
        return ((self._seed * 1_000_003 + number) * 1_009 + self.global_rank) % 2**63


def _begun(
    config: LMConfig | None,
    text: str | None,
    audio: str | None,
    semantic: str | None,
    tasks: list[str],
    langs: list[str],
    n_codebooks: int | None,
) -> Checkpoint:
    """Return the parts of a new model."""
    if config is None or text is None or audio is None or not tasks:
        given = {"lm": config, "text_tokenizer": text, "audio_tokenizer": audio, "tasks": tasks}
        missing = ", ".join(name for name, value in given.items() if not value)
        raise UnitokError(
            f"model.init_args: not set: {missing}. A new model needs them; "
            "init_from: FOLDER takes them from a checkpoint."
        )
    text_tokenizer, audio_tokenizer = load_text_tokenizer(text), load_audio_tokenizer(audio)
    if n_codebooks is not None:
        audio_tokenizer.set_codebooks(n_codebooks)
    cards = {task.name: task for task in map(Task.load, tasks)}
    sizes = [audio_tokenizer.codebook_size] * audio_tokenizer.n_codebooks
    semantic_tokenizer = load_semantic_tokenizer(semantic) if semantic else None
    _check_semantic(cards, semantic_tokenizer)
    semantic_size = semantic_tokenizer.size if semantic_tokenizer else 0
    vocabulary = Vocabulary.create(list(cards), langs, text_tokenizer.size, sizes, semantic_size)
    encoders = {name: load_feature_encoder(part.encoder) for name, part in config.features.items()}
    widths = {name: replace(part, dim=encoders[name].dim) for name, part in config.features.items()}
    lm = UnitokLM(replace(config, features=widths), vocabulary)
    for name, encoder in encoders.items():
        lm.feature_inputs[name].attach(encoder)  # type: ignore[operator,union-attr]
    return Checkpoint(lm, vocabulary, text_tokenizer, audio_tokenizer, cards, semantic_tokenizer=semantic_tokenizer)


def _by_language(
    name: str,
    paths: Mapping[str, Path] | None,
    load: Callable[[Path], T],
    langs: Sequence[str],
    adapter: Adapter | None,
) -> dict[str, T]:
    """Load what there is for languages: lexicons, word models."""
    if paths and adapter:
        raise UnitokError(f"model.init_args: {name} are not set with adapter, which holds none. Remove them.")
    for lang in paths or {}:
        if langs and lang not in langs:
            raise UnitokError(
                f"model.init_args.{name}: the model has no language '{lang}'.{suggest(lang, langs)} "
                f"Its languages: {', '.join(langs)}."
            )
    return {lang: load(path) for lang, path in (paths or {}).items()}


def _check_semantic(cards: Mapping[str, Task], tokenizer: SemanticTokenizer | None) -> None:
    needed = [task.name for task in cards.values() if any(f.kind == "semantic" and not f.optional for f in task.fields)]
    if needed and tokenizer is None:
        raise UnitokError(
            f"model.init_args: semantic_tokenizer is not set, {', '.join(needed)} needs one. "
            "'unitok train-kmeans' makes one (docs/semantic.md)."
        )


def _check_not_set(settings: Mapping[str, Any], folder: str) -> None:
    fixed = [name for name, value in settings.items() if value is not None]
    if fixed:
        raise UnitokError(
            f"model.init_args: {', '.join(fixed)} cannot be set with init_from, which takes them from {folder}. "
            f"Set each to null, as in --model.init_args.{fixed[0]} null, or leave init_from out."
        )


def _continued(
    base: Checkpoint,
    tasks: list[str],
    langs: list[str],
    adapter: Adapter | None,
    semantic: str | None,
    text: str | None,
) -> Checkpoint:
    """Return the parts of a checkpoint, grown by tasks, languages, text and semantic ids; what was there stays."""
    if (stored := weight_type(base.lm)) != "float32":
        raise UnitokError(
            f"init_from: the weights of '{base.name}' are stored as {stored}, which is for generation. "
            "Go on from a checkpoint with float weights."
        )
    if semantic is not None and (base.semantic_tokenizer is not None or adapter is not None):
        why = "an adapter holds no tokenizers" if adapter else f"it has '{base.semantic_tokenizer.name}'"  # type: ignore[union-attr]
        raise UnitokError(f"model.init_args: semantic_tokenizer cannot be added to '{base.name}': {why}. Remove it.")
    semantic_tokenizer = load_semantic_tokenizer(semantic) if semantic else base.semantic_tokenizer
    cards = {task.name: task for task in map(Task.load, tasks)}
    _check_semantic(cards, semantic_tokenizer)
    semantic_size = semantic_tokenizer.size if semantic_tokenizer else None
    text_tokenizer = _grown_text(base, text, adapter)
    vocabulary = base.vocabulary.grow(
        tasks=list(cards),
        langs=langs,
        text_size=max(base.vocabulary.text_size, text_tokenizer.size),
        semantic_size=semantic_size,
    )
    lm = begin_adapter(base, vocabulary, adapter) if adapter else base.lm.grown(vocabulary)
    if isinstance(text_tokenizer, SentencePieceTokenizer) and text_tokenizer is not base.text_tokenizer:
        lm.begin_as(_spelled_before(base, text_tokenizer, vocabulary))
    parts = {"lm": lm.train(), "vocabulary": vocabulary, "tasks": {**base.tasks, **cards}}
    return replace(base, **parts, text_tokenizer=text_tokenizer, semantic_tokenizer=semantic_tokenizer)


def _grown_text(base: Checkpoint, name: str | None, adapter: Adapter | None) -> TextTokenizer:
    """Return the text tokenizer to go on with: that of the checkpoint, or one that was grown from it."""
    if name is None:
        return base.text_tokenizer
    old, new = base.text_tokenizer, load_text_tokenizer(name)
    if adapter is not None:
        raise UnitokError("model.init_args: text_tokenizer is not set with adapter, which holds none. Remove it.")
    if isinstance(old, SentencePieceTokenizer) and isinstance(new, SentencePieceTokenizer) and new.begins_as(old):
        return new
    raise UnitokError(
        f"model.init_args: text_tokenizer '{name}' was not grown from that of '{base.name}'. With init_from it is the "
        "checkpoint's, or made of it by unitok train-tokenizer --grow."
    )


def _spelled_before(base: Checkpoint, new: SentencePieceTokenizer, vocabulary: Vocabulary) -> dict[int, list[int]]:
    """Return each new id of text, and the ids that spelled it in the checkpoint."""
    old = cast(SentencePieceTokenizer, base.text_tokenizer)
    ids = vocabulary.text_to_tokens(range(new.size))
    return {ids[i]: [ids[j] for j in old.spelled(new.piece(i))] for i in range(old.size, new.size)}


def _change_objective(lm: UnitokLM, objective: Objective | None) -> None:
    if objective is None:
        return
    try:
        config = replace(lm.config, **{name: value for name, value in vars(objective).items() if value is not None})
        config.check(lm.n_codebooks)
    except ValueError as error:
        raise UnitokError(f"model.init_args.objective: {error}") from error
    lm.config = config
    if config.codebook_weights:
        lm.codebook_weights = torch.tensor(config.codebook_weights)


def _with_defaults(tasks: Mapping[str, Task], generate: dict[str, dict[str, Any]]) -> dict[str, Task]:
    """Return the tasks with other defaults of generation."""
    for name in generate.keys() - tasks.keys():
        raise UnitokError(
            f"model.init_args.generate: '{name}' is no task of this model.{suggest(name, tasks)} "
            f"Its tasks: {', '.join(tasks)}."
        )
    return {name: task.with_defaults(**generate.get(name, {})) for name, task in tasks.items()}
