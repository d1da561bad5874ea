"""What computes: the device, its number format, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from kiyas.types import KiyasError


@contextlib.contextmanager
def told_out_of_memory(setting: str) -> Iterator[None]:
    """Turns a device that is out of memory into a message that names the setting to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise KiyasError(
            f"the device ran out of memory: {str(error).splitlines()[0]}",
            f"set a lower {setting} and run the same command again; finished work is kept",
        ) from error


def pick_device(name: str) -> torch.device:
    """auto: the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise KiyasError(f"training.device: this machine has no {name!r} ({str(error).splitlines()[0]})") from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """auto: bfloat16 on a GPU that has it, else float32."""
    if name == "auto":
        real = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if real else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
