"""A model folder fetches nothing, runs nothing and mixes nothing in; odd things in place of files are refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import oddity

import tiny
from kiyas.data.chat import Chat
from kiyas.interop import adapters
from kiyas.model import meter
from kiyas.model.base import Base
from kiyas.types import KiyasError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen2"
    tiny.model("qwen2").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(folder: Path, file: str = "config.json", **keys: Any) -> None:
    path = folder / file
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **keys}))


def refused(folder: Path) -> str:
    """Both who loads the model and who only measures it say the same, in a line and what to do."""
    said = []
    for read in (Base.load, meter.read_config):
        with pytest.raises(KiyasError) as caught:
            read(folder)
        said.append(str(caught.value))
    assert said[0] == said[1] and len(said[0].splitlines()) == 2
    return said[0]


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What transformers asks the Hub's kernels for, as if the package that fetches them were installed."""
    from transformers import modeling_utils
    from transformers.integrations import hub_kernels

    asked: list[Any] = []

    def fetch(*names: Any, **more: Any) -> Any:
        asked.append(names)
        raise RuntimeError("fetched")

    for module, name in ((hub_kernels, "get_kernel"), (modeling_utils, "lazy_import_flash_attention")):
        monkeypatch.setattr(module, name, fetch)
    monkeypatch.setattr(modeling_utils, "is_kernels_available", lambda: True)
    return asked


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize("value", ["stranger/kernel", "paged|stranger/kernel@v1:f", {"": "stranger/kernel"}, 7])
def test_kernels_are_not_fetched(key: str, value: Any, folder: Path, no_kernels: list[Any]) -> None:
    edit(folder, **{key: value})
    said = refused(folder)
    assert key in said and "config.json" in said and "remove this key" in said
    edit(folder, **{key: None}, text_config={key: value})
    assert key in refused(folder)
    assert no_kernels == []


@pytest.mark.parametrize("value", ["flash_attention_2", "flash_attention_3", "flex_attention", "nonsense"])
def test_other_ways_of_attention_are_switched_off(value: str, folder: Path, no_kernels: list[Any]) -> None:
    edit(folder, _attn_implementation=value, use_kernels=True, experts_implementation="sonicmoe")
    base = Base.load(folder)
    assert base.packed and no_kernels == []
    assert meter.read_config(folder)._attn_implementation is None
    edit(folder, _attn_implementation="eager")
    assert meter.read_config(folder)._attn_implementation == "eager"


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer", "num_local_experts", "num_blocks"])
@pytest.mark.parametrize("value", [10**9, 1e300, 10**400], ids=["int", "float", "long"])
def test_more_layers_than_any_model_has(key: str, value: Any, folder: Path) -> None:
    edit(folder, text_config={key: value})
    assert f"{key} is more than 10,000" in refused(folder)
    edit(folder, text_config=None, num_hidden_layers=2, vocab_size_per_layer_input=10**6)
    Base.load(folder)


@pytest.mark.parametrize("value", ["x", [[1]], {"a": 1}, 1.5, True])
def test_ends_that_are_no_numbers(value: Any, folder: Path) -> None:
    edit(folder, "generation_config.json", eos_token_id=value)
    assert "eos_token_id is not a number" in refused(folder)


def test_code_of_the_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass C: pass\n")
    names = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "evil.C")
    edit(folder, auto_map=names, custom_pipelines={"text-generation": {"impl": "evil.C"}}, custom_generate="evil")
    edit(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.C", "evil.C"]})
    edit(folder, "generation_config.json", custom_generate="evil.py", eos_token_id=tiny.END)
    Base.load(folder)
    edit(folder, model_type="of-nobody")
    with pytest.raises(KiyasError):
        Base.load(folder)
    assert not mark.exists()


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_pickled_weights_run_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": _Bomb(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(KiyasError, match="cannot load the model"):
        Base.load(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "mark")))
    with pytest.raises(KiyasError, match="cannot load the model"):
        Base.load(folder)
    assert not (tmp_path / "mark").exists()


def test_an_adapter_in_a_model_folder(folder: Path) -> None:
    edit(folder, "adapter_config.json", base_model_name_or_path="stranger/model", peft_type="LORA")
    assert "holds a model and an adapter" in refused(folder)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "socket"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"])
def test_odd_files_in_a_model_folder(kind: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    oddity(kind, folder / name)
    with pytest.raises(KiyasError) as caught:
        Base.load(folder)
    assert len(str(caught.value).splitlines()) <= 2 and (name in str(caught.value) or name == "config.json")
    if name != "config.json":
        with pytest.raises(KiyasError, match=name):
            Chat.load(folder)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "socket"])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "trainer_state.json"])
def test_odd_files_in_an_adapter(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_texts_in_files import adapter

    place = tmp_path / "deep" / "checkpoint-100"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    edit(place, "adapter_config.json", peft_type="LORA", base_model_name_or_path="b", r=8, target_modules=["q_proj"])
    shutil.copyfile(adapter(tmp_path), place / "adapter_model.safetensors")
    oddity(kind, place / name)
    if name == "trainer_state.json":
        adapters.find(tmp_path / "deep")  # the losses beside it are left out; it is not waited for
        return
    with pytest.raises(KiyasError) as caught:
        adapters.find(tmp_path / "deep")
    assert len(str(caught.value).splitlines()) <= 2
