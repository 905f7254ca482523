"""`unitok doctor`: looks at everything unitok needs on this machine, and names the remedy for what is missing.

Each check is a function that returns a detail, or raises `Problem`; whatever else it raises counts as broken too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from unitok import torchaudio_repair
from unitok.cards import CARD_KINDS, card_root, list_cards, read_card, user_roots
from unitok.errors import UnitokError, suggest

__all__ = ["CHECKS", "Finding", "Problem", "add_arguments", "examine", "run"]

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
LEAST_MEMORY_GIB = 2.0
LEAST_DISK_GIB = 1.0
GIB = 2**30

MARKS = {"ok": "ok", "note": "note", "broken": "BROKEN"}


class Problem(Exception):
    """Something is wrong: what it is, what to do, and whether unitok works in spite of it."""

    def __init__(self, detail: str, remedy: str, optional: bool = False) -> None:
        super().__init__(detail)
        self.remedy = remedy
        self.optional = optional


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    """Which check."""
    state: Literal["ok", "note", "broken"]
    """`note`: something optional is absent."""
    detail: str
    """What was seen."""
    remedy: str = ""
    """What to do about it; empty when nothing is wrong."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `unitok doctor`."""
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"only these; all by default: {', '.join(CHECKS)}")
    parser.add_argument("--fix", action="store_true", help="mend a torchaudio that cannot be imported")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the findings; return 1 if something is broken."""
    for name in args.checks:
        if name not in CHECKS:
            raise UnitokError(f"unknown check '{name}'.{suggest(name, CHECKS)} Known are: {', '.join(CHECKS)}.")
    findings = []
    for name in args.checks or CHECKS:
        finding = examine(name, fix=args.fix)
        findings.append(finding)
        if not args.json:
            print(_line(finding), flush=True)
    broken = [finding for finding in findings if finding.state == "broken"]
    if args.json:
        print(json.dumps({"ok": not broken, "checks": [asdict(finding) for finding in findings]}, indent=2))
    elif broken:
        print(f"\n{len(broken)} of {len(findings)} checks found something broken.")
    return 1 if broken else 0


def examine(name: str, fix: bool = False) -> Finding:
    """Carry out the check called `name`.

    Args:
        name: A key of `CHECKS`.
        fix: Mend what can be mended before judging.
    """
    try:
        return Finding(name, "ok", CHECKS[name](fix))
    except Problem as problem:
        return Finding(name, "note" if problem.optional else "broken", str(problem), problem.remedy)
    except Exception as error:  # a check must report whatever an import or a file does to it
        what = str(error) if isinstance(error, UnitokError) else f"{type(error).__name__}: {error}"
        return Finding(name, "broken", what, REMEDY)


def _line(finding: Finding) -> str:
    indent = " " * 22
    detail = finding.detail.replace("\n", f"\n{indent}")
    remedy = f"\n{indent}-> {finding.remedy}" if finding.remedy else ""
    return f"{MARKS[finding.state]:<8}{finding.name:<14}{detail}{remedy}"


def _python(fix: bool) -> str:
    here = sys.version_info[:2]
    if not OLDEST_PYTHON <= here <= NEWEST_PYTHON:
        raise Problem(
            f"Python {platform.python_version()} is outside 3.10 to 3.13, which unitok is tested with.",
            "install unitok with a Python of that range",
        )
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"


def _torch(fix: bool) -> str:
    import torch

    if torch.cuda.is_available():
        gpus = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        where, bf16 = f"{torch.cuda.device_count()} x {', '.join(sorted(gpus))}", torch.cuda.is_bf16_supported()
    elif torch.backends.mps.is_available():
        where, bf16 = "Apple GPU (MPS)", False
    else:
        build = f"built for CUDA {torch.version.cuda}, no GPU seen" if torch.version.cuda else "no GPU build"
        where, bf16 = f"CPU ({build})", torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return f"{torch.__version__}, {where}, {torch.get_num_threads()} threads, bf16 {'yes' if bf16 else 'no'}"


def _torchaudio(fix: bool) -> str:
    found = torchaudio_repair.diagnose()
    if fix and found.repairable:
        found = torchaudio_repair.repair(found)
    if found.repairable:
        raise Problem(
            f"cannot be imported: {found.error}\n"
            "Its native libraries do not fit the installed torch (PyPI's are linked against CUDA). "
            "unitok needs only its pure Python part.",
            "moving them aside did not help; " + REMEDY if fix else "'unitok doctor --fix' moves them aside",
        )
    if not found.healthy:
        raise Problem(f"cannot be imported: {found.error}", REMEDY)
    return version("torchaudio") + ("" if found.libraries else ", in pure Python")


def _kernels(fix: bool) -> str:
    """Find the native code, or compile it, which takes some seconds the first time."""
    from unitok.kernels import origin, why_not

    if reason := why_not():
        raise Problem(
            f"none: {reason}. Generation on the CPU is slower without.",
            "install a C++ compiler, such as Debian's g++",
            optional=True,
        )
    return f"native code {origin()}"


def _codecs(fix: bool) -> str:
    importlib.import_module("encodec")
    importlib.import_module("dac")
    return f"encodec {version('encodec')}, descript-audio-codec {version('descript-audio-codec')}"


def _weights(fix: bool) -> str:
    """Tell which published codec weights are here; each is downloaded when it is first used."""
    import torch

    encodec = Path(torch.hub.get_dir(), "checkpoints").glob("encodec_*.th")
    dac = (Path.home() / ".cache" / "descript" / "dac").glob("weights_*.pth")
    found = [file.name for file in (*sorted(encodec), *sorted(dac))]
    return ", ".join(found) or "none of EnCodec or DAC here: they are downloaded at first use ('mini' needs none)"


def _semantic(fix: bool) -> str:
    """Look for what semantic tokens need: transformers hears, scikit-learn makes centroids."""
    missing = [name for name in ("transformers", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise Problem(
            f"not installed: {', '.join(missing)}; semantic tokens of HuBERT and others need it",
            "pip install 'unitok[semantic]'",
            optional=True,
        )
    return f"transformers {version('transformers')} hears, scikit-learn {version('scikit-learn')} clusters"


def _audio(fix: bool) -> str:
    """Write and read a tone: does soundfile find libsndfile, and does it know WAV and FLAC?"""
    import numpy as np
    import soundfile

    tone = np.sin(np.arange(1600, dtype=np.float32) * 0.1) / 2
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("wav", "flac"):
            path = Path(folder, f"tone.{kind}")
            soundfile.write(path, tone, 16000)
            back, rate = soundfile.read(path, dtype="float32")
            if rate != 16000 or not np.allclose(back, tone, atol=1e-4):
                remedy = "pip install --force-reinstall soundfile"
                raise Problem(f"a tone written as {kind} comes back different", remedy)
    return f"soundfile {soundfile.__version__} writes and reads wav and flac"


def _text(fix: bool) -> str:
    importlib.import_module("sentencepiece")
    return f"sentencepiece {version('sentencepiece')}"


def _memory(fix: bool) -> str:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return "unknown on this system"
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    detail = f"{total:.1f} GiB, {os.cpu_count()} CPU cores"
    if total < LEAST_MEMORY_GIB:
        raise Problem(detail, f"at least {LEAST_MEMORY_GIB:g} GiB are advised", optional=True)
    return detail


def _disk(fix: bool) -> str:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    if free < LEAST_DISK_GIB:
        raise Problem(f"{free:.1f} GiB free in {Path.cwd()}", f"free at least {LEAST_DISK_GIB:g} GiB", optional=True)
    return f"{free:.1f} GiB free in {Path.cwd()}"


def _cards(fix: bool) -> str:
    """Load every card, unitok's own and the user's, and name all that are broken."""
    counts, problems = [], []
    for kind in CARD_KINDS:
        cards = list_cards(kind)
        counts.append(f"{len(cards)} {kind}")
        for path in cards.values():
            try:
                _load_card(kind, path)
            except UnitokError as error:
                problems.append(str(error))
    if problems:
        raise Problem("\n".join(problems), "correct these files")
    return f"{', '.join(counts)} in {', '.join(map(str, [*user_roots(), card_root()]))}"


def _load_card(kind: str, path: Path) -> None:
    if kind == "tasks":
        from unitok.tasks import Pipeline, Task
        from unitok.tasks.task import has_stages

        if has_stages(path):
            Pipeline.load(path).outline()
        else:
            Task.load(path)
    elif kind == "tokenizers":
        from unitok.tokenizers.base import find_kind, read_tokenizer_card
        from unitok.tokenizers.settings import SETTINGS

        card = read_tokenizer_card(path)
        find_kind(card, path)
        if card["kind"] in SETTINGS:
            SETTINGS[card["kind"]].from_card(card)
    else:
        read_card(path)


def _mini(fix: bool) -> str:
    """Load the model that ships with unitok."""
    import unitok

    model = unitok.load("mini")
    parameters = sum(parameter.numel() for parameter in model.lm.parameters())
    return f"the embedded model loads: {parameters / 1e6:.1f} M parameters, tasks {', '.join(sorted(model.tasks))}"


def _voices(fix: bool) -> str:
    """Look for the synthesizers that `unitok synth` speaks with."""
    missing = [program for program in ("flite", "espeak-ng") if shutil.which(program) is None]
    if missing:
        raise Problem(
            f"not found: {', '.join(missing)}; 'unitok synth' speaks with them, nothing else does",
            f"apt-get install {' '.join(missing)}, or your system's counterpart",
            optional=True,
        )
    return "flite and espeak-ng, for 'unitok synth'"


REMEDY = "reinstall: pip install --force-reinstall unitok"

CHECKS: dict[str, Callable[[bool], str]] = {
    "python": _python,
    "torch": _torch,
    "torchaudio": _torchaudio,
    "kernels": _kernels,
    "codecs": _codecs,
    "weights": _weights,
    "semantic": _semantic,
    "audio": _audio,
    "text": _text,
    "memory": _memory,
    "disk": _disk,
    "cards": _cards,
    "mini": _mini,
    "voices": _voices,
}
"""The checks by name, in order: a later one may need what an earlier one mends."""
