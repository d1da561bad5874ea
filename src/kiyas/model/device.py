"""What computes: the device, its number format, and what its errors mean."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from kiyas.types import KiyasError

RESERVE_BYTES = 2**30
"""Left free on a GPU: fragmentation, and what libraries take."""
AGAIN = "run the same command again: finished work is kept"

_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch, its libraries and the system write; only where the error has no class of its own."""
_LOST = re.compile(
    r"CUDA error|CUDA driver error|CUDNN_STATUS|CUBLAS_STATUS|CUDA failure|HIP error|NVML_ERROR|ECC error"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or this machine, had no memory left for what was asked of it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY)


def in_words(error: BaseException) -> KiyasError | None:
    """What an error of the device or of memory means, and what to do; None for one that is our own fault."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, KiyasError):
        return error
    if is_out_of_memory(error):
        on_device = isinstance(error, torch.OutOfMemoryError) or re.search(r"CUDA|MPS|CUBLAS|CUDNN", reason)
        return KiyasError(
            f"{'the device' if on_device else 'this machine'} ran out of memory: {reason}",
            "lower training.max_tokens_per_pass (in training) or generation.max_rows (in answering)"
            f"{'' if on_device else ', or training.workers'}, then {AGAIN}",
        )
    if not isinstance(error, RuntimeError | AssertionError):
        return None
    if re.search(r"driver .*too old|driver version is insufficient|Found no NVIDIA driver", str(error)):
        return KiyasError(
            f"the NVIDIA driver does not suit the torch that is installed: {reason}",
            "update the driver, or install a torch for an older CUDA; training.device=cpu does without",
        )
    if "no kernel image" in str(error):
        return KiyasError(
            f"the torch that is installed does not compute on this GPU: {reason}",
            "install a torch that supports its generation; training.device=cpu does without",
        )
    if re.search(
        r"not compiled with|invalid device ordinal|No CUDA GPUs|all CUDA-capable devices are busy", str(error)
    ):
        return KiyasError(f"the GPU cannot be used: {reason}", "see nvidia-smi; training.device names another device")
    # An assertion of a kernel is about what we gave it.
    if _LOST.search(str(error)) and "device-side assert" not in str(error):
        return KiyasError(
            f"the GPU failed: {reason}",
            f"{AGAIN}. Where it fails again nvidia-smi says more; training.device names another device",
        )
    return None


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Raises what the block raises in words, where there are some."""
    try:
        yield
    except Exception as error:
        told = in_words(error)
        if told is None:
            raise
        raise told from error


def pick_device(name: str) -> torch.device:
    """auto: the GPU where there is one. Raises KiyasError for a device that this machine has not."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        told = in_words(error)
        if told is not None:
            raise told from error
        raise KiyasError(f"training.device: this machine has no {name!r} ({str(error).splitlines()[0]})") from error
    return device


def pick_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """The base's number format. auto: on a GPU what its hardware computes fast and right, elsewhere float32.

    Raises KiyasError for bfloat16 on a GPU that does not compute it.
    """
    if torch.device(device).type == "cuda" and name in ("auto", "bfloat16"):
        major, minor = torch.cuda.get_device_capability(device)
        # Volta and Turing (7.x) have tensor cores for float16 only; torch emulates bfloat16 there, slowly.
        own = torch.bfloat16 if major >= 8 else torch.float16 if major == 7 else torch.float32
        if name == "bfloat16" and own != torch.bfloat16:
            card = f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor})"
            raise KiyasError(
                f"training.dtype: the {card} does not compute bfloat16",
                f"training.dtype={str(own).removeprefix('torch.')} or auto; or a GPU of capability 8.0 or above",
            )
        return own
    dtype = torch.float32 if name == "auto" else getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def pick_cpu_dtype(parameters: int, shape: tuple[int, int]) -> tuple[torch.dtype, str]:
    """The number format of a large base on this processor, and why: what a matrix product of `shape` says, or memory.

    With AMX bfloat16 is several times as fast as float32; without, several times as slow.
    """
    cpu = torch.device("cpu")
    single, half = (_seconds_of_product(shape, dtype) for dtype in (torch.float32, torch.bfloat16))
    if half * CLEARLY_FASTER < single:
        return torch.bfloat16, f"{single / half:.1f} times as fast as float32 here"
    free = available_bytes(cpu)
    if 4 * parameters > free >= 2 * parameters:
        return torch.bfloat16, f"in float32 its weights do not fit into {free / 2**30:.1f} GiB of free memory"
    return torch.float32, f"bfloat16 would take {half / single:.1f} times as long here"


CLEARLY_FASTER = 1.2


def _seconds_of_product(shape: tuple[int, int], dtype: torch.dtype) -> float:
    """The fastest of three products of 64 tokens; of fewer where they are slow."""
    outputs, inputs = shape
    x, weight = torch.ones(64, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    best, began = math.inf, time.perf_counter()
    for turn in range(4):
        start = time.perf_counter()
        x @ weight.T
        best = min(best, time.perf_counter() - start) if turn else best  # the first one warms up
        if turn and time.perf_counter() - began > 0.3:
            break
    return best


def available_bytes(device: torch.device) -> int:
    """Memory that this process may still take: the GPU's, with what its allocator holds unused given back; else the
    machine's or the control group's, whichever is less."""
    release(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([_machine_bytes(), *_group_bytes(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))])


def resident_bytes() -> int:
    """What this process holds of the machine's memory."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the libraries, about
        return 2**29


def give_back_large_blocks() -> None:
    """Makes glibc return freed blocks of a megabyte and more to the system at once, where it would keep up to half as
    much again in holes (docs/log.md). Costs page faults; so only for a base whose memory counts."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 2**20)  # M_MMAP_THRESHOLD


def release(device: torch.device) -> None:
    """Gives back what the allocator holds and nobody uses."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


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
