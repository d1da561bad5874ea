"""What a PEFT adapter folder says: its configuration and the names and shapes of its weights. Without torch.

Kıyas applies one thing: y + x A B · scale on linear layers, with one rank and one scale. A key of the configuration is
listed here if it is applied or cannot change the answers; every other key must be at a value that switches it off
(null, false, empty), and every tensor must be an A or a B. All else is refused by name, so that no adapter answers
otherwise than in PEFT (0.21) without a word.
"""

from __future__ import annotations

import contextlib
import math
import re
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kiyas.runfolder.files import read_json
from kiyas.study import limits
from kiyas.types import KiyasError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
PATTERNS_S = 10.0
"""for all names of modules"""

# What is applied, with PEFT's own default for a configuration that leaves it out.
_READ: dict[str, Any] = {
    "peft_type": None,
    "task_type": None,
    "base_model_name_or_path": None,
    "r": 8,
    "lora_alpha": 8,
    "use_rslora": False,
    "bias": "none",
    "init_lora_weights": True,
    "target_modules": None,
    "exclude_modules": None,
    "layers_to_transform": None,
    "layers_pattern": None,
}
# fmt: off
# Of the training, of the loading, or beside a key that is refused where it is on.
_WITHOUT_EFFECT = frozenset((
    "auto_mapping", "peft_version", "revision", "inference_mode", "lora_dropout", "fan_in_fan_out", "megatron_core",
    "qalora_group_size", "runtime_config", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr",  # LoRA+ in ms-swift
))
# fmt: on
_PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base as it is; true and false do, too."""
_CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
_WHAT = {
    "use_dora": "DoRA also trains a magnitude for each output",
    "lora_bias": "it also trains a bias for each B",
    "rank_pattern": "some modules have another rank",
    "alpha_pattern": "some modules have another alpha",
    "modules_to_save": "it also trains whole modules of the base",
    "trainable_token_indices": "it also trains token embeddings",
    "target_parameters": "it adapts parameters that are not linear layers",
    "layer_replication": "it repeats layers of the base",
    "alora_invocation_tokens": "aLoRA acts only behind its invocation tokens",
    "kasa_config": "KaSA also changes the base's weights and trains singular values",
    "use_bdlora": "BD-LoRA's matrices are block-diagonal",
    "arrow_config": "Arrow routes between several adapters",
    "monteclora_config": "MonteCLoRA samples its weights",
    "velora_config": "VeLoRA keeps weights of its own",
    "use_qalora": "QA-LoRA pools its inputs",
    "megatron_config": "its layers are Megatron's",
    "enable_lora": "it adapts parts of merged layers",
}
_MERGE = (
    "merge it into its base with PEFT (merge_and_unload, save_pretrained): a merged model is an arm, {model: FOLDER}; "
    "or train it as plain LoRA"
)
_ELSEWHERE = "answer the benchmark with PEFT and import the answers, or train it as plain LoRA"  # it cannot be merged
_CONVERT = (
    "save it with save_pretrained(path_initial_model_for_weight_conversion=…), which makes it plain LoRA for the "
    "original base"
)
_HALF_SAVED = "the checkpoint is half-saved: save or download it again, or leave it out"


@dataclass(frozen=True)
class Adapter:
    """A plain LoRA adapter's configuration."""

    rank: int
    alpha: float
    """the scale of B A times the rank"""
    base: str
    """`base_model_name_or_path`; empty where it is not given"""
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...]
    layer_lists: tuple[str, ...]

    def adapts(self, module: str) -> bool:
        """Whether PEFT would put the adapter on a linear layer of this name (`check_target_module_exists`)."""
        if self.excluded and _matches(self.excluded, module):
            return False
        if self.targets == "all-linear":
            return True
        if module in self.targets and not isinstance(self.targets, str):
            return True
        return _matches(self.targets, module) and (not self.layers or self._layer(module) in self.layers)

    def _layer(self, module: str) -> int | None:
        # The first number in the name is the layer's: later ones count experts.
        lists = self.layer_lists or (r"[^.]*",)
        found = (re.match(rf"(?:^|.*?\.){each}\.(\d+)\.", module) for each in lists)
        return next((int(match.group(1)) for match in found if match), None)


