"""What computes: the device, its number format, and what its errors mean."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

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


def available_bytes(device: torch.device) -> int:
    """Memory that this process may still take: the GPU's, with what its allocator holds unused given back; else the
    machine's or the control group's, whichever is less."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    return min([_machine_bytes(), *_group_bytes(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))])


def _machine_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: half of what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _group_bytes(root: Path, own: Path) -> list[int]:
    """What is left below the limit of every control group that this process is in (version 2 and 1)."""
    left = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group == top.parent:
                break
            with contextlib.suppress(OSError, ValueError, StopIteration):
                limit, used = (int((group / name).read_text()) for name in names[:2])  # "max" is no number
                stat = (group / "memory.stat").read_text().splitlines()
                files = next(int(row.split()[1]) for row in stat if row.split()[0] == names[2])
                left.append(max(0, limit - used + files))  # files that were read are given up when memory is short
    return left
