"""What the real study costs on a card, measured without one: Qwen2.5-Coder-1.5B, LoRA of rank 16 on all layers.

The numbers below are what the code does today. A change that lowers one lowers it here too; one that raises one says
why. Two depths are measured and the rest is a straight line; a slow test compares it with all 28 layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OnCuda = Callable[..., Any]

LAUNCHES = {
    "training, a layer and pass": 381,
    "training without dropout": 227,
    "decoding, a layer and token": 83,
}
WAITS = {
    "training, a step": 5,
    "training, a pass": 1,
    "decoding, a token": 5,
    "decoding, an answer": 7,
    "decoding, a layer of a prefill": 4,
    "padded decoding, a token": 2,
    "padded decoding, a row and token": 1,
}
PEAK = {2: 12.84, 9: 46.95, 54: 266.2}
"""GB of a training pass of one sample of 1,024 tokens for each adapter, dropout 0.1, bfloat16: the published study, the
preset, and the preset with a grid of rates."""
PEAK_AS_RUN = {("24gb", 2): 12.84, ("24gb", 9): 46.95, ("t4", 2): 23.86}
"""GB of whole steps, 16 samples of 1,024 tokens for each adapter, in passes as the card's free memory has them; on
a T4 in float32."""


def at(layers: int, small: float, large: float) -> float:
    """A straight line through the values of two layers and of three."""
    return small + (layers - 2) * (large - small)


@pytest.fixture(scope="module")
def meter(on_cuda: OnCuda) -> dict[str, Any]:
    found: dict[str, Any] = on_cuda("on_meter.everything")
    return found


@pytest.mark.parametrize("what", LAUNCHES)
def test_launches(meter: dict[str, Any], what: str) -> None:
    assert meter["launches"][what] == LAUNCHES[what]


@pytest.mark.parametrize("what", WAITS)
def test_waits(meter: dict[str, Any], what: str) -> None:
    assert meter["waits"][what] == WAITS[what]


@pytest.mark.parametrize("adapters", PEAK)
def test_peak_memory_of_a_pass(meter: dict[str, Any], adapters: int) -> None:
    small, large = meter["peak"][str(adapters)]
    assert at(28, small, large) / 1e9 == pytest.approx(PEAK[adapters], rel=0.01)


def test_a_grouped_cache_is_not_expanded(meter: dict[str, Any]) -> None:
    """Decoding reads the cache of two heads as it is, with a mask: not by flash, not with whole scores."""
    assert not any("math" in kernel for kernel in meter["decoding attention"])


@pytest.mark.slow
def test_the_line_is_straight(on_cuda: OnCuda, meter: dict[str, Any]) -> None:
    deep = on_cuda("on_meter.training", adapters=2, layers=28, batch=1, pass_tokens=2048)
    assert deep["peak"] == pytest.approx(at(28, *meter["peak"]["2"]), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("card", "adapters"), PEAK_AS_RUN)
def test_peak_memory_as_run(on_cuda: OnCuda, card: str, adapters: int) -> None:
    dtype = "float32" if card == "t4" else "bfloat16"
    found = on_cuda("on_meter.training", adapters=adapters, layers=28, card=card, dtype=dtype)
    assert found["peak"] / 1e9 == pytest.approx(PEAK_AS_RUN[card, adapters], rel=0.01)
