"""Layouts are chosen within a budget, measured without contents, and what is measured is what a run takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

import tiny
from kiyas.model.meter import Shape, metered
from kiyas.study.settings import Study
from kiyas.train.memory import Layout
from kiyas.train.plan import Plan
from kiyas.types import AdapterId, KiyasError
from trainings import study

GB = 10**9


def shape(layers: int = 6, dtype: torch.dtype = torch.bfloat16) -> Shape:
    config = AutoConfig.for_model(
        "qwen2", hidden_size=512, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=2, vocab_size=32000, tie_word_embeddings=True,
    )  # fmt: skip
    return Shape(config, dtype, packed=True, plain_head=True)


def plan(trainings: int, longest: int = 512, settings: Study | None = None, **settings_of_shape: Any) -> Plan:
    ids = [AdapterId("xy"[k % 2], seed=k // 2) for k in range(trainings)]
    return Plan(shape(**settings_of_shape), settings or study(), ids, longest, 100_000_000)


@pytest.mark.parametrize(
    ("trainings", "budget"),
    [(1, 0.35), pytest.param(3, 0.8, marks=pytest.mark.slow), pytest.param(9, 0.45, marks=pytest.mark.slow)],
)
def test_the_chosen_layout_fits_and_more_memory_is_used(trainings: int, budget: float) -> None:
    asked = plan(trainings)
    layout = asked.chosen(int(budget * GB), "cuda")
    assert asked.peak(layout) <= budget * GB
    roomy = asked.chosen(int(2 * budget * GB), "cuda")
    assert (not roomy.recompute, roomy.pass_tokens) >= (
        not layout.recompute,
        layout.pass_tokens * (not layout.recompute),
    )


@pytest.mark.slow
def test_activations_are_kept_where_passes_are_long_enough() -> None:
    asked = plan(3)
    kept, again = Layout(2048), Layout(2048, recompute=True)
    between = (asked.peak(kept) + asked.peak(again)) // 2
    assert asked.chosen(asked.peak(kept), "cuda") == kept
    assert asked.chosen(between, "cuda").recompute


def test_what_does_not_fit_is_refused_with_what_it_needs() -> None:
    with pytest.raises(
        KiyasError, match=r"training needs 0\.\d GB for 3 adapters and one sample of 512 tokens, but only"
    ):
        plan(3).chosen(GB // 20, "cuda")


@pytest.mark.slow
def test_trainings_that_do_not_fit_together_follow_in_parts() -> None:
    asked = plan(60)
    for budget in (0.3, 0.6):
        together = asked.together(int(budget * GB))
        assert 1 <= together <= 60
        part = plan(together)
        assert part.peak(part.chosen(int(budget * GB), "cuda")) <= budget * GB
    assert asked.together(100 * GB) == 60 > asked.together(int(0.3 * GB))


def test_more_layers_cost_what_one_more_costs() -> None:
    """Extrapolated from two layers and three, and measured with all."""
    layout = Layout(1024)
    found = plan(2).peak(layout)
    asked = plan(2)
    assert asked.shape.layers == 6
    monkey = Shape.grown
    try:
        Shape.grown = lambda self, measure: measure(self.layers)  # type: ignore[method-assign, assignment]
        assert plan(2).peak(layout) == pytest.approx(found, rel=1e-3)
    finally:
        Shape.grown = monkey  # type: ignore[method-assign]


def test_a_small_base_on_a_cpu_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Plan(shape(), study(), [AdapterId("x")], 512, parameters=400_000)
    monkeypatch.setattr(Plan, "peak", None)
    assert asked.chosen(1, "cpu") == Layout(4096)


def test_the_budget_asked_for_is_taken_with_recomputation_where_memory_asks_for_it() -> None:
    asked = plan(3, settings=study(max_tokens_per_pass=1536))
    assert asked.chosen(100 * GB, "cuda") == Layout(1536)
    assert asked.chosen(asked.peak(Layout(1536)) - 1, "cuda") == Layout(1536, recompute=True)


def test_dropout_is_not_kept() -> None:
    settings = study()
    dropping = settings.model_copy(update={"peft": settings.peft.model_copy(update={"lora_dropout": 0.1})})
    assert plan(2, settings=dropping).peak(Layout(1024)) <= 1.02 * plan(2).peak(Layout(1024))


def test_the_meter_counts_what_lives() -> None:
    with metered() as meter:
        first = torch.empty(1000, 1000)
        assert meter.live == meter.peak == 4_000_000
        second = first + 1
        del first
        assert (meter.live, meter.peak) == (4_000_000, 8_000_000)
        view = second[:10]
        assert meter.live == 4_000_000 and view is not None
        del second
        assert meter.live == 4_000_000, "a view holds the whole"
        del view
        assert meter.live == 0


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_every_family_can_be_measured(family: str) -> None:
    base = tiny.base(family)
    asked = Plan(Shape.of(base), study(), [AdapterId("x"), AdapterId("y")], 50, 10**8)
    small, large = asked.peak(Layout(100)), asked.peak(Layout(800))
    assert base.nbytes < small < large
