"""The stages on a CUDA device that is not there, with numbers: the same as on the CPU.

Distances: weights 1e-5 of their norm and losses 1e-5 relative, tighter than the contract of stacked training; measured
2e-7 (attention and matrix products add up in another order). Answers are equal, and so is a training that was resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tiny

OnCuda = Callable[..., Any]


QUICK = ["qwen2", "gemma2"]
"""Packed and padded. The other families take twice as long again."""
FAMILIES = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in tiny.CONFIGS]


@pytest.fixture(scope="module")
def quick(on_cuda: OnCuda) -> dict[str, Any]:
    found: dict[str, Any] = on_cuda("on_shadow.quick", families=QUICK)
    return found


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, on_cuda: OnCuda, quick: dict[str, Any]) -> dict[str, Any]:
    name = request.param
    found = quick["families"][name] if name in QUICK else on_cuda("on_shadow.family", name=name)
    assert isinstance(found, dict), found
    return found


def test_training_and_validation_as_on_the_cpu(family: dict[str, Any]) -> None:
    cpu, cuda = family["losses"]
    assert cuda == pytest.approx(cpu, rel=1e-5) and family["kinds"] == {"train": 14, "validation": 24}
    assert family["weights"] <= 1e-5


def test_answers_as_on_the_cpu(family: dict[str, Any]) -> None:
    """Greedy and sampled, of the base and four checkpoints, packed or padded as the family allows."""
    assert family["same answers"] and family["answers"] == [5 * 4, 5 * 4 * 2]


def test_killed_and_gone_on(family: dict[str, Any]) -> None:
    assert family["killed early"] and family["resumed"]


def test_check_measures_the_card(quick: dict[str, Any]) -> None:
    found = quick["measured"]
    assert isinstance(found, dict), found
    assert (found["device"], found["wanted"], found["workers"]) == ("A card", "cuda", [1, 1])
    assert found["memory_here"] <= 8.5e9 and 0 < found["memory_bytes"] < 1e8
    assert found["train_s"] > 0 and found["generate_s"] > 0 and found["counts"]["launches"] > 1000


def test_memory_that_runs_out_halves_the_passes(quick: dict[str, Any]) -> None:
    """In the middle of a training, on a card that raises when it is full: the same weights, and the report says so."""
    found = quick["out_of_memory"]
    assert isinstance(found, dict), found
    assert found["said"] == ["training ran out of memory at step 3 and went on with passes of at most 300 tokens"]
    assert found["weights"] <= 1e-5