def _matches(names: str | tuple[str, ...], module: str) -> bool:
    """A regular expression for the whole name, or a list of names and their ends."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith("." + name) for name in names)


def read_adapter(folder: Path) -> Adapter:
    """Reads an adapter's configuration. Raises KiyasError, by name, for what Kıyas does not apply."""
    path = folder / CONFIG
    config = read_json(path, limits.MODEL_FILE)
    if not isinstance(config, dict):
        raise KiyasError(f"{path}: expected a JSON object", "save the adapter again")
    config = _READ | config
    kind = config["peft_type"]
    if kind != "LORA":
        raise KiyasError(f"{path}: not a LoRA adapter (peft_type: {_shown(kind)})", "only LoRA adapters can be read")
    task = config["task_type"]
    if task not in (None, "", "CAUSAL_LM"):
        raise KiyasError(f"{path}: task_type is {_shown(task)}", "only adapters of causal language models can be read")
    for key, value in config.items():
        if key not in _READ.keys() | _WITHOUT_EFFECT and not _is_off(key, value):
            _refuse_key(path, key, value)
    _refuse_bias(path, config["bias"])
    _refuse_start(path, config["init_lora_weights"])
    rank, alpha = _rank(path, config), _alpha(path, config)
    # Rank-stabilised LoRA (Kalajdzievski 2023) divides by the root of the rank.
    stable = _flag(path, config, "use_rslora")
    base = config["base_model_name_or_path"]
    if config["target_modules"] is None:
        raise KiyasError(
            f"{path}: target_modules is missing: PEFT would choose the modules by the architecture",
            "write the modules that were trained: target_modules: [q_proj, v_proj]",
        )
    layers = config["layers_to_transform"]
    return Adapter(
        rank,
        alpha * math.sqrt(rank) if stable else alpha,
        base if isinstance(base, str) else "",
        _names(path, config, "target_modules"),
        _names(path, config, "exclude_modules"),
        tuple(_whole(path, "layers_to_transform", each) for each in _as_list(layers)),
        tuple(_pattern(path, "layers_pattern", each) for each in _as_list(config["layers_pattern"])),
    )


def _is_off(key: str, value: Any) -> bool:
    # An empty `kasa_config` is KaSA with its defaults.
    empty: list[Any] | dict[str, Any] = {} if key in ("rank_pattern", "alpha_pattern") else []
    return value is None or value is False or (value == empty and type(value) is type(empty))


def _refuse_key(path: Path, key: str, value: Any) -> None:
    if key in _WHAT:
        hint = _ELSEWHERE if key == "alora_invocation_tokens" else _MERGE
        raise KiyasError(f"{path}: {key} is set: {_WHAT[key]}, which Kıyas does not apply", hint)
    raise KiyasError(
        f"{path}: {_shown(key)} is {_shown(value)}, which Kıyas does not know and does not apply",
        "remove the key if it does not change the model's answers; else " + _MERGE,
    )


def _refuse_bias(path: Path, value: Any) -> None:
    if value not in (None, "none"):
        raise KiyasError(
            f"{path}: bias is {_shown(value)}: it also trains the base's biases, which Kıyas does not apply",
            "train with bias: none; or " + _MERGE,
        )


def _refuse_start(path: Path, value: Any) -> None:
    """What the adapter began from: some beginnings change the base's own weights."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and value.lower() in _PLAIN_STARTS):
        return
    if isinstance(value, str) and value.lower().startswith(_CHANGED_BASE):
        hint = _MERGE if value.lower() == "loftq" else _CONVERT
        raise KiyasError(
            f"{path}: init_lora_weights is {_shown(value)}: it was trained on changed weights of the base and saved "
            "without converting them back",
            hint,
        )
    raise KiyasError(f"{path}: init_lora_weights is {_shown(value)}, which Kıyas does not know", _MERGE)


def _rank(path: Path, config: Mapping[str, Any]) -> int:
    rank = _whole(path, "r", config["r"])
    if not 0 < rank <= 2**20:
        raise KiyasError(f"{path}: r must be a whole number above 0, found {_shown(rank)}", "write the trained rank")
    return rank


def _alpha(path: Path, config: Mapping[str, Any]) -> float:
    alpha = config["lora_alpha"]
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or abs(alpha) > 1e30 or not math.isfinite(alpha):
        raise KiyasError(
            f"{path}: lora_alpha must be a number, found {_shown(alpha)}", "write the alpha that was trained"
        )
    if not alpha:
        raise KiyasError(f"{path}: lora_alpha is 0: the adapter changes nothing", "write the trained alpha")
    return float(alpha)


def _flag(path: Path, config: Mapping[str, Any], key: str) -> bool:
    value = config[key]
    if value is not None and not isinstance(value, bool):
        raise KiyasError(f"{path}: {key} must be true or false, found {_shown(value)}", "save the adapter again")
    return bool(value)


def _whole(path: Path, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise KiyasError(f"{path}: {key} must be a whole number, found {_shown(value)}", "save the adapter again")
    return value


def _as_list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _names(path: Path, config: Mapping[str, Any], key: str) -> str | tuple[str, ...]:
    value = config[key]
    if isinstance(value, str):
        return value if value == "all-linear" else _pattern(path, key, value)
    names = tuple(_as_list(value))
    if not all(isinstance(name, str) for name in names):
        raise KiyasError(f"{path}: {key} must be names of modules, found {_shown(value)}", "save the adapter again")
    return names


def _pattern(path: Path, key: str, value: Any) -> str:
    try:
        if not isinstance(value, str):
            raise TypeError("not a text")
        re.compile(value)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise KiyasError(f"{path}: {key} is not a regular expression: {error}", "save the adapter again") from error
    return value


def _shown(value: Any) -> str:
    """A value in a message: on one line, not too long, without halves of surrogate pairs."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = type(value).__name__
    text = text if len(text) <= 60 else text[:57] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


