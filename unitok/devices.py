"""Where to compute: a device by name, checked before anything is loaded onto it."""

from __future__ import annotations

import torch

from unitok.errors import UnitokError

__all__ = ["find_device"]


def find_device(name: str | torch.device | None = None) -> torch.device:
    """Return a device that can be used on this machine.

    Args:
        name: Such as `"cpu"`, `"cuda"` or `"cuda:1"`; None is a GPU if there is one, else the CPU.

    Raises:
        UnitokError: If there is none of that name here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # as PyTorch has it, by what is missing
        allowed = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        allowed += ["mps"] * torch.backends.mps.is_available()
        reason = str(error).splitlines()[0].rstrip(".")
        raise UnitokError(
            f"device '{name}' is none that PyTorch {torch.__version__} can use here ({reason}). "
            f"Allowed: {', '.join(allowed)}."
        ) from error
    return device
