"""float16: near float32, out of range where values are, and never silently something else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import tiny
from kiyas.data.chat import Chat
from kiyas.model.base import Base
from kiyas.train.loop import JointTraining
from kiyas.types import AdapterId, KiyasError, TokenizedExample
from trainings import VALIDATION, close, losses, runs, study

HALVES = (torch.bfloat16, torch.float16)


def base(dtype: torch.dtype, family: str = "qwen2", change: Any = None, **settings: Any) -> Base:
    model = tiny.model(family)
    if change is not None:
        with torch.no_grad():
            change(model)
    return Base.of(model.to(dtype), Chat(tiny.tokenizer(), "tiny"), **settings)


def train(on: Base, chosen: Any = None, steps: int = 8, **settings: Any) -> JointTraining:
    training = JointTraining(on, chosen or runs((steps,) * 3), VALIDATION, study(**settings))
    training.run()
    return training


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
@pytest.mark.parametrize("dtype", HALVES)
def test_losses_are_near_those_of_float32(family: str, dtype: torch.dtype) -> None:
    whole, narrow = train(base(torch.float32, family)), train(base(dtype, family))
    assert narrow.base.dtype == dtype and narrow.base.packed == whole.base.packed
    assert narrow.stack.theta.dtype == narrow.gradient.dtype == narrow.optimizer.m.dtype == torch.float32
    for run in runs():
        assert losses(narrow, run.id) == pytest.approx(losses(whole, run.id), rel=5e-3)
    assert close(narrow.stack.theta, whole.stack.theta, 0.1 if dtype == torch.float16 else 0.4)


@pytest.mark.parametrize("dtype", HALVES)
def test_stack_equals_solo(dtype: torch.dtype) -> None:
    stacked = train(base(dtype))
    for run in runs((8, 8, 8)):
        assert losses(stacked, run.id) == pytest.approx(losses(train(base(dtype), [run]), run.id), rel=3e-3)


def long_samples(copies: int) -> list[TokenizedExample]:
    """Thousands of labelled tokens a step."""
    noise = torch.Generator().manual_seed(3)
    return [TokenizedExample(tuple(torch.randint(0, 250, (400,), generator=noise).tolist()), 1) for _ in range(copies)]


def test_gradients_do_not_vanish_with_the_number_of_labels() -> None:
    """Divided by the number of labels in float16, a third of them would be zero at a thousand times as many."""
    made = {}
    for dtype in (torch.float32, torch.float16):
        training = JointTraining(base(dtype), [runs()[0]], VALIDATION, study(max_grad_norm=1e9))
        with torch.no_grad():
            training.stack.theta.normal_(0, 0.05, generator=torch.Generator().manual_seed(5))
        training.accumulate([long_samples(20)], 0)
        made[dtype] = training.gradient.clone()
    assert close(made[torch.float16], made[torch.float32], 0.01)
    zeros = [(gradient == 0).float().mean().item() for gradient in made.values()]
    assert zeros[1] <= zeros[0] + 0.001


def test_the_scale_of_a_loss_reaches_the_head_in_float32() -> None:
    """A model that is sure has gradients below float16's smallest number; scaled before they are rounded they stay."""
    on = base(torch.float16)
    target = torch.arange(50)
    sure = on.model.get_output_embeddings().weight[target].detach().float() * 50

    def gradient(hidden: torch.Tensor, scale: float) -> torch.Tensor:
        hidden = hidden.clone().requires_grad_()
        loss = on.losses(hidden, torch.arange(50), target, torch.full((50,), scale))
        loss.sum().backward()
        assert hidden.grad is not None and loss.max() < 30, "the loss itself is not scaled"
        return hidden.grad.float() / scale

    plain, scaled = gradient(sure.half(), 1.0), gradient(sure.half(), 2.0**14)
    vanished = (plain == 0) & (scaled != 0)
    assert vanished.float().mean() > 0.2 and not ((plain != 0) & (scaled == 0)).any()


