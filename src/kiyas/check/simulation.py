"""Failures of a cluster, one after another: what a stage loses to them, and how much later it ends.

Theory of operation. Nodes fail independently of each other and of their age, so that the next failure comes after an
exponential time and hits any node. All cards of the node lose what they did since they last saved, and are away until
it is repaired. A training goes on from its last saved state, on the card on which it ends first; answers are a stream
that all cards share, of which each card keeps whole waves. Nothing else happens between failures, so a simulation takes
as long as it has failures, whatever the number of cards.

Not guaranteed: failures that hit several nodes at once, that slow a card down, or that hit the machine that drives the
run; the time to start again beyond the repair.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NODE_MTBF_S = 6300 * 3600.0
"""Between two failures of a node of eight cards: 419 unexpected interruptions of 2,048 such nodes with H100s in 54 days
(Grattafiori et al. 2024, *The Llama 3 Herd of Models*, 3.3.4), 6,335 hours."""
REPAIR_S = 3600.0
"""Until a failed node works again (assumed: it is started again, or another one takes its place)."""
PATIENCE = 5
"""A stage that takes so many times the time that it takes without failures, and a repair, is taken never to end."""


@dataclass(frozen=True)
class Failures:
    """How often nodes fail, and how long they are away."""

    mtbf_s: float = NODE_MTBF_S
    """mean time between two failures of one node, while it works; `math.inf`: never"""
    repair_s: float = REPAIR_S
    seed: int = 0

    def moments(self, nodes: int) -> Iterator[tuple[float, int]]:
        """(time, node) of failures in their order. A node that is away already does not fail."""
        if math.isinf(self.mtbf_s):
            return
        chance, now, back = random.Random(self.seed), 0.0, [0.0] * nodes
        while True:
            now += chance.expovariate(nodes / self.mtbf_s)
            node = chance.randrange(nodes)
            if now >= back[node]:
                back[node] = now + self.repair_s
                yield now, node


NEVER = Failures(math.inf)


@dataclass(frozen=True)
class Outcome:
    """How a stage went."""

    wall_s: float
    """`math.inf`: it does not end"""
    card_s: tuple[float, ...]
    """of each kind of card, at work that was kept or lost"""
    lost_s: float = 0.0
    """of cards, at work that was lost"""
    failures: int = 0
    """of nodes"""

    @property
    def lost(self) -> float:
        """Share of the cards' work that was lost."""
        return self.lost_s / max(sum(self.card_s), 1e-9)


@dataclass
class _Turn:
    """A training, or what is left of it, on a card."""

    job: int
    left: float
    """share of it"""
    start: float
    end: float


def trained(
    seconds: Sequence[Sequence[float]],
    saved: Sequence[Sequence[float]],
    nodes: Sequence[Sequence[int]],
    failures: Failures = NEVER,
) -> Outcome:
    """Trainings, the longest first, each on the card on which it ends first; without failures this is the plan.

    `seconds[job][kind]` on each kind of card (`math.inf`: it does not fit), `saved[job][kind]` between two saved
    states, `nodes[node]` the kinds of its cards. No training is split.
    """
    kinds = np.array([kind for own in nodes for kind in own])
    first = [0, *itertools.accumulate(map(len, nodes))]
    free, last = np.zeros(len(kinds)), np.zeros(len(kinds))
    turns: list[list[_Turn]] = [[] for _ in kinds]
    spent, lost, count = [0.0] * (int(kinds.max()) + 1), 0.0, 0
    of_job = [np.array(each)[kinds] for each in seconds]

    def place(job: int, left: float, now: float) -> None:
        ends = np.maximum(free, now) + left * of_job[job]
        card = int(ends.argmin())
        turns[card].append(_Turn(job, left, max(float(free[card]), now), float(ends[card])))
        free[card] = last[card] = ends[card]

    for job in sorted(range(len(seconds)), key=lambda job: -min(seconds[job])):
        place(job, 1.0, 0.0)
    wall = float(last.max())
    limit = PATIENCE * (wall + failures.repair_s)
    for now, node in failures.moments(len(nodes)):
        if now >= min(wall, limit):
            wall = wall if now >= wall else math.inf
            break
        count, waiting = count + 1, list[tuple[int, float]]()
        for card in range(first[node], first[node + 1]):
            kind, kept = int(kinds[card]), list[_Turn]()
            for turn in turns[card]:
                if turn.end <= now:
                    kept.append(turn)
                    continue
                whole, ran = seconds[turn.job][kind], max(0.0, now - turn.start)
                done = math.floor(ran / saved[turn.job][kind]) * saved[turn.job][kind]
                lost, spent[kind] = lost + ran - done, spent[kind] + ran
                waiting.append((turn.job, turn.left - done / whole))
            turns[card], free[card], last[card] = [], now + failures.repair_s, now
            spent[kind] += sum(turn.end - turn.start for turn in kept)
        for job, left in sorted(waiting, key=lambda each: -each[1] * min(seconds[each[0]])):
            place(job, left, now)
        wall = float(last.max())
    for card, own in enumerate(turns):
        spent[int(kinds[card])] += sum(turn.end - turn.start for turn in own)
    return Outcome(wall, tuple(spent), lost, count)


def streamed(
    work: float,
    rates: Sequence[float],
    waves: Sequence[float],
    nodes: Sequence[Sequence[int]],
    failures: Failures = NEVER,
) -> Outcome:
    """So many answers, shared by all cards until none is left; without failures this is the plan.

    `rates[kind]` answers a second of each kind of card (0: it takes none), `waves[kind]` seconds of a wave,
    `nodes[node]` the kinds of its cards.
    """
    counts = [[node.count(kind) for kind in range(len(rates))] for node in nodes]
    since, back = [0.0] * len(nodes), list[tuple[float, int]]()
    up = [sum(column) for column in zip(*counts, strict=True)]
    spent, lost, count, now, left = [0.0] * len(rates), 0.0, 0, 0.0, float(work)
    limit = PATIENCE * (work / sum(n * each for n, each in zip(up, rates, strict=True)) + failures.repair_s)

    def until(moment: float) -> bool:
        """Goes on to a moment; whether all was answered before it."""
        nonlocal now, left
        rate = math.fsum(n * each for n, each in zip(up, rates, strict=True))
        ends = now + left / rate if rate else math.inf
        worked = min(ends, moment) - now
        for kind, n in enumerate(up):
            spent[kind] += n * worked if rates[kind] else 0.0
        now, left = now + worked, left - rate * worked
        return ends <= moment

    def repaired(moment: float) -> bool:
        """Goes on to a moment, past all repairs before it."""
        while back and back[0][0] <= moment:
            at, node = heapq.heappop(back)
            if until(at):
                return True
            since[node] = at
            for kind, n in enumerate(counts[node]):
                up[kind] += n
        return until(moment)

    for at, node in failures.moments(len(nodes)):
        if repaired(at):
            break
        if at >= limit:
            now = math.inf
            break
        count += 1
        for kind, n in enumerate(counts[node]):
            if rates[kind]:
                gone = n * ((now - since[node]) % waves[kind])
                lost, left = lost + gone, left + gone * rates[kind]
            up[kind] -= n
        heapq.heappush(back, (at + failures.repair_s, node))
    else:
        repaired(math.inf)
    return Outcome(now, tuple(spent), lost, count)
