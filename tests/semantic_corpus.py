"""A corpus whose words are tones, which log-mel states tell apart, for the tests of semantic tokens."""

import json

import torch

from unitok.audio import Audio
from unitok.cli.main import main

RATE = 16000
WORDS = {"low": 300, "mid": 900, "high": 2700}
TEXTS = ("low", "high", "mid low", "low high", "high mid", "mid high low")
ENCODER = "name: mel\nkind: log_mel\nsource: tests\nn_mels: 20\nhop: 800\nwindow: 1600\n"
"""20 frames/s."""


def spoken(text: str) -> Audio:
    """Say each word for 0.3 s, getting louder: no two frames of the codec are alike, so that none has to be counted."""
    t = torch.arange(round(0.3 * RATE)) / RATE
    wav = torch.cat([torch.sin(2 * torch.pi * WORDS[word] * t) for word in text.split()])
    return Audio((torch.linspace(0.4, 0.8, len(wav)) * wav)[None], RATE)


def write_corpus(folder):
    """Write the recordings, `manifest.jsonl` and `mel.yaml`; return the manifest."""
    folder.mkdir()
    (folder / "mel.yaml").write_text(ENCODER)
    rows = []
    for i, text in enumerate(TEXTS):
        spoken(text).write(folder / f"{i}.wav")
        rows.append({"id": f"u{i}", "audio": f"{i}.wav", "text": text})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "manifest.jsonl"


def train(manifest, out, *options):
    """Run `unitok train-kmeans` with the corpus' encoder."""
    encoder = str(manifest.parent / "mel.yaml")
    arguments = [
        "train-kmeans",
        "--manifest",
        str(manifest),
        "--features",
        encoder,
        "--clusters",
        "6",
        "--out",
        str(out),
    ]
    assert main([*arguments, *options]) == 0
    return out
