"""A model folder is a stranger's: what it would make transformers fetch, run or mix in is refused or switched off.

Never loaded: code of the folder (`auto_map` counts for nothing, since `trust_remote_code` is off), pickled objects (old
weights are read as tensors only), kernels from the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kiyas.runfolder.files import read_json, refuse_not_a_file
from kiyas.runfolder.peft import refuse_long_header
from kiyas.study import limits
from kiyas.types import KiyasError

ADAPTER = "adapter_config.json"
TEXTS = (
    *("config.json", ADAPTER, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "chat_template.json", "preprocessor_config.json"),
)
"""Files that transformers reads whole, and that are small."""
OWN_WAYS = {
    "attn_implementation": ("eager", "sdpa"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
}
"""How transformers may compute with its own code alone; for any other way it may look for kernels elsewhere."""
PARTS = re.compile(r"(num|n)_(\w+_)?(layers?|blocks?|experts)")
MOST_PARTS = 10_000
"""of a kind, in a configuration: each is made before anybody asks how large it is"""
DEEPEST = 20


def refuse_strange(folder: Path) -> None:
    """Raises KiyasError for pipes, devices and links without an end in a model folder, and for an adapter in it.

    Also for a configuration of more layers than any model has.
    """
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            raise KiyasError(f"cannot read {path}: it is a link to nothing, or to itself", "fetch the model again")
        if path.is_dir():
            continue
        refuse_not_a_file(path)
        if path.name in TEXTS:
            limits.MODEL_FILE.refuse_above(path.stat().st_size, path)
        elif path.suffix == ".safetensors":
            refuse_long_header(path)
    if (folder / "config.json").exists() and (folder / ADAPTER).exists():
        raise KiyasError(
            f"{folder} holds a model and an adapter ({ADAPTER}): which of them is meant cannot be known",
            "give each its own folder; an adapter is an arm, {checkpoints: FOLDER}",
        )
    _refuse_odd_ends(folder / "generation_config.json")
    try:
        config = read_json(folder / "config.json")
    except KiyasError:
        return  # whoever needs it says what is wrong
    for key, value in _keys(config):
        if PARTS.fullmatch(key) and isinstance(value, int | float) and value > MOST_PARTS:
            what = f"{folder / 'config.json'}: {key} is more than {MOST_PARTS:,}"
            raise KiyasError(what, "restore the model's own configuration")


def read_settings(path: Path) -> Any:
    """A JSON file of a model folder, at most limits.MODEL_FILE. Raises KiyasError as read_json."""
    return read_json(path, limits.MODEL_FILE)


def _refuse_odd_ends(file: Path) -> None:
    """Raises KiyasError where the tokens that end an answer are not numbers."""
    found = read_settings(file) if file.exists() else {}
    ends = [value for key, value in found.items() if key == "eos_token_id"] if isinstance(found, dict) else [found]
    for end in (each for value in ends for each in (value if isinstance(value, list) else [value])):
        if end is not None and type(end) is not int:
            raise KiyasError(f"{file}: eos_token_id is not a number", "restore the model's own file")


def with_own_ways(config: Any, folder: Path) -> Any:
    """transformers' configuration, computing by transformers' own code where the folder names another's.

    Raises KiyasError for a name that leads to the Hub.
    """
    found = [(key, value) for key, value in _keys(read_json(folder / "config.json")) if _public(key) in OWN_WAYS]
    ways = [(key, each) for key, value in found for each in (value.values() if isinstance(value, dict) else [value])]
    for key, value in ways:
        if value is None:
            continue
        if not isinstance(value, str):
            raise KiyasError(f"{folder / 'config.json'}: {key} is {value!r:.80}", "remove this key")
        if "/" in value:
            raise KiyasError(
                f"{folder / 'config.json'}: {key} names code on the Hub ({value[:80]}), which is never fetched",
                "remove this key: transformers' own code is used then",
            )
        if value not in OWN_WAYS[_public(key)]:
            setattr(config, f"_{_public(key)}", None)  # in its parts too: the way that suits this machine is chosen
    return config


def _public(key: str) -> str:
    return key.removeprefix("_").removesuffix("_internal")


def _keys(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth that transformers looks at."""
    if depth < DEEPEST and isinstance(value, list):
        for item in value:
            yield from _keys(item, depth + 1)
    elif depth < DEEPEST and isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _keys(item, depth + 1)
