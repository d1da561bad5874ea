"""What `kiyas export` writes answers as the checkpoint did in the run: loaded by PEFT, and merged, by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from finished import contents, make_finished
from kiyas import practice
from kiyas.export import Wanted, export
from kiyas.export.weights import merged_format, write_merged
from kiyas.model.adapters import StackedModel
from kiyas.model.base import Base
from kiyas.model.checkpoints import load_stack, read_weights
from kiyas.model.merging import merge, save_plain
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Dtype, Study
from kiyas.types import AdapterId

IDS = torch.randint(3, 250, (1, 23), generator=torch.Generator().manual_seed(7))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_finished(tmp_path_factory.mktemp("runs") / "small")


@torch.no_grad()
def stacked_logits(base: Path, *adapters: Path, load_in_4bit: bool = False) -> torch.Tensor:
    """As the run computes them: all adapters on one base, in float32. [K, T, V]"""
    loaded = Base.load(base, "cpu", "float32", None, load_in_4bit)
    model = StackedModel(loaded.model)
    ids = [AdapterId("x", step=k) for k in range(len(adapters))]
    model.stack = load_stack(list(zip(ids, adapters, strict=True)), model, CPU, torch.float32)
    positions = torch.arange(IDS.shape[1])[None].expand(len(adapters), -1)
    loaded.model.set_attn_implementation("eager")
    return loaded.model(input_ids=IDS.expand(len(adapters), -1), position_ids=positions).logits


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


def with_adapter(base: Path, folder: Path, **config: object) -> Path:
    """A PEFT adapter of random weights, saved by PEFT itself."""
    settings = {"r": 3, "lora_alpha": 7, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}
    torch.manual_seed(1)
    made = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), peft.LoraConfig(**settings)
    )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    made.save_pretrained(folder)
    return folder


def test_peft_loads_the_exported_adapter_and_answers_as_the_stack(run: RunDir, tmp_path: Path) -> None:
    before = contents(run.root)
    place = export(run, Wanted("diverse@1", out=tmp_path / "out"))
    base = AutoModelForCausalLM.from_pretrained(practice.base_path(), dtype=torch.float32)
    chosen = run.checkpoints / AdapterId("diverse", seed=1, step=40).folder
    others = run.checkpoints / AdapterId("deep", seed=0, step=40).folder
    expected = stacked_logits(practice.base_path(), others, chosen)
    found = logits(peft.PeftModel.from_pretrained(base, place))[0]
    assert (found - expected[1]).abs().max() < 1e-4 < (found - expected[0]).abs().max()
    assert contents(run.root) == before, "the run folder is as it was"
    config = json.loads((place / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert str(run.root.parent) not in (place / "adapter_config.json").read_text(), "no path of this machine"


def test_transformers_loads_the_exported_merged_model(run: RunDir, tmp_path: Path) -> None:
    place = export(run, Wanted("deep", merged=True, out=tmp_path / "out"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    chosen = run.checkpoints / AdapterId("deep", seed=0, step=40).folder
    assert model.dtype == torch.float32, "what the run computed in"
    assert (logits(model)[0] - stacked_logits(practice.base_path(), chosen)[0]).abs().max() < 1e-4
    chat = [{"role": "user", "content": "Add two numbers."}]
    own = AutoTokenizer.from_pretrained(practice.base_path())
    assert tokenizer.apply_chat_template(chat, tokenize=False) == own.apply_chat_template(chat, tokenize=False)
    assert model.generation_config.eos_token_id == own.eos_token_id
    assert (place / "model.safetensors").stat().st_mode == (place / "config.json").stat().st_mode


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt2", "gemma2", "bloom"])
def test_merged_equals_stacked_in_every_family(family: str, tmp_path: Path) -> None:
    """Tied and untied heads, biases, GPT-2's transposed layers; rank, alpha and rank-stabilised scale."""
    base = tiny.save(tmp_path / "base", family)
    adapter = with_adapter(base, tmp_path / "adapter", use_rslora=True)
    made = merge(base, adapter, "float32")
    made.model.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    expected = stacked_logits(base, adapter)[0]
    assert (logits(again)[0] - expected).abs().max() < 1e-4 and made.difference < 1e-4
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert (logits(plain)[0] - expected).abs().max() > 1e-2, "the adapter changes the base's answers"
    assert again.config.tie_word_embeddings == plain.config.tie_word_embeddings
    adapted = read_weights(adapter, {site.name: site for site in StackedModel(plain).sites}).keys()
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    assert before.keys() == after.keys()
    # The base's prefix is in the names of some files, and not in those of others.
    changed = {name.removesuffix(".weight") for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(any(each.endswith(name) for each in adapted) for name in changed)


def test_an_adapter_of_some_modules_in_odd_names_is_written_as_peft_reads_it(tmp_path: Path) -> None:
    """Rank-stabilised, saved through torch.compile, of two modules: PEFT would not find its weights."""
    base = tiny.save(tmp_path / "base")
    adapter = with_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "up_proj"], use_rslora=True, r=4)
    weights = load_file(adapter / "adapter_model.safetensors")
    odd = {name.replace("model.layers", "_orig_mod.layers"): tensor for name, tensor in weights.items()}
    save_file(odd, adapter / "adapter_model.safetensors")
    save_plain(tmp_path / "plain", adapter, base, "somebody/base", 0.1)
    again = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "plain")
    assert (logits(again)[0] - stacked_logits(base, adapter)[0]).abs().max() < 1e-4
    config = json.loads((tmp_path / "plain" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "up_proj"] and config["base_model_name_or_path"] == "somebody/base"


def test_a_base_in_4_bits_is_merged_dequantised(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = tiny.save(tmp_path / "base", "gpt2")
    adapter = with_adapter(base, tmp_path / "adapter")
    merge(base, adapter, "float32", load_in_4bit=True).model.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    assert (logits(again)[0] - stacked_logits(base, adapter, load_in_4bit=True)[0]).abs().max() < 1e-4
    assert (logits(again)[0] - stacked_logits(base, adapter)[0]).abs().max() > 1e-3, "another base than in 16 bits"


def test_a_study_in_4_bits_exports_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bitsandbytes")
    run = make_finished(tmp_path / "run", {"training": {"load_in_4bit": True}}, seeds=(0,), steps=(20,), problems=5)
    place = export(run, Wanted("deep", merged=True, out=tmp_path / "out"))
    chosen = run.checkpoints / AdapterId("deep", seed=0, step=20).folder
    expected = stacked_logits(practice.base_path(), chosen, load_in_4bit=True)
    assert (logits(AutoModelForCausalLM.from_pretrained(place))[0] - expected[0]).abs().max() < 1e-4
    assert "these 4-bit weights, dequantised" in capsys.readouterr().err
    assert "4-bit weights, dequantised" in (place / "README.md").read_text(encoding="utf-8")


def test_16_bits_round_and_say_by_how_much(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")
    made = merge(base, with_adapter(base, tmp_path / "adapter"), "bfloat16")
    assert made.dtype == "bfloat16" and 1e-3 < made.difference < made.largest / 10


@pytest.mark.parametrize(
    ("asked", "computed", "found"),
    [
        (Dtype.AUTO, Dtype.FLOAT32, Dtype.FLOAT32),
        (Dtype.AUTO, Dtype.BFLOAT16, Dtype.BFLOAT16),
        (Dtype.AUTO, Dtype.FLOAT16, Dtype.AUTO),
        (Dtype.AUTO, None, Dtype.AUTO),
        (Dtype.FLOAT16, Dtype.FLOAT32, Dtype.FLOAT16),
    ],
    ids=str,
)
def test_the_merged_format(asked: Dtype, computed: Dtype | None, found: Dtype) -> None:
    """float16 as the run used it had layers in float32: a plain model has none."""
    assert merged_format(asked, computed) is found


def test_a_merged_model_ends_its_turn(tmp_path: Path) -> None:
    """The base's own settings may not name the token that the training's answers ended with."""
    base = tiny.save(tmp_path / "base")
    (base / "generation_config.json").write_text('{"eos_token_id": 7, "temperature": 0.5}')
    (base / "LICENSE").write_text("Ask me.")
    study = Study.model_validate({"name": "t", "model_name_or_path": str(base), "arms": {"x": {"dataset_name": "x"}}})
    write_merged(tmp_path / "merged", study, base, with_adapter(base, tmp_path / "adapter"), Dtype.FLOAT32)
    own = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert own == {"eos_token_id": [7, tiny.END], "temperature": 0.5}
    assert (tmp_path / "merged" / "LICENSE").read_text() == "Ask me."
