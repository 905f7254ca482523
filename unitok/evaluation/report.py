"""The report of an evaluation: `results.json`, `items.jsonl`, and `index.html`, one file that needs nothing beside it.

The page has the figures beside their baselines, then every item, the worst first, with players and spectrograms. Audio
and pictures are inside the page until `MAX_MB` are full; the rest of the items link to the files in `audio/`.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import io
import json
import math
import os
import platform
from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import unitok
from unitok.audio import Audio
from unitok.errors import AudioFormatError
from unitok.evaluation.outcomes import asked_words
from unitok.evaluation.results import Evaluation, Figure, MeasuredItem
from unitok.evaluation.statistics import Estimate
from unitok.files import write_text

__all__ = ["MAX_MB", "page", "results", "worst_first", "write_report"]

MAX_MB = 20.0
PACKAGES = ("torch", "torchaudio", "numpy", "jiwer", "sacrebleu", "torchmetrics", "pystoi", "pesq", "librosa",
            "scikit-learn", "pocketsphinx", "transformers")  # fmt: skip
ARROWS = {"lower": "lower is better", "higher": "higher is better", "one": "1 is best"}


def write_report(evaluation: Evaluation, folder: Path, max_mb: float = MAX_MB) -> None:
    """Write the three files, each whole or not at all.

    Args:
        evaluation: What was measured.
        folder: Where to.
        max_mb: Audio and pictures inside the page, in MB.
    """
    lines = (json.dumps(_row(one, folder), ensure_ascii=False) for one in evaluation.items)
    write_text(folder / "items.jsonl", "".join(f"{line}\n" for line in lines))
    write_text(folder / "index.html", page(evaluation, folder, max_mb))
    write_text(folder / "results.json", json.dumps(results(evaluation), indent=1, ensure_ascii=False) + "\n")


def results(evaluation: Evaluation) -> dict[str, Any]:
    """Return figures, settings and versions as plain values; figures that are not defined are null."""
    return {
        "task": evaluation.task.name,
        "items": len(evaluation.items),
        "failed": evaluation.n_failed,
        "metrics": {name: _figure(figure) for name, figure in evaluation.figures.items()},
        "not_measured": dict(evaluation.skipped),
        "settings": dict(evaluation.settings),
        "versions": {"unitok": unitok.__version__, "python": platform.python_version(), **_versions()},
    }


def worst_first(evaluation: Evaluation) -> list[MeasuredItem]:
    """Return the items, those that failed first, then by the first metric that items have, the worst first."""
    first = next((name for name in evaluation.figures if any(name in one.values for one in evaluation.items)), None)

    def badness(one: MeasuredItem) -> tuple[bool, float]:
        value = one.values.get(first or "", math.nan)
        return not one.error, -math.inf if math.isnan(value) else _goodness(evaluation.figures[first or ""], value)

    return sorted(evaluation.items, key=badness) if first else sorted(evaluation.items, key=lambda one: not one.error)


def _goodness(figure: Figure, value: float) -> float:
    if figure.metric.better == "one":
        return -abs(math.log(max(value, 1e-9)))
    return value if figure.metric.better == "higher" else -value


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        **_estimate(figure.estimate),
        "shown": str(figure.estimate),
        "better": figure.metric.better,
        "items": figure.n_items,
        "by": figure.by,
        "baselines": {name: _estimate(one) for name, one in figure.baselines.items()},
        "parts": {name: _number(value) for name, value in figure.parts.items()},
        "left_out": dict(figure.left_out),
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {key: _number(getattr(estimate, key)) for key in ("value", "low", "high")}


def _number(value: float) -> float | None:
    """Return a number as JSON has it: no infinities, no NaN."""
    return round(value, 6) if math.isfinite(value) else None


def _row(one: MeasuredItem, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"id": one.item.id, "lang": one.item.lang}
    row |= {
        "conditions": _plain(one.item.conditions, folder),
        "reference": _plain(one.item.reference, folder),
        "made": _plain(one.made, folder),
        "heard": dict(one.heard),
        "values": {name: _number(value) for name, value in one.values.items()},
        "error": one.error,
    }
    return {key: value for key, value in row.items() if value not in ("", None, {})}


def _plain(values: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return values as text; files below the report's folder relative to it."""
    return {name: ", ".join(_shown(one, folder) for one in _each(value)) for name, value in values.items()}


