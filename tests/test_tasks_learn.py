"""Every shipped task learns: tiny models, trained by the command line on two items a task, say them all by heart.

All tasks share one training, but for those in stereo, which need another codec.
"""

import json
import shutil
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from task_corpora import CORPUS_OF, TEXT_FIELDS, encode, is_stereo, shipped_tasks, synthesise, write_cards

import unitok
from unitok.cli.main import main
from unitok.data.examples import TaskExamples
from unitok.data.manifest import read_manifest, write_manifest
from unitok.data.records import RecordReader
from unitok.sequence import TokenSequence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng"),
]
TASKS = shipped_tasks()
LANGS = ["en", "es", "de", "fr"]
WIDTH = {"tiny": 96, "tiny_stereo": 64}
STEPS = {"tiny": 180, "tiny_stereo": 60}
SURE = [task for task in TASKS if task.name not in ("speech_edit", "lm", "audio_lm")]
"""Tasks with one right answer: not those that start from nothing, nor the one whose gap is drawn anew each time."""


class Made(NamedTuple):
    """What was to be made, and what was made."""

    wanted: TokenSequence
    made: TokenSequence


def config(folder, codec, tasks):
    """Return the config of a run that learns tasks by heart."""
    D = WIDTH[codec]
    lm = {
        "transformer": {"n_layers": 2, "d_model": D, "n_heads": 4, "d_ff": 2 * D},
        "local": {"n_layers": 1, "d_model": D, "n_heads": 4, "d_ff": 2 * D},
        "ar_codebooks": 4 if codec == "tiny_stereo" else 2,
    }
    model = {
        "lm": lm,
        "text_tokenizer": str(folder / "text"),
        "audio_tokenizer": codec,
        "tasks": [task.name for task in tasks],
        "langs": LANGS,
        "optimizer": {"name": "muon", "lr": 0.01, "weight_decay": 0.0},
        "schedule": {"name": "cosine", "warmup_steps": 10, "final_fraction": 0.05},
    }
    data = {
        "train": {name: str(folder / codec / name) for name in {CORPUS_OF[task.name] for task in tasks}},
        "tasks": [{"task": task.name, "data": CORPUS_OF[task.name]} for task in tasks],
        "batching": {"batch_tokens": 700},
        "optional_dropout": 1.0,
        "guided_dropout": 0.0,
    }
    saved = {
        "class_path": "unitok.training.callbacks.CheckpointFolder",
        "init_args": {"dirpath": str(folder / f"model_{codec}")},
    }
    trainer = {
        "max_steps": STEPS[codec],
        "accelerator": "cpu",
        "gradient_clip_val": 1.0,
        "default_root_dir": str(folder / f"out_{codec}"),
        "logger": False,
        "enable_checkpointing": False,
        "limit_val_batches": 0,
        "callbacks": [saved],
    }
    return {
        "seed_everything": 0,
        "model": {"class_path": "unitok.training.lm_module.LMModule", "init_args": model},
        "data": {"class_path": "unitok.data.datamodule.RecordDataModule", "init_args": data},
        "trainer": trainer,
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Corpora, a vocabulary with symbols, records, and two models: mono and stereo."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNITOK_CARDS", str(write_cards(folder / "cards")))
        manifests = {name: synthesise(folder, name) for name in sorted(set(CORPUS_OF.values()))}
        rows = [row for manifest in manifests.values() for row in read_manifest(manifest)]
        (folder / "texts.txt").write_text("\n".join(row[name] for row in rows for name in TEXT_FIELDS if name in row))
        symbols = ["--time-stamps", "6.6", "--notes", "--size", "880"]
        vocabulary = ["--text-file", str(folder / "texts.txt"), "--out", str(folder / "text")]
        assert main(["train-tokenizer", *vocabulary, *symbols]) == 0
        for codec in ("tiny", "tiny_stereo"):
            tasks = [task for task in TASKS if is_stereo(task) == (codec == "tiny_stereo")]
            for name in sorted({CORPUS_OF[task.name] for task in tasks}):
                encode(manifests[name], codec, folder / codec / name)
            (folder / f"{codec}.yaml").write_text(yaml.safe_dump(config(folder, codec, tasks)))
            assert main(["fit", "--config", str(folder / f"{codec}.yaml"), "--quiet"]) == 0
        yield folder


