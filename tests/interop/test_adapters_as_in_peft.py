"""Adapters as PEFT saves them: answered as in PEFT, or refused by name, by every verb alike."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora import config as options
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from kiyas.interop import adapters
from kiyas.model.adapters import StackedModel
from kiyas.model.checkpoints import load_stack, refuse_unreadable
from kiyas.practice import base_path
from kiyas.runfolder.peft import CONFIG, OLD_WEIGHTS, WEIGHTS
from kiyas.types import AdapterId, KiyasError

PROMPT = torch.tensor([[5, 9, 17, 33, 65, 129, 257, 3]])
TARGETS = ["q_proj", "v_proj", "down_proj"]


def fresh() -> Any:
    return AutoModelForCausalLM.from_pretrained(base_path(), dtype=torch.float32)


def trained(folder: Path, seed: int = 0, steps: int = 2, **config: Any) -> None:
    """Trains an adapter with PEFT, a few large steps, and saves it as a user would."""
    torch.manual_seed(seed)
    usual = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    model = peft.get_peft_model(fresh(), peft.LoraConfig(**usual | config))
    if model.peft_config["default"].init_lora_weights == "eva":
        peft.initialize_lora_eva_weights(model, [{"input_ids": PROMPT.repeat(4, 1)}] * 3)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5)
    for _ in range(steps):
        model(input_ids=PROMPT, labels=PROMPT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def in_peft(folder: Path) -> Tensor:
    model = peft.PeftModel.from_pretrained(fresh(), folder).eval()
    with torch.no_grad():
        return model(input_ids=PROMPT).logits


def ours(folder: Path) -> Tensor:
    """As `run` reads it, after what `import` and `check` refuse."""
    adapters.find(folder)
    refuse_unreadable([folder], Path(base_path()), "all-linear")
    model = StackedModel(fresh().eval())
    model.stack = load_stack([(AdapterId("a"), folder)], model, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        return model.model(input_ids=PROMPT).logits


# Every option of the installed LoraConfig that it can train this model with: read as in PEFT, or refused with this.
OPTIONS: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({}, None),
    "rslora": ({"use_rslora": True}, None),
    "alpha a fraction": ({"lora_alpha": 2.5}, None),
    "dropout": ({"lora_dropout": 0.1}, None),
    "all-linear": ({"target_modules": "all-linear"}, None),
    "regex": ({"target_modules": r".*\.1\..*(q|up)_proj"}, None),
    "whole names": ({"target_modules": ["model.layers.0.self_attn.q_proj"]}, None),
    "exclude": ({"target_modules": "all-linear", "exclude_modules": ["k_proj", "model.layers.0.mlp.up_proj"]}, None),
    "exclude regex": ({"target_modules": "all-linear", "exclude_modules": r".*\.0\..*"}, None),
    "layers": ({"layers_to_transform": [0, 2]}, None),
    "one layer": ({"layers_to_transform": 1, "layers_pattern": "layers"}, None),
    "gaussian": ({"init_lora_weights": "gaussian"}, None),
    "random": ({"init_lora_weights": False}, None),
    "orthogonal": ({"init_lora_weights": "orthogonal"}, None),
    "mica": ({"init_lora_weights": "mica"}, None),
    "eva": ({"init_lora_weights": "eva", "eva_config": options.EvaConfig(rho=1.0, use_label_mask=False)}, None),
    "eva, ranks moved": (
        {"init_lora_weights": "eva", "eva_config": options.EvaConfig(rho=2.0, use_label_mask=False)},
        "_pattern is set",
    ),
    "unused eva": ({"eva_config": options.EvaConfig()}, None),
    "fan in": ({"fan_in_fan_out": True}, None),
    "ensure tying": ({"ensure_weight_tying": True}, "ensure_weight_tying"),
    "bias all": ({"bias": "all"}, "bias is 'all'"),
    "bias lora_only": ({"bias": "lora_only"}, "bias is 'lora_only'"),
    "lora_bias": ({"lora_bias": True}, "lora_bias is set"),
    "dora": ({"use_dora": True}, "use_dora is set"),
    "rank pattern": ({"rank_pattern": {"q_proj": 2}}, "rank_pattern is set"),
    "alpha pattern": ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern is set"),
    "modules to save": ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
    "tokens": ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is set"),
    "output layer": ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
    "embeddings": ({"target_modules": ["q_proj", "embed_tokens"]}, "embed"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
    "pissa fast": ({"init_lora_weights": "pissa_niter_2"}, "init_lora_weights is 'pissa_niter_2'"),
    "olora": ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
    "alora": ({"alora_invocation_tokens": [17, 33]}, "alora_invocation_tokens is set"),
    "kasa": ({"kasa_config": options.KasaConfig()}, "kasa_config is set"),
    "velora": ({"velora_config": options.VeloraConfig(num_groups=8)}, "velora_config is set"),
    "monteclora": ({"monteclora_config": options.MontecloraConfig()}, "monteclora_config is set"),
    "block-diagonal": (
        {
            "target_modules": ["q_proj", "v_proj"],
            "use_bdlora": options.BdLoraConfig(["q_proj"], ["v_proj"], nblocks=2),
        },
        "use_bdlora is set",
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_answers_as_in_peft_or_is_refused(tmp_path: Path, option: str) -> None:
    config, refused = OPTIONS[option]
    trained(tmp_path, **config)
    if refused is not None:
        with pytest.raises(KiyasError) as error:
            ours(tmp_path)
        assert refused in str(error.value) and error.value.hint
        # `run` refuses it without the check, too
        with pytest.raises(KiyasError):
            load_stack([(AdapterId("a"), tmp_path)], StackedModel(fresh()), torch.device("cpu"), torch.float32)
        return
    expected = in_peft(tmp_path)
    with torch.no_grad():
        assert not torch.allclose(fresh().eval()(input_ids=PROMPT).logits, expected, atol=1e-2)
    torch.testing.assert_close(ours(tmp_path), expected, atol=1e-4, rtol=1e-4)


def test_every_option_of_peft_is_known() -> None:
    """A PEFT that learns a new key fails here, and not in silence."""
    from dataclasses import fields

    from kiyas.runfolder import peft as ours

    keys = {field.name for field in fields(peft.LoraConfig)}
    assert keys - (ours._READ.keys() | ours._WITHOUT_EFFECT | ours._WHAT.keys()) == {"ensure_weight_tying"}


def test_a_converted_pissa_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM", init_lora_weights="pissa")
    model = peft.get_peft_model(fresh(), settings)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each += 0.1
    model.peft_config["default"].init_lora_weights = "pissa"
    model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    torch.testing.assert_close(ours(tmp_path / "converted"), in_peft(tmp_path / "converted"), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    trained(folder)
    return folder


def copy(plain: Path, folder: Path) -> Path:
    return Path(shutil.copytree(plain, folder / "checkpoint-5"))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Changes the tensors of an adapter."""
    tensors = load_file(folder / WEIGHTS)
    changed = change(tensors)
    save_file({k: v.contiguous() for k, v in (tensors if changed is None else changed).items()}, folder / WEIGHTS)