def _each(value: Any) -> list[Any]:
    """Return the values of a repeated condition, or the one of another."""
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _shown(value: Any, folder: Path) -> str:
    if isinstance(value, Path):
        return os.path.relpath(value, folder) if value.resolve().is_relative_to(folder.resolve()) else str(value)
    return value if isinstance(value, str) else repr(value)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def page(evaluation: Evaluation, folder: Path, max_mb: float = MAX_MB) -> str:
    """Return the page as HTML."""
    settings = evaluation.settings
    title = f"{evaluation.task.name}: {settings.get('model') or settings.get('generated')}"
    budget = _Budget(max_mb * 1e6)
    items = worst_first(evaluation)
    failed = f", {evaluation.n_failed} failed" if evaluation.n_failed else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(evaluation.task.description)} {len(items)} items{failed}. Intervals hold 95 % of bootstrap draws "
        "of items.</p>",
        _figures(evaluation.figures),
        _parts(evaluation.figures),
        _skipped(evaluation),
        f"<details><summary>Settings</summary><pre>{escape(json.dumps(dict(settings), indent=1, default=str))}</pre>"
        f"<pre>{escape(json.dumps(results(evaluation)['versions']))}</pre></details>",
        "<h2>Items, the worst first</h2>",
        _sorting(evaluation.figures),
        '<div id="items">',
        *(_item(one, evaluation, folder, budget) for one in items),
        "</div>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


@dataclasses.dataclass
class _Budget:
    """Bytes that still fit into the page."""

    left: float

    def take(self, n: int) -> bool:
        """Take n bytes if they fit."""
        if n > self.left:
            return False
        self.left -= n
        return True


