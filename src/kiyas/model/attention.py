"""Attention over packed samples and over a slot cache, for any decoder that uses transformers' interface.

Theory of operation. transformers lets a model's attention be replaced by name; positions travel in
`position_ids` and everything else (who may see whom, where keys are kept) is ours. One *layout* is current while
the model runs:

- `Packed`: activations are [K, T, D], each row the samples of one adapter laid end to end, without padding
  between them. Queries, keys and values are gathered into [S, L] (one sample a row, right-padded), where plain
  causal attention is already right (a real token never looks right), and scattered back. Linear layers, norms
  and the loss therefore never see padding, and no mask is ever built.
- `Decode`: one new token per row, keys and values kept in a `SlotCache`.

What is not guaranteed: models whose attention needs more than that (ALiBi, soft-capping, sinks, recurrent
layers). `Base` compares packed logits with the model's own when it loads and falls back to padded rows.

Shapes: K adapters, T tokens, S samples, L longest sample, H heads, G key/value heads, E head width, B rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "kiyas"


class UnsupportedError(Exception):
    """The model's attention asks for something that these layouts do not do."""


class Layout(Protocol):
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        """[B, H, T, E], [B, G, T, E] twice → [B, T, H, E]."""


_current: list[Layout] = []


@contextlib.contextmanager
def using(layout: Layout | None) -> Iterator[None]:
    """Makes a layout current for the forward passes inside; None: no change."""
    if layout is None:
        yield
        return
    _current.append(layout)
    try:
        yield
    finally:
        _current.pop()


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    if not _current:
        raise UnsupportedError("no layout is current")
    if softcap is not None or s_aux is not None or not getattr(module, "is_causal", True):
        raise UnsupportedError(f"{type(module).__name__} uses soft-capping, sinks or two-sided attention")
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise UnsupportedError(f"{type(module).__name__} does not say which layer it is")
    # Rotary positions are float32 where the residual stream is: the values say what is computed in.
    query, key = query.to(value.dtype), key.to(value.dtype)
    return _current[-1].attend(layer, query, key, value, scaling, sliding_window), None


def register() -> None:
    """Makes `attn_implementation="kiyas"` known to transformers. May be called again.

    No mask function is registered: transformers then makes no mask, nor looks for packed samples (it would wait for the
    device).
    """
    AttentionInterface.register(NAME, _attention)


class _Spread(torch.autograd.Function):
    """flat[index]; its backward is a gather too, since every token is in one real slot (see Packed)."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return flat.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class _Collect(torch.autograd.Function):
    """slots[inverse]; backward writes each token's gradient to its slot and zero to the padding."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.slots = slots.shape[0]
        return slots.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (inverse,) = ctx.saved_tensors
        out = grad.new_zeros((ctx.slots, *grad.shape[1:]))
        return out.index_copy_(0, inverse, grad), None


