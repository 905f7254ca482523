"""Small training runs with everything random switched on, for the tests of training."""

import lightning as L

from unitok.data.datamodule import RecordDataModule
from unitok.data.mixing import BatchConfig
from unitok.model.alignment import AlignmentPrior
from unitok.model.config import LMConfig, TransformerConfig
from unitok.training.lm_module import LMModule
from unitok.training.optimizers import OptimizerConfig
from unitok.training.schedules import ScheduleConfig

STEPS = 11


def stack(d_model):
    return TransformerConfig(n_layers=1, d_model=d_model, n_heads=2, d_ff=24, dropout=0.1)


def module(tasks=("tts", "asr"), **settings):
    L.seed_everything(3)
    # Everything random is on: dropout, frames of the local stage, levels of the refiner, hidden history, the prior.
    random = {"local_fraction": 0.4, "history_dropout": 0.5}
    config = LMConfig(stack(16), local=stack(8), refiner=stack(8), ar_codebooks=2, **random)
    defaults = {"text_tokenizer": "bytes", "audio_tokenizer": "toy_audio", "langs": ["en"], "ema_decay": 0.9}
    defaults["schedule"] = ScheduleConfig(warmup_steps=3, total_steps=STEPS)
    defaults["alignment_prior"] = AlignmentPrior(hold_steps=3, end_steps=8)
    defaults["optimizer"] = OptimizerConfig("muon", lr=0.01)
    return LMModule(config, tasks=list(tasks), **(defaults | settings))


class Recorder(L.Callback):
    def __init__(self):
        self.seen, self.losses = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(batch.tokens.flatten().tolist())
        self.losses.append(float(outputs["loss"]))


def fit(folder, shards, max_steps, *, ckpt_path=None, callbacks=(), num_workers=0, lm=None, val=False, **trainer):
    lm, recorder = lm or module(), Recorder()
    data = RecordDataModule(shards, shards if val else None, batching=BatchConfig(200), num_workers=num_workers)
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"enable_checkpointing": False, "num_sanity_val_steps": 0, "default_root_dir": folder}
    one = L.Trainer(max_steps=max_steps, callbacks=[recorder, *callbacks], **(settings | trainer))
    one.fit(lm, datamodule=data, ckpt_path=ckpt_path)
    return lm, recorder
