"""What the real study costs on a card, measured without one: Qwen2.5-Coder-1.5B, LoRA of rank 16 on all layers.

The numbers below are what the code does today. A change that lowers one lowers it here too; one that raises one says
why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OnCuda = Callable[..., Any]

LAUNCHES = {
    "training, a layer and pass": 368,
    "training without dropout": 221,
    "decoding, a layer and token": 55,
}
WAITS = {
    "training, a step": 1,
    "training, a pass": 0,
    "decoding, a token": 1,
    "decoding by sampling, a token": 1,
    "decoding, an answer": 0,
    "decoding, a layer of a prefill": 0,
    "padded decoding, a token": 1,
    "padded decoding, a row": 0,
}
COPIES = {"training, a pass": 1, "decoding, a token": 1}
TRAINED = {
    ("t4", 2): (2, 2048, 10.54),
    ("24gb", 2): (2, 6144, 21.51),
    ("a100-40", 2): (2, 8192, 27.43),
    ("h100", 2): (2, 16384, 51.10),
    ("t4", 9): (9, 2048, 12.61),
    ("24gb", 9): (9, 4096, 17.69),
    ("a100-40", 9): (9, 8192, 29.60),
    ("h100", 9): (9, 16384, 53.41),
    ("t4", 54): (9, 2048, 12.61),
    ("24gb", 54): (41, 2048, 21.25),
    ("a100-40", 54): (54, 6144, 37.02),
    ("h100", 54): (54, 16384, 66.89),
}
"""Card and trainings (the published study, the preset, the preset with a grid of rates) → trainings at once, tokens of
a pass, GB at the peak. Samples of up to 1,024 tokens, 16 a step, dropout 0.1; activations are kept."""
ANSWERED = {
    ("t4", 41): (7, 28, 11.74),
    ("t4", 163): (7, 28, 11.74),
    ("24gb", 41): (14, 56, 18.76),
    ("24gb", 163): (15, 60, 19.86),
    ("a100-40", 41): (21, 126, 36.26),
    ("a100-40", 163): (28, 112, 33.25),
    ("h100", 41): (41, 246, 67.61),
    ("h100", 163): (55, 275, 75.83),
}
"""Card and checkpoints → adapters and answers at once, GB at the peak. Prompts of 500 tokens, answers of up to
8,192."""


@pytest.fixture(scope="module")
def costs(on_cuda: OnCuda) -> dict[str, Any]:
    found: dict[str, Any] = on_cuda("on_meter.quick")["costs"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", LAUNCHES)
def test_launches(costs: dict[str, Any], what: str) -> None:
    assert costs["launches"][what] == LAUNCHES[what]


@pytest.mark.slow
@pytest.mark.parametrize("what", COPIES)
def test_copies_that_nobody_waits_for(costs: dict[str, Any], what: str) -> None:
    assert costs["copies"][what] == COPIES[what]


@pytest.mark.slow
@pytest.mark.parametrize("what", WAITS)
def test_waits(costs: dict[str, Any], what: str) -> None:
    assert costs["waits"][what] == WAITS[what]


@pytest.mark.slow
def test_a_grouped_cache_is_not_expanded(costs: dict[str, Any]) -> None:
    """Decoding reads the cache of two heads as it is, with a mask: not by flash, not with whole scores."""
    assert not any("math" in kernel for kernel in costs["decoding attention"])


def fits(found: dict[str, Any], near: float = 0.05) -> None:
    """On the card, beside 1.5 GB for the context and fragmentation; and as predicted. The issue asks for 10 %."""
    assert found["free"] >= 0
    assert found["predicted"] == pytest.approx(found["peak"], rel=near)
    assert not any("math" in kernel for kernel in found["attention"])


@pytest.mark.slow
def test_a_t4_fits_with_modules_in_float32(on_cuda: OnCuda) -> None:
    """As Qwen2 will need: the MLPs of five layers leave float16's range."""
    found = on_cuda("on_meter.quick")
    fits(found["trained"])
    fits(found["answering"])
    assert (found["trained"]["layout"], found["trained"]["halvings"]) == ("passes of at most 2,048 tokens", 0)
    assert (found["answering"]["adapters"], found["answering"]["rows"]) == (6, 24)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("card", "adapters"), TRAINED)
def test_training_fits_as_planned(on_cuda: OnCuda, card: str, adapters: int) -> None:
    """All layers, on a card that raises when it is full: the largest pass, then a step."""
    found = on_cuda("on_meter.trained", card=card, adapters=adapters)
    together, tokens, peak = TRAINED[card, adapters]
    fits(found)
    assert (found["together"], found["layout"]) == (together, f"passes of at most {tokens:,} tokens")
    assert found["peak"] / 1e9 == pytest.approx(peak, rel=0.01) and found["halvings"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("card", "checkpoints"), ANSWERED)
def test_decoding_fits_as_planned(on_cuda: OnCuda, card: str, checkpoints: int) -> None:
    found = on_cuda("on_meter.answering", card=card, adapters=checkpoints)
    fits(found)
    adapters, rows, peak = ANSWERED[card, checkpoints]
    assert (found["adapters"], found["rows"]) == (adapters, rows)
    assert found["peak"] / 1e9 == pytest.approx(peak, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("shrinks", "rows"), [(1, 28), (2, 14)])
def test_decoding_takes_less_when_memory_shrinks(on_cuda: OnCuda, shrinks: int, rows: int) -> None:
    """By so many GB between plan and run: what the plan leaves, and more."""
    found = on_cuda("on_meter.answering", card="t4", adapters=163, shrinks=shrinks * 10**9)
    assert found["rows"] == rows and found["free"] >= shrinks * 10**9


@pytest.mark.slow
@pytest.mark.parametrize(("adapters", "shrinks"), [(2, 4), (9, 1)])
def test_training_takes_less_when_memory_shrinks(on_cuda: OnCuda, adapters: int, shrinks: int) -> None:
    """By so many GB between plan and run: the largest pass, tried before the first step, finds out."""
    found = on_cuda("on_meter.trained", card="t4", adapters=adapters, shrinks=shrinks * 10**9)
    assert found["halvings"] == 1 and found["after halving"] == "passes of at most 1,024 tokens"
    assert found["free"] >= shrinks * 10**9
