"""Rules of the repository that no tool checks: where Python may be, who imports whom, how long a file may get."""

import ast
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "unitok").rglob("*.py"))
MAX_LINES = 600

# Left to right as in docs/design.md: a part imports only from its own level and from lower ones.
LEVELS = (
    {"errors", "files", "cards", "devices", "audio", "vocabulary", "markers", "pattern", "sequence", "plotting"}
    | {"tasks", "tokenizers", "features"},
    {"model", "kernels"},
    {"checkpoint", "adapters", "generation", "streaming", "long_form", "api", "convert"},
    {"data", "training", "evaluation", "benchmark", "cli", "__main__"},
)
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
TOP = {"training", "cli"}
# Beside the levels: the package itself (lazy), the doubles for tests, and a module that uses the standard library only.
OUTSIDE_LEVELS = {"__init__", "testing", "torchaudio_repair"}
# The codec that unitok trains itself is a tokenizer whose network is a module of ours.
UPWARD_ALLOWED = {("tokenizers", "model")}


def part_of(path: Path) -> str:
    """The part of unitok that a source file belongs to: `model` for unitok/model/lm.py, `audio` for unitok/audio.py."""
    return path.relative_to(ROOT / "unitok").parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file: `from a.b import c` gives `a.b.c`."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def importers_of(*packages: str) -> set[str]:
    """`part -> module` for each import of one of these packages in unitok."""
    return {
        f"{part_of(path)} -> {name}" for path in SOURCES for name in imports_of(path) if name.split(".")[0] in packages
    }


@pytest.mark.parametrize("folder", ["tokenizers", "tasks", "features", "configs"])
def test_card_folders_hold_no_python(folder):
    assert (ROOT / folder).is_dir()
    assert [str(path) for path in (ROOT / folder).rglob("*.py*")] == []


def test_card_folders_do_not_shadow_hugging_face_tokenizers():
    pytest.importorskip("transformers")
    spec = importlib.util.find_spec("tokenizers")
    assert spec is not None
    assert spec.origin is not None, "a namespace package: the card folder was found instead"
    assert not Path(spec.origin).is_relative_to(ROOT / "tokenizers")


def test_only_training_and_cli_import_lightning():
    wrong = {line for line in importers_of("lightning", "pytorch_lightning") if line.split(" -> ")[0] not in TOP}
    # `unitok fit` takes a LightningDataModule, and unitok's sits with the data it reads.
    assert wrong <= {"data -> lightning"}
    in_data = {path.name for path in SOURCES if part_of(path) == "data" and "lightning" in imports_of(path)}
    assert in_data <= {"datamodule.py"}


def test_only_tokenizers_import_codec_libraries():
    libraries = ("encodec", "dac", "audiotools", "snac")
    assert {line for line in importers_of(*libraries) if not line.startswith("tokenizers -> ")} == set()


def test_every_part_has_a_level():
    parts = {part_of(path) for path in SOURCES}
    assert parts - set(LEVEL) - OUTSIDE_LEVELS == set(), "add the new part to LEVELS here and to docs/design.md"


def test_imports_point_one_way():
    wrong = []
    for path in SOURCES:
        part = part_of(path)
        for name in imports_of(path):
            other = name.split(".")[1] if name.startswith("unitok.") else ""
            upward = part in LEVEL and LEVEL.get(other, 0) > LEVEL[part]
            if upward and (part, other) not in UPWARD_ALLOWED:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("folder", ["unitok", "tests", "benchmarks"])
def test_no_file_is_too_long(folder):
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in (ROOT / folder).rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_no_compiled_or_large_file_is_tracked():
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode:
        pytest.skip("not a git checkout")
    tracked = [ROOT / name for name in git.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert [str(path) for path in tracked if path.suffix in (".pyc", ".ckpt", ".pt", ".pth")] == []
    shipped = ROOT / "unitok" / "checkpoints"
    large = [p for p in tracked if p.stat().st_size > 250_000 and not p.is_relative_to(shipped)]
    assert [str(path) for path in large] == []
