"""Stack ↔ folders in PEFT's own format, and the optimizer state that a killed training goes on from."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kiyas.model.adapters import AdapterStack, FrozenStack, Site, Spec, StackedModel
from kiyas.runfolder.files import atomic_bytes, atomic_text, disk_errors, read_json
from kiyas.types import AdapterId, KiyasError

WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
CONFIG = "adapter_config.json"
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
        atomic_bytes(temporary / WEIGHTS, save(tensors, metadata={"format": "pt"}))
        atomic_text(temporary / CONFIG, json.dumps(config, indent=2) + "\n")
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
    if not (folder / CONFIG).is_file() or _weights_file(folder) is None:
        raise KiyasError(f"no adapter in {folder}: it needs {CONFIG} and {WEIGHTS}")
    config = read_json(folder / CONFIG)
    odd = [
        name
        for name in (
            "use_dora",
            "rank_pattern",
            "alpha_pattern",
            "modules_to_save",
            "layer_replication",
        )
        if config.get(name)
    ]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
        raise KiyasError(f"{folder / CONFIG}: only plain LoRA adapters can be stacked ({', '.join(odd) or 'not LoRA'})")
    rank, alpha = config["r"], config["lora_alpha"]
    # Rank-stabilised LoRA (Kalajdzievski 2023) divides by the root of the rank.
    return Spec(rank, alpha * math.sqrt(rank) if config.get("use_rslora") else alpha)


def _weights_file(folder: Path) -> Path | None:
    return next((folder / name for name in (WEIGHTS, OLD_WEIGHTS) if (folder / name).is_file()), None)


def _weights(folder: Path) -> dict[str, Tensor]:
    path = _weights_file(folder)
    assert path is not None
    try:
        if path.name == WEIGHTS:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise KiyasError(f"{path} is broken: {error}") from error


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
        if folder is None:
            continue
        weights = _weights(folder)
        names = {name.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for name in weights}
        unknown = sorted(names - sites.keys())
        if unknown:
            raise KiyasError(f"{folder}: adapts {unknown[0]}, which is not an adaptable layer of this base")
        stack.put(k, {name: _pair(weights, sites[name], specs[k].rank, folder) for name in names})
    return stack


def _pair(weights: dict[str, Tensor], site: Site, rank: int, folder: Path) -> tuple[Tensor, Tensor]:
    """A [r, I] and B [O, r] of one module, float32."""
    a_RI = weights.get(f"{_PREFIX}{site.name}.lora_A.weight")
    b_OR = weights.get(f"{_PREFIX}{site.name}.lora_B.weight")
    shapes = ((rank, site.inputs), (site.outputs, rank))
    if a_RI is None or b_OR is None or (tuple(a_RI.shape), tuple(b_OR.shape)) != shapes:
        raise KiyasError(f"{folder}: {site.name} has other shapes than in this base; was it trained on another base?")
    return a_RI.float(), b_OR.float()


def save_state(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """Writes optimizer tensors and plain notes in one file, whole or not at all."""
    atomic_bytes(path, save({k: v.cpu().contiguous() for k, v in tensors.items()}, {"notes": json.dumps(notes)}))


def load_state(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The saved state, or None when there is none."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
            notes = json.loads(file.metadata()["notes"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise KiyasError(f"{path} is broken: {error}", "remove it to train again from the start") from error
    return tensors, notes
