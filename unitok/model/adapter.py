"""Training a small part of a model: low-rank adapters on chosen layers, chosen weights, the embeddings of chosen ids.

`adapt` freezes everything else. An adapted layer computes W x + (alpha / rank) B A x, with W frozen, A random, B 0 at
first, so that training begins where the model stands; `merge` adds B A to W and leaves an ordinary model.

Source: LoRA (arXiv:2106.09685), section 4.1; what transformers' users know as `peft`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitok.errors import UnitokError, suggest
from unitok.model.lm import UnitokLM
from unitok.vocabulary import Vocabulary

__all__ = [
    "Adapter",
    "LoRALinear",
    "adapt",
    "load_trained_state",
    "merge",
    "trained_rows",
    "trained_state",
]


@dataclass(frozen=True)
class Adapter:
    """What of a model is trained, by names as in `UnitokLM.named_modules` and `.named_parameters`; `*` is anything."""

    modules: tuple[str, ...] = ("transformer.*_proj",)
    """Linear layers that get a low-rank adapter."""
    rank: int = 8
    """Width between A and B."""
    alpha: float = 16.0
    """What B A x is multiplied with, times rank."""
    dropout: float = 0.0
    """Share of the adapters' inputs that is dropped in training."""
    parameters: tuple[str, ...] = ()
    """Weights that are trained themselves, such as `local.*` or `*norm.weight`."""
    ids: tuple[str, ...] = ()
    """Blocks of the vocabulary whose embeddings (and rows of the head) are trained: `audio.*`, `task`, `control`."""

    def __post_init__(self) -> None:
        for name in ("modules", "parameters", "ids"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.rank < 1:
            raise ValueError(f"adapter: rank={self.rank}, allowed: 1 or more; modules=[] does without.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter: dropout={self.dropout}, allowed: at least 0 and below 1.")
        if not (self.modules or self.parameters or self.ids):
            raise ValueError("adapter: modules, parameters and ids are all empty, so nothing would be trained.")


class LoRALinear(nn.Linear):
    """A linear layer with a low-rank adapter beside its weight."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        """Take over the weight and bias of `linear`."""
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, self.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """Return `[..., D_out]` from `[..., D_in]`."""
        change = F.linear(F.linear(self.dropout(input), self.lora_a), self.lora_b)
        return super().forward(input) + self.scale * change

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a layer without adapter that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight + self.scale * self.lora_b @ self.lora_a)
        linear.bias = self.bias
        return linear


def adapt(lm: UnitokLM, adapter: Adapter, vocabulary: Vocabulary, new_ids: Sequence[int] = ()) -> UnitokLM:
    """Freeze a model, in place, but for what `adapter` names.

    Args:
        lm: The model.
        adapter: What to train.
        vocabulary: Of the model.
        new_ids: Ids that are trained whatever `adapter.ids` says: those that the model has just been given.

    Raises:
        UnitokError: If a name fits nothing.
    """
    lm.requires_grad_(False)
    linears = {name: module for name, module in lm.named_modules() if type(module) is nn.Linear}
    for name in _matching(adapter.modules, linears, "modules"):
        parent, _, child = name.rpartition(".")
        adapted = LoRALinear(linears[name], adapter.rank, adapter.alpha / adapter.rank, adapter.dropout)
        lm.get_submodule(parent).register_module(child, adapted)
    frozen = {name: p for name, p in lm.named_parameters() if not p.requires_grad}
    for name in _matching(adapter.parameters, frozen, "parameters"):
        frozen[name].requires_grad_(True)
    blocks = list(dict.fromkeys(block.name for block in vocabulary.blocks))
    ids = [vocabulary.ids_of(name) for name in _matching(adapter.ids, blocks, "ids")]
    trained = torch.zeros(vocabulary.size, dtype=torch.bool)
    trained[torch.cat([*ids, torch.as_tensor(new_ids, dtype=torch.int64)])] = True
    trained[lm.empty_id] = False
    if bool(trained.any()):
        for weight, rows in _tables(lm, trained):
            _train_rows(weight, rows)
    return lm


def merge(lm: UnitokLM) -> UnitokLM:
    """Put all low-rank adapters into the weights they belong to, in place."""
    for name, module in list(lm.named_modules()):
        if isinstance(module, LoRALinear):
            parent, _, child = name.rpartition(".")
            lm.get_submodule(parent).register_module(child, module.merged())
    return lm


def trained_state(lm: UnitokLM) -> dict[str, Tensor]:
    """Return what an adapted model trains: tensors by name; of tables with some trained rows, those rows."""
    state = {}
    for name, parameter in lm.named_parameters():
        if parameter.requires_grad:
            rows = trained_rows(parameter)
            state[name] = (parameter if rows is None else parameter[rows.to(parameter.device)]).detach().cpu()
            if rows is not None:
                state[f"{name}.rows"] = rows.nonzero()[:, 0]
    return state


@torch.no_grad()
def load_trained_state(lm: UnitokLM, state: dict[str, Tensor]) -> None:
    """Put what `trained_state` returned into a model adapted alike.

    Raises:
        UnitokError: If it is of a model adapted otherwise.
    """
    wanted = trained_state(lm)
    for name in wanted.keys() ^ state.keys():
        raise UnitokError(f"'{name}' is {'missing' if name in wanted else 'nothing that this adapter trains'}.")
    parameters = dict(lm.named_parameters())
    for name, value in state.items():
        if wanted[name].shape != value.shape or (name.endswith(".rows") and not torch.equal(wanted[name], value)):
            raise UnitokError(f"'{name}' is {list(value.shape)}, the model makes it {list(wanted[name].shape)}.")
        if name in parameters:
            rows = trained_rows(parameters[name])
            value = value.to(parameters[name])
            if rows is None:
                parameters[name].copy_(value)
            else:
                parameters[name][rows.to(value.device)] = value


def _train_rows(weight: Tensor, rows: Tensor) -> None:
    """Let only some rows of a table learn: the gradient of the others is 0, and so they must not decay either."""
    weight.requires_grad_(True)
    weight.trained_rows = rows  # type: ignore[attr-defined]
    weight.register_hook(lambda gradient: gradient * rows.to(gradient.device)[:, None])


def trained_rows(parameter: Tensor) -> Tensor | None:
    """Return the mask `[rows]` of the rows of a table that are trained, or None where all are trained."""
    return getattr(parameter, "trained_rows", None)


def _tables(lm: UnitokLM, trained: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tables that have a row for each id, and which of their rows are trained."""
    if not lm.embedding.weight.requires_grad:
        yield lm.embedding.weight, trained
    if lm.head is not None and not lm.head.weight.requires_grad:
        yield lm.head.weight, trained[lm.slot0_ids.cpu()]


def _matching(patterns: Iterable[str], names: Iterable[str], what: str) -> list[str]:
    names, found = list(names), dict[str, None]()
    for pattern in patterns:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            raise UnitokError(f"adapter: {what}: '{pattern}' fits none of {shown}.{suggest(pattern, names)}")
        found |= dict.fromkeys(matches)
    return list(found)
