"""`unitok bench`: what it counts and prints, and what it refuses; no speeds, which depend on the machine."""

import json
import sys

import pytest
from records_for_tests import write_records

from unitok.benchmark import machine
from unitok.benchmark.models import Sizes, contender
from unitok.cli.main import main
from unitok.errors import MissingDependencyError

SMALL = ["--layers", "2", "--width", "64", "--local-layers", "1", "--local-width", "64", "--codebooks", "3"]
FAST = ["--frames", "3", "--prompt", "8", "--repeats", "1", "--threads", "1"]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(machine, "IDLE_WAIT_S", 0.0)
    monkeypatch.setattr(machine, "PROBE_BYTES", 1 << 20)


def test_a_table_and_json_hold_every_model(tmp_path, capsys):
    file = tmp_path / "out" / "bench.json"
    flags = ["--dtype", "float32", "--dtype", "int8", "--pytorch", "--batch", "2", "--json", str(file)]
    assert main(["bench", "generate", *SMALL, *FAST, *flags]) == 0
    shown, stored = capsys.readouterr().out, json.loads(file.read_text())
    names = ["unitok float32", "unitok float32, PyTorch alone", "unitok int8", "unitok int8, PyTorch alone"]
    assert [row["model"] for row in stored["rows"]] == names
    assert all(name in shown for name in names)
    assert stored["batch"] == 2
    assert stored["bandwidth_gb_per_s"] > 0
    for row in stored["rows"]:
        assert row["frames_per_s"] == pytest.approx(2000 / row["ms_per_step"], rel=0.05)
        assert row["parameters_m"] == stored["rows"][0]["parameters_m"]
        assert row["clean"] in ("0/1", "1/1")


def test_the_floor_counts_the_local_part_once_for_each_codebook():
    sizes = Sizes(2, 64, 1, 64, 3, 32)
    block = 4 * 64 * 64 + 3 * 64 * sizes.feed_forward(64) + 2 * 64  # attention, feed-forward, two norms
    heads, outer = 2 * 32 * 64, 2 * block + 64
    slot0 = 64 * (contender("unitok", sizes)._engine.vocabulary.size - 1 - 2 * 32)  # all but <empty> and later codes
    local = block + 64 + 64 * 64  # a block, the last norm, the projection
    assert contender("unitok", sizes).bytes_per_frame == 4 * (outer + slot0 + 2 * local + heads)


@pytest.mark.parametrize(
    ("package", "name"), [("transformers", "csm"), ("transformers", "musicgen"), ("moshi", "moshi")]
)
def test_peers_generate(package, name):
    pytest.importorskip(package)
    contender(name, Sizes(1, 64, 1, 64, 3, 32)).generate(3, 6, 2)


def test_compiled_and_unknown_devices(capsys):
    assert main(["bench", "generate", *SMALL, *FAST, "--device", "nowhere"]) == 2
    assert "device 'nowhere' is none that PyTorch" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "moshi.models.lm", None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps moshi sphn"):
        contender("moshi", Sizes(1, 64, 1, 64, 3, 32))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layers", "0"], "--layers is 0; it must be 1 or more."),
        (["--prompt", "2"], "--prompt is 2; it must be 6 or more"),
        (["--peers", "cms", *SMALL], "peer 'cms' is unknown. Did you mean 'csm'?"),
    ],
)
def test_what_cannot_be_measured_is_said(flags, message, capsys):
    assert main(["bench", "generate", *flags]) == 2
    assert message in capsys.readouterr().err


def rows(tmp_path, *argv):
    file = tmp_path / "bench.json"
    assert main(["bench", *argv, "--repeats", "1", "--threads", "1", "--json", str(file)]) == 0
    return json.loads(file.read_text())["rows"]


def test_prompts_of_each_length_and_type_are_taken_in(tmp_path):
    flags = ["--prompt", "8", "--prompt", "20", "--dtype", "int8", "--dtype", "float32"]
    found = rows(tmp_path, "prefill", *SMALL, *flags)
    names = [f"{dtype}, {n} positions" for dtype in ("int8", "float32") for n in (8, 20)]
    assert [row["prompt"] for row in found] == names
    assert all(row["positions_per_s"] > 0 for row in found)
    assert [row["floor_ms"] for row in found[:2]] == pytest.approx([row["floor_ms"] for row in found[2:]], rel=0.5)


def test_ways_of_training_are_measured_on_the_same_sequences(tmp_path, capsys):
    flags = ["--local-fraction", "1", "--local-fraction", "0.125", "--batching", "as_they_come", "--batching", "sorted"]
    plot = tmp_path / "bench.png"
    sizes = ["--sequences", "6", "--batch", "3", "--lognormal", "--plot", str(plot)]
    full, full_sorted, eighth, eighth_sorted = rows(tmp_path, "train", *SMALL, *flags, *sizes)
    assert "6 sequences of 145 to 294 frames" in capsys.readouterr().out
    assert full["setting"] == "float32, local 1, as they come"
    assert full["batches"] == 2
    assert full_sorted["padding_percent"] < full["padding_percent"] == eighth["padding_percent"]
    assert eighth["kept_mb"] <= full["kept_mb"]
    assert eighth_sorted["batches"] == full_sorted["batches"]
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_what_is_kept_is_what_the_backward_pass_needs():
    """Of one sequence: twice the frames, about twice the memory; more of it with all frames in the local stage."""
    from unitok.benchmark.training import TrainingSetting, _Run

    sizes = Sizes(2, 64, 1, 64, 3, 32)
    short, long = (_Run(sizes, TrainingSetting(), [n], 1).kept_bytes() for n in (100, 200))
    assert 1.8 < long / short < 2.6


def test_codecs_and_records_are_measured(tmp_path, monkeypatch):
    from unitok.benchmark import reading

    [codec] = rows(tmp_path, "codec", "--tokenizer", "toy_audio", "--seconds", "1")
    assert (codec["codec"], codec["frames_per_s"], codec["codebooks"]) == ("toy_audio", 25.0, 4)
    assert codec["encode"] > 0 < codec["decode"]
    monkeypatch.setattr(reading, "RECORDS", 40)
    [alone] = rows(tmp_path, "data", "--tasks", "tts,asr", "--batch-tokens", "2000")
    assert alone["sequences_per_s"] > 0
    assert 0 <= alone["padding_percent"] < 30
    [own] = rows(tmp_path, "data", "--records", str(write_records(tmp_path / "shards")), "--tasks", "asr")
    assert own["positions_per_s"] > 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "--local-fraction", "0"], "--local-fraction is 0; it must be above 0 and at most 1."),
        (["train", "--batch", "0"], "--batch is 0; it must be 1 or more."),
        (["codec", "--tokenizer", "encodc_24khz"], "Did you mean 'encodec_24khz'?"),
        (["data", "--records", "nowhere"], "nowhere holds no record shard"),
        (["data", "--tasks", "ttz"], "Did you mean 'tts'?"),
        (["generate", "--threads", "0"], "--threads is 0; it must be 1 or more."),
        (["generat"], "invalid choice: 'generat'"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(argv, message, capsys):
    assert main(["bench", *argv]) == 2
    assert message in capsys.readouterr().err