# -- the weights: names and shapes --------------------------------------------------------------------------------

_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DDP, torch.compile, FSDP and activation checkpointing put into a name."""
_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_ODD = (
    ("lora_magnitude_vector", "DoRA's magnitudes"),
    ("lora_embedding_", "an adapter of the embeddings"),
    ("trainable_tokens", "trained token embeddings"),
    ("lora_diag", "KaSA's singular values"),
    ("modules_to_save", "a whole module that was trained"),
    ("lora_velora", "VeLoRA's weights"),
)


def weights_file(folder: Path) -> Path:
    """The file of the weights. Raises KiyasError where there is none that could be one."""
    for path in (folder / WEIGHTS, folder / OLD_WEIGHTS):
        if path.is_symlink() and not path.exists():
            raise KiyasError(f"{path} is a link to {path.readlink()}, which is not there", "download the adapter again")
        if path.exists() and not path.is_file():
            raise KiyasError(f"{path} is not a file", _HALF_SAVED)
        if path.is_file():
            refuse_not_weights(path)
            return path
    raise KiyasError(f"no adapter in {folder}: it needs {CONFIG} and {WEIGHTS}", _HALF_SAVED)


def refuse_not_weights(path: Path) -> None:
    """Raises KiyasError for a file that plainly holds something else: nothing, a Git LFS pointer, a web page."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise KiyasError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    if not start:
        raise KiyasError(f"{path} is empty", _HALF_SAVED)
    if start.startswith(b"version https://git-lfs"):
        raise KiyasError(f"{path} is a Git LFS pointer, not the weights", "run `git lfs pull` in its repository")
    if start.lstrip()[:1] == b"<":
        raise KiyasError(f"{path} is a web page, not the weights", "download the file itself, not its page")


@dataclass(frozen=True)
class Entry:
    """One tensor in a file of weights: its shape, and its number format as safetensors calls it."""

    shape: tuple[int, ...]
    dtype: str


def header(path: Path) -> dict[str, Entry]:
    """The tensors in a safetensors file, without reading them. Raises KiyasError for a file that is not one."""
    found = {}
    refuse_long_header(path)
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                part = file.get_slice(name)
                found[name] = Entry(tuple(part.get_shape()), str(part.get_dtype()))
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise KiyasError(
            f"{path} is not a safetensors file, or it was cut off: {reason}", "save or download it again"
        ) from error
    return found


