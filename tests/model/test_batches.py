"""Batches against references in plain lists: which samples a step sees, and where every token and label lies."""

from __future__ import annotations

import random

import pytest
import torch

from kiyas.model import batches
from kiyas.model.attention import Packed, SlotCache
from kiyas.types import TokenizedExample


def samples(*lengths: int, start: int = 2, first: int = 100) -> list[TokenizedExample]:
    """Tokens that tell where they come from: 100, 101 … in the first sample, 200 … in the second."""
    return [
        TokenizedExample(tuple(range(first * (i + 1), first * (i + 1) + n)), min(start, n))
        for i, n in enumerate(lengths)
    ]


def test_an_epoch_sees_every_sample_once_and_steps_cut_the_chain() -> None:
    chain = [i for epoch in range(8) for i in batches.order(7, 3, epoch)]
    for epoch in range(8):
        assert sorted(chain[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert len({batches.order(7, seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
    for batch in (1, 3, 16):
        steps = len(chain) // batch
        assert [i for step in range(steps) for i in batches.indices(7, batch, 3, step)] == chain[: steps * batch]


def test_the_order_is_the_published_one() -> None:
    """Runs are continued and repeated by it: it must not change from one version to the next."""
    indices = list(range(10))
    random.Random("order 5 2").shuffle(indices)
    assert batches.order(10, 5, 2) == tuple(indices)


def key_by_hand(sample_key: int, position: int) -> int:
    """MurmurHash3's finaliser in whole numbers, its low half as a signed 32-bit value; always odd."""
    whole = (1 << 64) - 1

    def shifted(x: int) -> int:  # an arithmetic shift, as torch does it
        signed = x - (1 << 64) if x >> 63 else x
        return (x ^ (signed >> 33)) & whole

    x = (position * 0x9E3779B97F4A7 + sample_key) & whole
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = shifted(x) * factor & whole
    x = (shifted(x) | 1) & 0xFFFFFFFF
    return x - (1 << 32) if x >> 31 else x


def test_keys_of_tokens() -> None:
    assert batches._token_keys(12345, 50).tolist() == [key_by_hand(12345, i) for i in range(1, 51)]


ROWS = [samples(4, 9, 1, start=3), samples(2, 3, start=0, first=1000), []]
KEYS = [[11, 12, 13], [21, 22], []]


def test_packed_samples_lie_end_to_end() -> None:
    found = batches.pack(ROWS, KEYS)
    T = 14
    for k, row in enumerate(ROWS):
        end = sum(len(sample.ids) for sample in row)
        assert found.ids[k].tolist() == [i for sample in row for i in sample.ids] + [0] * (T - end)
        counted = [i for sample in row for i in range(len(sample.ids))]
        assert found.positions[k].tolist() == counted + list(range(T - end))
        assert found.dropout_key is not None
        keys = [key for s, sample in enumerate(row) for key in batches._token_keys(KEYS[k][s], len(sample.ids))]
        assert found.dropout_key[k].tolist() == keys + [0] * (T - end)
    assert found.attention_mask is None and batches.pack(ROWS).dropout_key is None
    flat = found.ids.flatten()
    # Each label is the token after the position that predicts it; the first of all is never learned.
    assert (flat[found.label_index + 1] == found.target).all()
    assert found.target.tolist() == [103, *range(203, 209), 1001, 2001, 2002]
    assert found.owner.tolist() == [0] * 7 + [1] * 3
    assert found.label_index.tolist() == [2, *range(6, 12), T, T + 2, T + 3]


def slots(layout: Packed) -> list[list[int]]:
    """What each slot row reads, group after group."""
    index, at, made = layout.index.tolist(), 0, []
    for S, L in layout.shapes:
        for _ in range(S):
            made.append(index[at : at + L])
            at += L
    assert at == len(index)
    return made


def test_every_token_has_one_slot_and_padding_repeats_the_first() -> None:
    layout = batches.pack(ROWS).layout
    assert layout is not None and layout.index[layout.inverse].tolist() == list(range(3 * 14))
    assert len(set(layout.inverse.tolist())) == 3 * 14
    # (first flat position, length) of samples and of what is left at the end of rows 1 and 2.
    segments = {0: 4, 4: 9, 13: 1, 14: 2, 16: 3, 19: 9, 28: 14}
    for row in slots(layout):
        n = segments.pop(row[0])
        assert row == [*range(row[0], row[0] + n), *[row[0]] * (len(row) - n)]
    assert not segments and layout.cache is None and layout.rows is None


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [
        ((10, 12, 11), [(3, 12)]),
        ((9, 12, 10), [(2, 12), (1, 9)]),
        ((5, 6, 5, 4, 4, 1), [(3, 6), (2, 4), (1, 1)]),
        ((24, 20, 17, 16), [(2, 24), (2, 17)]),
    ],
)
def test_samples_of_similar_length_share_a_group(lengths: tuple[int, ...], shapes: list[tuple[int, int]]) -> None:
    layout = batches.pack([samples(*lengths)]).layout
    assert layout is not None and layout.shapes == shapes


def test_every_token_goes_to_its_place_in_the_cache_and_filling_to_the_dump() -> None:
    cache = SlotCache(9)
    found = batches.pack([samples(3, 8), samples(5)], None, cache, [[7, 5], [6]]).layout
    assert found is not None and found.cache is cache and found.rows is not None and found.places is not None
    assert found.rows.tolist() == [7] * 3 + [5] * 8 + [6] * 5 + [9] * 6
    assert found.places.tolist() == [*range(3), *range(8), *range(5), *[0] * 6]
    unnamed = batches.pack([samples(3, 8)], None, cache).layout
    assert unnamed is not None and unnamed.rows is not None and unnamed.rows.tolist() == [9] * 11


def test_a_batch_of_one_token() -> None:
    found = batches.pack([samples(1)])
    assert found.ids.tolist() == [[100]] and found.target.numel() == found.label_index.numel() == 0


def test_padded_rows_are_the_same_samples() -> None:
    pad, n, T = 0, 3, 9
    found = batches.pad(ROWS, KEYS)
    whole: list[list[int]] = []
    mask: list[list[int]] = []
    keys: list[list[int]] = []
    for k, row in enumerate(ROWS):
        for s in range(n):
            ids = list(row[s].ids) if s < len(row) else []
            whole.append(ids + [pad] * (T - len(ids)))
            mask.append([1] * len(ids) + [0] * (T - len(ids)) if ids else [1] + [0] * (T - 1))
            keys.append((batches._token_keys(KEYS[k][s], len(ids)).tolist() if ids else []) + [0] * (T - len(ids)))
    assert found.ids.tolist() == whole and found.dropout_key is not None and found.dropout_key.tolist() == keys
    assert found.attention_mask is not None and found.attention_mask.tolist() == mask
    assert found.positions.tolist() == [list(range(T))] * 9 and found.layout is None
    packed = batches.pack(ROWS, KEYS)
    assert found.target.tolist() == packed.target.tolist() and found.owner.tolist() == packed.owner.tolist()
    assert (found.ids.flatten()[found.label_index + 1] == found.target).all()
    assert found.label_index.tolist() == [2, *range(11, 17), 27, 36, 37]
    assert batches.pad(ROWS).dropout_key is None


@pytest.mark.parametrize("kind", ["packed", "cached", "padded"])
def test_a_moved_batch_is_the_same_batch(kind: str) -> None:
    made = {
        "packed": lambda: batches.pack(ROWS, KEYS),
        "cached": lambda: batches.pack([samples(3, 8)], None, SlotCache(2), [[1, 0]]),
        "padded": lambda: batches.pad(ROWS),
    }[kind]()
    moved = made.to(torch.device("meta"))
    for name in ("ids", "positions", "attention_mask", "label_index", "target", "owner", "dropout_key"):
        before, after = getattr(made, name), getattr(moved, name)
        assert (before is None) == (after is None)
        assert before is None or (after.is_meta and after.shape == before.shape)
    assert (made.layout is None) == (moved.layout is None)
    if made.layout is not None and moved.layout is not None:
        assert moved.layout.index.is_meta and moved.layout.inverse.is_meta
        assert (moved.layout.shapes, moved.layout.cache) == (made.layout.shapes, made.layout.cache)
        assert (moved.layout.rows is None) == (made.layout.rows is None)
    same = made.to(torch.device("cpu"))
    assert torch.equal(same.ids, made.ids) and torch.equal(same.owner, made.owner)
    assert torch.equal(same.positions, made.positions) and torch.equal(same.target, made.target)


def dull_split(rows: list[list[int]], lengths: list[list[int]], budget: int) -> list[list[list[int]]]:
    """One position of every row after the other; a new pass where K × the longest row would go beyond the budget."""
    passes: list[list[list[int]]] = []
    for i in range(max(map(len, rows))):
        new = [row[i : i + 1] for row in rows]
        joined = [a + b for a, b in zip(passes[-1], new, strict=True)] if passes else new
        cost = len(rows) * max(sum(lengths[k][p] for p in row) for k, row in enumerate(joined))
        if passes and cost <= budget:
            passes[-1] = joined
        else:
            passes.append(new)
    return passes


def test_passes_equal_the_dull_reference() -> None:
    rng = random.Random(0)
    for _ in range(300):
        K = rng.randint(1, 3)
        lengths = [[rng.randint(1, 6) for _ in range(rng.randint(1, 6))] for _ in range(K)]
        rows = [rng.sample(range(len(each)), len(each)) for each in lengths]
        budget = rng.randint(1, 60)
        assert batches.split(rows, lengths, budget) == dull_split(rows, lengths, budget)
