"""The stages on a T4 that is not there: no bfloat16, no flash attention. And the benchmark for cards, on some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OnCuda = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("wild", [False, True], ids=["calm", "wild"])
def test_stages_in_float16(on_cuda: OnCuda, wild: bool) -> None:
    """`auto` is float16; losses as in float32; modules beyond its range are found, recorded and planned for; a run that
    was killed ends as if it had not been; nothing is held at the end."""
    found = on_cuda("on_stages.stages_in_float16", wild=wild)
    assert found["dtype"] == "float16" and found["float32"] == (["model.layers.0.mlp"] if wild else [])
    assert len(found["notes"]) == wild
    float32, float16 = found["losses"]
    assert len(float16) == 40 and float16 == pytest.approx(float32, rel=2e-3)
    assert found["begun"] and found["resumed"] and found["answers"] == 36
    assert found["layout"] == [{"pass_tokens": 600, "recompute": False, "halvings": [], "repeats": 0}]
    assert not any("flash" in kernel or "math float16" in kernel for kernel in found["attention"])
    assert found["live"] == 0


@pytest.mark.slow
def test_the_benchmark_for_cards_runs_through(on_cuda: OnCuda) -> None:
    found = on_cuda("on_benchmark.small")
    assert found["code"] == 0 and sum(row["ok"] is True for row in found["rows"]) == 7


@pytest.mark.slow
@pytest.mark.parametrize("card", ["t4", "h100"])
def test_its_proofs_of_memory(on_cuda: OnCuda, card: str) -> None:
    assert [row["ok"] for row in on_cuda("on_benchmark.memory", card=card)] == [True, True]
