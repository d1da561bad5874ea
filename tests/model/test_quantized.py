"""A base in 4 bits equals the base of its dequantised weights, and says that it is another one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import Qwen2Config
from transformers.pytorch_utils import Conv1D

import tiny
from kiyas.check.cards import CARDS
from kiyas.data.chat import Chat
from kiyas.generate.decoder import Generator
from kiyas.generate.work import Job, Question
from kiyas.model import checkpoints
from kiyas.model.adapters import StackedModel
from kiyas.model.base import Base
from kiyas.model.meter import Shape, metered
from kiyas.model.quantized import BYTES, Linear4bit, quantise
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Generation, Peft
from kiyas.train.loop import JointTraining
from kiyas.train.memory import Layout, training_budget
from kiyas.train.plan import Plan
from kiyas.types import BASE, AdapterId, KiyasError
from trainings import VALIDATION, close, losses, runs, study

pytest.importorskip("bitsandbytes")
FORMATS = (torch.float32, torch.bfloat16, torch.float16)
WHOLE = Layout(10_000)
NF4 = torch.tensor(
    [
        *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    ]
)


def in_4bit(family: str = "qwen2", dtype: torch.dtype = torch.float32, change: Any = None) -> Base:
    model = tiny.model(family)
    if change is not None:
        with torch.no_grad():
            change(model)
    return Base.of(quantise(model.to(dtype)), Chat(tiny.tokenizer(), "tiny"))


def dull(family: str = "qwen2", dtype: torch.dtype = torch.float32) -> Base:
    """The same weights, dequantised into plain linear layers."""
    model = quantise(tiny.model(family).to(dtype))
    for name, layer in list(model.named_modules()):
        if isinstance(layer, Linear4bit):
            plain: nn.Module = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            weight = layer.dequantised()
            if layer.conv1d:
                plain, weight = Conv1D(layer.out_features, layer.in_features), weight.T.contiguous()
            plain.weight = nn.Parameter(weight)  # type: ignore[assignment]
            plain.bias = layer.bias  # type: ignore[assignment]
            model.set_submodule(name, plain)
    return Base.of(model, Chat(tiny.tokenizer(), "tiny"))


def train(on: Base, steps: int = 8, layout: Layout = WHOLE, chosen: Any = None, **settings: Any) -> JointTraining:
    training = JointTraining(on, chosen or runs((steps,) * 3), VALIDATION, study(**settings), layout=layout)
    training.run()
    return training


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
@pytest.mark.parametrize("dtype", FORMATS)
def test_equals_the_dequantised_weights(family: str, dtype: torch.dtype) -> None:
    packed, plain = train(in_4bit(family, dtype)), train(dull(family, dtype))
    assert packed.base.load_in_4bit and not plain.base.load_in_4bit
    assert packed.base.dtype == dtype and packed.base.packed == plain.base.packed
    rel = 1e-5 if dtype == torch.float32 else 3e-3
    for run in runs():
        for kind in ("train", "validation"):
            assert losses(packed, run.id, kind) == pytest.approx(losses(plain, run.id, kind), rel=rel)
    assert close(packed.stack.theta, plain.stack.theta, {torch.float32: 1e-4}.get(dtype, 0.1))


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_gradient_of_the_input_is_that_of_the_dequantised_weights(dtype: torch.dtype) -> None:
    layer, noise = nn.Linear(96, 64, dtype=dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.normal_(0, 0.1, generator=noise)
    packed = Linear4bit.of(layer)
    x, wanted = (torch.randn(3, 5, n, generator=noise).to(dtype) for n in (96, 64))
    with torch.no_grad():  # as when the base is probed: bitsandbytes' own layer passes no gradient after this
        packed(x)
    found = []
    for forward in (packed, lambda x: nn.functional.linear(x, packed.dequantised(), layer.bias)):
        at = x.clone().requires_grad_()
        y = forward(at)
        (y * wanted).sum().backward()
        assert at.grad is not None and y.dtype == at.grad.dtype == dtype
        found.append((y.detach(), at.grad))
    assert all(torch.equal(mine, reference) for mine, reference in zip(*found, strict=True))


@pytest.mark.parametrize("shape", [(64, 128), (96, 96), (32, 48), (10, 33), (7, 9)])
def test_weights_are_the_nearest_of_nf4(shape: tuple[int, int]) -> None:
    """Against the values of QLoRA's appendix E; blocks of 64 go over the ends of rows."""
    layer = nn.Linear(shape[1], shape[0])
    with torch.no_grad():
        layer.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    flat = nn.functional.pad(layer.weight.detach().flatten(), (0, -layer.weight.numel() % 64)).view(-1, 64)
    scale = flat.abs().amax(1, keepdim=True)
    nearest = NF4[(flat / scale)[..., None].sub(NF4).abs().argmin(-1)] * scale
    expected = nearest.flatten()[: layer.weight.numel()].view(shape)
    assert torch.allclose(Linear4bit.of(layer).dequantised(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_product_that_gpus_take_reads_the_same_weights(dtype: torch.dtype) -> None:
    from bitsandbytes import matmul_4bit

    layer = Linear4bit.of(nn.Linear(128, 48, dtype=dtype).requires_grad_(False))
    x = torch.randn(3, 5, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = matmul_4bit(x, layer.weight, layer._state(48, 128), bias=layer.bias)
    assert torch.allclose(found, layer(x), atol=1e-2 if dtype == torch.bfloat16 else 2e-3)


def test_stack_equals_solo() -> None:
    stacked = train(in_4bit())
    for run in runs((8, 8, 8)):
        assert losses(stacked, run.id) == pytest.approx(losses(train(in_4bit(), chosen=[run]), run.id), rel=1e-5)


@pytest.mark.parametrize("layout", [Layout(60), Layout(10_000, recompute=True), Layout(60, recompute=True)])
def test_every_layout_trains_the_same(layout: Layout) -> None:
    whole, cut = train(in_4bit(), 6), train(in_4bit(), 6, layout)
    for run in runs():
        assert losses(whole, run.id) == pytest.approx(losses(cut, run.id), rel=1e-5)
    assert close(whole.stack.theta, cut.stack.theta, 1e-4)


def test_no_dequantised_weight_is_kept_for_the_backward_pass() -> None:
    base, kept = in_4bit(), set[torch.Size]()

    def note(x: torch.Tensor) -> torch.Tensor:
        kept.add(x.shape)
        return x

    training = JointTraining(base, runs(), VALIDATION, study(), layout=WHOLE)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        training.backward([each.batch(0) for each in training.trainees], 0)
    whole = {torch.Size((site.outputs, site.inputs)) for site in training.model.sites}
    assert kept and not kept & (whole | {shape[::-1] for shape in whole})


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_what_transformers_loads_is_what_we_quantise(family: str, tmp_path: Path) -> None:
    loaded = Base.load(tiny.save(tmp_path / "m", family), "cpu", "bfloat16", load_in_4bit=True)
    made = in_4bit(family, torch.bfloat16)
    assert loaded.nbytes == pytest.approx(made.nbytes, abs=64)  # rotary frequencies
    assert loaded.parameters == made.parameters == tiny.base(family).model.num_parameters()
    ours, theirs = (dict(each.model.named_buffers()) for each in (made, loaded))
    packed = [name for name in ours if name.endswith(("weight", "absmax"))]
    assert len(packed) >= 16 and all(torch.equal(ours[name], theirs[name]) for name in packed)
    for head in (made.model.get_output_embeddings(), loaded.model.get_output_embeddings()):
        assert type(head) is nn.Linear and head.weight.dtype == torch.bfloat16
    ours, theirs = (dict(each.model.named_parameters()) for each in (made, loaded))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours) and ours.keys() == theirs.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_stopped_training_goes_on_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    def stop(count: int, note: str) -> None:
        if stopped.step == 7:
            raise KeyboardInterrupt

    settings = study(save_steps=5)
    whole, cut = RunDir(tmp_path / "whole"), RunDir(tmp_path / "cut")
    undisturbed = JointTraining(in_4bit(dtype=dtype), runs((10,) * 3), VALIDATION, settings, whole)
    undisturbed.run()
    stopped = JointTraining(in_4bit(dtype=dtype), runs((10,) * 3), VALIDATION, settings, cut)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop)
    resumed = JointTraining(in_4bit(dtype=dtype), runs((10,) * 3), VALIDATION, settings, cut)
    resumed.run()
    assert torch.equal(resumed.stack.theta, undisturbed.stack.theta)


def test_packed_equals_padded() -> None:
    base = in_4bit()
    base.model.set_attn_implementation("sdpa")
    base.packed = False
    packed, padded = train(in_4bit()), train(base)
    assert packed.base.packed
    for run in runs():
        assert losses(packed, run.id) == pytest.approx(losses(padded, run.id), rel=1e-5)


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "gemma2"])
def test_answers_are_those_of_the_dequantised_weights(family: str, tmp_path: Path) -> None:
    """Trained, saved, loaded into a frozen stack, decoded; and read by PEFT."""
    ids = [task.id for task in runs()]
    trained = train(in_4bit(family), 20)
    places: list[tuple[AdapterId, Path | None]] = [(BASE, None)]
    for k, id in enumerate(ids):
        checkpoints.save_adapter(tmp_path / str(k), trained.stack, k, trained.model, "owner/base", 0.0)
        places.append((id, tmp_path / str(k)))
    questions = [Question(f"p{i}", s.ids[: s.start]) for i, s in enumerate(tiny.samples(5, 7))]
    found = []
    for base in (in_4bit(family), dull(family)):
        model = StackedModel(base.model)
        stack = checkpoints.load_stack(places, model, base.device, base.dtype)
        generator = Generator(base, model, stack, Generation(max_new_tokens=20))
        generator.canary(questions[0])
        jobs = [Job(k, question, 0) for k in range(len(places)) for question in questions]
        found.append({answer.key: answer.text for answer in generator.answer(jobs, len(jobs))})
    assert found[0] == found[1] and len(set(found[0].values())) > len(questions)

    theirs = peft.PeftModel.from_pretrained(dull(family).model, str(tmp_path / "1")).eval()
    assert theirs.peft_config["default"].base_model_name_or_path == "owner/base"
    on, prompt = in_4bit(family), torch.tensor([questions[0].prompt])
    model = StackedModel(on.model)
    model.stack = checkpoints.load_stack(places, model, on.device, on.dtype).select([2])
    theirs.base_model.model.set_attn_implementation("eager")
    on.model.set_attn_implementation("eager")
    with torch.no_grad():
        expected, got = theirs(input_ids=prompt).logits, on.model(input_ids=prompt).logits
    assert torch.allclose(got, expected, atol=1e-4)


