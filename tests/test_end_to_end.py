"""From manifest to wav through the command line: a tiny model learns eight utterances by heart."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unitok.audio import Audio
from unitok.cli.main import main
from unitok.data.manifest import write_manifest
from unitok.data.records import RecordReader
from unitok.tokenizers import load_audio_tokenizer

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "toy" / "lm.yaml"
TEXTS = ["one fish", "two birds", "a red fox", "no rain", "cold tea", "the end", "go home", "my blue cat"]
RATE_HZ = 16000


def utterance(index: int) -> np.ndarray:
    """A tone or a noise whose loudness goes its own way: 0.4 to 0.75 s, `[N]`."""
    rng = np.random.default_rng(index)
    n_samples = int(RATE_HZ * (0.4 + 0.05 * index))
    seconds = np.arange(n_samples) / RATE_HZ
    tone = np.sin(2 * np.pi * (150 + 70 * index) * seconds) if index % 2 else rng.uniform(-1, 1, n_samples)
    knots = rng.uniform(0.02, 0.9, 6)
    return (tone * np.interp(seconds, np.linspace(0, seconds[-1], 6), knots)).astype(np.float32)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Manifest -> prepare -> fit, through the CLI."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("end_to_end")
    rows = []
    for index, text in enumerate(TEXTS):
        soundfile.write(folder / f"{index}.wav", utterance(index), RATE_HZ)
        rows.append(
            {"id": f"u{index}", "audio": f"{index}.wav", "text": text, "speaker": "ab"[index % 2], "lang": "en"}
        )
    write_manifest(folder / "data.jsonl", rows)
    prepare = ["prepare", "--manifest", f"{folder}/data.jsonl", "--tokenizer", "toy_audio", "--out", f"{folder}/shards"]
    assert main([*prepare, "--shard-size", "3"]) == 0
    fit = ["fit", "--config", str(CONFIG), f"--data.init_args.train={folder}/shards"]
    assert main([*fit, f"--trainer.default_root_dir={folder}/out"]) == 0
    return folder


def generate(work, task, rows):
    out = work / task
    write_manifest(work / f"{task}.jsonl", [{"task": task, "lang": "en", **row} for row in rows])
    arguments = ["--manifest", f"{work}/{task}.jsonl", "--out", str(out), "--model", f"{work}/out/model", "--greedy"]
    assert main(["generate", *arguments]) == 0
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return out, {result["id"]: result for result in results}


def test_a_tiny_model_speaks_the_exact_tokens_of_all_eight_utterances(work):
    out, results = generate(work, "tts", [{"id": f"u{i}", "text": text} for i, text in enumerate(TEXTS)])
    assert len(results) == 8
    codec, records = load_audio_tokenizer("toy_audio"), RecordReader(work / "shards")
    for record in (records[i] for i in range(8)):
        audio = Audio.read(out / f"{record['id']}.wav")
        codes = codec.encode(audio.samples[None], audio.sample_rate_hz).codes[0]
        assert torch.equal(codes, record["audio"]), record["id"]


def test_the_same_model_writes_down_all_eight_texts(work):
    _, results = generate(work, "asr", [{"id": f"u{i}", "audio": str(work / f"{i}.wav")} for i in range(8)])
    assert [results[f"u{i}"]["text"] for i in range(8)] == TEXTS


def test_training_left_what_a_run_promises(work):
    out = work / "out"
    assert (out / "config.yaml").is_file()
    assert (out / "checkpoints" / "last.ckpt").is_file()
    assert list(out.glob("events.out.tfevents.*"))
    assert (out / "model" / "README.md").is_file()
