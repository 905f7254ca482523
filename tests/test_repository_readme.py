"""What the README says to type works, and the files a repository owes its readers are there."""

import re
import shlex
from pathlib import Path

import pytest

from unitok.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [code for name, code in fenced if name == language]


def test_python_and_shell_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "doctor.wav").stat().st_size > 10_000
    assert "<bos> <task:tts>" in capsys.readouterr().out

    commands = [line for block in blocks("") for line in block.splitlines() if line.startswith("unitok ")]
    assert len(commands) >= 4
    for line in commands:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
        captured = capsys.readouterr()
        assert captured.out.strip() or "--out" in line, line
    assert (tmp_path / "doctor.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "configs/README.md"])
def test_links_lead_somewhere(page):
    file = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (file.parent / link).exists()] == []


@pytest.mark.parametrize("folder", ["tokenizers", "tasks", "configs"])
def test_card_folders_say_what_they_hold(folder):
    first = (ROOT / folder / "README.md").read_text(encoding="utf-8").splitlines()[0].lower()
    assert "cards live here" in first
    assert "code lives in `unitok/" in first


def test_the_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_linters_of_ci_and_pre_commit_are_pinned():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for tool in ("ruff", "pyright", "torch", "torchaudio"):
        assert re.search(rf"^{tool}==\d", pins, flags=re.MULTILINE), tool
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"entry: (\S+)", hooks)) == {".venv/bin/ruff", ".venv/bin/pyright"}
