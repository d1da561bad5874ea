"""One replication, wherever its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

from kiyas.stats.inference import Interval


@dataclass(frozen=True)
class Replication:
    """One run's difference, b minus a. `method`: "two-way" (seeds), "pair" (two adapters) or "unpaired" (counts).

    `standard_error` takes the problems as drawn at random; `within_error`, known of runs only, is that on these
    problems: without the problems' component where seeds tell it apart.
    """

    name: str
    method: str
    seeds: int
    problems: int
    a_rate: float
    b_rate: float
    difference: float
    interval: Interval
    interval90: Interval
    p: float
    standard_error: float
    within_error: float | None = None
    informative: int | None = None
    """problems on which the arms could differ: some answers are right, some wrong; of counts, the most there can be"""
    exact_p: float | None = None
    """of two adapters with one answer a problem, where `p` is McNemar's mid-p value"""
    samples: int | None = None
    """answers to a problem by each adapter; None where only counts are known"""
