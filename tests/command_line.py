"""Commands of unitok, run in this process."""

from unitok.cli.main import main


def run(capsys, *argv) -> tuple[int, str, str]:
    """Return the exit status, and what went to stdout and to stderr."""
    try:
        status = main([str(word) for word in argv])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err
