"""Keys and values of past positions, in memory allocated once.

Letters: B rows, s new positions, S_max positions there is room for, H key and value heads, E width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GrowingCache", "StaticCache"]


class StaticCache:
    """Keys and values `[B, H, S_max, E]` of each layer. Rows may be at different positions.

    Once per step `advance` says how far the new positions reach and returns what each may see; then each layer calls
    `update`. Both deal in the used prefix only, so short sequences do not pay for S_max.

    What lies beyond a row's newest position is padding or another row's reach. Nothing sees it: a query sees up to its
    own position, and a row goes on where it ended, so that padding is overwritten before it could be seen.
    """

    in_place = True
    """New keys and values are written where there was room for them."""

    def __init__(
        self,
        n_layers: int,
        batch_size: int,
        n_heads: int,
        max_positions: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (batch_size, n_heads, max_positions, head_dim)
        # Zeros, not empty: a key that may not be seen has weight 0, and 0 times a stray NaN is NaN.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.max_positions = max_positions
        self.used = 0

    def advance(self, positions: Tensor, used: int | None = None) -> Tensor:
        """Make the used prefix reach new positions and return what each may see.

        Args:
            positions: Where they are in their rows, `[B, s]`, int64.
            used: One more than the largest of them, if the caller knows: finding out makes a GPU wait.

        Returns:
            attn_mask `[B, 1, s, used]`, bool: positions up to the query's own.

        Raises:
            ValueError: If a position is beyond the room there is.
        """
        self.reach(int(positions.max()) + 1 if used is None else used)
        return (torch.arange(self.used, device=positions.device) <= positions[..., None])[:, None]

    def reach(self, used: int) -> None:
        """Make the used prefix so long, if it is shorter.

        Raises:
            ValueError: If there is no room for it.
        """
        if used > self.max_positions:
            raise ValueError(
                f"position {used - 1} was asked for, the cache has room for {self.max_positions} positions. "
                "Make a larger one: new_cache(batch_size, max_positions)."
            )
        self.used = max(self.used, used)

    def update(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values and return all of the used prefix.

        Args:
            layer: Which layer they are of.
            key: `[B, H, s, E]`.
            value: `[B, H, s, E]`.
            positions: As given to `advance`, `[B, s]`.

        Returns:
            Keys and values `[B, H, used, E]`.
        """
        index = positions[:, None, :, None].expand_as(key)
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            store.scatter_(2, index, new.to(store.dtype))
        return self.keys[layer][:, :, : self.used], self.values[layer][:, :, : self.used]

    def keep(self, rows: Tensor) -> None:
        """Keep only the rows `[n]`, int64, in this order."""
        self.keys = [key[rows] for key in self.keys]
        self.values = [value[rows] for value in self.values]

    def join(self, other: StaticCache) -> None:
        """Append the rows of another cache; both then have the room of the larger one."""
        self.max_positions = max(self.max_positions, other.max_positions)
        self.used = max(self.used, other.used)
        self.keys = [self._joined(*pair) for pair in zip(self.keys, other.keys, strict=True)]
        self.values = [self._joined(*pair) for pair in zip(self.values, other.values, strict=True)]

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        joined = first.new_zeros(len(first) + len(second), first.shape[1], self.max_positions, first.shape[3])
        joined[: len(first), :, : first.shape[2]] = first
        joined[len(first) :, :, : second.shape[2]] = second
        return joined


class GrowingCache(StaticCache):
    """Keys and values that gradients flow through: for training, where positions come one after the other."""

    in_place = False

    def __init__(self, n_layers: int) -> None:
        self.keys, self.values = [], []
        self.n_layers, self.used = n_layers, 0

    def advance(self, positions: Tensor, used: int | None = None) -> Tensor:
        """Return what new positions, which all rows have in common, may see: everything so far."""
        self.used += positions.shape[1]
        return torch.ones(1, 1, positions.shape[1], self.used, dtype=torch.bool, device=positions.device)

    def update(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Put one layer's new keys and values `[B, H, s, E]` behind those before and return all of them."""
        if layer == len(self.keys):
            self.keys.append(key)
            self.values.append(value)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], key], dim=2)
            self.values[layer] = torch.cat([self.values[layer], value], dim=2)
        return self.keys[layer], self.values[layer]
