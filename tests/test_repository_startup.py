"""`import unitok` and `unitok --help` are quick, whatever the libraries behind them weigh."""

import resource
import subprocess
import sys

import pytest

LIMIT_S = 0.5
HEAVY = ("torch", "torchaudio", "lightning", "transformers", "numpy", "matplotlib", "omegaconf")


def cpu_seconds(code: str) -> float:
    """CPU time of the quickest of three runs: unlike wall time it does not depend on what else the machine does."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def loaded_after(code: str) -> set[str]:
    listing = f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("code", ["import unitok", "from unitok.cli.main import main; main(['--help'])"])
def test_start_is_quick_and_imports_nothing_heavy(code):
    assert loaded_after(code) & set(HEAVY) == set()
    assert cpu_seconds(code) < LIMIT_S


def test_public_names_are_those_of_their_modules():
    import unitok
    from unitok.api import Model, load
    from unitok.audio import Audio
    from unitok.sequence import TokenSequence
    from unitok.tasks import Task
    from unitok.vocabulary import Vocabulary

    assert (unitok.Audio, unitok.Model, unitok.Task) == (Audio, Model, Task)
    assert (unitok.TokenSequence, unitok.Vocabulary, unitok.load) == (TokenSequence, Vocabulary, load)
    assert set(unitok.__all__) <= set(dir(unitok))


def test_unknown_public_name_says_what_there_is():
    import unitok

    with pytest.raises(AttributeError, match="no attribute 'Tokens'. It offers: Audio, Model"):
        _ = unitok.Tokens
