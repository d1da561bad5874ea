"""Adapters that only answer are those that were trained: scaled once instead of at every token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from kiyas.model import checkpoints
from kiyas.model.adapters import AdapterStack, FrozenStack, Spec, StackedModel
from kiyas.types import BASE, AdapterId

IDS = [BASE, AdapterId("x", "", 0, 1), AdapterId("y", "", 0, 1)]
SPECS = [Spec(1, 1), Spec(4, 9), Spec(2, 6)]


def both(folder: Path, dtype: torch.dtype, b_scale: float = 0.2) -> tuple[AdapterStack, FrozenStack, StackedModel]:
    """A stack as training has it, and the same one from its saved files."""
    model = StackedModel(tiny.base().model)
    trained = AdapterStack(IDS, SPECS, model.sites, torch.device("cpu"))
    noise = torch.Generator().manual_seed(0)
    for k in (1, 2):
        for site in model.sites:
            a, b = torch.randn(SPECS[k].rank, site.inputs, generator=noise), torch.ones(site.outputs, SPECS[k].rank)
            trained.set(k, site, a, b * torch.randn(b.shape, generator=noise) * b_scale)
        checkpoints.save_adapter(folder / str(k), trained, k, model, "tiny", 0.0)
    places = [(BASE, None), *((IDS[k], folder / str(k)) for k in (1, 2))]
    return trained, checkpoints.load_stack(places, model, torch.device("cpu"), dtype), model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chosen", [[0, 1, 2], [2, 1], [0, 2]])
def test_frozen_equals_trained(dtype: torch.dtype, chosen: list[int], tmp_path: Path) -> None:
    trained, frozen, model = both(tmp_path, dtype)
    trained, frozen = trained.select(chosen), frozen.select(chosen)
    assert frozen.theta.dtype == dtype and frozen.theta.shape == trained.theta.shape
    assert frozen.ids == trained.ids and frozen.moved() == trained.moved() == [k > 0 for k in chosen]
    for site in model.sites:
        assert torch.equal(frozen.a(site.name), trained.a(site.name).to(dtype))
        assert torch.equal(frozen.scaled_b(site.name, dtype), trained.scaled_b(site.name, dtype))


def test_what_rounds_to_zero_has_moved_all_the_same(tmp_path: Path) -> None:
    _, frozen, model = both(tmp_path, torch.float16, b_scale=1e-9)
    assert not any(frozen.scaled_b(site.name, torch.float16).any() for site in model.sites)
    assert frozen.moved() == [False, True, True]