def configure(folder: Path, **values: Any) -> None:
    """Changes keys of an adapter's configuration; `...` removes one."""
    config = json.loads((folder / CONFIG).read_text()) | values
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
NAMES: dict[str, Callable[[str], str]] = {
    "adapter's name": lambda name: name.replace(".weight", ".default.weight"),
    "another adapter's name": lambda name: name.replace(".weight", ".my_lora.weight"),
    "no prefix": lambda name: name.removeprefix("base_model.model."),
    "no prefix, no model": lambda name: name.removeprefix("base_model.model.model."),
    "compiled": lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled outside": lambda name: "_orig_mod." + name,
    "DDP": lambda name: "module." + name,
    "FSDP": lambda name: name.replace(".mlp.", "._fsdp_wrapped_module.mlp."),
    "checkpointed": lambda name: name.replace(".self_attn.", "._checkpoint_wrapped_module.self_attn."),
}


@pytest.mark.parametrize("spelling", NAMES)
def test_other_names_of_the_same_weights_are_read(tmp_path: Path, plain: Path, spelling: str) -> None:
    folder = copy(plain, tmp_path)
    rewrite(folder, lambda tensors: {NAMES[spelling](name): tensor for name, tensor in tensors.items()})
    torch.testing.assert_close(ours(folder), in_peft(plain), atol=1e-4, rtol=1e-4)