def _figures(figures: Mapping[str, Figure]) -> str:
    others = list(dict.fromkeys(name for figure in figures.values() for name in figure.baselines))
    head = "".join(f"<th>{escape(name)}</th>" for name in ["metric", "value", *others, "items", "", "by"])
    rows = []
    for name, figure in figures.items():
        cells = [
            f'<td title="{escape(figure.metric.description)}">{escape(name)}</td>',
            f"<td><b>{escape(str(figure.estimate))}</b></td>",
            *(f"<td>{escape(str(figure.baselines[o])) if o in figure.baselines else ''}</td>" for o in others),
            f"<td>{figure.n_items}</td><td>{ARROWS[figure.metric.better]}</td><td>{escape(figure.by)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table id="figures"><tr>{head}</tr>{"".join(rows)}</table>'


def _parts(figures: Mapping[str, Figure]) -> str:
    tables = []
    for name, figure in figures.items():
        cells = "".join(
            f"<tr><td>{escape(part)}</td><td>{escape(figure.metric.shown(value))}</td></tr>"
            for part, value in figure.parts.items()
        )
        if cells:
            tables.append(f"<details><summary>{escape(name)} by part</summary><table>{cells}</table></details>")
    return "\n".join(tables)


def _skipped(evaluation: Evaluation) -> str:
    reasons = [f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in evaluation.skipped.items()]
    reasons += [
        f"<li>{escape(name)}, {len(figure.left_out)} items left out: {escape([*figure.left_out.values()][0])}</li>"
        for name, figure in evaluation.figures.items()
        if figure.left_out
    ]
    return f"<h2>Not measured</h2><ul>{''.join(reasons)}</ul>" if reasons else ""


def _sorting(figures: Mapping[str, Figure]) -> str:
    options = "".join(
        f'<option value="{escape(name)}">{escape(name)}</option>'
        for name, figure in figures.items()
        if figure.metric.per_item
    )
    return f'<label>by <select id="by">{options}</select></label>' if options else ""


def _item(one: MeasuredItem, evaluation: Evaluation, folder: Path, budget: _Budget) -> str:
    figures = {name: (evaluation.figures[name], value) for name, value in one.values.items()}
    goodness = {name: _number(_goodness(figure, value)) for name, (figure, value) in figures.items()}
    chips = "".join(
        f"<span>{escape(name)} {escape(f.metric.shown(value))}</span>" for name, (f, value) in figures.items()
    )
    given = [(name, value) for name, whole in one.item.conditions.items() for value in _each(whole)]
    rows = [_value("given", name, value, "", folder, budget) for name, value in given]
    for target in evaluation.task.targets:
        asked, made = one.item.reference.get(target.name), one.made.get(target.name)
        if asked is not None:
            rows.append(_value("right", target.name, asked, "", folder, budget))
        if made is not None:
            rows.append(_value("made", target.name, made, asked if isinstance(asked, str) else "", folder, budget))
        if target.name in one.heard:
            values = {**one.item.conditions, **one.item.reference}
            said = asked_words(evaluation.task, target, values, one.item.row) or ""
            rows.append(_value("heard", target.name, one.heard[target.name], said, folder, budget))
    error = f'<p class="error">{escape(one.error)}</p>' if one.error else ""
    return (
        f'<section data-goodness="{escape(json.dumps(goodness))}"><h3>{escape(one.item.id)}</h3>'
        f'<p class="chips">{chips}</p>{error}<table>{"".join(rows)}</table></section>'
    )


def _value(what: str, name: str, value: Any, beside: str, folder: Path, budget: _Budget) -> str:
    shown = _player(value, folder, budget) if isinstance(value, Path | Audio) else _text(str(value), beside)
    return f"<tr><th>{what}</th><th>{escape(name)}</th><td>{shown}</td></tr>"


def _text(text: str, beside: str) -> str:
    """Return a text, the words that differ from another text marked."""
    if not beside:
        return escape(text)
    words, others = text.split(), beside.split()
    plain = [[word.lower().strip(".,;:!?\"'¿¡") for word in some] for some in (others, words)]
    marked: list[str] = []
    for kind, _, _, start, stop in difflib.SequenceMatcher(None, *plain, autojunk=False).get_opcodes():
        piece = escape(" ".join(words[start:stop]))
        if kind == "delete":
            marked.append('<mark title="words are missing here">…</mark>')
        elif piece:
            marked.append(piece if kind == "equal" else f"<mark>{piece}</mark>")
    return " ".join(marked)


def _player(value: Path | Audio, folder: Path, budget: _Budget) -> str:
    from unitok.plotting import spectrogram_png

    try:
        audio = Audio.of(value)
    except AudioFormatError as error:
        return escape(str(error))
    sound, picture = _data("audio/flac", _flac(audio)), _data("image/png", spectrogram_png(audio))
    shown = f"{audio.duration_s:.2f} s, {audio.sample_rate_hz} Hz"
    if not budget.take(len(sound) + len(picture)):
        file = _shown(value, folder)
        player = f'<audio controls preload="none" src="{escape(file)}"></audio>' if isinstance(value, Path) else ""
        return f"{player} {escape(file)}"
    return f'<audio controls preload="none" src="{sound}"></audio> {shown}<br><img alt="spectrogram" src="{picture}">'


def _flac(audio: Audio) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(
        file, audio.samples.clamp(-1, 1).cpu().numpy().T, audio.sample_rate_hz, format="FLAC", subtype="PCM_16"
    )
    return file.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .25rem .7rem; text-align: left; vertical-align: top }
#figures td, #figures th { border-bottom: 1px solid #ddd } section { border-top: 1px solid #ccc; margin-top: 1rem }
section th { font-weight: normal; color: #777 } h3 { margin: .6rem 0 .2rem } mark { background: #ffd7b5 }
.chips span { background: #eef; border-radius: .6rem; padding: .1rem .6rem; margin-right: .4rem }
.error { color: #b00 } img { height: 80px; max-width: 100%; margin-top: .3rem }
audio { height: 2rem; vertical-align: middle }
"""
SCRIPT = """
const by = document.getElementById("by"), items = document.getElementById("items");
if (by) by.onchange = () => {
  const of = s => JSON.parse(s.dataset.goodness)[by.value] ?? -Infinity;
  [...items.children].sort((a, b) => of(a) - of(b)).forEach(s => items.append(s));
};
"""
