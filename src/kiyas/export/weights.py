"""The weights of one checkpoint in a folder that others load: an adapter for PEFT, or a model for transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from kiyas.data.chat import Chat
from kiyas.runfolder.files import atomic_text, disk_errors, read_json
from kiyas.runfolder.peft import CONFIG
from kiyas.study.settings import Dtype, Study, is_hub_id
from kiyas.types import KiyasError

BESIDE = (
    *("tokenizer*", "vocab*", "merges.txt", "*.model", "*.tiktoken", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template*", "generation_config.json", "LICENSE*", "NOTICE*"),
)
"""what a base's folder has beside weights and configuration, and a merged model needs: taken as it is"""


@dataclass(frozen=True)
class Written:
    """What lies in the folder now."""

    dtype: str
    """number format of the weights"""
    difference: float | None = None
    """of a merged model's logits from those of base and adapter, on a short text; None: nothing was merged"""
    largest: float = 0.0
    """of those logits, in absolute value"""


def base_name(study: Study) -> str:
    """What others may call the base: its name on the Hub, or its folder's; never a path of this machine."""
    name = study.model_name_or_path
    return name if is_hub_id(name) else Path(name).name


def write_adapter(folder: Path, study: Study, base: Path, checkpoint: Path, dropout: float) -> Written:
    """Writes `adapter_model.safetensors` and `adapter_config.json`. Raises KiyasError for a broken checkpoint."""
    from kiyas.model.merging import save_plain

    save_plain(folder, checkpoint, base, base_name(study), dropout)
    if study.model_revision is not None and is_hub_id(study.model_name_or_path):
        config = {**read_json(folder / CONFIG), "revision": study.model_revision}
        atomic_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return Written("float32")


def write_merged(folder: Path, study: Study, base: Path, checkpoint: Path, dtype: Dtype) -> Written:
    """Writes the merged model as transformers saves it, with the base's tokenizer, template and generation settings.

    Raises KiyasError as `write_adapter`.
    """
    from kiyas.model.merging import merge

    made = merge(base, checkpoint, dtype.value, study.training.load_in_4bit)
    with disk_errors(folder):
        try:
            made.model.save_pretrained(folder)
        except SafetensorError as error:  # of a full disk it says so in words only
            raise KiyasError(f"cannot write {folder}: {error}", "free some space, or --out another folder") from error
        for path in sorted(each for pattern in BESIDE for each in base.glob(pattern) if each.is_file()):
            shutil.copyfile(path, folder / path.name)
        for path in folder.glob("*.safetensors"):  # which are written for their owner alone
            path.chmod((folder / "config.json").stat().st_mode)
    _end_turns(folder, Chat.load(base).end_of_turn)
    return Written(made.dtype, made.difference, made.largest)


def _end_turns(folder: Path, end: int) -> None:
    """Decoding ends where the training's answers ended, also where the base's own settings do not name that token."""
    path = folder / "generation_config.json"
    config = {"eos_token_id": None, **(read_json(path) if path.exists() else {})}
    known = config["eos_token_id"]
    ends = known if isinstance(known, list) else [] if known is None else [known]
    if end not in ends:
        atomic_text(path, json.dumps({**config, "eos_token_id": [*ends, end]}, indent=2) + "\n")


def merged_format(asked: Dtype, computed: Dtype | None) -> Dtype:
    """auto: what the run computed in, since those answers were judged. Not float16, in which many bases leave its range
    unless some of their layers compute in float32: then the format of the base's files."""
    if asked is not Dtype.AUTO or computed is None or computed is Dtype.FLOAT16:
        return asked
    return computed