CONFIGS: dict[str, dict[str, Any]] = {
    "older keys": {"enable_lora": None, "merge_weights": False, "rank_pattern": {}, "layer_replication": None},
    "unsloth": {"auto_mapping": {"base_model_class": "Qwen2ForCausalLM", "unsloth_fixed": True}},
    "ms-swift": {"lora_dtype": None, "lorap_lr_ratio": None, "lorap_emb_lr": 1e-6},
    "unknown, off": {"use_something": False, "something": []},
    "no alpha": {"lora_alpha": ...},
    "few keys": dict.fromkeys(("bias", "inference_mode", "init_lora_weights", "lora_dropout", "task_type"), ...),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_other_configurations_are_read_as_in_peft(tmp_path: Path, plain: Path, kind: str) -> None:
    folder = copy(plain, tmp_path)
    configure(folder, **CONFIGS[kind])
    torch.testing.assert_close(ours(folder), in_peft(folder), atol=1e-4, rtol=1e-4)


def _header(folder: Path, header: bytes, length: int | None = None, data: bytes = b"") -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def _as_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


def _first(change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: tensors.update({FIRST: change(tensors[FIRST])}))


def _with(name: str, *shape: int) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: tensors.update({name: torch.ones(shape)}))


def _without(text: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: {k: v for k, v in tensors.items() if text not in k})


