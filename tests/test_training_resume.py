"""A run that is stopped and resumed ends with the very weights of one that was not, and saw the very batches."""

import lightning as L
import pytest
import torch
from records_for_tests import write_records
from training_runs import STEPS, Recorder, fit, module

from unitok.data.datamodule import RecordDataModule
from unitok.data.mixing import BatchConfig
from unitok.errors import CheckpointError
from unitok.training.callbacks import ResumePoint


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return str(write_records(tmp_path_factory.mktemp("records")))


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    lm, recorder = fit(tmp_path_factory.mktemp("whole"), shards, STEPS)
    assert len(recorder.seen) == STEPS
    assert len({str(batch) for batch in recorder.seen}) > STEPS // 2
    return lm, recorder


def check_same(first, second, whole):
    (_, before), (lm, after), (expected, seen) = first, second, whole
    assert before.seen + after.seen == seen.seen
    assert before.losses + after.losses == seen.losses
    for (name, one), two in zip(expected.state_dict().items(), lm.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    for name, average in expected._average.average.items():
        assert torch.equal(average, lm._average.average[name]), name


def epoch_length(shards):
    data = RecordDataModule(shards, batching=BatchConfig(200))
    lm = module()
    data.attach(lm.builder, lm.tasks)
    data.setup("fit")
    return len(data.train_dataloader())


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_run_stopped_by_its_number_of_steps_goes_on_within_the_epoch_or_beyond(steps, shards, whole, tmp_path):
    first = fit(tmp_path, shards, steps, callbacks=[ResumePoint(tmp_path)])
    check_same(first, fit(tmp_path, shards, STEPS, ckpt_path=tmp_path / "last.ckpt"), whole)


def test_a_run_stopped_at_the_very_end_of_an_epoch_goes_on(shards, whole, tmp_path):
    n = epoch_length(shards)
    assert n < STEPS
    first = fit(tmp_path, shards, n, callbacks=[ResumePoint(tmp_path)])
    check_same(first, fit(tmp_path, shards, STEPS, ckpt_path=tmp_path / "last.ckpt"), whole)


class Crash(L.Callback):
    """Fail in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            raise ConnectionError("power cut")


def test_a_crashed_run_goes_on_from_the_last_checkpoint_written_between_steps(shards, whole, tmp_path):
    point, recorder = ResumePoint(tmp_path, every_minutes=0), Recorder()
    with pytest.raises(ConnectionError, match="power cut"):
        fit(tmp_path, shards, STEPS, callbacks=[point, recorder, Crash(5)])
    assert len(recorder.seen) == 5
    check_same((None, recorder), fit(tmp_path, shards, STEPS, ckpt_path=tmp_path / "last.ckpt"), whole)


def test_workers_that_fetched_ahead_lose_nothing(shards, whole, tmp_path):
    first = fit(tmp_path, shards, 4, callbacks=[ResumePoint(tmp_path)], num_workers=2)
    check_same(first, fit(tmp_path, shards, STEPS, ckpt_path=tmp_path / "last.ckpt", num_workers=1), whole)


def test_validation_in_between_changes_nothing_in_training(shards, whole, tmp_path):
    lm, recorder = fit(tmp_path, shards, STEPS, val=True, val_check_interval=3, check_val_every_n_epoch=None)
    check_same((None, Recorder()), (lm, recorder), whole)


def test_a_run_with_validation_stopped_between_goes_on(shards, whole, tmp_path):
    settings = {"val": True, "val_check_interval": 2, "check_val_every_n_epoch": None}
    first = fit(tmp_path, shards, 4, callbacks=[ResumePoint(tmp_path)], **settings)
    check_same(first, fit(tmp_path, shards, STEPS, ckpt_path=tmp_path / "last.ckpt", **settings), whole)


def test_gradient_accumulation_resumes_too(shards, tmp_path):
    expected = fit(tmp_path, shards, 5, accumulate_grad_batches=2)
    assert len(expected[1].seen) == 10
    first = fit(tmp_path, shards, 2, accumulate_grad_batches=2, callbacks=[ResumePoint(tmp_path)])
    check_same(first, fit(tmp_path, shards, 5, accumulate_grad_batches=2, ckpt_path=tmp_path / "last.ckpt"), expected)


def test_no_checkpoint_is_written_between_the_batches_of_one_step(shards, tmp_path):
    expected, seen = fit(tmp_path, shards, 4, accumulate_grad_batches=2)
    callbacks = [ResumePoint(tmp_path, every_minutes=0), Crash(2)]
    with pytest.raises(ConnectionError, match="power cut"):
        fit(tmp_path, shards, 4, accumulate_grad_batches=2, callbacks=callbacks)
    before = Recorder()
    before.seen, before.losses = seen.seen[:4], seen.losses[:4]
    after = fit(tmp_path, shards, 4, accumulate_grad_batches=2, ckpt_path=tmp_path / "last.ckpt")
    check_same((None, before), after, (expected, seen))


def test_resuming_with_another_vocabulary_is_refused(shards, tmp_path):
    fit(tmp_path, shards, 1, callbacks=[ResumePoint(tmp_path)])
    with pytest.raises(CheckpointError, match="Resume with the config it was started with"):
        fit(tmp_path, shards, 2, ckpt_path=tmp_path / "last.ckpt", lm=module(tasks=("asr", "tts")))
