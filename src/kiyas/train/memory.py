"""How a step is cut into passes, so that it fits the memory at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kiyas.model.device import RESERVE_BYTES
from kiyas.types import KiyasError

CPU_TOKENS = 4096
"""Of a pass on a CPU: what its caches like."""
MOST_TOKENS = 16384
"""Of a pass on a GPU: more is not faster."""


def training_budget(kind: str, free: int, workers: int) -> int:
    """Bytes that one of the workers that share a device may use, of those `free` before any has loaded its base.

    `kind`: the type of the device. On a CPU a quarter is left to the rest of the machine.
    """
    return free - RESERVE_BYTES if kind == "cuda" else 3 * free // 4 // workers


def unplanned(asked: int | None, longest: int) -> Layout:
    """Where memory is not asked: the tokens that the study asks for, or what a CPU likes."""
    return Layout(asked or max(CPU_TOKENS, longest))


@dataclass(frozen=True)
class Layout:
    """How a step is cut into passes: rounding depends on it, so it is chosen once and kept with the run."""

    pass_tokens: int
    """most tokens of a pass, over all adapters that share it"""
    recompute: bool = False
    """computes each layer's activations again in the backward pass instead of keeping them"""

    def together(self, adapters: int, longest: int) -> int:
        """How many adapters share a pass, when the longest sample has `longest` tokens."""
        if self.pass_tokens < longest:
            raise KiyasError(
                f"training.max_tokens_per_pass is {self.pass_tokens:,}, but the longest sample has {longest:,} tokens",
                "raise it, or lower training.max_length",
            )
        most = min(adapters, self.pass_tokens // longest)
        return math.ceil(adapters / math.ceil(adapters / most))

    def row(self, together: int, longest: int) -> list[int]:
        """Lengths of the samples of one adapter that fill a pass: the longest, and what is left."""
        whole, rest = divmod(self.pass_tokens // together, longest)
        return [longest] * whole + [rest] * (rest > 1)

    def smaller(self, longest: int, can_recompute: bool) -> Layout | None:
        """The next layout that needs less memory; None when there is none."""
        if self.pass_tokens > longest:
            return Layout(max(longest, self.pass_tokens // 2), self.recompute)
        if not self.recompute and can_recompute:
            return Layout(self.pass_tokens, recompute=True)
        return None

    def __str__(self) -> str:
        again = ", activations computed again in the backward pass" if self.recompute else ""
        return f"passes of at most {self.pass_tokens:,} tokens{again}"
