"""Tasks: what a card under `tasks/` means.

`task.py` reads cards, `field.py` their conditions and targets, `settings.py` their settings of generation,
`pipeline.py` cards that chain tasks (no torch in these four), `builder.py` lays values out as tokens, `example.py`
those of a card's example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitok.tasks.field import FIELD_KINDS, SOURCES, Field
from unitok.tasks.pipeline import Pipeline, find_pipeline, list_pipelines
from unitok.tasks.settings import GenerateDefaults, Sampling
from unitok.tasks.task import Task, list_tasks

if TYPE_CHECKING:
    from unitok.tasks.builder import SequenceBuilder

__all__ = [
    "FIELD_KINDS", "SOURCES", "Field", "GenerateDefaults", "Pipeline", "Sampling", "SequenceBuilder", "Task",
    "find_pipeline", "list_pipelines", "list_tasks",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the builder, and with it torch, only when it is asked for: listing tasks needs neither."""
    if name == "SequenceBuilder":
        from unitok.tasks.builder import SequenceBuilder

        return SequenceBuilder
    raise AttributeError(f"module 'unitok.tasks' has no attribute '{name}'")
