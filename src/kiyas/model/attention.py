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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

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


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def register() -> None:
    """Makes `attn_implementation="kiyas"` known to transformers. May be called again."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)


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
    cache, rows: where prefilled keys and values go, [ΣS] cache row per sample (-1: nowhere).
    """

    index: Tensor
    inverse: Tensor
    shapes: list[tuple[int, int]]
    cache: SlotCache | None = None
    rows: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        K, H, T, _ = q.shape
        spread = [
            _Spread.apply(  # type: ignore[no-untyped-call]
                x.transpose(1, 2).reshape(K * T, x.shape[1], x.shape[3]), self.index, self.inverse
            )
            for x in (q, k, v)
        ]
        outputs, start, sample = [], 0, 0
        for S, L in self.shapes:
            q_SHLE, k_SGLE, v_SGLE = (
                x[start : start + S * L].view(S, L, x.shape[1], x.shape[2]).transpose(1, 2) for x in spread
            )
            if self.cache is not None and self.rows is not None:
                self.cache.store(layer, self.rows[sample : sample + S], k_SGLE, v_SGLE)
            repeat = H // k_SGLE.shape[1]
            if repeat > 1:
                k_SGLE = k_SGLE.repeat_interleave(repeat, 1)
                v_SGLE = v_SGLE.repeat_interleave(repeat, 1)
            mask = None
            if window is not None and window < L:
                distance = torch.arange(L, device=q.device)[:, None] - torch.arange(L, device=q.device)
                mask = (distance >= 0) & (distance < window)
            out = scaled_dot_product_attention(
                q_SHLE, k_SGLE, v_SGLE, attn_mask=mask, is_causal=mask is None, scale=scale
            )
            outputs.append(out.transpose(1, 2).reshape(S * L, H, out.shape[-1]))
            start += S * L
            sample += S
        slots = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        collected: Tensor = _Collect.apply(slots, self.inverse)  # type: ignore[no-untyped-call]
        return collected.view(K, T, H, -1)


class SlotCache:
    """Keys and values of B answers in flight: per layer [B, G, capacity, E]. Grows as the longest row needs it."""

    BLOCK = 128

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.capacity = 0
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

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
        self.rows = len(rows_B)
        for layer, (k_BGLE, v_BGLE) in self._layers.items():
            self._layers[layer] = (k_BGLE[rows_B], v_BGLE[rows_B])

    def layer(self, layer: int, like_k: Tensor, like_v: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self._layers:
            self._layers[layer] = (
                like_k.new_zeros((self.rows, like_k.shape[1], self.capacity, like_k.shape[3])),
                like_v.new_zeros((self.rows, like_v.shape[1], self.capacity, like_v.shape[3])),
            )
        return self._layers[layer]

    def store(self, layer: int, rows_S: Tensor, k_SGLE: Tensor, v_SGLE: Tensor) -> None:
        """Writes prefilled samples; a row of -1 is dropped. Right padding is stored too: lengths mask it."""
        cache_k, cache_v = self.layer(layer, k_SGLE, v_SGLE)
        keep = rows_S >= 0
        L = min(k_SGLE.shape[2], self.capacity)  # the filling at a row's end may be longer than any prompt
        cache_k[rows_S[keep], :, :L] = k_SGLE[keep, :, :L]
        cache_v[rows_S[keep], :, :L] = v_SGLE[keep, :, :L]


@dataclass(frozen=True)
class Decode:
    """One new token for each of B rows, at position length[b] (0-based)."""

    cache: SlotCache
    length_B: Tensor
    longest: int

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None) -> Tensor:
        B, H, _, E = q.shape
        G = k.shape[1]
        cache_k, cache_v = self.cache.layer(layer, k, v)
        every = torch.arange(B, device=q.device)
        cache_k[every, :, self.length_B] = k[:, :, 0]
        cache_v[every, :, self.length_B] = v[:, :, 0]
        position = torch.arange(self.longest + 1, device=q.device)
        mask = position <= self.length_B[:, None]
        if window is not None:
            mask &= position > self.length_B[:, None] - window
        # The heads that share a key head become its queries: no copy of the cache.
        out = scaled_dot_product_attention(
            q.reshape(B, G, H // G, E),
            cache_k[:, :, : self.longest + 1],
            cache_v[:, :, : self.longest + 1],
            attn_mask=mask[:, None, None, :],
            scale=scale,
        )
        return out.reshape(B, 1, H, -1)
