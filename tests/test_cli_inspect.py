"""`unitok inspect`: a sequence, printed and drawn, of an input and of a stored record."""

import re

import pytest
import torch

from unitok.audio import Audio
from unitok.checkpoint import Checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.data.records import RecordMeta, RecordWriter
from unitok.model.codec import CodecConfig, NeuralCodec
from unitok.model.config import LMConfig, TransformerConfig
from unitok.model.lm import UnitokLM
from unitok.tasks import Task
from unitok.tokenizers import load_text_tokenizer
from unitok.tokenizers.unitok_codec import UnitokCodecTokenizer
from unitok.vocabulary import Vocabulary

K, SIZE = 3, 10
CODEC = CodecConfig(
    sample_rate_hz=8000, hop=80, frame_stride=4, window=160, encoder_dim=8, encoder_layers=3, decoder_dim=8,
    decoder_layers=4, n_codebooks=K, codebook_size=SIZE, code_dim=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A checkpoint of toy sizes with untrained weights: inspecting asks nothing of them."""
    torch.manual_seed(0)
    text = load_text_tokenizer("bytes")
    tasks = {name: Task.load(name) for name in ("tts", "asr")}
    vocabulary = Vocabulary.create(list(tasks), ["en"], text.size, [SIZE] * K)
    stack = TransformerConfig(n_layers=1, d_model=8, n_heads=2, d_ff=8)
    lm = UnitokLM(LMConfig(stack, refiner=stack, ar_codebooks=1), vocabulary)
    audio = UnitokCodecTokenizer(NeuralCodec(CODEC), "toy")
    folder = tmp_path_factory.mktemp("model") / "toy"
    return str(save_checkpoint(folder, Checkpoint(lm, vocabulary, text, audio, tasks, name="toy")))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    meta = RecordMeta(
        fingerprint="toy", tokenizer="toy", frame_rate_hz=25.0, n_codebooks=K, codebook_size=SIZE, sample_rate_hz=8000,
        audio_fields=("audio",), plain_fields=(("text", "string"), ("speaker", "string")), unitok_version="0.1.0",
    )  # fmt: skip
    records = [
        {"id": "a", "text": "hi", "speaker": "eva", "audio": torch.ones(K, 5, dtype=torch.int64)},
        {"id": "b", "text": None, "speaker": "eva", "audio": torch.ones(K, 6, dtype=torch.int64)},
    ]
    RecordWriter(folder, meta).write(0, records)
    return str(folder)


def run(capsys, *argv: str) -> tuple[int, str, str]:
    status = main(["inspect", *argv])
    captured = capsys.readouterr()
    return status, captured.out.strip(), captured.err


def test_without_targets_the_prompt_is_printed(capsys, model):
    status, out, _ = run(capsys, "--model", model, "--task", "tts", "--text", "hi", "--voice", "eva")
    assert status == 0
    assert out == "<bos> <task:tts> <lang:en> <text> h i </text> <label> e v a </label>"


def test_with_targets_the_whole_sequence_is_printed_and_drawn(capsys, model, tmp_path):
    wav = Audio(torch.zeros(1, 8000), 8000).write(tmp_path / "x.wav")
    plot = tmp_path / "x.png"
    status, out, _ = run(
        capsys, "--model", model, "--task", "tts", "--text", "hi", "--speech", str(wav), "--plot", str(plot)
    )
    assert status == 0
    assert out == "<bos> <task:tts> <lang:en> <text> h i </text> <audio> [3 × 25 frames, 1.0 s] </audio> <eos>"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_stored_record_is_laid_out_as_in_training(capsys, model, shards):
    status, out, _ = run(capsys, "--model", model, "--task", "tts", "--records", shards, "--index", "0")
    assert status == 0
    assert out == (
        "<bos> <task:tts> <text> h i </text> <label> e v a </label> <audio> [3 × 6 frames, 0.2 s] </audio> "
        "<audio> [3 × 5 frames, 0.2 s] </audio> <eos>"
    )


def test_a_stored_record_without_a_task_shows_its_fields(capsys, shards):
    status, out, _ = run(capsys, "--records", shards)
    assert status == 0
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["id", "a"],
        ["text", "hi"],
        ["speaker", "eva"],
        ["audio", "[3 × 5 frames]"],
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "say whose sequence: --task NAME, --records SHARD, or both"),
        (["--records", "SHARDS", "--index", "2"], "--index is 2, .* holds records 0 to 1"),
        (["--records", "SHARDS", "--plot", "x.png"], "--plot draws a sequence: say which task's"),
        (["--task", "tts", "--records", "SHARDS", "--text", "a"], "takes all fields from the record: leave out --text"),
        (
            ["--task", "tts", "--records", "SHARDS", "--index", "1"],
            "record 1 cannot be used for task 'tts', which needs text",
        ),
        (["--task", "tts", "--text", "a", "--speech", "x", "--speech", "y"], "--speech is given 2 times"),
        (["--task", "tts", "--speech", "no.wav"], "audio file 'no.wav' does not exist"),
        (["--task", "tts"], "needs condition 'text'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, model, shards, argv, message):
    status, out, err = run(capsys, "--model", model, *(word.replace("SHARDS", shards) for word in argv))
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert re.search(message, err)
