"""The scripts of `examples/`: each runs as it is, and makes what its tiny model has learned."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unitok.tasks import Pipeline

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "by_heart.py")
LEARNED = {"sound_out.py": 4, "speech_to_speech.py": 6, "pretext_and_chains.py": 3}
"""How many things each makes that a tiny model has learned by heart."""


def test_the_readme_lists_every_script_and_file_that_there_is():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+\.py)\]\(\1\) \|", text, flags=re.MULTILINE)
    assert sorted(re.findall(r"^\| \[(\w+\.py)\]", text, flags=re.MULTILINE)) == SCRIPTS
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (EXAMPLES / link).exists()] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_what_it_is_and_how_to_run_it(script):
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    assert f"python examples/{script} [FOLDER]" in text.split('"""')[1]
    assert f'OUT = Path("out/examples/{Path(script).stem}")' in text


def test_the_pipeline_of_the_examples_fits_its_tasks():
    outline = Pipeline.load(EXAMPLES / "cards" / "tasks" / "echo.yaml").outline()
    assert [target.kind for target in outline.targets] == ["text", "audio"]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs_and_makes_what_was_learned(script, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), str(tmp_path / "out")],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as learned: True") == LEARNED.get(script, 0)
    assert "as learned: False" not in done.stdout
    assert list((tmp_path / "out").glob("*.wav"))
