"""The mean of the weights of models that come from one: often as good as the better of them at everything.

Source: Wortsman et al. 2022, "Model soups" (arXiv:2203.05482); Ilharco et al. 2022 (arXiv:2208.05592), for what lies
between a model and its fine-tuned self.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from unitok.checkpoint import Checkpoint
from unitok.errors import UnitokError, VocabularyMismatchError
from unitok.model.compact import weight_type

__all__ = ["mix_checkpoints"]


def mix_checkpoints(base: Checkpoint, others: Sequence[tuple[Checkpoint, float]]) -> Checkpoint:
    """Return a model whose weights are a weighted mean; all else is that of `base`.

    Args:
        base: Has the share that the others leave.
        others: Models of the same sizes, tokenizers and ids, and the share of each; one may lack tasks or languages
            that `base` was taught later.

    Raises:
        UnitokError: If a share is not between 0 and 1 or they are more than the whole, or sizes, tokenizers or types
            of weights differ.
        VocabularyMismatchError: If ids mean something else.
    """
    shares = [share for _, share in others]
    if not others or not all(0 < share < 1 for share in shares) or sum(shares) > 1:
        told = ", ".join(f"{share:g}" for share in shares) or "none"
        raise UnitokError(
            f"shares of the other models are {told}; each must be between 0 and 1, all together at most 1."
        )
    for other, _ in others:
        _check(base, other)
    state = base.lm.state_dict()
    mixed = {name: tensor * (1 - sum(shares)) for name, tensor in state.items() if tensor.is_floating_point()}
    for other, share in others:
        theirs = other.lm.state_dict()
        for name in mixed:
            mixed[name] = mixed[name] + share * theirs[name]
    base.lm.load_state_dict(mixed, strict=False)
    return replace(base, notes={})


def _check(base: Checkpoint, other: Checkpoint) -> None:
    """Refuse a model whose weights do not mean the same."""
    names = f"'{base.name}' and '{other.name}'"
    for lm in (base.lm, other.lm):
        if (stored := weight_type(lm)) != "float32":
            raise UnitokError(f"{names}: weights stored as {stored} cannot be mixed. Mix models with float weights.")
    one, two = base.lm.state_dict(), other.lm.state_dict()
    differing = [name for name in one.keys() | two.keys() if _shape(one.get(name)) != _shape(two.get(name))]
    if differing:
        name = min(differing)
        raise UnitokError(
            f"{names} are not of the same sizes: '{name}' is {_shape(one.get(name))} and {_shape(two.get(name))}."
        )
    for part in base.tokenizers.keys() | other.tokenizers.keys():
        mine, its = (c.tokenizers[part].fingerprint if part in c.tokenizers else "none" for c in (base, other))
        if mine != its:
            raise UnitokError(f"{names} have different {part} tokenizers: {mine} and {its}.")
    for what in ("task_names", "lang_names"):
        mine, its = (list(getattr(c.vocabulary, what)) for c in (base, other))
        if its != mine[: len(its)]:
            raise VocabularyMismatchError(
                f"{names}: ids of {what.removesuffix('_names')}s mean something else: {', '.join(mine)}, and "
                f"{', '.join(its)}. Name the model with more of them first."
            )


def _shape(tensor: torch.Tensor | None) -> list[int] | None:
    return None if tensor is None else list(tensor.shape)
