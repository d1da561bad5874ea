"""Pure (seed, step) → samples, and samples → one packed or padded batch. Nothing here remembers anything.

Shapes: K adapters, T tokens a row, M labelled tokens of the whole batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kiyas.model.adapters import mix
from kiyas.model.attention import Packed, SlotCache
from kiyas.types import TokenizedExample


@lru_cache(maxsize=64)
def order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The permutation of one epoch: the same for all arms of that size and seed."""
    indices = list(range(count))
    random.Random(f"order {seed} {epoch}").shuffle(indices)
    return tuple(indices)


def indices(count: int, batch: int, seed: int, step: int) -> list[int]:
    """Which samples step `step` (0-based) sees: the endless chain of epochs, cut into batches."""
    first = step * batch
    return [order(count, seed, i // count)[i % count] for i in range(first, first + batch)]


@dataclass(frozen=True)
class Batch:
    """One forward pass for K adapters.

    ids, positions: [K, T] (packed) or [K·n, T] (padded). attention_mask: None when packed.
    label_index: [M] flat position whose output predicts the label. target: [M]. owner: [M] adapter of each label.
    dropout_key: as `ids`, one odd 32-bit key per token.
    """

    ids: Tensor
    positions: Tensor
    attention_mask: Tensor | None
    layout: Packed | None
    label_index: Tensor
    target: Tensor
    owner: Tensor
    dropout_key: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """On a GPU all tensors travel in one copy that nobody waits for."""
        if device.type == "cpu":
            return self
        inner = {} if self.layout is None else _tensors(self.layout)
        parts = [*_tensors(self).items(), *inner.items()]
        whole = torch.cat([x.reshape(-1) for _, x in parts])
        moved = torch.split(send(whole, device), [x.numel() for _, x in parts])
        made: dict[str, Any] = {name: each.view(x.shape) for (name, x), each in zip(parts, moved, strict=True)}
        layout = None if self.layout is None else replace(self.layout, **{name: made.pop(name) for name in inner})
        return replace(self, **made, layout=layout)


def send(host: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for what it is busy with where its driver can do that."""
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def _tensors(of: Batch | Packed) -> dict[str, Any]:
    values = {each.name: getattr(of, each.name) for each in fields(of)}
    return {name: x for name, x in values.items() if isinstance(x, Tensor)}


def pack(
    rows: Sequence[Sequence[TokenizedExample]],
    keys: Sequence[Sequence[int]] | None = None,
    cache: SlotCache | None = None,
    slots: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """Lays the samples of each of K adapters end to end.

    keys: one dropout key per sample. slots: the cache row per sample, for prefill into `cache`.
    """
    K = len(rows)
    T = max(1, *(sum(len(sample.ids) for sample in row) for row in rows))
    filler = cache.rows if cache is not None else 0  # the cache's dump
    segments: list[tuple[int, int, int]] = []  # first flat position, length, cache row
    places: list[list[int]] = []
    for k, row in enumerate(rows):
        at, end = k * T, (k + 1) * T
        places.append([])
        for s, sample in enumerate(row):
            places[k].append(at)
            segments.append((at, len(sample.ids), slots[k][s] if slots else filler))
            at += len(sample.ids)
        if at < end:
            segments.append((at, end - at, filler))
    positions = torch.zeros(K * T, dtype=torch.long)
    for at, n, _ in segments:
        positions[at : at + n] = torch.arange(n)
    return _placed(rows, places, positions.view(K, T), None, _layout(segments, K * T, cache), keys)


def pad(rows: Sequence[Sequence[TokenizedExample]], keys: Sequence[Sequence[int]] | None = None) -> Batch:
    """The dull layout for models that cannot pack: [K·n, T], right-padded; the reference for `pack`.

    The padding is token 0: nothing attends to it, whatever the tokenizer uses.
    """
    K, n = len(rows), max(len(row) for row in rows)
    T = max(len(sample.ids) for row in rows for sample in row)
    places = [[(k * n + s) * T for s in range(len(row))] for k, row in enumerate(rows)]
    mask = torch.zeros(K * n, T, dtype=torch.long)
    mask[:, 0] = 1  # a row without a sample must still attend to something
    for row, at in zip(rows, places, strict=True):
        for sample, first in zip(row, at, strict=True):
            mask[first // T, : len(sample.ids)] = 1
    return _placed(rows, places, torch.arange(T).expand(K * n, T), mask, None, keys)


def _placed(
    rows: Sequence[Sequence[TokenizedExample]],
    places: Sequence[Sequence[int]],
    positions: Tensor,
    attention_mask: Tensor | None,
    layout: Packed | None,
    keys: Sequence[Sequence[int]] | None,
) -> Batch:
    """Puts every sample's tokens, labels and keys at its place, a flat position in a batch of `positions`' shape."""
    ids, token_keys = torch.zeros(2, positions.numel(), dtype=torch.long)
    label_index, target, owner = [], [], []
    for k, row in enumerate(rows):
        for s, (sample, at) in enumerate(zip(row, places[k], strict=True)):
            tokens, n, first = torch.tensor(sample.ids), len(sample.ids), max(1, sample.start)
            ids[at : at + n] = tokens
            if keys is not None:
                token_keys[at : at + n] = _token_keys(keys[k][s], n)
            label_index.append(torch.arange(at + first - 1, at + n - 1))
            target.append(tokens[first:])
            owner.append(torch.full((n - first,), k))
    return Batch(
        ids.view(positions.shape),
        positions,
        attention_mask,
        layout,
        torch.cat(label_index),
        torch.cat(target),
        torch.cat(owner),
        None if keys is None else token_keys.view(positions.shape),
    )


def _layout(segments: list[tuple[int, int, int]], tokens: int, cache: SlotCache | None) -> Packed:
    """Groups samples of similar length (within 1.2×), longest first, so that little of [S, L] is padding."""
    ordered = sorted(segments, key=lambda segment: -segment[1])
    groups: list[list[tuple[int, int, int]]] = []
    for segment in ordered:
        if groups and groups[-1][0][1] <= 1.2 * segment[1]:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    index, inverse, base = [], torch.zeros(tokens, dtype=torch.long), 0
    rows, places = torch.zeros(2, tokens, dtype=torch.long)
    shapes = []
    for group in groups:
        L = group[0][1]
        for first, n, row in group:
            slots = torch.full((L,), first)
            slots[:n] = torch.arange(first, first + n)
            index.append(slots)
            inverse[first : first + n] = torch.arange(base, base + n)
            rows[first : first + n] = row
            if cache is not None and row < cache.rows:  # filling may be longer than the cache
                places[first : first + n] = torch.arange(n)
            base += L
        shapes.append((len(group), L))
    layout = Packed(torch.cat(index), inverse, shapes)
    return layout if cache is None else replace(layout, cache=cache, rows=rows, places=places)


def _token_keys(sample_key: int, length: int) -> Tensor:
    """Odd 32-bit keys of a sample's tokens, from the sample's key and the position."""
    return (mix(torch.arange(1, length + 1) * 0x9E3779B97F4A7 + sample_key) << 32 >> 32) | 1


def split(rows: Sequence[Sequence[int]], lengths: Sequence[Sequence[int]], budget: int) -> list[list[list[int]]]:
    """Cuts a batch into passes of at most `budget` tokens over all adapters (at least one sample each).

    rows[k] are positions in adapter k's batch, in the order in which they are taken; lengths[k] the token counts of
    that batch. A pass has one list per adapter and costs K × its longest row.
    """
    K = len(rows)
    passes: list[list[list[int]]] = []
    used = [0] * K
    for i in range(max(len(row) for row in rows)):
        taken = [row[i : i + 1] for row in rows]
        longer = [used[k] + sum(lengths[k][p] for p in taken[k]) for k in range(K)]
        if not passes or K * max(longer) > budget:
            passes.append([[] for _ in rows])
            longer = [sum(lengths[k][p] for p in taken[k]) for k in range(K)]
        used = longer
        for k in range(K):
            passes[-1][k] += taken[k]
    return passes