def _link(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("../../blobs/gone")


def _pickle(value: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        torch.save(value, folder / OLD_WEIGHTS)

    return make


def _set(**values: Any) -> Callable[[Path], None]:
    return lambda folder: configure(folder, **values)


def _text(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(text.encode() if isinstance(text, str) else text) and None


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    # the configuration
    "r absent, weights of another": (_set(r=...), "has rank 4, adapter_config.json says r: 8"),
    "r textual": (_set(r="4"), "r must be a whole number, found '4'"),
    "r null": (_set(r=None), "r must be a whole number, found None"),
    "r a float": (_set(r=4.0), "r must be a whole number, found 4.0"),
    "r true": (_set(r=True), "r must be a whole number, found True"),
    "r 0": (_set(r=0), "r must be a whole number above 0"),
    "r negative": (_set(r=-4), "r must be a whole number above 0"),
    "r enormous": (_set(r=10**30), "r must be a whole number above 0"),
    "alpha textual": (_set(lora_alpha="16"), "lora_alpha must be a number, found '16'"),
    "alpha null": (_set(lora_alpha=None), "lora_alpha must be a number, found None"),
    "alpha a list": (_set(lora_alpha=[16]), "lora_alpha must be a number"),
    "alpha NaN": (_set(lora_alpha=float("nan")), "lora_alpha must be a number"),
    "alpha infinite": (_set(lora_alpha=float("inf")), "lora_alpha must be a number"),
    "alpha 10**400": (_set(lora_alpha=10**400), "lora_alpha must be a number"),
    "alpha 0": (_set(lora_alpha=0), "lora_alpha is 0"),
    "rslora textual": (_set(use_rslora="true"), "use_rslora must be true or false"),
    "bias a list": (_set(bias=[]), "bias is []"),
    "another method": (_set(peft_type="IA3"), "not a LoRA adapter (peft_type: 'IA3')"),
    "AdaLoRA": (_set(peft_type="ADALORA"), "not a LoRA adapter"),
    "no method": (_set(peft_type=...), "not a LoRA adapter (peft_type: None)"),
    "method a list": (_set(peft_type=["LORA"]), "not a LoRA adapter"),
    "classifier": (_set(task_type="SEQ_CLS"), "task_type is 'SEQ_CLS'"),
    "task a dict": (_set(task_type={}), "task_type is {}"),
    "no targets": (_set(target_modules=...), "target_modules is missing"),
    "targets a number": (_set(target_modules=3), "target_modules must be names of modules"),
    "targets broken regex": (_set(target_modules="(q_proj"), "target_modules is not a regular expression"),
    "targets too few": (_set(target_modules=["q_proj"]), "weights for it: PEFT would not apply them"),
    "targets too many": (_set(target_modules=[*TARGETS, "k_proj"]), "weights are missing"),
    "excluded": (_set(exclude_modules=["q_proj"]), "PEFT would not apply them"),
    "layers textual": (_set(layers_to_transform=["1"]), "layers_to_transform must be a whole number"),
    "layers too few": (_set(layers_to_transform=[1]), "PEFT would not apply them"),
    "init unknown": (_set(init_lora_weights="miracle"), "init_lora_weights is 'miracle', which Kıyas does not know"),
    "init a number": (_set(init_lora_weights=1), "init_lora_weights is 1"),
    "loftq": (_set(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}), "init_lora_weights is 'loftq'"),
    "corda": (_set(init_lora_weights="corda"), "init_lora_weights is 'corda'"),
    "LoRA-GA": (_set(init_lora_weights="lora_ga"), "init_lora_weights is 'lora_ga'"),
    "qalora": (_set(use_qalora=True), "use_qalora is set"),
    "parameters": (_set(target_parameters=["mlp.experts.gate_up_proj"]), "target_parameters is set"),
    "replication": (_set(layer_replication=[[0, 2], [1, 3]]), "layer_replication is set"),
    "merged layers": (_set(enable_lora=[True, False, True]), "enable_lora is set"),
    "unknown key": (_set(use_magic=True), "'use_magic' is True, which Kıyas does not know"),
    "unknown number": (_set(magic=0), "'magic' is 0"),
    "a half surrogate": (_set(**{"\ud800": "\udfff"}), "which Kıyas does not know"),
    "config a list": (_text(CONFIG, "[]"), "expected a JSON object"),
    "config empty": (_text(CONFIG, " "), "not valid JSON"),
    "config deep": (_text(CONFIG, "[" * 100_000), "not valid JSON"),
    "config digits": (_text(CONFIG, '{"peft_type": "LORA", "r": ' + "9" * 5000 + "}"), "not valid JSON"),
    "config not UTF-8": (_text(CONFIG, b'{"a": "\xff"}'), "not valid JSON"),
    "config a folder": (lambda folder: _as_folder(folder, CONFIG), "cannot read"),
    # the weights
    "A without B": (_without("layers.1.mlp.down_proj.lora_B"), "down_proj has lora_A but no lora_B"),
    "B without A": (_without("lora_A"), "has lora_B but no lora_A"),
    "some layers": (_without("layers.2"), "weights are missing"),
    "no tensors": (_without(""), "holds no tensors"),
    "not finite": (_first(lambda a: a * float("nan")), "are not finite"),
    "infinite in float32": (_first(lambda a: a.double() * 1e300), "are not finite"),
    "untrained": (lambda folder: rewrite(folder, lambda t: {k: v * ("_A" in k) for k, v in t.items()}), "untrained"),
    "all zero": (lambda folder: rewrite(folder, lambda t: {k: v * 0 for k, v in t.items()}), "untrained"),
    "integers": (_first(lambda a: a.to(torch.int8)), "is of I8, not of floating-point numbers"),
    "booleans": (_first(lambda a: a > 0), "not of floating-point numbers"),
    "complex": (_first(lambda a: a.to(torch.complex64)), "not of floating-point numbers"),
    "ZeRO-3": (_first(lambda a: torch.zeros(0)), "DeepSpeed ZeRO-3"),
    "flat": (_first(lambda a: a.flatten()), "a LoRA matrix has two dimensions"),
    "a convolution": (_first(lambda a: a[..., None, None]), "a LoRA matrix has two dimensions"),
    "another rank": (_first(lambda a: a[:2]), "has rank 2, adapter_config.json says r: 4"),
    "another base": (_first(lambda a: a[:, :7]), "takes 7 and gives 96 values"),
    "transposed": (_first(lambda a: a.T), "says r: 4"),
    "another family": (_with("base_model.model.transformer.h.0.c_attn.lora_A.weight", 4, 9), "lora_A but no lora_B"),
    "two adapters": (_with(FIRST.replace(".weight", ".other.weight"), 4, 256), "twice"),
    "resized": (_with("base_model.model.model.embed_tokens.weight", 9, 96), "the vocabulary was resized"),
    "a bias": (_with("base_model.model.model.layers.0.self_attn.q_proj.bias", 96), "a trained bias of the base"),
    "a bias of B": (_with(FIRST.replace("A.weight", "B.bias"), 96), "a trained bias of A or B"),
    "magnitudes": (_with(FIRST.replace("lora_A.weight", "lora_magnitude_vector"), 96), "DoRA's magnitudes"),
    "a tensor of no one": (_with("something", 3), "holds 'something': not a LoRA A or B"),
    "pointer": (_text(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "Git LFS pointer"),
    "a page": (_text(WEIGHTS, "<!doctype html><html>"), "is a web page"),
    "empty file": (_text(WEIGHTS, ""), "is empty"),
    "a folder of weights": (lambda folder: _as_folder(folder, WEIGHTS), "is not a file"),
    "a dangling link": (_link, "which is not there"),
    "cut off": (lambda folder: os.truncate(folder / WEIGHTS, 20_000), "is not a safetensors file"),
    "header too long": (lambda folder: _header(folder, b"{}", 2**60), "is not a safetensors file"),
    "header not JSON": (lambda folder: _header(folder, b"{{{{"), "is not a safetensors file"),
    "header a list": (lambda folder: _header(folder, b"[]"), "is not a safetensors file"),
    "header deep": (lambda folder: _header(folder, b"[" * 100_000), "is not a safetensors file"),
    "header of odd types": (
        lambda folder: _header(folder, b'{"a":{"dtype":7,"shape":[]}}'),
        "is not a safetensors file",
    ),
    "an unknown format": (
        lambda folder: _header(folder, b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', data=b"0000"),
        "is not a safetensors file",
    ),
    "pickle of a list": (_pickle([1, 2]), "expected tensors by name"),
    "pickle inside": (_pickle({"state_dict": {"a": torch.ones(1)}}), "expected tensors by name"),
    "pickle of code": (_pickle({"a": Path("x")}), "is broken"),
    "not a pickle": (lambda folder: _pickle([])(folder) or _text(OLD_WEIGHTS, b"\x80\x05odd")(folder), "is broken"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, plain: Path, kind: str) -> None:
    folder = copy(plain, tmp_path)
    spoil, told = BROKEN[kind]
    spoil(folder)
    with pytest.raises(KiyasError) as error:
        ours(folder)
    assert told in str(error.value)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value.args[0])
    assert error.value.hint or "JSON" in told
    str(error.value).encode()  # no halves of surrogate pairs


def test_links_are_followed_and_named_by_their_own_names(tmp_path: Path, plain: Path) -> None:
    """The Hub's cache keeps links to blobs; `best` and `latest` are often links to a checkpoint."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    shutil.copytree(plain, blobs)
    snapshot.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (snapshot / name).symlink_to(blobs / name)
    assert [each.path for each in adapters.find(tmp_path / "hub")[0]] == [snapshot]
    copy(plain, tmp_path / "out")
    (tmp_path / "out" / "best").symlink_to("checkpoint-5")
    (tmp_path / "out" / "again").symlink_to(tmp_path / "out")
    assert [(each.path.name, each.step) for each in adapters.find(tmp_path / "out")[0]] == [("checkpoint-5", 5)]
    (tmp_path / "arm").symlink_to(tmp_path / "out")
    assert [each.step for each in adapters.find(tmp_path / "arm")[0]] == [5]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "seed-3").symlink_to(tmp_path / "out")
    assert [(each.seed, each.step) for each in adapters.find(tmp_path / "links")[0]] == [(3, 5)]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("config.json", "model.safetensors"), "a whole fine-tuned model"),
        (("config.json", "model-00001-of-00002.safetensors"), "a whole fine-tuned model"),
        (("config.json", "pytorch_model.bin"), "a whole fine-tuned model"),
        (("zero_to_fp32.py", "latest"), "a DeepSpeed checkpoint"),
        (("global_step5/mp_rank_00_model_states.pt",), "a DeepSpeed checkpoint"),
        (("pytorch_model_fsdp_0/__0_0.distcp",), "an FSDP checkpoint"),
    ],
)
def test_other_checkpoints_are_named(tmp_path: Path, files: tuple[str, ...], told: str) -> None:
    for name in files:
        path = tmp_path / "deep" / "checkpoint-5" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    with pytest.raises(KiyasError, match=f"checkpoint-5 is {told}, not an adapter"):
        adapters.find(tmp_path / "deep")


# -- fuzz ---------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 8, 2**70, 0.5, -0.0, 1e308, float("inf"), float("nan"), "",
    "8", "none", "\ud800", "é" * 99,
    "(", ".*", [], [None], [[]], ["q_proj"], [1], {}, {"a": 1}, {"q_proj": 2}, [{}],
)  # fmt: skip


def odd_config(plain: Path, folder: Path, odd: dict[str, Any]) -> None:
    """Keys of a whole configuration get odd values: a right reading, or one line."""
    shutil.copy(plain / WEIGHTS, folder)
    (folder / CONFIG).write_text(json.dumps(json.loads((plain / CONFIG).read_text()) | odd))
    try:
        mine = ours(folder)
    except KiyasError as error:
        assert "\n" not in str(error.args[0])
        str(error).encode()
        return
    try:
        expected = in_peft(folder)
    except Exception:  # noqa: BLE001 (a key without effect that PEFT wants of another type)
        expected = in_peft(plain)
    torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4, msg=ascii(odd))


def fuzz_weights(plain: Path, folder: Path, seed: int) -> None:
    """Bytes of the header are changed, removed or repeated: a right reading, or one line."""
    rng = random.Random(seed)
    data = bytearray((plain / WEIGHTS).read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.choices(range(end), k=2))
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : min(to, at + 20)]
            case _:
                data[at:at] = data[at : min(to, at + 20)]
    (folder / WEIGHTS).write_bytes(data)
    try:
        ours(folder)
    except KiyasError as error:
        assert "\n" not in str(error.args[0])
        str(error).encode()


@pytest.mark.parametrize("seeds", [range(25), pytest.param(range(25, 1500), marks=pytest.mark.slow)])
def test_odd_headers_are_read_or_refused(tmp_path: Path, plain: Path, seeds: range) -> None:
    folder = copy(plain, tmp_path)
    for seed in seeds:
        fuzz_weights(plain, folder, seed)


# PEFT warns of keys that it does not know, half characters among them, which no test runner can print.
pytestmark = pytest.mark.filterwarnings("ignore")
KEYS = [*peft.LoraConfig().to_dict(), "strange", "\udfff"]


def test_odd_configurations_are_read_as_in_peft_or_refused(tmp_path: Path, plain: Path) -> None:
    rng = random.Random(0)
    for _ in range(40):
        odd_config(plain, tmp_path, {key: rng.choice(ODD) for key in rng.sample(KEYS, rng.randint(1, 3))})


@pytest.mark.slow
@pytest.mark.parametrize("key", [ascii(key) for key in KEYS])
def test_each_key_with_each_odd_value(tmp_path: Path, plain: Path, key: str) -> None:
    for value in ODD:
        odd_config(plain, tmp_path, {next(each for each in KEYS if ascii(each) == key): value})
