"""What computes: the device, its number format, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

import torch

from kiyas.types import KiyasError

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


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """auto: bfloat16 on a GPU that has it, else float32."""
    if name == "auto":
        real = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if real else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
