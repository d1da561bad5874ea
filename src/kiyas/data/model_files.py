"""A model folder is a stranger's: what it would make transformers fetch, run or mix in is refused or switched off.

Never loaded: code of the folder (`auto_map` counts for nothing, since `trust_remote_code` is off), pickled objects (old
weights are read as tensors only), kernels from the Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kiyas.runfolder.files import read_json, refuse_not_a_file
from kiyas.types import KiyasError

ADAPTER = "adapter_config.json"
OWN_WAYS = {
    "attn_implementation": ("eager", "sdpa"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
}
"""How transformers may compute with its own code alone; for any other way it may look for kernels elsewhere."""


def refuse_strange(folder: Path) -> None:
    """Raises KiyasError for pipes, devices and links without an end in a model folder, and for an adapter in it."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            raise KiyasError(f"cannot read {path}: it is a link to nothing, or to itself", "fetch the model again")
        if not path.is_dir():
            refuse_not_a_file(path)
    if (folder / "config.json").exists() and (folder / ADAPTER).exists():
        raise KiyasError(
            f"{folder} holds a model and an adapter ({ADAPTER}): which of them is meant cannot be known",
            "give each its own folder; an adapter is an arm, {checkpoints: FOLDER}",
        )


def with_own_ways(config: Any, folder: Path) -> Any:
    """transformers' configuration, computing by transformers' own code where the folder names another's.

    Raises KiyasError for a name that leads to the Hub.
    """
    for key, value in _ways(read_json(folder / "config.json")):
        if not isinstance(value, str):
            raise KiyasError(f"{folder / 'config.json'}: {key} is {value!r:.80}", "remove this key")
        if "/" in value:
            raise KiyasError(
                f"{folder / 'config.json'}: {key} names code on the Hub ({value[:80]}), which is never fetched",
                "remove this key: transformers' own code is used then",
            )
        public = key.removeprefix("_").removesuffix("_internal")
        if value not in OWN_WAYS[public]:
            setattr(config, f"_{public}", None)  # in its parts too: the way that suits this machine is chosen
    return config


def _ways(value: Any, depth: int = 0) -> list[tuple[str, Any]]:
    """Every key of `OWN_WAYS`, at any depth, with each value that it holds; null is none."""
    if isinstance(value, list) and depth < 20:
        return [each for item in value for each in _ways(item, depth + 1)]
    if not isinstance(value, dict) or depth >= 20:
        return []
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        if key.removeprefix("_").removesuffix("_internal") in OWN_WAYS:
            found += [(key, each) for each in (item.values() if isinstance(item, dict) else [item]) if each is not None]
        else:
            found += _ways(item, depth + 1)
    return found
