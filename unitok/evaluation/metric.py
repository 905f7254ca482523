"""What a metric is, and the table of all of them by name. Imports no torch: cards are checked quickly.

A metric looks at pairs, each what was asked for and what was made, and notes an observation of each: a few numbers, or
texts. Its figure is a function of all observations, so that corpus rates are sums over sums, and draws of them with
replacement give its interval.

```python
@register_metric("loudness_error", takes="audio", better="lower", unit=" dB", value=mean)
def loudness_error(reference, made, tools):
    "Difference of the levels of two recordings."
    return abs(level_db(reference) - level_db(made))
```

A package brings metrics of its own under the entry point group `unitok.metrics`: each entry names a module to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from unitok.errors import DataError, UnitokError, suggest
from unitok.evaluation.statistics import Estimate, bootstrap

if TYPE_CHECKING:
    from unitok.evaluation.tools import Tools

__all__ = [
    "Better",
    "Metric",
    "NotMeasurableError",
    "Observe",
    "Takes",
    "find_metric",
    "list_metrics",
    "load_entry_points",
    "metric_and_target",
    "register_metric",
]

Takes = Literal[
    "texts", "heard", "units", "audio", "voice", "caption", "labels", "scores", "rank", "events", "likelihood"
]
"""What the pairs hold.

texts: two texts; of a task that makes audio only, what had to be said and what a recogniser hears.
heard: the same, always of audio.
units: two rows of semantic ids.
audio: two recordings. voice: a recording of the voice that was asked for, and what was made.
caption: a text, and the recording made of it.
labels: two sets of labels. scores: a set of labels, and a score for each label that there is.
rank: nothing, and the place of the item's own text among the texts of all items, 1 for the likeliest.
events: two lists of `Event`.
likelihood: nothing, and for each kind of token its log-likelihood given the right ones before it (`Part`).
"""
Better = Literal["lower", "higher", "one"]
"""Which way is better; `one`: the nearer to 1."""
Observe: TypeAlias = "Callable[[Any, Any, Tools], Any]"

GROUP = "unitok.metrics"
BUILT_IN = ("text", "structured", "labels", "retrieval", "events", "signals", "similarity", "likelihood")


class NotMeasurableError(UnitokError, ValueError):
    """A metric cannot be measured on what there is; the message says what is missing."""


@dataclass(frozen=True)
class Metric:
    """One way to measure what was made."""

    name: str
    """As cards have it."""
    description: str
    """First line of the docstring of `observe`."""
    takes: Takes
    """What its pairs hold."""
    better: Better
    """Which way is better."""
    observe: Observe
    """(asked for, made, tools) -> observation of one pair."""
    value: Callable[[Sequence[Any]], float]
    """Observations -> figure."""
    unit: str = ""
    """Printed after the figure."""
    scale: float = 1.0
    """The figure is printed times this."""
    digits: int = 2
    """So many digits are printed after the point."""
    per_item: bool = True
    """Does one observation alone have a figure?"""
    paired: bool = True
    """Does it matter which reference belongs to what was made? Else `shuffled` is no baseline."""
    draws: int = 1000
    """Draws of the bootstrap."""
    parts: Callable[[Sequence[Any]], Mapping[str, float]] | None = None
    """Observations -> figures of parts: of each codebook, each class."""
    uses: str = ""
    """The embedder that it needs: `speaker`, `sound` or `caption`."""
    library: str = ""
    """What computes it."""
    source: str = ""
    """Where it is defined."""

    def figure(self, observations: Sequence[Any], seed: int = 0) -> Estimate:
        """Return the figure of observations, with its interval.

        Raises:
            DataError: If there are none.
        """
        return bootstrap(self.value, observations, seed, self.draws, self.unit, self.scale, self.digits)

    def estimate(self, references: Sequence[Any], made: Sequence[Any], tools: Tools | None = None) -> Estimate:
        """Observe pairs and return the figure.

        Raises:
            DataError: If there are none, or not as many of both.
            MissingDependencyError: If what computes it is not installed.
        """
        if len(references) != len(made) or not references:
            raise DataError(
                f"Got {len(references)} references and {len(made)} hypotheses. Give as many of both, at least one."
            )
        if tools is None:
            from unitok.evaluation.tools import Tools

            tools = Tools()
        return self.figure([self.observe(*pair, tools) for pair in zip(references, made, strict=True)])

    def shown(self, value: float) -> str:
        """Return a figure as it is printed."""
        return f"{self.scale * value:.{self.digits}f}{self.unit}"


_METRICS: dict[str, Metric] = {}


def register_metric(
    name: str,
    *,
    takes: Takes,
    better: Better,
    value: Callable[[Sequence[Any]], float],
    unit: str = "",
    scale: float = 1.0,
    digits: int = 2,
    per_item: bool = True,
    paired: bool = True,
    draws: int = 1000,
    parts: Callable[[Sequence[Any]], Mapping[str, float]] | None = None,
    uses: str = "",
    library: str = "",
    source: str = "",
) -> Callable[[Observe], Observe]:
    """Make a function `(asked for, made, tools) -> observation` a metric; the fields are those of `Metric`.

    Raises:
        DataError: If another function owns the name, or a field has no allowed value.
    """
    for given, allowed, what in ((takes, get_args(Takes), "takes"), (better, get_args(Better), "better")):
        if given not in allowed:
            raise DataError(f"metric '{name}': {what} is '{given}', allowed: {', '.join(allowed)}.")

    def register(observe: Observe) -> Observe:
        owner = _METRICS.get(name)
        if owner is not None and _home(owner.observe) != _home(observe):
            raise DataError(f"metric '{name}' belongs to {_home(owner.observe)}; give {_home(observe)} another name.")
        description = (observe.__doc__ or "").strip().splitlines()
        _METRICS[name] = Metric(
            name=name,
            description=description[0] if description else "",
            takes=takes,
            better=better,
            observe=observe,
            value=value,
            unit=unit,
            scale=scale,
            digits=digits,
            per_item=per_item,
            paired=paired,
            draws=draws,
            parts=parts,
            uses=uses,
            library=library,
            source=source,
        )
        return observe

    return register


def list_metrics() -> dict[str, Metric]:
    """Return all metrics by name: unitok's, those of installed packages, those registered by hand."""
    for module in BUILT_IN:
        import_module(f"unitok.evaluation.{module}")
    load_entry_points(GROUP)
    return dict(sorted(_METRICS.items()))


def find_metric(name: str) -> Metric:
    """Return a metric by its name, or by its name and a target, `wer:transcript`.

    Raises:
        DataError: If there is none.
    """
    metrics, (wanted, _) = list_metrics(), metric_and_target(name)
    if wanted not in metrics:
        raise DataError(f"there is no metric '{wanted}'.{suggest(wanted, metrics)} There are: {', '.join(metrics)}.")
    return metrics[wanted]


def metric_and_target(name: str) -> tuple[str, str | None]:
    """Split `wer:transcript` into the metric and the target of the task that it looks at, None where none is named."""
    metric, _, target = name.partition(":")
    return metric, target or None


@cache
def load_entry_points(group: str) -> None:
    """Import the modules that installed packages name under an entry point group, once.

    Raises:
        DataError: If one cannot be imported.
    """
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:  # whatever a package of others raises, its name is what helps
            raise DataError(f"entry point '{entry.name}' of {group} ({entry.value}) fails: {error}.") from error


def _home(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"
