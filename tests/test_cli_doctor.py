"""`unitok doctor` finds what is broken, says what to do, and mends a torchaudio that does not fit torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unitok.cli import doctor
from unitok.cli.main import main


def test_this_machine_is_healthy(capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert [check["name"] for check in report["checks"]] == list(doctor.CHECKS)
    assert all(check["remedy"] == "" for check in report["checks"] if check["state"] == "ok")


def test_a_broken_card_is_named_with_its_remedy(tmp_path, capsys):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "broken.yaml").write_text("name: broken\ntargets: 3\n")
    assert main(["doctor", "cards", "--cards", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("BROKEN  cards")
    assert "broken.yaml: targets: is 3" in out
    assert "-> correct these files" in out
    assert "1 of 1 checks" in out


def test_an_exception_in_a_check_is_a_finding(monkeypatch):
    def fail(fix):
        raise OSError("libsndfile.so not found")

    monkeypatch.setitem(doctor.CHECKS, "audio", fail)
    finding = doctor.examine("audio")
    assert (finding.state, finding.detail) == ("broken", "OSError: libsndfile.so not found")
    assert "pip install" in finding.remedy


def test_missing_synthesizers_are_a_note(monkeypatch):
    monkeypatch.setenv("PATH", "")
    finding = doctor.examine("voices")
    assert finding.state == "note"
    assert "apt-get install flite espeak-ng" in finding.remedy


@pytest.fixture
def broken_torchaudio(tmp_path: Path) -> Path:
    """A folder with a copy of the installed torchaudio whose native library cannot be loaded."""
    import torchaudio

    copy = tmp_path / "torchaudio"
    shutil.copytree(
        Path(torchaudio.__file__).parent, copy, ignore=shutil.ignore_patterns("*.so", "*.aside", "__pycache__")
    )
    (copy / "lib" / "_torchaudio.abi3.so").write_bytes(b"linked against another torch")
    return tmp_path


def run_doctor(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "unitok", "doctor", "torchaudio", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_torchaudio_that_does_not_load_is_explained_then_mended(broken_torchaudio):
    library = broken_torchaudio / "torchaudio" / "lib" / "_torchaudio.abi3.so"

    explained = run_doctor(broken_torchaudio)
    assert explained.returncode == 1
    assert "do not fit the installed torch" in explained.stdout
    assert "'unitok doctor --fix' moves them aside" in explained.stdout
    assert library.exists()

    mended = run_doctor(broken_torchaudio, "--fix")
    assert mended.returncode == 0, mended.stdout
    assert "in pure Python" in mended.stdout
    assert not library.exists()
    assert library.with_name(library.name + ".aside").read_bytes() == b"linked against another torch"

    assert run_doctor(broken_torchaudio).returncode == 0


@pytest.mark.slow
def test_repair_that_does_not_help_is_taken_back(broken_torchaudio):
    (broken_torchaudio / "torchaudio" / "functional" / "__init__.py").write_text("raise OSError('damaged')\n")
    failed = run_doctor(broken_torchaudio, "--fix")
    assert failed.returncode == 1
    assert "moving them aside did not help" in failed.stdout
    assert (broken_torchaudio / "torchaudio" / "lib" / "_torchaudio.abi3.so").exists()
