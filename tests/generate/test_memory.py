"""The plan of what is decoded at once: never more than its budget, and its prediction against bytes really alive."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Qwen2Config

import tiny
from kiyas.data.chat import Chat
from kiyas.generate import trial
from kiyas.generate.decoder import Generator
from kiyas.generate.memory import MOST_ROWS, Needs, Plan, decoding_budget
from kiyas.generate.work import Job, Question
from kiyas.model.adapters import FrozenStack, Spec, StackedModel
from kiyas.model.base import Base
from kiyas.study.settings import Generation
from kiyas.types import AdapterId, KiyasError

GIB = 2**30
REAL = tiny.real_config()
PARAMETERS = 18_464_768


def needs(prompt: int = 500, new: int = 2048, **more: Any) -> Needs:
    return Needs.of(REAL, torch.bfloat16, PARAMETERS, prompt, new, sampled=True, **more)


@given(
    budget=st.integers(GIB // 4, 80 * GIB),
    adapters=st.integers(1, 400),
    answers=st.integers(1, 2000),
    prompt=st.integers(1, 3000),
    new=st.integers(1, 8192),
    packed=st.booleans(),
    device=st.sampled_from(["cuda", "cpu"]),
    max_rows=st.none() | st.integers(1, 300),
)
def test_a_plan_never_exceeds_its_budget(
    budget: int, adapters: int, answers: int, prompt: int, new: int, packed: bool, device: str, max_rows: int | None
) -> None:
    asked = needs(prompt, new, packed=packed)
    try:
        plan = asked.plan(budget, adapters, answers, device, max_rows)
    except KiyasError as error:
        assert "max_new_tokens" in str(error)
        assert asked.peak(Plan(1, 1, prompt)) > min(budget, 3 * budget // 4), "one answer would have fitted"
        return
    assert asked.peak(plan) <= budget
    assert 1 <= plan.adapters <= adapters and plan.adapters <= plan.rows
    assert plan.rows <= min(plan.adapters * answers, max_rows or MOST_ROWS[device])
    assert plan.rows % plan.adapters == 0, "every adapter has as many rows"


def test_more_memory_never_means_fewer_rows_of_as_many_adapters() -> None:
    plans = [needs().plan(gib * GIB, 9, 500, "cuda") for gib in range(4, 80)]
    for less, more in itertools.pairwise(plans):
        assert more.adapters != less.adapters or more.rows >= less.rows
    assert plans[-1].rows > 400 and plans[0].rows < 40


def test_many_adapters_are_taken_in_groups_that_leave_room_for_answers() -> None:
    """85 checkpoints once filled what the cache had left of 24 GB."""
    plan = needs().plan(18 * GIB, 146, 500, "cuda")
    assert plan.adapters < 146 and plan.rows > 100
    assert 3 * plan.adapters * PARAMETERS * 2 <= 18 * GIB


def test_workers_share_a_cpu_but_not_a_gpu() -> None:
    assert decoding_budget("cpu", 24 * GIB, 2, 3 * GIB) == (18 - 3) * GIB // 2
    assert decoding_budget("cuda", 24 * GIB, 2, 3 * GIB) == 23 * GIB


def test_halving_ends_at_one_answer_of_one_adapter() -> None:
    course, plan = [], Plan(5, 40, 4096)
    while (smaller := plan.halved()) is not None:
        course.append((smaller.adapters, smaller.rows))
        plan = smaller
    assert course == [(5, 20), (5, 10), (5, 5), (2, 2), (1, 1)]


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is on, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func._can_decompose():  # composite operators arrive whole there
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        out = func(*args, **kwargs)
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                if storage._cdata not in self.seen | given:  # views of weights are not ours
                    self.seen.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


@pytest.mark.parametrize(
    ("dtype", "sampled", "plan", "prompt", "new", "vocabulary"),
    [
        (torch.float32, False, Plan(3, 24, 600), 50, 150, 2000),
        pytest.param(torch.bfloat16, True, Plan(3, 24, 600), 50, 100, 5000, marks=pytest.mark.slow),
        pytest.param(torch.float32, True, Plan(2, 8, 4000), 300, 20, 2000, marks=pytest.mark.slow),
        (torch.bfloat16, False, Plan(4, 16, 600), 10, 200, 500),
    ],
)
def test_the_prediction_holds_for_the_widest_decoding_and_for_real_ones(
    dtype: torch.dtype,
    sampled: bool,
    plan: Plan,
    prompt: int,
    new: int,
    vocabulary: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "WORTH_PARAMETERS", 0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    base = Base.of(AutoModelForCausalLM.from_config(config, dtype=dtype), Chat(tiny.tokenizer(), "tiny"))
    model, rank = StackedModel(base.model), 16
    settings = Generation(max_new_tokens=new, temperature=0.8 if sampled else 0.0, top_p=0.9)
    parameters = rank * sum(site.inputs + site.outputs for site in model.sites)
    expected = Needs.of(config, dtype, parameters, prompt, new, sampled=sampled).peak(plan)

    with Alive() as alive:
        trial.try_widest(base, model, settings, plan, prompt, rank)
    assert alive.now == 0, "something is still held"
    assert (0.6 if sampled else 0.9) * expected <= alive.peak <= expected  # what sorting takes inside is not seen here

    with Alive() as alive, torch.inference_mode():
        ids = [AdapterId("x", step=k) for k in range(plan.adapters)]
        stack = FrozenStack(ids, [Spec(rank, 1)] * len(ids), model.sites, base.device, dtype)
        generator = Generator(base, model, stack, settings, prefill_tokens=plan.prefill_tokens)
        questions = [Question(f"p{i}", (i,) * prompt) for i in range(2 * plan.rows // plan.adapters)]
        jobs = [Job(k, question, 0) for k in range(plan.adapters) for question in questions]
        assert len(list(generator.answer(jobs, plan.rows))) == len(jobs)
    assert alive.peak <= expected
