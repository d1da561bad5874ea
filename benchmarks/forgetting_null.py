"""How often more seems to be lost than gained over a training, although nothing is, and how often when it is.

    python benchmarks/forgetting_null.py [--studies 4000] [--json FILE]

Conditions and limit were fixed before it was first run. A problem is solved with chance σ(ease), ease −6 for 40 % of
the problems and N(0.2, 1.5) for the others, alike in all seeds. A training has 6 checkpoints; an answer is kept from
one to the next with probability .3 .5 .7 .8 .9, as under a learning rate that falls, and drawn anew otherwise; so more
comes and goes early than late. The base answers once. 41 problems × 1 seed, 41 × 3, 300 × 3. *constant*: the chances
stay; *gains*: ease grows by 1 over the run; *loses 10, 30, 50 %*: the chances fall by that share over the run. Limit:
.055 decided either way where the chances are constant, .055 "more lost" where they grow. The former rule stands beside:
answers lost per step beyond those lost in the last step. What is tested is `analyse.behaviour.lost_and_gained`, at
p < .05. Also counted: problems called learned, lost and flickering by `analyse.problems.pattern`, and how many there
would be in random order. Exit code 1 where the limit is broken. About 2 minutes on one core.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kiyas.analyse.behaviour import lost_and_gained
from kiyas.analyse.problems import in_random_order, pattern, redrawn
from kiyas.stats.inference import Floats

_redrawn = functools.cache(redrawn)
KEPT = (0.3, 0.5, 0.7, 0.8, 0.9)
SIZES = ((41, 1), (41, 3), (300, 3))
FALSE = 0.055


@dataclass(frozen=True)
class World:
    """What happens to the chances over the run: ease grows, or a share of each chance goes."""

    name: str
    gains: float = 0.0
    loses: float = 0.0


WORLDS = (World("constant"), World("gains", 1.0), *(World(f"loses {n} %", 0.0, n / 100) for n in (10, 30, 50)))


@dataclass(frozen=True)
class Row:
    """Shares of the studies that read "more lost" or "more gained", from the first checkpoint and from the base.

    `covered`: the interval from the first checkpoint has zero; None where the truth is another.
    """

    problems: int
    seeds: int
    world: str
    lost: float
    gained: float
    base_lost: float
    base_gained: float
    covered: float | None
    former: float

    @property
    def holds(self) -> bool:
        if self.world == "constant":
            return max(self.lost + self.gained, self.base_lost + self.base_gained) <= FALSE
        return self.world != "gains" or max(self.lost, self.base_lost) <= FALSE


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def study(problems: int, seeds: int, world: World, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Right answers of the base [P] and of the checkpoints [S, C, P]."""
    ease_P = np.where(rng.random(problems) < 0.4, -6.0, rng.normal(0.2, 1.5, problems))
    shape = (seeds, problems)
    answers = [rng.random(shape) < sigmoid(ease_P)]
    for n, kept in enumerate(KEPT, 1):
        done = n / len(KEPT)
        chance_P = sigmoid(ease_P + done * world.gains) * (1 - done * world.loses)
        answers.append(np.where(rng.random(shape) < kept, answers[-1], rng.random(shape) < chance_P))
    base_P = rng.random(problems) < sigmoid(ease_P)
    return base_P.astype(np.float64), np.stack(answers, axis=1).astype(np.float64)


def former(base_P: Floats, answers_SCP: Floats) -> bool:
    """Is the share of right answers lost per step clearly above that of the last step, counted either way?"""
    points = [np.concatenate([base_P[None], points]) for points in answers_SCP]
    steps = [pair for each in points for pair in itertools.pairwise(each[:-1])]
    last = [pair for each in points for pair in ((each[-2], each[-1]), (each[-1], each[-2]))]
    (lost, of), (floor, floor_of) = (
        (sum(a * (1 - b) for a, b in pairs), sum(a for a, _ in pairs)) for pairs in (steps, last)
    )
    draws_BP = _redrawn(base_P.size)
    below_B, floor_below_B = draws_BP @ of, draws_BP @ floor_of
    usable = (below_B > 0) & (floor_below_B > 0)
    if not usable.any() or not lost.any() or not floor.any():
        return False
    excess = (draws_BP @ lost)[usable] / below_B[usable] - (draws_BP @ floor)[usable] / floor_below_B[usable]
    return bool(np.quantile(excess, 0.025) > 0)


def simulate(problems: int, seeds: int, world: World, count: int, rng: np.random.Generator) -> Row:
    met: Counter[str] = Counter()
    for _ in range(count):
        base_P, answers_SCP = study(problems, seeds, world, rng)
        ends_S2P = answers_SCP[:, [0, -1]]
        for name, pairs in (("", ends_S2P), ("base ", np.stack([[base_P, each[1]] for each in ends_S2P]))):
            found = lost_and_gained(pairs)
            assert found is not None
            met[f"{name}lost"] += found.p < 0.05 and found.net < 0
            met[f"{name}gained"] += found.p < 0.05 and found.net > 0
            met[f"{name}covered"] += found.interval.low <= 0 <= found.interval.high
        met["former"] += former(base_P, answers_SCP)
    shares = [met[each] / count for each in ("lost", "gained", "base lost", "base gained", "covered", "former")]
    covered = shares[4] if world.name == "constant" else None
    return Row(problems, seeds, world.name, *shares[:4], covered, shares[5])


def patterns(count: int, rng: np.random.Generator) -> tuple[Counter[str], Counter[str]]:
    """Problems of each pattern in 41-problem trainings with constant chances: as met, and if in random order."""
    seen: Counter[str] = Counter()
    shuffled: Counter[str] = Counter()
    for _ in range(count):
        base_P, answers_SCP = study(41, 1, WORLDS[0], rng)
        for solved in np.concatenate([base_P[None], answers_SCP[0]]).astype(bool).T:
            seen[pattern(list(solved))] += 1
            shuffled.update(in_random_order(solved.size, int(solved.sum())))
    return seen, shuffled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, help="for each condition (default: 4000)")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    args = parser.parse_args()
    print("| problems | seeds | chances | more lost | more gained | base: lost | base: gained | covered | former | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for number, (world, (problems, seeds)) in enumerate(itertools.product(WORLDS, SIZES)):
        row = simulate(problems, seeds, world, args.studies, np.random.default_rng(number))
        rows.append(row)
        shares = (row.lost, row.gained, row.base_lost, row.base_gained, row.covered, row.former)
        cells = [problems, seeds, world.name, *("" if share is None else f"{share:.3f}" for share in shares)]
        print(f"| {' | '.join(map(str, cells))} | {'' if row.holds else 'BROKEN'} |", flush=True)
    seen, shuffled = patterns(args.studies, np.random.default_rng(0))
    told = (f"{kind} {seen[kind] / args.studies:.2f} ({shuffled[kind] / args.studies:.2f})" for kind in shuffled)
    print(f"\nProblems of 41, and in random order: {', '.join(told)}")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
