"""Cards that are not here: memory as the run would plan it, hours by what the card can do at most.

Peak rates are from the vendors' data sheets, dense, with sums in float32. How much of them is had was not measured
(docs/speed.md): TRAINED and STREAMED are what well-kept trainers and decoders report for models of this size.
"""

from __future__ import annotations

from dataclasses import dataclass

from kiyas.check.memory import Memory, Room
from kiyas.model.device import RESERVE_BYTES
from kiyas.study.settings import Dtype
from kiyas.types import KiyasError

RESERVED = 1_500_000_000
"""Bytes of a card for the driver's context and for fragmentation."""
TRAINED = 0.35
"""Share of the peak rate in training."""
STREAMED = 0.5
"""Share of the memory's bandwidth in decoding."""
LAUNCH_S = 25e-3
"""Of a token of all answers, however few: the host cannot issue a decoding step faster."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one process, or of one card."""

    train: float
    """a token forward and backward"""
    forward: float
    """a token forward"""
    prefill: float
    """a prompt token"""
    step: float
    """a token of an answer"""


@dataclass(frozen=True)
class Card:
    name: str
    title: str
    memory: int
    """bytes"""
    flops: float
    """a second, in the number format that it computes in"""
    bandwidth: float
    """bytes a second"""
    computes: Dtype

    @property
    def room(self) -> Room:
        # The reserve is set aside by the plan of the run, too; here it is set aside once.
        return Room("cuda", self.memory - RESERVED + RESERVE_BYTES)

    def dtype(self, wanted: Dtype) -> Dtype:
        """The number format there. Raises KiyasError for one that the card does not compute."""
        if wanted is Dtype.BFLOAT16 and self.computes is not Dtype.BFLOAT16:
            raise KiyasError(
                f"training.dtype: a {self.title} does not compute bfloat16",
                f"training.dtype={self.computes.value} or auto",
            )
        return self.computes if wanted is Dtype.AUTO else wanted

    def speed(self, parameters: int, moved: int, adapter: int, cached: int, needed: Memory, itemsize: int) -> Speed:
        """What the card would do.

        `moved`: bytes of the base's weights that a decoding step reads and writes. `adapter`: parameters of one.
        `cached`: bytes of one answer's keys and values. `itemsize`: bytes of a number that is computed with.
        """
        rate = TRAINED * self.flops * (0.5 if itemsize == 4 else 1.0)
        # Forward 2 FLOP a weight; backward 2 for activations, and 2 more for the adapter's own weights.
        forward = 2 * (parameters + adapter) / rate
        backward = (2 * parameters + 4 * adapter) / rate
        again = forward if needed.layout.recompute else 0.0
        rows, adapters = needed.decoding.rows, needed.decoding.adapters
        streamed = moved + itemsize * adapters * adapter + rows * cached
        step = max(streamed / (STREAMED * self.bandwidth), rows * forward, LAUNCH_S) / rows
        return Speed(forward + backward + again, forward, forward, step)


# H100, H200 and B200: the SXM modules. A100: SXM, too, in the 80 GB form.
CARDS = {
    card.name: card
    for card in (
        Card("t4", "T4 (16 GB)", 15_000_000_000, 65e12, 320e9, Dtype.FLOAT16),
        Card("l4", "L4 (24 GB)", 24_000_000_000, 121e12, 300e9, Dtype.BFLOAT16),
        Card("a10g", "A10G (24 GB)", 24_000_000_000, 70e12, 600e9, Dtype.BFLOAT16),
        Card("rtx3090", "RTX 3090 (24 GB)", 24_000_000_000, 71e12, 936e9, Dtype.BFLOAT16),
        Card("rtx4090", "RTX 4090 (24 GB)", 24_000_000_000, 165e12, 1008e9, Dtype.BFLOAT16),
        Card("24gb", "card with 24 GB (A10G, L4, RTX 3090)", 24_000_000_000, 70e12, 600e9, Dtype.BFLOAT16),
        Card("l40s", "L40S (48 GB)", 48_000_000_000, 362e12, 864e9, Dtype.BFLOAT16),
        Card("a100-40", "A100 (40 GB)", 40_000_000_000, 312e12, 1555e9, Dtype.BFLOAT16),
        Card("a100-80", "A100 (80 GB)", 80_000_000_000, 312e12, 2039e9, Dtype.BFLOAT16),
        Card("h100", "H100 (80 GB)", 80_000_000_000, 989e12, 3350e9, Dtype.BFLOAT16),
        Card("h200", "H200 (141 GB)", 141_000_000_000, 989e12, 4800e9, Dtype.BFLOAT16),
        Card("b200", "B200 (180 GB)", 180_000_000_000, 2250e12, 8000e9, Dtype.BFLOAT16),
    )
}
