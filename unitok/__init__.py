"""unitok: every audio task as one token sequence, learned by one multi-scale Transformer.

`import unitok` is quick and imports no torch: each public name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitok.api import Model, load
    from unitok.audio import Audio
    from unitok.generation.pipelines import load_stages
    from unitok.sequence import TokenSequence
    from unitok.tasks import Task
    from unitok.tokenizers.lexicon import Pronounced
    from unitok.vocabulary import Vocabulary

__version__ = "0.1.0"

__all__ = ["Audio", "Model", "Pronounced", "Task", "TokenSequence", "Vocabulary", "__version__", "load", "load_stages"]

_HOMES = {
    "Audio": "unitok.audio",
    "Model": "unitok.api",
    "Pronounced": "unitok.tokenizers.lexicon",
    "Task": "unitok.tasks",
    "TokenSequence": "unitok.sequence",
    "Vocabulary": "unitok.vocabulary",
    "load": "unitok.api",
    "load_stages": "unitok.generation.pipelines",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unitok' has no attribute '{name}'. It offers: {', '.join(__all__)}.")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
