"""The device that is not there does what a CUDA device does: allows, refuses, waits, fills up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def rules(on_cuda: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = on_cuda("on_rules.everything")
    return found


def test_the_guard_is_not_in_this_process(rules: dict[str, Any]) -> None:
    assert torch.cuda.device_count() == 0 or "Shadow" not in torch.cuda.get_device_name(0)
    assert rules["outside"], "without a current device nothing may run on cuda"


def test_devices_must_not_be_mixed(rules: dict[str, Any]) -> None:
    said = rules["devices"]
    allowed = {name for name, error in said.items() if not error}
    assert allowed == {"scalar", "index", "write", "put", "move"}
    mixed = {name for name, error in said.items() if "mixed devices" in error}
    assert said.keys() - allowed - mixed == {"a third card", "numpy"}


def test_waits_and_copies(rules: dict[str, Any]) -> None:
    """[waits of the host, copies to the device]"""
    assert rules["counts"] == {
        "add": [0, 0],
        "item": [1, 0],
        "if": [1, 0],
        "tolist": [1, 0],
        "copy": [1, 1],
        "copy without waiting": [0, 1],
        "make": [1, 1],
        "mask": [1, 0],
        "fill by mask": [0, 0],
        "index of the host": [1, 1],
    }


def test_memory_is_counted_given_back_and_ends(rules: dict[str, Any]) -> None:
    for found in rules["memory"]:
        assert found["live"] == [40_000_000, 40_000_000, 0]
        start, held, given_back, less, still_less = found["free"]
        assert (start, held, given_back) == (90_000_000, start - found["live"][0], start)
        assert (less, still_less) == (89_000_000, 88_000_000)
        assert found["peak"] == found["live"][0] and "out of memory" in found["too much"]


def test_attention_takes_the_kernels_of_the_card(rules: dict[str, Any]) -> None:
    assert rules["kernels"] == {
        "t4": [
            "efficient float16",
            "efficient float16 mask",
            "math float16",
            "efficient float32",
            "efficient float32 mask",
            "math float32",
        ],
        "24gb": [
            "flash float16",
            "efficient float16 mask",
            "efficient float32",
            "efficient float32 mask",
            "math float32",
        ],
    }


def test_gradients_as_on_the_cpu(rules: dict[str, Any]) -> None:
    """Through attention and a layer that is computed again in the backward pass; tied weights stay tied."""
    assert rules["autograd"]["tied"] and rules["autograd"]["distance"] <= 1e-6
