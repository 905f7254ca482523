"""`unitok bench`: what it counts and prints, and what it refuses; no speeds, which depend on the machine."""

import json

import pytest

from unitok.benchmark import machine
from unitok.benchmark.models import Sizes, contender
from unitok.cli.main import main

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
    assert [row["model"] for row in stored["models"]] == names
    assert all(name in shown for name in names)
    assert stored["batch"] == 2
    assert stored["bandwidth_gb_per_s"] > 0
    for row in stored["models"]:
        assert row["frames_per_s"] == pytest.approx(2000 / row["ms_per_step"], rel=0.05)
        assert row["parameters_m"] == stored["models"][0]["parameters_m"]
        assert row["clean"] in ("0/1", "1/1")


def test_the_floor_counts_the_local_part_once_for_each_codebook():
    sizes = Sizes(2, 64, 1, 64, 3, 32)
    block = 4 * 64 * 64 + 3 * 64 * sizes.feed_forward(64) + 2 * 64  # attention, feed-forward, two norms
    heads, outer = 2 * 32 * 64, 2 * block + 64
    slot0 = 64 * (contender("unitok", sizes)._engine.vocabulary.size - 1 - 2 * 32)  # all but <empty> and later codes
    local = block + 64 + 64 * 64  # a block, the last norm, the projection
    assert contender("unitok", sizes).bytes_per_frame == 4 * (outer + slot0 + 2 * local + heads)


def test_peers_of_transformers_generate():
    pytest.importorskip("transformers")
    sizes = Sizes(1, 64, 1, 64, 3, 32)
    for name in ("csm", "musicgen"):
        contender(name, sizes).generate(3, 6, 1)


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
