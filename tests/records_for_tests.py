"""Record shards with random codes, for the tests of data and training: 20 utterances, one of them without a peer."""

from pathlib import Path

import numpy as np
import torch

from unitok.data.records import RecordMeta, RecordWriter
from unitok.testing import ToyAudioTokenizer

SPEAKERS = ["ann", "bob"]
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def write_records(folder: Path, n: int = 20, codec: ToyAudioTokenizer | None = None) -> Path:
    """Write `n` records in shards of 7; record 5 has no text, record 6 no audio, record 4 a speaker of its own."""
    codec = codec or ToyAudioTokenizer()
    meta = RecordMeta(
        fingerprint=codec.fingerprint,
        tokenizer=codec.name,
        frame_rate_hz=codec.frame_rate_hz,
        n_codebooks=codec.n_codebooks,
        codebook_size=codec.codebook_size,
        sample_rate_hz=codec.sample_rate_hz,
        audio_fields=("audio",),
        plain_fields=(("text", "string"), ("speaker", "string"), ("lang", "string")),
        unitok_version="0.1.0",
    )
    rng = np.random.default_rng(0)
    records = [
        {
            "id": f"u{i}",
            "text": None if i == 5 else f"{WORDS[i % 10]} {WORDS[(3 * i) % 10]}",
            "speaker": "solo" if i == 4 else SPEAKERS[i % 2],
            "lang": "en",
            "audio": None if i == 6 else torch.from_numpy(rng.integers(0, 8, (codec.n_codebooks, 4 + (i * 5) % 13))),
        }
        for i in range(n)
    ]
    writer = RecordWriter(folder, meta)
    for index in range(0, n, 7):
        writer.write(index // 7, records[index : index + 7])
    return folder
