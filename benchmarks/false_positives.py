"""How often the conclusion is wrong: simulated studies whose truth is known.

    python benchmarks/false_positives.py [--studies 20000] [--json FILE]

Conditions and limits were fixed before it was first run (they stand in CONDITIONS, FALSE_POSITIVES and COVERAGE):
3, 5 and 10 seeds × 41, 300 and 1,055 problems, seed SD of an arm 0 to 6 points, no true difference and one of 6
points; and, at 3 seeds, checkpoints chosen as the best of six on the benchmark itself, and learning rates chosen by
validation on a tuning seed. An answer is right with a probability that depends on the problem (logit-normal), on
the arm × problem, on the seed × problem and on the seed; both arms are drawn from the same distribution where there
is no difference. What is tested is the code that draws conclusions: `stats.two_way`,
`decisions.decision_of`. Exit code 1 where a limit is broken. About 15 minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kiyas.analyse.decisions import decision_of
from kiyas.analyse.findings import Decision
from kiyas.stats import inference
from kiyas.stats.inference import Floats

BASE, PROBLEM_SD, ARM_PROBLEM_SD, SEED_PROBLEM_SD = -1.3, 1.6, 0.5, 0.7
"""Logits: about 28 % solved; problems unequal; the spread that the practice world and public replications show."""
CHECKPOINTS, RATES = 6, 3
FALSE_POSITIVES = 0.055
COVERAGE = {3: 0.93, 5: 0.94, 10: 0.94}


@dataclass(frozen=True)
class Condition:
    seeds: int
    problems: int
    seed_sd: float
    difference: float = 0.0
    chosen: str = "last"


CONDITIONS = [
    *(Condition(*c) for c in itertools.product((3, 5, 10), (41, 300, 1055), (0.0, 0.02, 0.04, 0.06))),
    *(Condition(s, p, 0.03, 0.06) for s, p in itertools.product((3, 5, 10), (41, 300))),
    *(Condition(3, p, 0.03, 0.0, how) for p, how in itertools.product((41, 300), ("primary", "grid"))),
]


@dataclass(frozen=True)
class Found:
    """Shares of the studies."""

    condition: Condition
    decided: float
    wrong: float
    coverage: float
    half_width: float

    @property
    def error(self) -> float:
        """Decided although there is no difference, or the wrong way."""
        return self.decided if self.condition.difference == 0 else self.wrong

    @property
    def holds(self) -> bool:
        return self.error <= FALSE_POSITIVES and self.coverage >= COVERAGE[self.condition.seeds]


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


SLOPE = float(np.mean([p * (1 - p) for p in sigmoid(np.random.default_rng(0).normal(BASE, 1.9, 100_000))]))
"""Points of pass@1 for a logit, on average: turns a seed SD in points into one in logits."""


def studies(condition: Condition, count: int, rng: np.random.Generator) -> Floats:
    """Paired differences d [count, S, P] of as many studies."""
    S, P = condition.seeds, condition.problems
    shift = np.array([0.0, _logit_shift(condition.difference)]).reshape(1, 2, 1, 1)
    problem = rng.normal(BASE, PROBLEM_SD, (count, 1, 1, P)) + rng.normal(0, ARM_PROBLEM_SD, (count, 2, 1, P))
    trained = rng.normal(0, condition.seed_sd / SLOPE, (count, 2, S, 1)) + rng.normal(
        0, SEED_PROBLEM_SD, (count, 2, S, P)
    )
    logit = problem + shift + trained
    if condition.chosen == "grid":
        # Each arm's rate is the best by a noisy validation loss; rates differ in quality, alike for both arms.
        quality = rng.normal(0, 0.3, (count, 1, RATES))
        loss = -quality + rng.normal(0, 0.2, (count, 2, RATES))
        logit = logit + np.take_along_axis(np.repeat(quality, 2, 1), loss.argmin(-1)[..., None], -1)[..., None]
    if condition.chosen == "primary":
        each = sigmoid(logit[..., None, :] + rng.normal(0, 0.4, (count, 2, S, CHECKPOINTS, P)))
        right = rng.random(each.shape) < each
        best = right.mean(-1).argmax(-1)
        answers = np.take_along_axis(right, best[..., None, None], -2)[..., 0, :]
    else:
        answers = rng.random(logit.shape) < sigmoid(logit)
    return answers[:, 1].astype(np.float64) - answers[:, 0]


def _logit_shift(difference: float) -> float:
    """The shift of the second arm's logits that gives this difference in pass@1 over all problems and seeds."""
    if difference == 0:
        return 0.0
    spread = math.sqrt(PROBLEM_SD**2 + ARM_PROBLEM_SD**2 + SEED_PROBLEM_SD**2 + (0.03 / SLOPE) ** 2)
    at = np.random.default_rng(1).normal(BASE, spread, 400_000)
    low, high = 0.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        gained = float((sigmoid(at + middle) - sigmoid(at)).mean())
        low, high = (middle, high) if gained < difference else (low, middle)
    return low


def simulate(condition: Condition, count: int, seed: int) -> Found:
    rng = np.random.default_rng(seed)
    decided = wrong = covered = 0
    widths = []
    done = 0
    while done < count:
        size = 2 * condition.seeds * condition.problems * (CHECKPOINTS if condition.chosen == "primary" else 1)
        batch = min(count - done, max(1, 2_000_000 // size))
        for d_SP in studies(condition, batch, rng):
            found = inference.two_way(d_SP)
            interval = found.interval()
            # Where the interval holds zero nothing is decided; p, which is costly, is not asked for.
            p = found.p if interval.excludes_zero() else 1.0
            decision = decision_of(found.mean, interval, found.interval(0.90), p, None)
            decided += decision is not Decision.UNDECIDED
            wrong += decision is Decision.LESS
            covered += interval.low <= condition.difference <= interval.high
            widths.append((interval.high - interval.low) / 2)
        done += batch
    shares = (decided / count, wrong / count, covered / count)
    return Found(condition, *shares, float(np.median(widths)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000, help="for each condition (default: 20000)")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    args = parser.parse_args()
    print("| seeds | problems | seed SD | difference | chosen | decided | wrong way | coverage | ± points | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    results = []
    for number, condition in enumerate(CONDITIONS):
        found = simulate(condition, args.studies, number)
        results.append(found)
        c = condition
        cells = [c.seeds, c.problems, f"{100 * c.seed_sd:g}", f"{100 * c.difference:g}", c.chosen]
        cells += [f"{share:.3f}" for share in (found.decided, found.wrong, found.coverage)]
        cells += [f"{100 * found.half_width:.1f}", "" if found.holds else "BROKEN"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(found) for found in results], indent=1))
    return 0 if all(found.holds for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
