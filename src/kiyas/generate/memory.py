"""How many adapters and answers are decoded at once: what that takes, and what fits.

Theory of operation. Pure arithmetic over a base's configuration, so that `check` can ask about a card that is not here.
The largest parts are the cache (rows × the longest answer), the stack of adapters, and one prefill pass; logits are
bounded by CHOICE_BYTES, since next tokens are chosen for so many rows at a time.

Not guaranteed: what the allocator loses to fragmentation (RESERVE_BYTES is for that) and what libraries allocate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from kiyas.model.attention import SlotCache
from kiyas.model.device import RESERVE_BYTES
from kiyas.types import KiyasError

CHOICE_BYTES = 2**28
"""of logits and what is made of them to choose the next tokens of a step"""
FEWEST_EACH = 4
"""answers of each adapter at once, rather than more adapters together"""
MOST_ROWS = {"cuda": 1024, "cpu": 256}
MOST_ROWS_OF_A_WIDE_BASE = 64
"""on a CPU: more gain little there"""
WIDE = 512
PREFILL_TOKENS = {"cuda": 16384, "cpu": 2048}
"""by type of device; more is not faster (docs/log.md)"""


@dataclass(frozen=True)
class Plan:
    """What is decoded at once. Rounding depends on it, so it is chosen once per part and recorded."""

    adapters: int
    rows: int
    """answers in flight, of all adapters together"""
    prefill_tokens: int
    """of one prefill pass, of all adapters together; at least one prompt of each"""
    after: int = 0
    """how many answers of the part an earlier plan had given when this one took over"""
    stretch: int = 0
    """decoding steps after which answers in flight are written down; 0: not measured yet"""

    def halved(self) -> Plan | None:
        """Half of the rows, down to one an adapter, then half of the adapters. None: nothing is left to halve."""
        if self.rows > self.adapters:
            return replace(
                self, rows=max(self.adapters, self.rows // 2), prefill_tokens=max(1, self.prefill_tokens // 2)
            )
        if self.adapters > 1:
            half = self.adapters // 2
            return replace(self, adapters=half, rows=half, prefill_tokens=max(1, self.prefill_tokens // 2))
        return None

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Needs:
    """Bytes that decoding takes beside the base's own weights, and the tokens that they depend on."""

    cache: int
    """keys and values of one token, all layers"""
    layers: int
    adapter: int
    """one adapter in the base's number format"""
    token: int
    """activations of one token, while one layer computes"""
    choice: int
    """one row's logits and what is made of them"""
    score: int
    """what attention keeps for one token looking at one other"""
    prompt: int
    """tokens of the longest prompt"""
    longest: int
    """tokens of the longest prompt and answer together"""
    width: int
    """of the base's hidden states"""
    packed: bool
    """False: left-padded batches, prefilled all at once"""
    dequantised: int = 0
    """the largest layer of a base in 4 bits, while it computes"""

    @classmethod
    def of(
        cls,
        config: Any,
        dtype: torch.dtype,
        adapter_parameters: int,
        prompt: int,
        max_new_tokens: int,
        *,
        sampled: bool,
        packed: bool = True,
        plain_head: bool = True,
        load_in_4bit: bool = False,
        float32_modules: Sequence[str] = (),
    ) -> Needs:
        """`config` is the base's, `prompt` the longest prompt; the others are as in `Base`."""
        width, size, vocabulary = config.hidden_size, dtype.itemsize, config.vocab_size
        mlp = getattr(config, "intermediate_size", None) or 4 * width
        # Norms compute in float32. A gated MLP has three tensors of its width at once, attention about eight.
        wide = 4 if float32_modules else size
        token = wide * (max(3 * mlp, 8 * width) + 4 * width) + 8 * width
        return cls(
            cache=cache_bytes(config, dtype),
            layers=config.num_hidden_layers,
            adapter=adapter_parameters * size,
            token=token if plain_head else token + vocabulary * size,
            choice=vocabulary * choice_bytes(sampled),
            score=2 * size if packed else 8 * config.num_attention_heads,
            prompt=prompt,
            longest=prompt + max_new_tokens,
            width=width,
            packed=packed,
            dequantised=mlp * width * size if load_in_4bit else 0,
        )

    @property
    def capacity(self) -> int:
        """Tokens of a row of the cache when the longest answer ends."""
        return math.ceil((self.longest + 1) / SlotCache.BLOCK) * SlotCache.BLOCK

    def peak(self, plan: Plan) -> int:
        """The most bytes in use at any time, the base's weights not counted."""
        stack = plan.adapters * self.adapter
        cache = (plan.rows + 1) * self.capacity * self.cache
        growing = cache // self.layers  # one layer is held twice, the new one a block longer
        choosing = min(plan.rows * self.choice, max(CHOICE_BYTES, self.choice))
        step = plan.rows * (self.token + self.capacity * self.score) + choosing
        if self.packed:
            # A later stretch reads answers so far, of as many adapters as fit into a pass, at least one.
            most = min(plan.prefill_tokens, plan.rows * self.longest)
            tokens = max(most, plan.adapters * self.prompt, self.longest)
            prefill = tokens * self.token + choosing
        else:
            prefill = plan.rows * self.prompt * (self.token + self.prompt * self.score) + choosing
            step += growing
        # Compaction leaves at most half of the rows, and copies the adapters that they belong to.
        copied = min(plan.adapters - 1, plan.rows // 2) * self.adapter
        compacted = stack + copied + (cache + growing + step) // 2
        return max(stack + cache + max(growing, step, prefill), compacted) + self.dequantised

    def plan(self, budget: int, adapters: int, answers: int, device: str, max_rows: int | None = None) -> Plan:
        """What fits into `budget` bytes of a type of device: `adapters` with `answers` each, `max_rows` at once.

        Adapters are taken together as long as their weights leave two thirds of the budget to the answers, and each
        has several at once: all have as many, and what is left over would idle. Raises KiyasError where one answer of
        one adapter is too much.
        """
        kind = "cuda" if device == "cuda" else "cpu"
        cap = MOST_ROWS_OF_A_WIDE_BASE if kind == "cpu" and self.width >= WIDE else MOST_ROWS[kind]
        for groups in range(1, adapters + 1):
            together = math.ceil(adapters / groups)
            most = min(max_rows or cap, together * answers)
            affordable = budget // 4 // self.token
            prefill = min(PREFILL_TOKENS[kind], max(together * self.prompt, affordable))
            rows = self._most_rows(Plan(together, most, prefill), budget)
            if together == 1 and rows:
                return Plan(1, rows, prefill)
            enough = max(together, min(FEWEST_EACH * together, most))
            if rows >= enough and 3 * together * self.adapter <= budget:
                return Plan(together, rows // together * together, prefill)
        least = self.peak(Plan(1, 1, self.prompt))
        raise KiyasError(
            f"one answer of up to {self.longest} tokens does not fit into memory: decoding it takes "
            f"{least / 2**30:.1f} GiB beside the base, and {max(0, budget) / 2**30:.1f} GiB are to spare",
            "lower generation.max_new_tokens, or training.workers if there are several",
        )

    def _most_rows(self, plan: Plan, budget: int) -> int:
        """The largest number of rows, up to the plan's, that fits."""
        fits, too_many = 0, plan.rows + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.peak(replace(plan, rows=middle)) <= budget:
                fits = middle
            else:
                too_many = middle
        return fits


def cache_bytes(config: Any, dtype: torch.dtype) -> int:
    """Keys and values of one token, all layers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def choice_bytes(sampled: bool) -> int:
    """Bytes that choosing takes for each token of the vocabulary; sampling sorts (28; a GPU inside, 20)."""
    return 48 if sampled else 8


def rows_chosen_at_once(vocabulary: int, sampled: bool) -> int:
    return max(1, CHOICE_BYTES // (vocabulary * choice_bytes(sampled)))


def decoding_budget(device: str, free: int, workers: int, base_bytes: int) -> int:
    """Bytes that one of `workers` processes may use for decoding, of those `free` when its own base is loaded.

    `device`: its type. On a CPU the other workers may not have loaded theirs yet, and a quarter is left to the rest of
    the machine.
    """
    if device == "cuda":
        return free - RESERVE_BYTES
    return (3 * free // 4 - (workers - 1) * base_bytes) // workers
