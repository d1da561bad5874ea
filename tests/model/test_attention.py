"""Attention of one new token against the dull reference: every row by itself, over what it has seen."""

from __future__ import annotations

import random

import pytest
import torch

from kiyas.model.attention import Decode, SlotCache

G, H, E = 2, 6, 8


def filled(lengths: list[int]) -> SlotCache:
    cache = SlotCache(len(lengths))
    cache.reserve(max(lengths) + 1)
    for row, n in enumerate(lengths):
        cache.store(0, torch.full((n,), row), torch.arange(n), torch.randn(n, G, E), torch.randn(n, G, E))
    return cache


def dull(cache: SlotCache, lengths: list[int], q_BHE: torch.Tensor, window: int | None) -> torch.Tensor:
    made = []
    cache_k, cache_v = cache.layer(0)
    for row, n in enumerate(lengths):
        first = 0 if window is None else max(0, n + 1 - window)
        k, v = (x[row, :, first : n + 1].repeat_interleave(H // G, 0) for x in (cache_k, cache_v))
        weights = torch.softmax((k @ q_BHE[row, :, :, None])[..., 0] / E**0.5, 1)
        made.append((weights[:, None] @ v)[:, 0])
    return torch.stack(made)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("runaways", [0, 1, 3])
def test_rows_see_what_they_have_and_nothing_else(window: int | None, runaways: int) -> None:
    torch.manual_seed(0)
    noise = random.Random(runaways)
    lengths = [noise.randrange(60) for _ in range(40)]
    for row in noise.sample(range(40), runaways):
        lengths[row] = 1500
    cache = filled(lengths)
    layout = Decode(cache, torch.tensor(lengths), lengths)
    assert (layout.long_M is not None) == (runaways > 0), "runaways are read apart"
    assert layout.read < 100
    q, k, v = torch.randn(40, H, 1, E), torch.randn(40, G, 1, E), torch.randn(40, G, 1, E)
    found = layout.attend(0, q, k, v, None, window)
    assert torch.equal(cache.layer(0)[0][torch.arange(40), :, torch.tensor(lengths)], k[:, :, 0])
    assert torch.allclose(found[:, 0], dull(cache, lengths, q[:, :, 0], window), atol=1e-5)


def test_rows_of_one_length_are_read_together() -> None:
    lengths = [1000 + i for i in range(40)]
    assert Decode(filled(lengths), torch.tensor(lengths), lengths).long_M is None


def test_kept_rows_take_their_order_and_the_dump_stays() -> None:
    cache = filled([3, 7, 5, 9])
    k, _ = cache.layer(0)
    expected = k[[2, 0]].clone()
    cache.keep(torch.tensor([2, 0]))
    assert cache.rows == 2 and torch.equal(cache.layer(0)[0], expected)
    cache.reserve(200)
    cache.store(0, torch.tensor([2, 1]), torch.tensor([0, 150]), torch.ones(2, G, E), torch.ones(2, G, E))
    assert torch.equal(cache.layer(0)[0][0, :, :9], expected[0, :, :9])
    assert (cache.layer(0)[0][1, :, 150] == 1).all()