@dataclass(frozen=True)
class Packed:
    """Samples laid end to end in K rows of T tokens.

    index: [ΣS·L] flat position (in K·T) of every slot; padding slots repeat the sample's first token.
    inverse: [K·T] slot of every token. Every token has exactly one: what is left at the end of a row forms a
    sample of its own, whose loss weight is zero.
    shapes: (S, L) per group; samples of similar length share a group.
    cache, rows, places: where prefilled keys and values go, [K·T] cache row and position in it of every token.
    """

    index: Tensor
    inverse: Tensor
    shapes: list[tuple[int, int]]
    cache: SlotCache | None = None
    rows: Tensor | None = None
    places: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        K, H, T, _ = q.shape
        flat = [x.transpose(1, 2).reshape(K * T, x.shape[1], x.shape[3]) for x in (q, k, v)]
        if self.cache is not None and self.rows is not None and self.places is not None:
            self.cache.store(layer, self.rows, self.places, flat[1], flat[2])
        sizes = [S * L for S, L in self.shapes]
        groups = [
            _Spread.apply(x, self.index, self.inverse).split(sizes)  # type: ignore[no-untyped-call]
            for x in flat
        ]
        outputs = []
        for (S, L), *parts in zip(self.shapes, *groups, strict=True):
            q_SHLE, k_SGLE, v_SGLE = (x.view(S, L, *x.shape[1:]).transpose(1, 2) for x in parts)
            mask = None
            if window is not None and window < L:
                distance = torch.arange(L, device=q.device)[:, None] - torch.arange(L, device=q.device)
                mask = (distance >= 0) & (distance < window)
            shared = k_SGLE.shape[1] < H
            if shared and not _reads_shared_heads(q_SHLE, mask):
                k_SGLE, v_SGLE = (x.repeat_interleave(H // x.shape[1], 1) for x in (k_SGLE, v_SGLE))
                shared = False
            out = scaled_dot_product_attention(
                q_SHLE, k_SGLE, v_SGLE, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=shared
            )
            outputs.append(out.transpose(1, 2).reshape(S * L, H, out.shape[-1]))
        slots = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        collected: Tensor = _Collect.apply(slots, self.inverse)  # type: ignore[no-untyped-call]
        return collected.view(K, T, H, -1)


def _reads_shared_heads(q: Tensor, mask: Tensor | None) -> bool:
    """Whether the fused kernel reads a key head for all of its query heads: flash attention does, on a CPU as well.

    Memory-efficient attention does not. It runs where there is a mask, and on cards without bfloat16.
    """
    return q.device.type == "cpu" or (q.dtype == torch.bfloat16 and mask is None and q.shape[-1] <= 256)


class SlotCache:
    """Keys and values of B answers in flight: per layer [B + 1, G, capacity, E]. Grows as the longest row needs it.

    The last row is a dump: what fills up a prefill pass is written there, so that nothing has to be picked out.
    """

    BLOCK = 128

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.capacity = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Keys and values of all layers, by name: with their shapes and `of`, what there is to it."""
        return {
            f"{name}.{layer}": x
            for layer, pair in self._layers.items()
            for name, x in zip(("keys", "values"), pair, strict=True)
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> SlotCache:
        """A cache of such tensors."""
        first = next(iter(tensors.values()))
        made = cls(first.shape[0] - 1)
        made.capacity = first.shape[2]
        layers = sorted({int(name.partition(".")[2]) for name in tensors})
        made._layers = {layer: (tensors[f"keys.{layer}"], tensors[f"values.{layer}"]) for layer in layers}
        return made

    def reserve(self, length: int) -> None:
        """Makes room for `length` tokens a row."""
        if length > self.capacity:
            self.capacity = -(-length // self.BLOCK) * self.BLOCK
            for layer, (k_BGLE, v_BGLE) in self._layers.items():  # one by one: the old ones are freed as we go
                self._layers[layer] = (self._grown(k_BGLE), self._grown(v_BGLE))

    def _grown(self, x_BGLE: Tensor) -> Tensor:
        B, G, L, E = x_BGLE.shape
        grown = x_BGLE.new_zeros((B, G, self.capacity, E))
        grown[:, :, :L] = x_BGLE
        return grown

    def keep(self, rows_B: Tensor) -> None:
        """Drops all rows but the given ones, which take their order."""
        with_dump = torch.cat([rows_B, rows_B.new_tensor([self.rows])])
        self.rows = len(rows_B)
        for layer, (k_BGLE, v_BGLE) in self._layers.items():
            self._layers[layer] = (k_BGLE[with_dump], v_BGLE[with_dump])

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the rows, without the dump."""
        k_BGLE, v_BGLE = self._layers[layer]
        return k_BGLE[: self.rows], v_BGLE[: self.rows]

    def store(self, layer: int, row_N: Tensor, place_N: Tensor, k_NGE: Tensor, v_NGE: Tensor) -> None:
        """Writes N tokens, each at its place in its row."""
        if layer not in self._layers:
            k_BGLE, v_BGLE = (
                x.new_zeros((self.rows + 1, x.shape[1], self.capacity, x.shape[2])) for x in (k_NGE, v_NGE)
            )
            self._layers[layer] = k_BGLE, v_BGLE
        for cache_BGLE, x_NGE in zip(self._layers[layer], (k_NGE, v_NGE), strict=True):
            cache_BGLE[row_N, :, place_N] = x_NGE


class Decode:
    """One new token for each of B rows, at position length[b] (0-based). What all layers share is made once a step.

    Where few rows are much longer than the others (runaways), the short part is read for all rows, and the whole of the
    long ones once more for them alone: the rest does not read along.
    """

    STEP = 16
    """Rows are read up to a multiple of so many tokens: what a mask's rows must be aligned to, and fewer shapes."""
    LEAST_SAVED = 2**15
    """Tokens a layer that must be saved for long rows to be read apart: it takes six more operators."""

    def __init__(self, cache: SlotCache, length_B: Tensor, lengths: Sequence[int]) -> None:
        """`lengths` is `length_B` as the host knows it."""
        self.cache, self.length_B = cache, length_B
        device = length_B.device
        self.read, long = self._cut(lengths)
        self.row_B = torch.arange(len(lengths), device=device)
        self.position = torch.arange(self._ceil(max(lengths)), device=device)
        self.long_M = torch.tensor(long).to(device, non_blocking=True) if long else None
        self._masks: dict[tuple[int | None, torch.dtype], tuple[Tensor, Tensor | None]] = {}

    def _ceil(self, length: int) -> int:
        return min(self.cache.capacity, (length // self.STEP + 1) * self.STEP)

    def _cut(self, lengths: Sequence[int]) -> tuple[int, list[int]]:
        """How far all rows are read, and which are longer. A row that is read apart is read, written, read again."""
        ordered = sorted(lengths, reverse=True)
        B, whole = len(ordered), self._ceil(ordered[0])
        cost, apart = min((B * self._ceil(ordered[m]) + 3 * m * whole, m) for m in range(min(B, B // 8 + 1)))
        if not apart or B * whole - cost < max(self.LEAST_SAVED, B * whole // 4):
            return whole, []
        read = self._ceil(ordered[apart])
        return read, [b for b, length in enumerate(lengths) if length >= read]

    def _mask(self, window: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """[B, 1, 1, read] and, for the long rows, [M, 1, 1, longest]: 0 where a row may look and -∞ elsewhere."""
        key = (window, dtype)
        if key not in self._masks:
            hidden = self.position > self.length_B[:, None]
            if window is not None:
                hidden |= self.position <= self.length_B[:, None] - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            mask = mask.masked_fill_(hidden, -torch.inf)[:, None, None, :]
            self._masks[key] = mask[..., : self.read], None if self.long_M is None else mask[self.long_M]
        return self._masks[key]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        B, H, _, E = q.shape
        G = k.shape[1]
        self.cache.store(layer, self.row_B, self.length_B, k[:, :, 0], v[:, :, 0])
        cache_k, cache_v = self.cache.layer(layer)
        mask, long_mask = self._mask(window, q.dtype)
        # The heads that share a key head become its queries: no copy of the cache.
        q = q.reshape(B, G, H // G, E)
        out = scaled_dot_product_attention(
            q, cache_k[:, :, : self.read], cache_v[:, :, : self.read], attn_mask=mask, scale=scale
        )
        if self.long_M is not None:
            whole_k, whole_v = (x[:, :, : len(self.position)][self.long_M] for x in (cache_k, cache_v))
            out[self.long_M] = scaled_dot_product_attention(
                q[self.long_M], whole_k, whole_v, attn_mask=long_mask, scale=scale
            )
        return out.reshape(B, 1, H, -1)