def test_an_overflow_repeats_that_adapter_alone() -> None:
    calm = train(base(torch.float16))
    training = JointTraining(base(torch.float16), runs((8, 8, 8)), VALIDATION, study())
    training.trainees[1].progress.scale = 2.0**24
    seen: list[list[bool]] = []
    real = training.backward

    def backward(chosen: Any, step: int) -> torch.Tensor:
        seen.append([bool(row) for row in chosen])
        return real(chosen, step)

    training.backward = backward  # type: ignore[method-assign]
    training.run()
    assert [each.progress.repeats > 0 for each in training.trainees] == [False, True, False]
    assert [False, True, False] in seen and seen.count([True] * 3) == 8, "all take equal steps"
    assert close(training.stack.theta, calm.stack.theta, 0.05)
    assert torch.equal(training.stack.theta[0], calm.stack.theta[0])


def test_a_gradient_that_no_scale_holds_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    training = JointTraining(base(torch.float16), runs(), VALIDATION, study())
    real = training.backward

    def backward(chosen: Any, step: int) -> torch.Tensor:
        sums = real(chosen, step)
        training.gradient[2, 0] = math.inf
        return sums

    monkeypatch.setattr(training, "backward", backward)
    with pytest.raises(KiyasError, match=r"gradients of y \(seed 1\) leave float16's range at step 1"):
        training.run()


def test_the_scale_grows_again_after_calm_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiyas.train.loop.CALM_STEPS", 3)
    training = train(base(torch.float16), steps=7)
    assert [(each.progress.scale, each.progress.calm) for each in training.trainees] == [(4.0, 1)] * 3


def stretch(factor: float) -> Any:
    """One layer whose MLP writes huge values into the residual stream, as Qwen2's do."""

    def change(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight *= factor

    return change


def product(model: Any) -> None:
    """Factors in range whose product is not; the output is."""
    mlp = model.model.layers[1].mlp
    mlp.up_proj.weight *= 3e3
    mlp.gate_proj.weight *= 1e3
    mlp.down_proj.weight *= 1e-6


@pytest.mark.parametrize(("change", "module"), [(stretch(1e5), "model.layers.0.mlp"), (product, "model.layers.1.mlp")])
def test_modules_out_of_range_compute_in_float32(change: Any, module: str) -> None:
    on = base(torch.float16, change=change)
    assert on.packed and on.float32_modules == (module,)
    whole, narrow = train(base(torch.float32, change=change)), train(on)
    for run in runs():
        assert losses(narrow, run.id) == pytest.approx(losses(whole, run.id), rel=1e-2)


def test_residual_stream_beyond_float16() -> None:
    """Values that are beyond it between the layers only."""

    def change(model: Any) -> None:
        model.model.embed_tokens.weight *= 1e5
        model.model.layers[0].register_forward_hook(lambda module, args, output: output * 10)

    on = base(torch.float16, "llama", change)
    assert on.packed and on.float32_modules == ()
    whole = base(torch.float32, "llama", change)
    assert losses(train(on), AdapterId("x", seed=0)) == pytest.approx(
        losses(train(whole), AdapterId("x", seed=0)), rel=1e-2
    )


def test_what_was_found_once_is_used_again() -> None:
    found = base(torch.float16, change=stretch(1e5)).float32_modules
    again = base(torch.float16, change=stretch(1e5), float32_modules=found)
    assert again.float32_modules == found
    mlp = again.model.model.layers[0].mlp
    assert {layer.weight.dtype for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)} == {torch.float32}
    assert again.model.model.layers[1].mlp.up_proj.weight.dtype == torch.float16


def test_out_of_range_is_refused_not_padded() -> None:
    with pytest.raises(KiyasError, match="not numbers in float16"):
        base(torch.float16, change=stretch(1e5), float32_modules=())


def test_broken_weights_are_named() -> None:
    def change(model: Any) -> None:
        model.model.layers[1].self_attn.o_proj.weight[0, 0] = math.nan

    with pytest.raises(KiyasError, match=r"model.layers.1.self_attn gives nan"):
        base(torch.float16, change=change)
    with pytest.raises(KiyasError, match="not numbers in float32"):
        base(torch.float32, change=change)


def test_a_family_that_pads_is_refused_where_it_leaves_the_range() -> None:
    def change(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight *= 1e5

    with pytest.raises(KiyasError, match=r"Gemma2ForCausalLM leaves float16's range in model.layers.0.mlp"):
        base(torch.float16, "gemma2", change)
