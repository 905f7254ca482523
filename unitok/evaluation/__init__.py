"""Measuring what models make: metrics by name, recognisers and embedders, baselines, reports.

```python
from unitok.evaluation import evaluate, find_metric, register_metric
```

`runner.py` generates and measures, `metric.py` says what a metric is, `report.py` writes the page.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitok.evaluation.embedders import register_embedder
    from unitok.evaluation.metric import Metric, find_metric, list_metrics, register_metric
    from unitok.evaluation.results import Evaluation
    from unitok.evaluation.runner import evaluate

__all__ = ["Evaluation", "Metric", "evaluate", "find_metric", "list_metrics", "register_embedder", "register_metric"]

_HOMES = {
    "Evaluation": "results",
    "Metric": "metric",
    "evaluate": "runner",
    "find_metric": "metric",
    "list_metrics": "metric",
    "register_embedder": "embedders",
    "register_metric": "metric",
}


def __getattr__(name: str) -> Any:
    """Import a public name, and with it torch where it needs that, only when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unitok.evaluation' has no attribute '{name}'. It offers: {', '.join(__all__)}.")
    return getattr(import_module(f"unitok.evaluation.{_HOMES[name]}"), name)
