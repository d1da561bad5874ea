"""The simulation of failures, against closed forms."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kiyas.check.simulation import NEVER, Failures, streamed, trained

HOUR = 3600.0


def alone(seconds: float, saved: float, failures: Failures, trainings: int = 1) -> tuple[float, float, int]:
    found = trained([[seconds]] * trainings, [[saved]] * trainings, [[0]], failures)
    return found.wall_s, found.lost_s, found.failures


def test_without_failures_it_is_the_plan() -> None:
    found = trained([[30.0]] * 5, [[3.0]] * 5, [[0, 0], [0]], NEVER)
    assert (found.wall_s, found.card_s, found.lost_s, found.failures) == (60.0, (150.0,), 0.0, 0)
    # 2 cards that answer 3 a second and 1 that answers 4: 100 answers in 10 s, all of them busy until the end.
    answers = streamed(100, [3.0, 4.0], [1.0, 1.0], [[0, 0], [1]], NEVER)
    assert (answers.wall_s, answers.card_s, answers.lost) == (10.0, (20.0, 10.0), 0.0)
    assert trained([[30.0]] * 5, [[3.0]] * 5, [[0, 0], [0]], Failures(mtbf_s=1e12)) == found


def test_the_longest_first_on_the_card_where_it_ends_first() -> None:
    # A card four times as slow takes what the fast one would end later, and no more.
    for trainings, wall, slow in ((4, 40.0, 0.0), (5, 40.0, 40.0), (10, 80.0, 80.0)):
        found = trained([[10.0, 40.0]] * trainings, [[1.0, 4.0]] * trainings, [[0], [1]])
        assert (found.wall_s, found.card_s[1]) == (wall, slow)
    # 7 and 6 and 5 on two cards: the longest first gives 7 | 6 + 5.
    assert trained([[5.0], [7.0], [6.0]], [[1.0]] * 3, [[0, 0]]).wall_s == 11.0
    # What does not fit somewhere goes elsewhere, however full it is there.
    never = trained([[math.inf, 9.0]] * 3, [[math.inf, 1.0]] * 3, [[0] * 8, [1]])
    assert (never.wall_s, never.card_s) == (27.0, (0.0, 27.0))


@pytest.mark.parametrize("saved", [10.0, 25.0, 50.0])
def test_one_card_takes_what_the_exponential_says(saved: float) -> None:
    """A stretch of s seconds is begun again until none of its seconds fails: (MTBF + repair) (exp(s / MTBF) - 1)."""
    mtbf, repair, work = 50.0, 5.0, 400.0
    expected = work / saved * (mtbf + repair) * math.expm1(saved / mtbf)
    walls = [alone(work, saved, Failures(mtbf, repair, seed))[0] for seed in range(600)]
    assert statistics.fmean(map(_finite, walls)) == pytest.approx(expected, rel=0.04)


def _finite(seconds: float) -> float:
    assert math.isfinite(seconds)
    return seconds


def test_a_failure_costs_half_a_save_interval() -> None:
    """Young (1974): where saves are frequent, a failure hits anywhere between two of them."""
    runs = [alone(20 * HOUR, 0.5 * HOUR, Failures(10 * HOUR, 60.0, seed), 10) for seed in range(60)]
    failures = sum(count for *_, count in runs)
    assert failures > 500
    assert sum(lost for _, lost, _ in runs) / failures == pytest.approx(0.25 * HOUR, rel=0.06)


def test_a_thousand_cards_lose_half_a_wave_each_and_the_time_of_repairs() -> None:
    nodes, mtbf, repair, wave = [[0] * 8] * 125, 100 * HOUR, 2 * HOUR, 600.0
    work = 1000 * 50 * HOUR  # of one card that answers one a second
    found = [streamed(work, [1.0], [wave], nodes, Failures(mtbf, repair, seed)) for seed in range(5)]
    failures = sum(each.failures for each in found)
    assert failures > 250
    assert sum(each.lost_s for each in found) / failures == pytest.approx(8 * wave / 2, rel=0.06)
    available = mtbf / (mtbf + repair)
    for each in found:
        assert each.wall_s == pytest.approx(50 * HOUR / available, rel=0.01)
        # What was answered, and what was lost, is all that the cards did.
        assert sum(each.card_s) == pytest.approx(work + each.lost_s, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    lengths=some.lists(some.floats(1, 500), min_size=1, max_size=12),
    cards=some.lists(some.integers(1, 3), min_size=1, max_size=4),
    slower=some.floats(1, 5),
    seed=some.integers(0, 1000),
)
def test_nothing_is_lost_but_what_is_counted(lengths: list[float], cards: list[int], slower: float, seed: int) -> None:
    """Over two kinds of card, the work that was kept is the work that was asked for."""
    nodes = [[number % 2] * count for number, count in enumerate(cards)]
    seconds = [[each, slower * each] for each in lengths]
    saved = [[each / 7, slower * each / 7] for each in lengths]
    failures = Failures(500.0, 20.0, seed)
    found = trained(seconds, saved, nodes, failures)
    assert found == trained(seconds, saved, nodes, failures)
    if math.isfinite(found.wall_s):
        plan = trained(seconds, saved, nodes)
        least = sum(lengths) + found.lost_s
        most = slower * sum(lengths) + found.lost_s
        assert least - 1e-6 <= sum(found.card_s) <= most + 1e-6
        assert found.wall_s >= max(lengths) - 1e-6 and plan.wall_s >= max(lengths) - 1e-6
        assert found.lost_s >= 0 and (found.failures > 0 or found == plan)


def test_what_cannot_be_saved_between_two_failures_does_not_end() -> None:
    assert alone(100 * HOUR, 100 * HOUR, Failures(HOUR, 60.0))[0] == math.inf
    assert alone(100 * HOUR, 0.1 * HOUR, Failures(HOUR, 60.0))[0] < 130 * HOUR
    assert streamed(1e6, [1.0], [1e6], [[0]], Failures(1000.0, 1.0)).wall_s == math.inf


def test_failures_are_rarer_the_fewer_nodes_work() -> None:
    moments = list(itertools.islice(Failures(100.0, 10.0).moments(20), 4000))
    assert moments == sorted(moments) and {node for _, node in moments} == set(range(20))
    # While a node is away it does not fail: one every MTBF + repair.
    assert moments[-1][0] / len(moments) == pytest.approx(110.0 / 20, rel=0.05)
    last = dict[int, float]()
    for now, node in moments:
        assert now - last.get(node, -10.0) >= 10.0
        last[node] = now
    assert not list(NEVER.moments(20))
