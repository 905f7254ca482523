"""What happens when in a recording: events as text, and their F1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unitok.errors import DataError
from unitok.evaluation.labels import micro_f1
from unitok.evaluation.metric import register_metric

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = ["Event", "match_events", "read_events"]

ONSET_S = 0.2
"""An onset may be off by so much."""
OFFSET_SHARE = 0.2
"""An offset may be off by this share of the event's length, or by `ONSET_S` if that is more."""
NUMBER = r"\d+(?:\.\d+)?"
STAMP = re.compile(rf"<({NUMBER})>")


class Event(NamedTuple):
    """One sound with its time."""

    label: str
    start_s: float
    stop_s: float


def read_events(value: str | Sequence[Any]) -> list[Event]:
    """Return the events of a text `"0.0-1.2 dog; 2.5-3 rain"`, or of rows `{"label", "start_s", "stop_s"}` or triples.

    A text of time stamps, `"<0.00><1.20><2.50><3.00>"`, is pairs of starts and stops without labels. Of a text, parts
    without two times are passed over: models write it.

    Raises:
        DataError: If a row has other fields, or an event stops before it starts.
    """
    if isinstance(value, str):
        times = [float(time) for time in STAMP.findall(value)]
        if times:
            spans = zip(times[::2], times[1::2], strict=False)
            return [Event("", start, stop) for start, stop in spans if stop >= start]
        found = (re.match(rf"\s*({NUMBER})\s*(?:-|–|to|\s)\s*({NUMBER})\s+(.+)", part) for part in value.split(";"))
        events = [Event(m[3], float(m[1]), float(m[2])) for m in found if m and float(m[2]) >= float(m[1])]
    else:
        events = [_event(row) for row in value]
    return [Event(" ".join(e.label.lower().split()), e.start_s, e.stop_s) for e in events]


def _event(row: Any) -> Event:
    try:
        fields = (row["label"], row["start_s"], row["stop_s"]) if isinstance(row, Mapping) else tuple(row)
        event = Event(str(fields[0]), float(fields[1]), float(fields[2]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f'an event is {{"label": "dog", "start_s": 0.0, "stop_s": 1.2}}, got {row!r}.') from error
    if event.stop_s < event.start_s:
        raise DataError(f"event '{event.label}' stops at {event.stop_s} s, before it starts at {event.start_s} s.")
    return event


def match_events(reference: Sequence[Event], made: Sequence[Event]) -> int:
    """Return how many events can be paired at most: same label, onsets and offsets within their tolerances."""
    if not reference or not made:
        return 0
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    fits = np.array([[_fits(one, other) for other in made] for one in reference])
    return int((maximum_bipartite_matching(csr_matrix(fits), perm_type="column") >= 0).sum())


def _fits(reference: Event, made: Event) -> bool:
    offset_s = max(ONSET_S, OFFSET_SHARE * (reference.stop_s - reference.start_s))
    slack = 1e-9  # 1.2 - 1.0 is more than 0.2 in floating point
    return (
        reference.label == made.label
        and abs(reference.start_s - made.start_s) <= ONSET_S + slack
        and abs(reference.stop_s - made.stop_s) <= offset_s + slack
    )


@register_metric(
    "event_f1", takes="events", better="higher", unit=" %", scale=100, digits=1, value=micro_f1, library="scipy",
    source="Mesaros et al., 2016 (event-based, onset 200 ms, offset 200 ms or 20 %)",
)  # fmt: skip
def _event_f1(reference: Sequence[Event], made: Sequence[Event], tools: Tools) -> tuple[int, int, int]:
    """F1 of events with the right label at the right time, counted over all items."""
    hits = match_events(reference, made)
    return hits, len(made) - hits, len(reference) - hits
