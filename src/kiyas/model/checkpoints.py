"""Stack ↔ folders in PEFT's own format, and the optimizer state that a killed training goes on from."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kiyas.model.adapters import AdapterStack, FrozenStack, Site, Spec, StackedModel
from kiyas.model.meter import empty_model
from kiyas.runfolder import peft
from kiyas.runfolder.files import atomic_bytes, atomic_file, atomic_text, disk_errors
from kiyas.types import AdapterId, KiyasError

_PREFIX = "base_model.model."


def save_adapter(folder: Path, stack: AdapterStack, k: int, model: StackedModel, base: str, dropout: float) -> None:
    """Writes adapter k as `peft.PeftModel.from_pretrained` reads it. The folder appears whole or not at all."""
    tensors = {}
    for site, a_RI, b_OR in stack.weights(k):
        tensors[f"{_PREFIX}{site.name}.lora_A.weight"] = a_RI.detach().cpu().contiguous()
        tensors[f"{_PREFIX}{site.name}.lora_B.weight"] = b_OR.detach().cpu().contiguous()
    spec = stack.specs[k]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": dropout,
        "target_modules": sorted(site.name for site, _, _ in stack.weights(k)),
        "fan_in_fan_out": model.conv1d,
        "bias": "none",
        "inference_mode": True,
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with disk_errors(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        atomic_bytes(temporary / peft.WEIGHTS, save(tensors, metadata={"format": "pt"}))
        atomic_text(temporary / peft.CONFIG, json.dumps(config, indent=2) + "\n")
        with disk_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def saved_spec(folder: Path | None) -> Spec:
    """Rank and scale of a saved adapter; None is the base. Raises KiyasError when it is not a plain LoRA adapter."""
    if folder is None:
        return Spec(1, 1.0)
    adapter = peft.read_adapter(folder)
    return Spec(adapter.rank, adapter.alpha)


_UNREADABLE = (
    SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    ImportError, OSError, OverflowError, AssertionError,
)  # fmt: skip
"""What safetensors and PyTorch raise for files that are not theirs."""


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.name == peft.WEIGHTS:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KiyasError(f"{path} is broken: {reason}", "save or download it again") from error
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise KiyasError(f"{path}: expected tensors by name", "save the adapter again with save_pretrained")
    return {str(name): tensor for name, tensor in found.items()}


def read_weights(folder: Path, sites: Mapping[str, Site]) -> dict[str, tuple[Tensor, Tensor]]:
    """A [r, I] and B [O, r] of a saved adapter, float32, by the base's layers.

    Raises KiyasError for weights that are missing, not finite, of another base, or not a plain LoRA adapter's.
    """
    adapter, path = peft.read_adapter(folder), peft.weights_file(folder)
    weights = _weights(path)
    entries = {name: peft.Entry(tuple(each.shape), _dtype_name(each.dtype)) for name, each in weights.items()}
    pairs = peft.pairs(path, adapter, entries)
    found = {}
    for module, site in peft.in_base(path, adapter, pairs, sites).items():
        a_RI, b_OR = (weights[name].float() for name in pairs[module])
        ours, theirs = (sites[site].inputs, sites[site].outputs), (a_RI.shape[1], b_OR.shape[0])
        if ours != theirs:
            raise KiyasError(
                f"{path}: {site} takes {theirs[0]} and gives {theirs[1]} values, in this base {ours[0]} and {ours[1]}",
                "use the base that it was trained on (model_name_or_path)",
            )
        if not (a_RI.isfinite().all() and b_OR.isfinite().all()):
            raise KiyasError(
                f"{path}: the weights of {site} are not finite", "its training diverged: leave this checkpoint out"
            )
        found[site] = a_RI, b_OR
    return found


def _dtype_name(dtype: torch.dtype) -> str:
    return _FORMATS[dtype] if dtype in _FORMATS else str(dtype).removeprefix("torch.")


_FORMATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def refuse_unreadable(folders: Iterable[Path], base: Path, target_modules: str | Sequence[str]) -> None:
    """Reads adapters that were trained elsewhere as an answering run will, on the shapes of a base without its weights.

    Raises KiyasError for the first that cannot be used with this base, or that changes none of its answers.
    """
    sites = {site.name: site for site in StackedModel(empty_model(base), target_modules).sites}
    for folder in folders:
        weights = read_weights(folder, sites)
        if not any(bool(a_RI.any()) and bool(b_OR.any()) for a_RI, b_OR in weights.values()):
            raise KiyasError(
                f"{folder}: B A is zero everywhere: an untrained adapter, which answers as the base does",
                "leave this checkpoint out: the base is answered anyway",
            )


def load_stack(
    adapters: list[tuple[AdapterId, Path | None]], model: StackedModel, device: torch.device, dtype: torch.dtype
) -> FrozenStack:
    """A stack of saved adapters in the given order, ready to answer; None is the base: an adapter of zeros.

    One adapter's file is in memory at a time. Raises KiyasError when a folder is missing or broken, or its modules are
    not the model's.
    """
    specs = [saved_spec(folder) for _, folder in adapters]
    stack = FrozenStack([id for id, _ in adapters], specs, model.sites, device, dtype)
    sites = {site.name: site for site in model.sites}
    for k, (_, folder) in enumerate(adapters):
        if folder is not None:
            stack.put(k, read_weights(folder, sites))
    return stack


# -- the state that a killed training goes on from -------------------------------------------------------------------

# A safetensors file (https://github.com/huggingface/safetensors#format): the length of a JSON header in 8 bytes, the
# header, the tensors one after another. Its library wants every tensor in host memory, as bytes, at once; here there
# is one block at a time.
_BLOCK_BYTES = 2**25
_UNKNOWN = "0" * 64
_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


def save_state(path: Path, tensors: Mapping[str, Tensor], notes: dict[str, Any]) -> None:
    """Writes contiguous tensors and plain notes in one file, whole or not at all. Host memory: one block of rows."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    # The digest of all that follows the length, with zeros in the digest's own place.
    header = json.dumps({"__metadata__": {"sha256": _UNKNOWN, "notes": json.dumps(notes)}, **entries}).encode()
    header += b" " * (-len(header) % 8)  # the format aligns tensors
    sha = hashlib.sha256(header)
    with atomic_file(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in tensors.values():
            for block in _blocks(tensor):
                data = block.cpu().numpy().data
                sha.update(data)
                file.write(data)
        file.seek(8 + header.index(_UNKNOWN.encode()))
        file.write(sha.hexdigest().encode())


def load_state(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Puts the saved state into `tensors` and returns its notes; None, and nothing is put, where there is none.

    Raises KiyasError for a file that is broken or holds other tensors. Host memory: one block of rows.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:
        notes, entries = _header(path, file)
        start = file.tell()
        _refuse_changed(path, file, start)
        for name, tensor in tensors.items():
            entry = entries.pop(name, None)
            if entry is None or (entry["dtype"], entry["shape"]) != (_NAMES[tensor.dtype], list(tensor.shape)):
                raise _broken(path, f"{name} is {'not in it' if entry is None else 'of another shape'}")
            file.seek(start + entry["data_offsets"][0])
            for block in _blocks(tensor):
                here = block if block.device.type == "cpu" else torch.empty_like(block, device="cpu")
                if file.readinto(here.numpy().data) != block.nbytes:
                    raise _broken(path, "it was cut off")
                if here is not block:
                    block.copy_(here)
    return notes


def _refuse_changed(path: Path, file: IO[bytes], start: int) -> None:
    """Raises KiyasError for a state that is not what was written. An older version wrote no digest."""
    file.seek(8)
    header = file.read(start - 8)
    written = json.loads(header)["__metadata__"]
    if written.keys() == {"notes"}:  # of version 0.1.0
        return
    if "sha256" not in written:
        raise _broken(path, "it is not what was written")
    sha = hashlib.sha256(header.replace(written["sha256"].encode(), _UNKNOWN.encode(), 1))
    while block := file.read(_BLOCK_BYTES):
        sha.update(block)
    if sha.hexdigest() != written["sha256"]:
        raise _broken(path, "it is not what was written")


def state_notes(path: Path) -> dict[str, Any] | None:
    """The notes of a saved state alone; None without one."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return _header(path, file)[0]


def _header(path: Path, file: IO[bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Notes, and the tensors' entries by name."""
    length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
    if length < size:
        peft.refuse_long_header(path)
    try:
        entries = json.loads(file.read(length) if length < size else b"")
        notes = json.loads(entries.pop("__metadata__")["notes"])
        whole = size == 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _broken(path, str(error)) from error
    if not whole:
        raise _broken(path, "it was cut off")
    return notes, entries


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor's bytes in order, as views of at most a block."""
    flat = tensor.detach().view(-1).view(torch.uint8)
    for start in range(0, len(flat), _BLOCK_BYTES):
        yield flat[start : start + _BLOCK_BYTES]


def _broken(path: Path, reason: str) -> KiyasError:
    return KiyasError(f"{path} is broken: {reason}", "remove it to train again from the start")
