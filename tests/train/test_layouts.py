"""A step cut to fit memory gives what the whole step gives, and no pass exceeds its budget."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from kiyas.model.adapters import AdapterStack, Dropout, Spec, StackedModel
from kiyas.model.batches import Batch
from kiyas.model.meter import Shape, metered
from kiyas.study.settings import Study
from kiyas.train.loop import JointTraining, Task
from kiyas.train.memory import Layout
from kiyas.train.plan import Plan
from kiyas.types import AdapterId, KiyasError, TokenizedExample
from trainings import VALIDATION, close, losses, runs, study


def dropping(**training: Any) -> Study:
    settings = study(**training)
    return settings.model_copy(update={"peft": settings.peft.model_copy(update={"lora_dropout": 0.3})})


def train(layout: Layout, settings: Study, family: str = "qwen2") -> JointTraining:
    training = JointTraining(tiny.base(family), runs(), VALIDATION, settings, layout=layout)
    training.run()
    return training


WHOLE = Layout(10_000)


@pytest.mark.parametrize(
    "layout", [Layout(110), Layout(60), Layout(10_000, recompute=True), Layout(60, recompute=True)]
)
@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_every_layout_trains_the_same(family: str, layout: Layout) -> None:
    settings = dropping(budget={"steps": 6})
    whole, cut = train(WHOLE, settings, family), train(layout, settings, family)
    for run in runs():
        for kind in ("train", "validation"):
            assert losses(whole, run.id, kind) == pytest.approx(losses(cut, run.id, kind), rel=1e-5)
    assert close(whole.stack.theta, cut.stack.theta, 1e-4)


def test_recomputing_keeps_less() -> None:
    def kept(layout: Layout) -> int:
        training = JointTraining(tiny.base(), runs(), VALIDATION, study(), layout=layout)
        storages: dict[int, int] = {}

        def note(x: torch.Tensor) -> torch.Tensor:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            training.backward([each.batch(0) for each in training.trainees], 0)
        return sum(storages.values())

    # What a layer needs for its own backward pass is made again, one layer at a time.
    assert kept(Layout(10_000, recompute=True)) < 0.6 * kept(WHOLE)


@given(
    tokens=st.integers(50, 400),
    adapters=st.integers(1, 12),
    lengths=st.lists(st.integers(2, 50), min_size=1, max_size=8),
)
def test_a_pass_never_exceeds_its_budget(tokens: int, adapters: int, lengths: list[int]) -> None:
    from kiyas.model.batches import split

    longest = max(lengths)
    together = Layout(tokens).together(adapters, longest)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for part in split([order] * together, [lengths] * together, tokens):
        assert together * max(sum(lengths[i] for i in row) for row in part) <= tokens


def test_a_pass_that_holds_no_sample_is_refused() -> None:
    with pytest.raises(KiyasError, match=r"max_tokens_per_pass is 20, but the longest sample has \d+ tokens"):
        JointTraining(tiny.base(), runs(), VALIDATION, study(max_tokens_per_pass=20))


def test_smaller_layouts_end() -> None:
    layout, seen = Layout(4096), []
    while (smaller := layout.smaller(900, can_recompute=True)) is not None:
        seen.append(smaller)
        layout = smaller
    assert seen == [Layout(2048), Layout(1024), Layout(900), Layout(900, recompute=True)]
    assert Layout(900).smaller(900, can_recompute=False) is None


def test_lora_equals_autograd() -> None:
    """The hand-written backward pass against PyTorch's own, dropout and all."""
    base = tiny.base()
    model = StackedModel(base.model)
    stack = AdapterStack([AdapterId("x"), AdapterId("y")], [Spec(4, 8), Spec(4, 16)], model.sites, base.device)
    stack.theta.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    site = model.sites[0]
    layer = base.model.get_submodule(site.name)
    noise = torch.Generator().manual_seed(1)
    x = torch.randn(2, 7, site.inputs, generator=noise)
    wanted = torch.randn(2, 7, site.outputs, generator=noise)
    dropout = Dropout(0.25, 0.5)
    dropout.token_KN = (torch.randint(-(2**31), 2**31, (2, 7), generator=noise) | 1).int()
    dropped = dropout.dropped(x.device, site.inputs, site.name)
    assert dropped is not None and dropped.any() and not dropped.all()

    def gradients(forward: Any) -> list[torch.Tensor]:
        a, b = (w.detach().clone().requires_grad_() for w in (stack.a(site.name), stack.b(site.name)))
        at = x.clone().requires_grad_()
        made = forward(at, a, b)
        (made * wanted).sum().backward()
        assert a.grad is not None and b.grad is not None and at.grad is not None
        return [made.detach(), a.grad, b.grad, at.grad]

    def ours(at: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        stack._a[site.name], stack._b[site.name] = a, b
        model.use(stack, dropout)
        made: torch.Tensor = layer(at)
        return made

    def dull(at: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        kept = torch.where(dropped, 0.0, at / torch.tensor([0.75, 0.5])[:, None, None])
        model.use(None)
        plain: torch.Tensor = layer(at)
        return plain + kept @ a.transpose(1, 2) @ b.transpose(1, 2) * torch.tensor([2.0, 4.0])[:, None, None]

    for mine, reference in zip(gradients(ours), gradients(dull), strict=True):
        assert torch.allclose(mine, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", [0, 3])
def test_out_of_memory_goes_on_with_smaller_passes(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = JointTraining._losses
    whole = train(WHOLE, study(budget={"steps": 6}))
    training = JointTraining(tiny.base(), runs(), VALIDATION, study(budget={"steps": 6}), layout=Layout(400))

    def failing(self: JointTraining, batch: Batch, *scale: Any) -> torch.Tensor:
        if self.step >= step and batch.ids.numel() > 120:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, batch, *scale)

    monkeypatch.setattr(JointTraining, "_losses", failing)
    training.run()
    assert [layout.pass_tokens for _, layout in training.halvings] == [200, 100]
    assert all(at >= step for at, _ in training.halvings)
    for run in runs():
        assert losses(whole, run.id) == pytest.approx(losses(training, run.id), rel=1e-5)
    assert close(whole.stack.theta, training.stack.theta, 1e-4)


def test_out_of_memory_that_nothing_helps_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(JointTraining, "_losses", failing)
    with pytest.raises(torch.OutOfMemoryError):
        train(Layout(200), study())


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(JointTraining, "_losses", failing)
    with pytest.raises(RuntimeError, match="mat1"):
        train(Layout(200), study())


def test_a_training_that_nobody_holds_is_gone() -> None:
    """Its tensors go at once, not when the garbage collector comes by: decoding measures what is free."""
    gc.collect()
    gc.disable()
    try:
        training = train(Layout(200, recompute=True), dropping(budget={"steps": 2}))
        held = [weakref.ref(x) for x in (training.stack.theta, training.gradient, training.optimizer.m)]
        held += [weakref.ref(parameter) for parameter in training.base.model.parameters()]
        del training
        assert [each for each in held if each() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("recompute", [False, True])
def test_modules_in_float32_are_planned_for(recompute: bool) -> None:
    """Layer by layer: what is measured on two layers and three says what a deeper base takes."""
    config = copy.deepcopy(tiny.CONFIGS["qwen2"])
    config.num_hidden_layers, config.layer_types = 6, ["full_attention"] * 6
    wide = ("model.layers.1.mlp", "model.layers.4.mlp", "model.layers.5.self_attn")
    layout, samples = Layout(400, recompute), [TokenizedExample((0,) * 200, 1)] * 2
    peaks = {}
    for modules in ((), wide):
        shape = Shape(config, torch.float16, True, True, modules)
        plan = Plan(shape, study(), [AdapterId("x")], 200, 0)
        with metered() as meter:
            training = JointTraining(shape.base(6), [Task(AdapterId("x"), samples, 1)], {}, study(), layout=layout)
            training.backward([samples], 0)
        peaks[modules] = meter.peak
        assert plan.peak(layout) == pytest.approx(meter.peak, rel=0.05)
    assert peaks[wide] > peaks[()]