@pytest.fixture(scope="module")
def made(work):
    """What the models make of the conditions of every example, greedily: task -> one `Made` for each."""
    found = {task.name: [] for task in TASKS}
    for codec in ("tiny", "tiny_stereo"):
        model = unitok.load(work / f"model_{codec}")
        wanted = [
            (task.name, sequence)
            for task in TASKS
            if is_stereo(task) == (codec == "tiny_stereo")
            for sequence in examples(model, RecordReader(work / codec / CORPUS_OF[task.name]), task)
        ]
        requests = [model.request(name, greedy=True, **conditions(sequence)) for name, sequence in wanted]
        for (name, sequence), generation in zip(wanted, model.run(requests, batch_size=40), strict=True):
            found[name].append(Made(sequence, generation.sequence))
    return found


def examples(model, reader, task):
    """Return the training sequences of a task, without optional conditions."""
    items = TaskExamples(reader, task, model.builder, optional_dropout=1.0)
    return [items.sequence(i, np.random.default_rng(i)) for i in range(len(items))]


def conditions(sequence):
    """Return what a sequence was built from, but for its targets."""
    given = sequence.split()
    values = {s.name: given[s.name] for s in sequence.segments if s.role == "condition"}
    (lang,) = [s.name[6:-1] for s in sequence.segments if s.name.startswith("<lang:")] or [None]
    return values | {"lang": lang}


@pytest.mark.parametrize("task", SURE, ids=lambda task: task.name)
def test_a_tiny_model_says_what_it_has_learned_to_the_token(task, made):
    assert len(made[task.name]) == 2
    for one in made[task.name]:
        assert str(one.made) == str(one.wanted)
        assert torch.equal(one.made.tokens, one.wanted.tokens)


@pytest.mark.parametrize("name", ["lm", "audio_lm"])
def test_what_starts_from_nothing_is_one_of_the_things_learned(name, made):
    for one in made[name]:
        assert any(torch.equal(one.made.tokens, other.wanted.tokens) for other in made[name])


def test_a_gap_in_speech_is_filled_with_what_was_there(made):
    """The gap is another one each time, so that few are met twice: most codes must be right, not all."""
    right = total = 0
    for one in made["speech_edit"]:
        wanted, filled = one.wanted.codes("speech"), one.made.codes("speech")
        n = min(wanted.shape[1], filled.shape[1])
        right += int((wanted[:, :n] == filled[:, :n]).sum())
        total += wanted.numel()
    assert right / total > 0.5  # chance is 1 in 8


def test_the_command_line_says_it_too(work):
    model = unitok.load(work / "model_tiny")
    rows, truth = [], {}
    for name in ("se", "aqa", "tag", "slu", "chat", "lid"):
        folder = work / CORPUS_OF[name]
        row = read_manifest(folder / "manifest.jsonl")[0]
        task = model.tasks[name]
        given = {f.name: _given(folder, row[f.field], f.kind) for f in task.conditions if not f.optional}
        rows.append({"id": name, "task": name, **given, **({"lang": "en"} if name != "lid" else {})})
        truth[name] = {f.name: row[f.field] for f in task.targets if f.kind in ("text", "label")}
    write_manifest(work / "ask.jsonl", rows)
    arguments = [
        "--manifest",
        str(work / "ask.jsonl"),
        "--out",
        str(work / "said"),
        "--model",
        str(work / "model_tiny"),
    ]
    assert main(["generate", *arguments, "--greedy", "--quiet"]) == 0
    results = {r["id"]: r for r in map(json.loads, (work / "said" / "results.jsonl").read_text().splitlines())}
    for name, targets in truth.items():
        for field, text in targets.items():
            said = results[name].get("targets", {}).get(field, results[name]["text"])
            assert said == text.lower()
    assert (work / "said" / "se.wav").is_file()


def _given(folder, value, kind):
    return str(folder / value) if kind == "audio" else value
