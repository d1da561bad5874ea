"""How often the reading of a loss curve sees a rise that is not there, and how often one that is.

    python benchmarks/overfitting_rule.py [--curves 10000] [--json FILE]

Conditions and limits were fixed before it was first run. Curves of 8 to 200 points fall exponentially to a plateau
(time constant 0, which is a plain plateau, 5 % and 20 % of the run; noise SD 1, 3, 10, 30 and 100 % of the fall) and
have noise of four kinds: white, AR(1) with correlation .7, and white noise whose SD triples, or falls to a third, at a
random point of the run. Limit: .07 false in every condition. Power: curves that fall (time constant 10 %, noise SD 5 %
of the fall) to half or to three quarters of the run and then rise linearly, to 4, 8 or 16 times the noise SD at the
end. The former rule stands beside: the lowest value is followed by two or more, all higher, the last by more than twice
the median second difference. What is tested is `analyse.losses`. Exit code 1 where the limit is broken. Seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kiyas.analyse.losses import clear_rise, final_rise
from kiyas.stats.inference import Floats

POINTS = (8, 10, 15, 20, 30, 60, 100, 200)
KINDS = ("white", "AR(.7)", "noise grows", "noise falls")
CONSTANTS = (0.0, 0.05, 0.2)
NOISE = (0.01, 0.03, 0.1, 0.3, 1.0)
RISES = (4, 8, 16)
LOWEST = (0.5, 0.75)
FALSE = 0.07


@dataclass(frozen=True)
class Row:
    """Shares of the curves of one length. False: the worst condition of each kind of noise. Power: by noise and size of
    the rise, the worse of the two places where it begins."""

    points: int
    false: dict[str, float]
    former_false: dict[str, float]
    power: dict[str, float]
    former_power: dict[str, float]

    @property
    def holds(self) -> bool:
        return max(self.false.values()) <= FALSE


def noise(kind: str, count: int, points: int, rng: np.random.Generator) -> Floats:
    """[count, points], of SD 1 at the start."""
    white = rng.standard_normal((count, points))
    if kind == "AR(.7)":
        for i in range(1, points):
            white[:, i] = 0.7 * white[:, i - 1] + math.sqrt(1 - 0.7**2) * white[:, i]
    elif kind != "white":
        later = np.arange(points) / points >= rng.random((count, 1))
        white *= np.where(later, 3 if kind == "noise grows" else 1 / 3, 1)
    return white


def fall(points: int, constant: float) -> Floats:
    return np.exp(-np.arange(points) / points / constant) if constant else np.zeros(points)


def rises(curves: Floats) -> float:
    """Share of the curves that are read as overfitting."""
    rise, spread = final_rise(curves)
    return float((rise > clear_rise(curves.shape[1]) * spread).mean())


def former(curves: Floats) -> float:
    jitter = 1.4826 * np.median(np.abs(np.diff(curves, 2, axis=1)), axis=1) / math.sqrt(6)
    followed = curves.argmin(axis=1) <= curves.shape[1] - 3
    return float((followed & (curves[:, -1] - curves.min(axis=1) > 2 * jitter)).mean())


def simulate(points: int, count: int, rng: np.random.Generator) -> Row:
    found: list[dict[str, float]] = [{}, {}, {}, {}]
    false, former_false, power, former_power = found
    for kind in KINDS:
        shares = []
        for constant, sd in itertools.product(CONSTANTS, NOISE):
            if constant or sd == 1:
                curves = fall(points, constant) + sd * noise(kind, count, points, rng)
                shares.append((rises(curves), former(curves)))
        false[kind], former_false[kind] = map(max, zip(*shares, strict=True))
    at = np.arange(points) / (points - 1)
    for kind, size in itertools.product(KINDS[:2], RISES):
        shares = []
        for lowest in LOWEST:
            trend = fall(points, 0.1) + 0.05 * size * np.clip((at - lowest) / (1 - lowest), 0, None)
            curves = trend + 0.05 * noise(kind, count, points, rng)
            shares.append((rises(curves), former(curves)))
        name = f"{kind}, {size} SD"
        power[name], former_power[name] = map(min, zip(*shares, strict=True))
    return Row(points, *found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=10_000, help="for each condition (default: 10000)")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    args = parser.parse_args()
    rows = [simulate(points, args.curves, np.random.default_rng(points)) for points in POINTS]
    print("False, worst condition (former rule)\n")
    _print(rows, lambda row: (row.false, row.former_false))
    print("\nPower (former rule)\n")
    _print(rows, lambda row: (row.power, row.former_power))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0 if all(row.holds for row in rows) else 1


def _print(rows: list[Row], shares: Callable[[Row], tuple[dict[str, float], dict[str, float]]]) -> None:
    columns = list(shares(rows[0])[0])
    print(f"| points | {' | '.join(columns)} | |\n|{'---|' * (len(columns) + 2)}")
    for row in rows:
        cells = [f"{new:.3f} ({old:.3f})" for new, old in zip(*(each.values() for each in shares(row)), strict=True)]
        print(f"| {row.points} | {' | '.join(cells)} | {'' if row.holds else 'BROKEN'} |")


if __name__ == "__main__":
    sys.exit(main())
