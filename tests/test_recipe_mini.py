"""The recipe of `mini`: its commands, in order, from an empty folder to the table of figures; only sizes are small."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "codec.yaml": [
        "--model.codec={encoder_dim: 16, encoder_layers: 1, decoder_dim: 16, decoder_layers: 1, code_dim: 8, "
        "hop: 160, frame_stride: 4, window: 640, n_codebooks: 8, codebook_size: 512}",
        "--data.batch_size=2",
        "--trainer.max_steps=2",
        "--data.steps_per_epoch=2",
    ],
    "lm.yaml": [
        "--model.init_args.lm.transformer={n_layers: 1, d_model: 32, n_heads: 2, d_ff: 48}",
        "--model.init_args.lm.local={n_layers: 1, d_model: 16, n_heads: 2, d_ff: 24}",
        "--trainer.max_steps=2",
        "--trainer.val_check_interval=2",
        "--trainer.limit_val_batches=1",
    ],
}


def recipe() -> list[str]:
    """Return the commands of configs/mini/README.md."""
    block = (ROOT / "configs" / "mini" / "README.md").read_text().split("```")[1]
    return [line for line in block.strip().splitlines() if line]


def shrunk(command: str) -> list[str]:
    """Return a command as it runs here."""
    command = re.sub(r"--utterances \d+", "--utterances 60", command)
    words = shlex.split(command.replace("--words /usr/share/dict/words ", ""))  # of Debian's wamerican
    if words[0] == "python":
        return [sys.executable, *words[1:], "--items", "4"]
    for config, flags in SMALL.items():
        if words[-1].endswith(f"mini/{config}"):
            words += flags
    return [sys.executable, "-m", *words]


def test_the_configs_begin_with_the_commands_of_the_recipe():
    for name, last in (("codec", "unitok fit --config configs/mini/codec.yaml"), ("lm", "configs/mini/lm.yaml")):
        text = (ROOT / "configs" / "mini" / f"{name}.yaml").read_text()
        commands = re.findall(r"^#   (.*)$", text, flags=re.MULTILINE)
        assert commands
        assert commands[-1].endswith(last)
        assert set(commands) <= set(recipe())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_recipe_runs_from_first_to_last_command(tmp_path):
    for name in ("configs", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    for command in recipe():
        done = subprocess.run(shrunk(command), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert (tmp_path / "out/checkpoints/mini/model.safetensors").is_file()
    table = (tmp_path / "out/quality/quality.md").read_text()
    assert all(
        row in table for row in ("| codec: STOI", "| tts, grammar: pocketsphinx WER", "| asr, grammar: WER on flite")
    )
