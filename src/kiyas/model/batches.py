"""Pure (seed, step) → samples, and samples → one packed or padded batch. Nothing here remembers anything.

Shapes: K adapters, T tokens a row, M labelled tokens of the whole batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kiyas.model.adapters import mix
from kiyas.model.attention import Packed, SlotCache
from kiyas.types import Sample


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
    dropout_key: as `ids`, one 64-bit key per token.
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
        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device, non_blocking=True)

        values = {name: move(getattr(self, name)) for name in ("attention_mask", "dropout_key")}
        layout = self.layout
        if layout is not None:
            layout = Packed(
                layout.index.to(device),
                layout.inverse.to(device),
                layout.shapes,
                layout.cache,
                move(layout.rows),
            )
        return Batch(
            self.ids.to(device),
            self.positions.to(device),
            values["attention_mask"],
            layout,
            self.label_index.to(device),
            self.target.to(device),
            self.owner.to(device),
            values["dropout_key"],
        )


def pack(
    rows: Sequence[Sequence[Sample]],
    keys: Sequence[Sequence[int]] | None = None,
    cache: SlotCache | None = None,
    slots: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """Lays the samples of each of K adapters end to end.

    keys: one dropout key per sample. slots: the cache row per sample, for prefill into `cache`.
    """
    K = len(rows)
    T = max(1, *(sum(len(sample.ids) for sample in row) for row in rows))
    ids = torch.zeros(K, T, dtype=torch.long)
    positions = torch.zeros(K, T, dtype=torch.long)
    token_keys = torch.zeros(K, T, dtype=torch.long)
    segments: list[tuple[int, int, int]] = []  # first flat position, length, cache row
    label_index: list[Tensor] = []
    targets: list[Tensor] = []
    owners: list[Tensor] = []
    for k, row in enumerate(rows):
        at = 0
        for s, sample in enumerate(row):
            n = len(sample.ids)
            tokens = torch.tensor(sample.ids)
            ids[k, at : at + n] = tokens
            positions[k, at : at + n] = torch.arange(n)
            if keys is not None:
                token_keys[k, at : at + n] = _token_keys(keys[k][s], n)
            segments.append((k * T + at, n, slots[k][s] if slots else -1))
            first = max(1, sample.start)
            label_index.append(torch.arange(k * T + at + first - 1, k * T + at + n - 1))
            targets.append(tokens[first:])
            owners.append(torch.full((n - first,), k))
            at += n
        if at < T:
            positions[k, at:] = torch.arange(T - at)
            segments.append((k * T + at, T - at, -1))
    return Batch(
        ids,
        positions,
        None,
        _layout(segments, K * T, cache),
        torch.cat(label_index),
        torch.cat(targets),
        torch.cat(owners),
        token_keys if keys is not None else None,
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
    index, inverse = [], torch.zeros(tokens, dtype=torch.long)
    shapes, rows, base = [], [], 0
    for group in groups:
        L = group[0][1]
        for first, n, row in group:
            slots = torch.full((L,), first)
            slots[:n] = torch.arange(first, first + n)
            index.append(slots)
            inverse[first : first + n] = torch.arange(base, base + n)
            rows.append(row)
            base += L
        shapes.append((len(group), L))
    return Packed(torch.cat(index), inverse, shapes, cache, torch.tensor(rows) if cache is not None else None)


def pad(rows: Sequence[Sequence[Sample]], keys: Sequence[Sequence[int]] | None = None) -> Batch:
    """The dull layout for models that cannot pack: [K·n, T], right-padded; the reference for `pack`.

    The padding is token 0: nothing attends to it, whatever the tokenizer uses.
    """
    n = max(len(row) for row in rows)
    T = max(len(sample.ids) for row in rows for sample in row)
    K = len(rows)
    ids = torch.zeros(K * n, T, dtype=torch.long)
    mask = torch.zeros(K * n, T, dtype=torch.long)
    token_keys = torch.zeros(K * n, T, dtype=torch.long)
    mask[:, 0] = 1  # a row without a sample must still attend to something
    label_index, targets, owners = [], [], []
    for k, row in enumerate(rows):
        for s, sample in enumerate(row):
            at, length = k * n + s, len(sample.ids)
            tokens = torch.tensor(sample.ids)
            ids[at, :length] = tokens
            mask[at, :length] = 1
            if keys is not None:
                token_keys[at, :length] = _token_keys(keys[k][s], length)
            first = max(1, sample.start)
            label_index.append(torch.arange(at * T + first - 1, at * T + length - 1))
            targets.append(tokens[first:])
            owners.append(torch.full((length - first,), k))
    return Batch(
        ids,
        torch.arange(T).expand(K * n, T),
        mask,
        None,
        torch.cat(label_index),
        torch.cat(targets),
        torch.cat(owners),
        token_keys if keys is not None else None,
    )


def _token_keys(sample_key: int, length: int) -> Tensor:
    """Odd 64-bit keys of a sample's tokens, from the sample's key and the position."""
    return mix(torch.arange(1, length + 1) * 0x9E3779B97F4A7 + sample_key) | 1


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
