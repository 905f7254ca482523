"""`RecordDataModule`: record shards in, batches of mixed tasks out, in an order that a stopped run can take up again.

The vocabulary, the text tokenizer and the tasks come from the module being trained (its `builder` and
`tasks`), so there is one truth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from unitok.data.examples import MixDataset, TaskExamples
from unitok.data.mixing import BatchConfig, BatchPlan, Example, Source
from unitok.data.records import RecordReader
from unitok.errors import DataError, suggest
from unitok.sequence import SequenceBatch, collate
from unitok.tasks import SequenceBuilder, Task

__all__ = ["PlannedLoader", "RecordDataModule", "TaskMix"]

logger = logging.getLogger("unitok")

Shards = str | list[str] | dict[str, str | list[str]]
ONLY = "default"
DEFAULT_BATCHING = BatchConfig()


@dataclass
class TaskMix:
    """One task of the mix."""

    task: str
    """Name of a task of the model."""
    weight: float = 1.0
    """Share of the examples, relative to the other entries."""
    data: str | None = None
    """Which records, where `train`, `val` and `test` name several; None: all of them."""
    without: list[str] = field(default_factory=list)
    """Optional conditions that this entry leaves out. A task may have several entries, say one without its prompt."""
    fields: dict[str, str] = field(default_factory=dict)
    """Record fields that this entry reads instead of those in the task's card: `{audio: noisy_audio}`; `lang` is the
    one that names the language."""
    instructed: float = 0.0
    """Share of the examples that are asked for by one of the card's `instructions` instead of the task's token."""
    loss_weight: float = 1.0
    """Weight of each label of this entry: a transcript has a tenth of the labels of the speech that it is of."""
    spelled: float = 0.1
    """Share of the words of `pronounced` conditions that stand as they are written although the lexicon knows them:
    so the model learns to read those that it does not know."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            DataError: If a weight is negative, or a share is none.
        """
        for name in ("instructed", "spelled"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"data.tasks: {name} of '{self.task}' is {getattr(self, name)}, allowed: 0 to 1.")
        for name in ("weight", "loss_weight"):
            if getattr(self, name) < 0:
                raise DataError(f"data.tasks: {name} of '{self.task}' is {getattr(self, name)}, allowed: 0 or more.")


class PlannedLoader:
    """The batches of a plan, from wherever training stands when the first one is asked for.

    Lightning makes iterators before it knows where a resumed run stands, so `batches_done` is read with the first
    batch, not before. It counts what training has used, not what was fetched ahead: workers lose nothing either.
    """

    def __init__(
        self,
        dataset: MixDataset,
        batches: Callable[[int], Sequence[Sequence[Example]]],
        length: int,
        *,
        batches_done: Callable[[], int] = lambda: 0,
        num_workers: int = 0,
        identity: Mapping[str, Any] | None = None,
    ):
        """Make a loader.

        Args:
            dataset: Makes sequences of examples.
            batches: The batches of an epoch.
            length: How many there are in every epoch.
            batches_done: Batches used so far, over all epochs.
            num_workers: Processes that build batches; 0 builds them in this one. The order is the same.
            identity: What the order depends on; stored in checkpoints and compared on resuming.
        """
        self.dataset, self._batches, self._length, self._batches_done = dataset, batches, length, batches_done
        self._num_workers, self._identity = num_workers, dict(identity or {})

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[SequenceBatch]:
        """Yield as many batches as an epoch has; a run that stopped within an epoch goes on into the next."""
        epoch, done = divmod(self._batches_done(), max(1, self._length))
        yield from self._load(self._batches(epoch)[done:])
        if done:
            yield from self._load(self._batches(epoch + 1)[:done])

    def _load(self, batches: Sequence[Sequence[Example]]) -> DataLoader[SequenceBatch]:
        return DataLoader(
            self.dataset,
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=self._num_workers,
            prefetch_factor=4 if self._num_workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the order of batches depends on; the position is the trainer's."""
        return {"length": self._length, **self._identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Say so if batches will come in another order than in the run that is resumed."""
        changed = [
            f"{key}: {state[key]} there, {value} here"
            for key, value in self.state_dict().items()
            if state.get(key, value) != value
        ]
        if changed:
            logger.warning(
                "the data changed since the checkpoint was written, so batches differ from an uninterrupted run (%s)",
                "; ".join(changed),
            )


def _mix_entry(entry: TaskMix | str | dict[str, Any]) -> TaskMix:
    if isinstance(entry, dict):
        return TaskMix(**entry)
    return TaskMix(entry) if isinstance(entry, str) else entry


class RecordDataModule(L.LightningDataModule):
    """Batches for training, validation and test from record shards."""

    def __init__(
        self,
        train: Shards | None = None,
        val: Shards | None = None,
        test: Shards | None = None,
        *,
        tasks: list[TaskMix | str] | None = None,
        batching: BatchConfig = DEFAULT_BATCHING,
        epoch_size: int | None = None,
        optional_dropout: float = 0.1,
        guided_dropout: float = 0.05,
        num_workers: int = 0,
        seed: int = 0,
        cache_mb: int = 512,
    ):
        """Describe the data; nothing is read before `setup`.

        Args:
            train: Folder, file or glob of record shards, a list of these, or names with these (for `data:` in `tasks`).
            val: The same for validation: every record once for each task that it fits. None: no validation.
            test: The same for `unitok test`.
            tasks: What to train, and how much of it; a record serves every task that finds its fields. A name alone
                has weight 1. None: all tasks of the model alike.
            batching: How batches are filled.
            epoch_size: Examples in an epoch. None: as many as there are.
            optional_dropout: Probability that an optional condition is left out of an example.
            guided_dropout: Probability that guided conditions of the task are, in training only; which of several,
                each set of them is as likely.
            num_workers: Processes that build batches in the background; the order of batches does not depend on it.
            seed: Of orders, prompts and left-out conditions.
            cache_mb: Codes kept in memory per reader, in MB.
        """
        super().__init__()
        self.shards: dict[str, Shards | None] = {"train": train, "val": val, "test": test}
        self.mix = [_mix_entry(entry) for entry in tasks or []]
        self.batching = batching
        self.epoch_size, self.num_workers = epoch_size, num_workers
        self.optional_dropout, self.guided_dropout = optional_dropout, guided_dropout
        if seed < 0:
            raise DataError(f"data.seed is {seed}, allowed: 0 or more.")
        self.seed, self.cache_mb = seed, cache_mb
        self.builder: SequenceBuilder | None = None
        self.tasks: dict[str, Task] = {}
        self.fingerprint: str | None = None
        self._datasets: dict[str, MixDataset] = {}

    def attach(self, builder: SequenceBuilder, tasks: Mapping[str, Task], fingerprint: str | None = None) -> None:
        """Say what sequences are made of; `setup` takes it from the trained module.

        Args:
            builder: Vocabulary, text tokenizer and frame rate.
            tasks: The model's tasks by name.
            fingerprint: Of the codec; records of another one are refused. None: any.
        """
        self.builder, self.tasks, self.fingerprint = builder, dict(tasks), fingerprint

    def setup(self, stage: str) -> None:
        """Open the shards of `stage` and find out which records each task can use.

        Raises:
            DataError: If shards or tasks are missing, or do not fit the model.
        """
        if self.builder is None:
            module = self.trainer.lightning_module if self.trainer else None
            if not isinstance(getattr(module, "builder", None), SequenceBuilder):
                raise DataError(
                    "RecordDataModule needs a model with a 'builder' and 'tasks', such as LMModule. "
                    "Or call attach(builder, tasks)."
                )
            self.attach(module.builder, module.tasks, module.codec_fingerprint)  # type: ignore[union-attr]
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        for split in wanted:
            if split not in self._datasets and self.shards[split] is not None:
                self._datasets[split] = self._open(split)
        if wanted and wanted[0] not in self._datasets:
            raise DataError(f"data.init_args.{wanted[0]} is not set: 'unitok {stage}' needs record shards there.")

    @property
    def instructed(self) -> frozenset[str]:
        """Tasks that are sometimes asked for in words."""
        return frozenset(entry.task for entry in self.mix if entry.instructed)

    def dataset(self, split: str) -> MixDataset | None:
        """Return the examples of `train`, `val` or `test`; None where the split is not set up."""
        return self._datasets.get(split)

    def train_plan(self) -> BatchPlan:
        """Return the plan of the training batches."""
        parts = self._datasets["train"].parts
        weights = [entry.weight for entry in self._entries("train")]
        sources = [Source(weight, part.lengths) for weight, part in zip(weights, parts, strict=True)]
        return BatchPlan(sources, self.batching, seed=self.seed, epoch_size=self.epoch_size)

    def train_dataloader(self) -> PlannedLoader:
        """Return the training batches of this process."""
        plan, (rank, world_size) = self.train_plan(), self._rank()
        length = plan.length(world_size)
        return PlannedLoader(
            self._datasets["train"],
            lambda epoch: plan.batches(epoch, rank, world_size),
            length,
            batches_done=self._batches_done,
            num_workers=self.num_workers,
            identity={
                "seed": self.seed,
                "examples": [len(s.lengths) for s in plan.sources],
                "batching": asdict(self.batching),
            },
        )

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Return the validation batches of this process: every example once; nothing where `val` is not set."""
        return self._evaluation("val") if "val" in self._datasets else []

    def test_dataloader(self) -> PlannedLoader:
        """Return the test batches of this process: every example once."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> PlannedLoader:
        dataset, (rank, world_size) = self._datasets[split], self._rank()
        plan = BatchPlan([Source(1.0, part.lengths) for part in dataset.parts], self.batching, seed=self.seed)
        batches = plan.all_once(world_size)[rank::world_size]
        return PlannedLoader(dataset, lambda _: batches, len(batches), num_workers=self.num_workers)

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batches_done(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.completed if self.trainer else 0

    def _entries(self, split: str) -> list[TaskMix]:
        """Return one entry per task and data set; an evaluation has each once, of the data that its split names."""
        named = self._named(split)

        def data_of(entry: TaskMix) -> list[str]:
            if entry.data is None:
                return list(named)
            if entry.data in named or split == "train":
                return [entry.data]
            return [ONLY] if ONLY in named else []

        mix = self.mix or [TaskMix(name) for name in self.tasks]
        entries = [replace(entry, data=data) for entry in mix for data in data_of(entry)]
        if split == "train":
            return entries
        return list({(e.task, e.data, *e.without, *sorted(e.fields.items())): e for e in entries}.values())

    def _named(self, split: str) -> dict[str, str | list[str]]:
        shards = self.shards[split]
        return dict(shards) if isinstance(shards, dict) else {ONLY: shards or []}

    def _open(self, split: str) -> MixDataset:
        assert self.builder is not None
        named = self._named(split)
        readers = {name: RecordReader(where, self.cache_mb) for name, where in named.items()}
        for name, reader in readers.items():
            if self.fingerprint is not None and reader.meta.fingerprint != self.fingerprint:
                raise DataError(
                    f"{reader.paths[0].parent} was made with codec '{reader.meta.tokenizer}' (fingerprint "
                    f"{reader.meta.fingerprint}), the model has another one (fingerprint {self.fingerprint}). "
                    "Prepare the data with the model's audio_tokenizer."
                )
            logger.debug("%s records '%s': %d", split, name, len(reader))
        return MixDataset([self._part(split, entry, readers) for entry in self._entries(split)], self.seed)

    def _part(self, split: str, entry: TaskMix, readers: Mapping[str, RecordReader]) -> TaskExamples:
        assert self.builder is not None
        if entry.task not in self.tasks:
            raise DataError(
                f"data.tasks: the model has no task '{entry.task}'.{suggest(entry.task, self.tasks)} "
                f"It has: {', '.join(self.tasks)}."
            )
        if entry.data is None or entry.data not in readers:
            raise DataError(
                f"data.tasks: task '{entry.task}' wants data '{entry.data}', '{split}' names {', '.join(readers)}."
                f"{suggest(str(entry.data), readers)}"
            )
        part = TaskExamples(
            readers[entry.data],
            self.tasks[entry.task].reading(entry.fields),
            self.builder,
            optional_dropout=self.optional_dropout,
            guided_dropout=self.guided_dropout if split == "train" else 0.0,
            without=entry.without,
            loss_weight=entry.loss_weight,
            instructed=entry.instructed if split == "train" else 0.0,
            spelled=entry.spelled if split == "train" else 0.0,
            longest=self.batching.longest,
        )
        if part.n_too_long:
            logger.warning(
                "%s: %d records too long for task '%s' (more than %d positions) are left out",
                split,
                part.n_too_long,
                entry.task,
                self.batching.longest,
            )
        if not len(part):
            logger.warning("%s: no record of '%s' has what task '%s' needs", split, entry.data, entry.task)
        return part