def refuse_long_header(path: Path) -> None:
    """Raises KiyasError for a safetensors file that says more of its tensors than any does, or would."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise KiyasError(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    limits.HEADER.refuse_above(length, f"{path} is not a safetensors file, or it was cut off", known=False)


def refuse(folder: Path) -> Adapter:
    """Raises KiyasError for an adapter that cannot be read, as far as its files say so without reading the weights."""
    adapter, path = read_adapter(folder), weights_file(folder)
    if path.name == WEIGHTS:
        pairs(path, adapter, header(path))
    return adapter


def pairs(path: Path, adapter: Adapter, entries: Mapping[str, Entry]) -> dict[str, tuple[str, str]]:
    """The names in the file of A and B, by module (named as the file does, but for PEFT's prefix and wrappers).

    Raises KiyasError for a file that holds anything else, or not all of its A and B in the configuration's rank.
    """
    if not entries:
        raise KiyasError(f"{path} holds no tensors: the weights are missing", _HALF_SAVED)
    found: dict[str, dict[str, str]] = {}
    names = set()
    for name, entry in entries.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            _refuse_tensor(path, name, entry)
            continue
        names.add(match["adapter"])
        module = _plain(match["module"])
        if found.setdefault(module, {}).setdefault(match["part"], name) != name:
            raise KiyasError(f"{path} holds {module}.lora_{match['part']} twice ({_shown(name)})", "save it again")
        _refuse_entry(path, name, entry, adapter.rank, 0 if match["part"] == "A" else 1)
    if len(names) > 1:
        told = ", ".join(sorted(str(each) for each in names))
        raise KiyasError(f"{path} holds several adapters: {told}", "save each to a folder of its own")
    for module, of in found.items():
        if len(of) == 1:
            (part,) = of
            raise KiyasError(f"{path}: {module} has lora_{part} but no lora_{'B' if part == 'A' else 'A'}", _HALF_SAVED)
    return {module: (of["A"], of["B"]) for module, of in found.items()}


def _plain(module: str) -> str:
    """A module's name in the base: `base_model.model.model.layers.0…` → `model.layers.0…`."""
    parts = [part for part in module.split(".") if part not in _WRAPPERS]
    return ".".join(parts[2:] if parts[:2] == ["base_model", "model"] else parts)


def _refuse_tensor(path: Path, name: str, entry: Entry) -> None:
    what = next((told for key, told in _ODD if key in name), None)
    plain = _plain(name)
    if what is None and re.search(r"lora_[AB]\.(?:.*\.)?bias$", name):
        what = "a trained bias of A or B (lora_bias)"
    elif what is None and name.endswith(".bias"):
        what = "a trained bias of the base"
    elif what is None and re.search(r"(?:embed_tokens|lm_head|embed_in|embed_out|wte|word_embeddings)\.", plain):
        what = f"a whole embedding or output layer {list(entry.shape)}, as PEFT saves where the vocabulary was resized"
    raise KiyasError(
        f"{path} holds {_shown(plain)}: {what or 'not a LoRA A or B'}, which Kıyas does not apply",
        _MERGE if what else "remove it if it does not change the model's answers; else " + _MERGE,
    )


def _refuse_entry(path: Path, name: str, entry: Entry, rank: int, axis: int) -> None:
    told = f"{path}: {_shown(_plain(name))}"
    if 0 in entry.shape:
        raise KiyasError(
            f"{told} is an empty tensor {list(entry.shape)}: DeepSpeed ZeRO-3 saved it without gathering it",
            "set stage3_gather_16bit_weights_on_model_save, or convert the checkpoint with zero_to_fp32.py",
        )
    if entry.dtype not in _FLOATS:
        raise KiyasError(f"{told} is of {entry.dtype}, not of floating-point numbers", "save it in 16 or 32 bits")
    if len(entry.shape) != 2:
        raise KiyasError(f"{told} has the shape {list(entry.shape)}, a LoRA matrix has two dimensions", _HALF_SAVED)
    if entry.shape[axis] != rank:
        raise KiyasError(
            f"{told} has rank {entry.shape[axis]}, {CONFIG} says r: {rank}",
            "restore the configuration that it was saved with",
        )


def in_base(path: Path, adapter: Adapter, modules: Collection[str], sites: Collection[str]) -> dict[str, str]:
    """The base's layer that each module of the file is; `sites`: the base's adaptable layers.

    Raises KiyasError where one is not the base's, or is not in `target_modules`, or where one that is has no weights.
    """
    by_end: dict[str, list[str]] = {}
    for site in sites:
        parts = site.split(".")
        for at in range(len(parts)):
            by_end.setdefault(".".join(parts[at:]), []).append(site)
    found: dict[str, str] = {}
    for module in modules:
        # A name without the base's own prefix (`layers.0…` for `model.layers.0…`) is read where it is only one layer's.
        ends = [module] if module in sites else by_end.get(module, [])
        if len(ends) != 1:
            raise KiyasError(
                f"{path}: adapts {_shown(module)}, which is not an adaptable layer of this base",
                "use the base that it was trained on (model_name_or_path); Kıyas adapts linear layers, not the "
                "embeddings and not the output layer",
            )
        if ends[0] in found.values():
            raise KiyasError(f"{path} holds {ends[0]} twice", "save it again")
        found[module] = ends[0]
    told = f"{path.parent / CONFIG}: target_modules"
    with _in_time(told):
        adapted = {site for site in {*sites, *found.values()} if adapter.adapts(site)}
    odd = sorted(site for site in found.values() if site not in adapted)
    if odd:
        raise KiyasError(
            f"{told} leave out {odd[0]}, and {path.name} has weights for it: PEFT would not apply them",
            "restore the configuration that it was saved with",
        )
    missing = sorted(site for site in sites if site in adapted and site not in found.values())
    if missing:
        raise KiyasError(f"{path}: weights are missing: {told} name {missing[0]}, which has none", _HALF_SAVED)
    return found


@contextlib.contextmanager
def _in_time(told: str) -> Iterator[None]:
    """Inside, a stranger's regular expressions have some seconds. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise KiyasError(f"{told} take longer than {PATTERNS_S:.0f} seconds to match", "write simpler patterns")

    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, PATTERNS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)
