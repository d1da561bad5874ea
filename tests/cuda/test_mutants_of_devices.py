"""The shadow device notices a forgotten device wherever Kıyas names one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

HARMLESS = {
    "adapters.initialise",  # written into a part of a tensor, which copies
    "adapters.set",
    "checkpoints.load_state",
    "device.pick_device",  # only asks whether the device is there
}


def missed(found: dict[str, str]) -> list[str]:
    return [name for name, said in found.items() if not said and name.partition(":")[0] not in HARMLESS]


@pytest.mark.slow
def test_a_forgotten_device_shows(on_cuda: Callable[..., Any]) -> None:
    found = on_cuda("on_mutants.run", most=1)
    assert len(found) == 1 and missed(found) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_forgotten_device_shows(on_cuda: Callable[..., Any]) -> None:
    found = on_cuda("on_mutants.run", most=10_000)
    assert len(found) > 30 and missed(found) == []
    assert sum("mixed devices" in said for said in found.values()) > len(found) / 2
