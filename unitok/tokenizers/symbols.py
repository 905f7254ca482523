"""Pieces of text that stand for more than letters: time stamps and notes, one id each where a vocabulary has them.

    <0.40>the<0.52>doctor          when each word begins, in seconds
    <A4><0.50>la<rest><0.25>       a note, how long it is held, and what is sung to it; a rest

They are text: any tokenizer spells them, one that was trained with them (`unitok train-tokenizer --time-stamps 30
--notes`) with a single id.
"""

from __future__ import annotations

from unitok.errors import TokenizerError

__all__ = ["REST", "note_symbol", "note_symbols", "time_symbol", "time_symbols"]

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
REST = "<rest>"


def time_symbol(seconds: float) -> str:
    """Return the stamp of a time or a duration, `<1.30>`."""
    return f"<{seconds:.2f}>"


def time_symbols(seconds: float, step: float = 0.02) -> list[str]:
    """Return the stamps from `<0.00>` up to `seconds`.

    Args:
        seconds: The last one.
        step: From one to the next, in s; 0.02 as in Whisper (arXiv:2212.04356, section 2.3).

    Raises:
        TokenizerError: If the step is less than what a stamp shows, or more than the whole.
    """
    if not 0.01 <= step <= seconds:
        raise TokenizerError(
            f"time stamps up to {seconds:g} s, one each {step:g} s: allowed are steps from 0.01 s to the whole."
        )
    return [time_symbol(i * step) for i in range(round(seconds / step) + 1)]


def note_symbol(pitch: int) -> str:
    """Return the note of a MIDI pitch: 69 is `<A4>`, 440 Hz."""
    return f"<{NOTES[pitch % 12]}{pitch // 12 - 1}>"


def note_symbols() -> list[str]:
    """Return the 128 notes of MIDI, `<C-1>` to `<G9>`, and `<rest>`."""
    return [*map(note_symbol, range(128)), REST]