def test_out_of_range_modules_compute_in_float32() -> None:
    def stretch(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight *= 1e5

    on = in_4bit(dtype=torch.float16, change=stretch)
    assert on.packed and on.float32_modules == ("model.layers.0.mlp",)
    layers = [module for module in on.model.modules() if isinstance(module, Linear4bit)]
    assert {layer.weight.dtype for layer in layers} == {torch.uint8}
    assert {layer.absmax.dtype for layer in layers} == {torch.float32}
    assert sum(layer.dtype == torch.float32 for layer in layers) == 3
    whole, narrow = train(in_4bit(change=stretch)), train(on)
    for run in runs():
        assert losses(narrow, run.id) == pytest.approx(losses(whole, run.id), rel=1e-2)


def test_a_base_that_is_quantised_already_is_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(KiyasError, match="quantised already"):
        Base.load(folder, "cpu")


def test_bitsandbytes_is_not_heard(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    code = f"from kiyas.model.base import Base; Base.load({str(folder)!r}, 'cpu', load_in_4bit=True)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


# -- memory, without contents --------------------------------------------------------------------------------------


def shape_7b(dtype: torch.dtype = torch.bfloat16) -> Shape:
    """Qwen2.5-7B's, in 4 bits."""
    config = Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    return Shape(config, dtype, packed=True, plain_head=True, load_in_4bit=True)


def test_weights_of_7b() -> None:
    shape = shape_7b()
    head, linear = 2 * 152_064 * 3584, 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18_944)
    assert shape.nbytes == pytest.approx(2 * head + BYTES * linear, rel=0.001)
    assert 5.5e9 < shape.nbytes < 6e9


@pytest.mark.parametrize(
    ("trainings", "card", "dtype"),
    [
        pytest.param(2, "24gb", torch.bfloat16, id="24 GB"),
        pytest.param(1, "t4", torch.float16, id="T4", marks=pytest.mark.slow),
    ],
)
def test_7b_fits(trainings: int, card: str, dtype: torch.dtype) -> None:
    asked = study(effective_batch_size=16).model_copy(update={"peft": Peft(r=16)})
    ids = [AdapterId("x", seed=seed) for seed in range(trainings)]
    plan = Plan(shape_7b(dtype), asked, ids, 1024, 7_600_000_000)
    room = CARDS[card].room
    budget = training_budget(room.kind, room.free, 1)
    layout = plan.chosen(budget, room.kind)
    assert plan.shape.nbytes + trainings * plan.adapter_bytes < plan.peak(layout) <= budget
    assert plan.together(budget) == trainings


def test_the_meter_counts_the_dequantised_weight() -> None:
    with metered() as meter:
        layer = Linear4bit.of(nn.Linear(3584, 18_944, bias=False, dtype=torch.bfloat16))
        x = torch.empty(8, 3584, dtype=torch.bfloat16, requires_grad=True)
        meter.peak = before = meter.live
        y = layer(x)
        assert meter.peak - before == pytest.approx(2 * 3584 * 18_944, rel=0.02)
        meter.peak = meter.live
        y.sum().backward()
        assert meter.peak - before == pytest.approx(2 * 3584 * 18_944, rel=0.02)
        assert meter.live - before < 2**20
