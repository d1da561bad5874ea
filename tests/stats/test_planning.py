"""What a design can detect, against formulas, loops and simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kiyas.stats import planning
from kiyas.stats.random_effects import Components, two_way


@pytest.mark.parametrize(
    ("discordance", "problems"), [(0.10, 305), (0.15, 461), (0.20, 622), (0.30, 938), (0.40, 1253)]
)
def test_problems_needed_for_five_points(discordance: float, problems: int) -> None:
    """Connor's formula lies within 3 % of the numbers found by simulation."""
    assert planning.problems_needed(discordance, 0.05) == pytest.approx(problems, rel=0.03)


def test_needed_designs_do_see_the_difference() -> None:
    parts = Components(0.0005, 0.02, 0.2)
    seeds = planning.seeds_needed(parts, 300, 0.06)
    assert seeds is not None and planning.detectable(parts, seeds, 300) <= 0.06
    assert planning.detectable(parts, seeds - 1, 300) > 0.06 or seeds == 2
    problems = planning.problems_needed_with(parts, 10, 0.06)
    assert problems is not None
    assert planning.detectable(parts, 10, problems) <= 0.06 < planning.detectable(parts, 10, problems - 1)
    assert planning.problems_needed_with(Components(1.0, 0, 0), 3, 0.01) is None


def test_problems_needed_is_connors_formula() -> None:
    def connor(discordance: float, difference: float, z_alpha: float, z_power: float) -> int:
        root = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - difference**2)
        return math.ceil(root**2 / difference**2)

    assert planning.problems_needed(0.3, 0.1) == connor(0.3, 0.1, 1.959964, 0.841621) == 234
    assert planning.problems_needed(0.3, -0.1) == 234
    assert planning.problems_needed(0.3, 0.1, 0.9, 0.1) == connor(0.3, 0.1, 1.644854, 1.281552)
    assert planning.problems_needed(1.0, 1.0) == 4 and planning.problems_needed(0.2, 0.2) > 0
    for discordance, difference in ((0.3, 0.0), (0.1, 0.2), (0.1, -0.2), (1.1, 0.2)):
        with pytest.raises(ValueError, match="difference"):
            planning.problems_needed(discordance, difference)


def test_detectable_differences_are_found_four_times_of_five() -> None:
    parts, S, P = Components(0.001, 0.02, 0.15), 4, 60
    difference = planning.detectable(parts, S, P)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(800):
        d = difference + rng.normal(0, parts.rest**0.5, (S, P)) + rng.normal(0, parts.seed**0.5, (S, 1))
        found += two_way(d + rng.normal(0, parts.problem**0.5, (1, P))).interval().excludes_zero()
    assert found / 800 == pytest.approx(0.8, abs=0.045)
    assert planning.detectable(parts, S, P, 0.5) < difference < planning.detectable(parts, S, P, 0.95)
    assert planning.detectable(Components(0, 0, 0), 3, 10) == 0.0
    assert planning.detectable(parts, S, P, 0.01) == 0.0, "that seldom it is found without any difference"


@pytest.mark.parametrize(("S", "P"), [(2, 300), (3, 40)])
def test_half_widths_are_those_of_the_interval(S: int, P: int) -> None:
    """Of data with just these mean squares; fewer draws are taken here."""
    tables = [np.random.default_rng(n).normal(0, 0.6, (S, P)) for n in range(5)]
    squares = np.array([planning_squares(d) for d in tables])
    found = planning.half_widths((squares[:, 0], squares[:, 1], squares[:, 2]), S, P)
    for half, d in zip(found, tables, strict=True):
        whole = two_way(d)
        assert whole.level_at(whole.mean + half) == pytest.approx(0.05, abs=0.004)


def planning_squares(d: np.ndarray) -> tuple[float, float, float]:
    S, P = d.shape
    rows, columns = d.mean(axis=1), d.mean(axis=0)
    rest = ((d - rows[:, None] - columns + d.mean()) ** 2).sum() / ((S - 1) * (P - 1))
    return P * rows.var(ddof=1), S * columns.var(ddof=1), rest


def test_a_stricter_level_needs_more() -> None:
    at = [planning.detectable(planning.ASSUMED, 5, 300, alpha=alpha) for alpha in (0.05, 0.025, 0.01)]
    assert at == sorted(at) and at[0] < at[-1]


def test_needed_designs_are_the_smallest() -> None:
    parts = Components(0.0005, 0.02, 0.2)
    seen = [s for s in range(2, 13) if planning.detectable(parts, s, 100) <= 0.09]
    assert planning.seeds_needed(parts, 100, 0.09) == seen[0] > 2
    few = Components(0.0, 1e-6, 1e-6)
    assert planning.seeds_needed(few, 10, 0.5) == 2 and planning.problems_needed_with(few, 3, 0.5) == 2
    needed = planning.problems_needed_with(parts, 5, 0.09)
    assert needed is not None and needed == planning.problems_needed_with(parts, 5, 0.09, most=needed)
    assert planning.problems_needed_with(parts, 5, 0.09, most=needed - 1) is None
    grid = {s: planning.problems_needed_with(parts, s, 0.09) for s in (3, 5, 8, 10, 15, 20, 30, 50)}
    answers = {s: s * p for s, p in grid.items() if p is not None}
    best = min(answers, key=lambda s: answers[s])
    assert planning.design_needed(parts, 0.09) == (best, grid[best])
    assert planning.design_needed(Components(100.0, 0, 0), 0.01) is None
