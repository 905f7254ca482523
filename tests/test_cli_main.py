"""The command line's frame: global flags, errors on one line, exit statuses."""

import errno
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from unitok.cli import main as cli
from unitok.errors import DataError

OWN_PARSER = [name for name, command in cli.COMMANDS.items() if not command.raw]


def command_that(action, monkeypatch):
    """Put a command `act` into the table whose `run` calls `action(args)`."""

    def add_arguments(parser):
        parser.add_argument("--number", type=int)

    module = SimpleNamespace(add_arguments=add_arguments, run=lambda args: action(args) or 0)
    monkeypatch.setitem(sys.modules, "unitok.cli.act", module)
    monkeypatch.setitem(cli.COMMANDS, "act", cli.Command("act", "do it"))


def raiser(error):
    def raise_it(args):
        raise error

    return raise_it


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        sys.exit(cli.main([name, "--help"]))
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"{name}" in out
    if name in OWN_PARSER:
        assert out.startswith(f"usage: unitok {name}")
        assert "--cards DIR" in out


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in out
        assert command.help in out


def test_every_command_module_is_in_the_table():
    folder = Path(cli.__file__).parent
    commands = {path.stem for path in folder.glob("*.py") if re.search(r"^def run\(", path.read_text(), re.MULTILINE)}
    assert commands == {command.module for command in cli.COMMANDS.values()}


def test_nothing_is_a_mistake_answered_with_help(capsys):
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: unitok")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["genrate"], "unknown command 'genrate'. Did you mean 'generate'?"),
        (["--verson"], "unknown option '--verson'. Did you mean '--version'?"),
        (["doctor", "--fxi"], "unrecognized arguments: --fxi. Did you mean '--fix'?"),
        (["doctor", "--cards"], "argument --cards: expected one argument."),
        (["doctor", "tourch"], "unknown check 'tourch'. Did you mean 'torch'?"),
        (["tasks", "--cards", "/no/such/folder"], "card folder '/no/such/folder'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(argv, line, capsys):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"unitok: {line}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("a.jsonl, line 3: no 'text'. Add it."), 2, "unitok: a.jsonl, line 3: no 'text'. Add it.\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.wav"),
            2,
            "unitok: x.wav: No such file or directory.\n",
        ),
        (OSError("Could not load this library: /lib/_torchaudio.abi3.so"), 2, "Run 'unitok doctor --fix'.\n"),
        (KeyboardInterrupt(), 130, "unitok: interrupted\n"),
    ],
)
def test_errors_of_a_command_are_one_line(error, status, line, capsys, monkeypatch):
    command_that(raiser(error), monkeypatch)
    assert cli.main(["act"]) == status
    err = capsys.readouterr().err
    assert err.endswith(line)
    assert err.count("\n") == 1


def test_debug_adds_the_traceback(capsys, monkeypatch):
    command_that(raiser(DataError("row 3 is empty.")), monkeypatch)
    assert cli.main(["act", "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("unitok: row 3 is empty.\n")


def test_a_bug_shows_its_traceback_and_is_no_user_error(capsys, monkeypatch):
    command_that(lambda args: 1 // 0, monkeypatch)
    assert cli.main(["act"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "this is a bug in unitok" in err


@pytest.mark.parametrize("argv", [["--quiet", "act", "--number", "3"], ["act", "--number", "3", "--quiet"]])
def test_global_flags_stand_before_or_after_the_command(argv, monkeypatch):
    seen = []
    command_that(seen.append, monkeypatch)
    assert cli.main(argv) == 0
    assert (seen[0].quiet, seen[0].verbose, seen[0].number) == (True, False, 3)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["--quiet"], "w"), ([], "i w"), (["--verbose"], "d i w")],
    ids=["quiet", "plain", "verbose"],
)
def test_logs_go_to_stderr_at_the_level_asked_for(flags, expected, capsys, monkeypatch):
    def speak(args):
        log = logging.getLogger("unitok.act")
        log.debug("d"), log.info("i"), log.warning("w")
        print("result")

    command_that(speak, monkeypatch)
    assert cli.main(["act", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert captured.err.split() == expected.split()


def test_cards_flag_lasts_as_long_as_the_command(tmp_path, monkeypatch):
    from unitok.cards import user_roots

    one, two, inherited = tmp_path / "one", tmp_path / "two", tmp_path / "inherited"
    for folder in (one, two, inherited):
        folder.mkdir()
    monkeypatch.setenv("UNITOK_CARDS", str(inherited))
    seen = []
    command_that(lambda args: seen.extend(user_roots()), monkeypatch)
    assert cli.main(["--cards", str(one), "act", "--cards", str(two)]) == 0
    assert seen == [one, two, inherited]
    assert os.environ["UNITOK_CARDS"] == str(inherited)


def test_raw_commands_get_their_arguments_untouched(monkeypatch):
    seen = []
    monkeypatch.setitem(sys.modules, "unitok.cli.act", SimpleNamespace(run=lambda argv: seen.append(argv) or 0))
    monkeypatch.setitem(cli.COMMANDS, "act", cli.Command("act", "do it", raw=True))
    assert cli.main(["--quiet", "act", "--config", "a.yaml", "--model.lr=1e-3", "--trainer.devices", "2"]) == 0
    assert seen == [["act", "--config", "a.yaml", "--model.lr=1e-3", "--trainer.devices", "2"]]


def test_a_reader_that_leaves_is_no_error():
    # `yes`-like output into a pipe whose other end is closed at once.
    code = "import sys; from unitok.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=30)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.returncode == 141


def test_python_dash_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "unitok", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("unitok 0.")
