"""Scores, choices and contrasts of verdicts written by hand: each rule at its boundary, against dull references."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kiyas.analyse import contrasts, decisions
from kiyas.analyse.contrasts import aa_control, arm_result, contrast, pair, score
from kiyas.analyse.decisions import decision_of, what_would_decide
from kiyas.analyse.findings import Contrast, Curve, Decision, LossPoint, Needed, Training
from kiyas.analyse.load import Loaded
from kiyas.analyse.selection import choose, trainings
from kiyas.check import design
from kiyas.judge import Problem
from kiyas.runfolder.files import write_json
from kiyas.runfolder.record import Kind, Record
from kiyas.stats import inference, planning
from kiyas.stats.inference import Floats, Interval, Paired
from kiyas.stats.random_effects import Components, one_way, two_way
from kiyas.study.settings import Select, Study
from kiyas.types import BASE_ARM, AdapterId, Judgment

Row = dict[str, Any]
A, B, BASE = AdapterId("a", step=20), AdapterId("b", step=20), AdapterId(BASE_ARM)
STUDY = Study.model_validate(
    {"name": "x", "model_name_or_path": "practice", "arms": {arm: {"dataset_name": arm} for arm in ("b", "a")}}
)


def rows(verdicts: str) -> list[Row]:
    """One letter a sample: 1 right, 0 wrong, ? missing."""
    return [{"verdict": {"1": "AC", "0": "WA", "?": None}[v], "passed": 0, "total": 0} for v in verdicts]


def loaded(answers: Mapping[AdapterId, Sequence[list[Row]]], samples: int = 1, **more: Any) -> Loaded:
    ids = [f"p{i}" for i in range(max(map(len, answers.values())))]

    def judged(adapter: AdapterId, id: str, each: list[Row]) -> list[Judgment]:
        about = {**adapter.fields(), "problem_id": id}
        return [Judgment.of({**about, "sample": n, **row}) for n, row in enumerate(each)]

    return Loaded(
        record=Record(kind=Kind.RUN, name="x", study=STUDY), log=[],
        problems={id: Problem(id, ()) for id in ids},
        answers={
            adapter: {id: judged(adapter, id, row) for id, row in zip(ids, each, strict=False)}
            for adapter, each in answers.items()
        },
        stops={}, arm_counts={}, samples=samples, run=Path("nowhere"), **more,
    )  # fmt: skip


def of(verdicts: Mapping[AdapterId, str], samples: int = 1) -> tuple[Loaded, dict[AdapterId, Floats]]:
    """A run of as many problems as words, or letters where there is one sample; and its rates."""
    split = {a: v.split() if samples > 1 else list(v) for a, v in verdicts.items()}
    made = loaded({a: [rows(each) for each in v] for a, v in split.items()}, samples)
    return made, {a: made.rates(a) for a in verdicts}


def test_score_by_hand() -> None:
    def row(verdict: str | None, passed: int, total: int | None = 4) -> Row:
        return {"verdict": verdict, "passed": passed, "total": total}

    answers = [
        [row("AC", 4), row("WA", 2)],  # solved once: not partial
        [row("WA", 1), row("RE", 0)],  # partial
        [row("WA", 0), row("WA", 4)],  # none or all of the tests: not partial
        [row("CE", 0, 0), row("CE", 0, None)],
    ]
    made = loaded({A: answers}, samples=2)
    found = score(made, A, made.rates(A))
    assert (found.problems, found.samples, found.solved, found.rate, found.missing) == (4, 2, 0.5, 0.125, 0)
    assert found.tests_passed == pytest.approx((4 + 2 + 1 + 0 + 0 + 4) / 24)
    assert found.partial == ("p1",) and found.verdicts == {"AC": 1, "WA": 4, "RE": 1, "CE": 2}
    assert found.at_k == {"1": 0.125, "2": 0.25} and found.interval == inference.rate_interval(made.rates(A), 2)
    assert found.same_as_base is None


def test_tests_that_were_not_run_are_bounds() -> None:
    stopped: Row = {"verdict": "TLE", "passed": 1, "total": 4, "not_run": 2}
    whole: Row = {"verdict": "AC", "passed": 3, "total": 3}
    made = loaded({A: [[stopped], [whole]]})
    found = score(made, A, made.rates(A))
    assert found.tests_passed == pytest.approx((1 / 4 + 1) / 2)
    assert found.tests_passed_most == pytest.approx((3 / 4 + 1) / 2)
    assert found.partial == ("p0",)


@pytest.mark.parametrize(("samples", "ks"), [(1, (1,)), (5, (1, 5)), (7, (1, 5, 7)), (100, (1, 5, 10, 100))])
def test_pass_at_k_is_the_mean_over_problems(samples: int, ks: tuple[int, ...]) -> None:
    right = [0, 1, samples]
    made = loaded({A: [rows("1" * c + "0" * (samples - c)) for c in right]}, samples)
    at_k = score(made, A, made.rates(A)).at_k
    assert list(at_k) == [str(k) for k in ks]
    for k in ks:
        assert at_k[str(k)] == pytest.approx(np.mean([inference.pass_at_k(samples, c, k) for c in right]))


def test_a_score_with_anything_owed_is_unknown() -> None:
    made, rates = of({A: "110?"})
    found = score(made, A, rates[A])
    assert (found.missing, found.solved, found.at_k, found.verdicts) == (1, 2, {}, {"AC": 2, "WA": 1, "missing": 1})
    assert math.isnan(found.rate) and math.isnan(found.interval.low) and found.tests_passed is None
    whole, rates = of({A: "1100"})
    known = score(whole, A, rates[A])
    assert (known.rate, known.interval) == (0.5, inference.wilson(2, 4))


def test_programs_equal_to_the_base() -> None:
    def programs(*texts: str | None) -> list[list[Row]]:
        return [[{"verdict": "WA", "passed": 0, "total": 1, "program": text}] for text in texts]

    made = loaded({BASE: programs("x", "y", "z", "w"), A: programs("x", "Y", None, "w", "new"), B: programs(None)})
    assert [score(made, a, made.rates(a)).same_as_base for a in (A, B, BASE)] == [2 / 3, None, None]


def test_trainings_in_the_studys_order() -> None:
    ids = [AdapterId("a", "", 1, 20), AdapterId("a", "", 0, 40), AdapterId("a", "", 0, 20), AdapterId("b", "v", 0, 20)]
    made, _ = of(dict.fromkeys([BASE, *ids], "1"))
    assert trainings(made) == {Training("b", "v", 0): [ids[3]], Training("a", "", 0): [ids[2], ids[1]],
                               Training("a", "", 1): [ids[0]]}  # fmt: skip
    assert list(trainings(made)) == [Training("b", "v", 0), Training("a", "", 0), Training("a", "", 1)]


STEPS = [AdapterId("a", step=step) for step in (20, 40, 60)]


def test_choose_by_each_rule() -> None:
    first, second, third = STEPS
    rates = {first: np.array([1.0, 0, 0]), second: np.array([1.0, 1, 0]), third: np.array([0.0, 1, 0])}
    development = {first: np.array([0.0]), second: np.array([0.0]), third: np.array([1.0])}
    losses = tuple(LossPoint(step, loss) for step, loss in ((20, 0.5), (40, 0.5), (60, 0.7), (80, 0.1)))
    curve = Curve(Training("a", "", 0), (), losses, {}, None)
    wanted = {
        Select.LAST: third, Select.VALIDATION: first, Select.PRIMARY: second, Select.DEVELOPMENT: third,
    }  # fmt: skip
    for select, step in wanted.items():
        found = choose(STEPS, rates, curve, select, 1, development)
        assert (found.chosen, found.last, found.best, found.lowest_validation) == (step, third, second, first)
        assert found.training == Training("a", "", 0)
        assert found.best_of == inference.best_of(np.stack(list(rates.values())), 1)
    blind = choose(STEPS, rates, None, Select.VALIDATION)
    assert (blind.chosen, blind.lowest_validation) == (third, None), "without losses the last"
    assert choose(STEPS[:2], rates, None, Select.DEVELOPMENT).chosen == second


def test_choose_among_what_is_known() -> None:
    first, second, third = STEPS
    rates = {first: np.array([1.0, math.nan]), second: np.array([1.0, 0.0]), third: np.array([1.0, 0.0])}
    found = choose(STEPS, rates, None, Select.PRIMARY, samples=3)
    assert found.chosen == second, "equal ones go to the earlier step, unknown ones are no candidates"
    assert found.best_of == inference.best_of(np.array([[1.0, 0], [1, 0]]), 3)
    close = {first: np.array([0.5]), second: np.array([0.5 + 1e-8]), third: np.array([0.5 + 1e-8 + 4e-10])}
    assert choose(STEPS, close, None, Select.PRIMARY).chosen == second, "a difference in the last bits is none"
    nothing = choose(STEPS, dict.fromkeys(STEPS, np.array([math.nan])), None, Select.PRIMARY)
    assert nothing.chosen == third and nothing.best_of.checkpoints == 3 and math.isnan(nothing.best_of.corrected)


def seeds(arm: str, count: int) -> list[AdapterId]:
    return [AdapterId(arm, "", seed, 20) for seed in range(count)]


def test_an_arm_over_its_seeds() -> None:
    one, two, three = seeds("a", 3)
    made, rates = of({one: "1110", two: "1100", three: "111?"})
    assert arm_result(made, "a", [one], rates).interval == inference.wilson(3, 4)
    both = arm_result(made, "a", [one, two], rates)
    assert (both.mean, both.interval, both.solved, both.missing) == (0.625, Interval(0.0, 1.0), 2.5, 0)
    missing = arm_result(made, "a", [one, three], rates)
    assert (
        math.isnan(missing.mean) and math.isnan(missing.interval.low) and (missing.missing, missing.solved) == (1, 3.0)
    )
    single, rates = of({one: "1", two: "0"})
    assert arm_result(single, "a", [one, two], rates).interval == Interval(0.0, 1.0)
    rng = np.random.default_rng(0)
    wide, rates = of({a: "".join(rng.choice(["0", "1"], 80)) for a in (one, two)})
    inner = two_way(np.stack([rates[one], rates[two]]), a_rate=True).interval()
    assert 0 < inner.low < inner.high < 1
    assert arm_result(wide, "a", [one, two], rates).interval == Interval(inner.low, inner.high)


def test_a_pair_by_hand() -> None:
    made, rates = of({A: "1111000000", B: "1000111110"})
    found = pair(made, A, B, rates)
    assert (found.both, found.only_a, found.only_b, found.neither) == (1, 3, 5, 1)
    test = inference.mcnemar(3, 5)
    assert (found.difference, found.exact_p, found.mid_p) == (pytest.approx(0.2), test.exact, test.mid)
    assert found.interval == inference.paired_interval(3, 5, 10) and found.missing == 0
    assert contrasts.of_pair(np.array([1.0, -1, 0, 1]), 1) == Paired(1, 2, 4)
    several, rates = of({A: "11 10 00 11", B: "11 11 10 00"}, samples=2)
    found = pair(several, A, B, rates)
    assert (found.both, found.only_a, found.only_b, found.neither) == (1.5, 1.0, 1.0, 0.5)
    dull = one_way(np.array([0, 0.5, 0.5, -1]))
    assert (found.exact_p, found.mid_p, found.interval) == (None, dull.p, dull.interval())
    owing, rates = of({A: "1?", B: "??"})
    assert pair(owing, A, B, rates).missing == 3 and math.isnan(pair(owing, A, B, rates).mid_p)


def compare(made: Loaded, rates: Mapping[AdapterId, Floats], a: str, b: str, margin: float | None = None) -> Contrast:
    chosen: dict[str, dict[int, AdapterId]] = {}
    for adapter in rates:
        chosen.setdefault(adapter.arm, {})[adapter.seed] = adapter
    return contrast(made, chosen, a, b, rates, margin=margin)


def test_which_checkpoints_are_paired() -> None:
    a, b = seeds("a", 3), seeds("b", 4)[1:]
    made, rates = of({BASE: "10101", **dict.fromkeys([*a, *b], "11000")})
    paired = lambda x, y: [(each.a, each.b) for each in compare(made, rates, x, y).pairs]  # noqa: E731
    assert paired("a", "b") == [(a[1], b[0]), (a[2], b[1])], "the seeds that both have"
    assert paired(BASE_ARM, "b") == [(BASE, each) for each in b]
    assert paired("a", BASE_ARM) == [(each, BASE) for each in a]
    assert compare(made, rates, "a", "b").primary is False
    apart, rates = of({a[0]: "11", a[1]: "11", b[1]: "11", b[2]: "11"})
    found = compare(apart, rates, "a", "b")
    assert [(each.a, each.b) for each in found.pairs] == [(a[0], b[1])], "no seed in common: the first of each"
    assert (found.method, found.seeds) == ("pair", 1)


def test_what_the_base_owes_is_counted_once() -> None:
    a = seeds("a", 2)
    made, rates = of({BASE: "1?", a[0]: "11", a[1]: "?0"})
    found = compare(made, rates, BASE_ARM, "a")
    assert (found.missing, found.decision, found.method, found.seeds, found.problems) == (
        2,
        Decision.MISSING,
        "none",
        2,
        2,
    )
    assert found.needed is None and math.isnan(found.p) and math.isnan(found.difference)


def test_two_seeds_are_two_way_one_is_a_pair() -> None:
    rng = np.random.default_rng(3)
    a, b = seeds("a", 2), seeds("b", 2)
    made, rates = of({each: "".join(rng.choice(["0", "1"], 30)) for each in [*a, *b]})
    d = np.stack([rates[y] - rates[x] for x, y in zip(a, b, strict=True)])
    found, dull = compare(made, rates, "a", "b", 0.2), two_way(d)
    assert (found.method, found.seeds, found.problems, found.missing) == ("two-way", 2, 30, 0)
    assert (found.interval, found.interval90, found.p) == (dull.interval(), dull.interval(0.9), dull.p)
    assert (found.bootstrap, found.components) == (inference.crossed_bootstrap(d), dull.components)
    assert found.difference == pytest.approx(d.mean()) and found.margin == 0.2
    assert found.decision is Decision.UNDECIDED
    alone = {x: rates[x] for x in (a[0], b[0])}
    found = compare(made, alone, "a", "b")
    assert (found.method, found.bootstrap, found.components) == ("pair", None, None)
    assert (found.interval, found.p) == (found.pairs[0].interval, found.pairs[0].mid_p)
    assert found.interval90 == contrasts.of_pair(d[0], 1).interval(0.9)
    one, rates = of(dict.fromkeys([*a, *b], "1"))
    assert compare(one, rates, "a", "b").method == "pair", "one problem has no spread"


@pytest.mark.parametrize(("a", "b", "decision"), [("0", "1", Decision.MORE), ("1", "0", Decision.LESS)])
def test_a_clear_pair_is_decided(a: str, b: str, decision: Decision) -> None:
    made, rates = of({A: a * 40, B: b * 40})
    found = compare(made, rates, "a", "b")
    assert (found.decision, found.informative) == (decision, 40)


def test_equal_where_nothing_could_differ_is_not_equivalence() -> None:
    made, rates = of({A: "1" * 200 + "0" * 200, B: "1" * 200 + "0" * 200})
    found = compare(made, rates, "a", "b", 0.05)
    assert found.interval90.inside(0.05) and found.informative == 0 and found.decision is Decision.UNDECIDED
    made, rates = of({A: "10" * 100 + "0" * 200, B: "01" * 100 + "0" * 200})
    found = compare(made, rates, "a", "b", 0.1)
    assert found.informative == 200 and found.decision is Decision.EQUIVALENT
    nothing, rates = of({A: " ".join(["00"] * 10), B: " ".join(["00"] * 10)}, samples=2)
    found = compare(nothing, rates, "a", "b", 0.05)
    assert found.decision is Decision.UNDECIDED and found.interval.high > 0.2, "two answers each and nothing solved"
    assert found.pairs[0].interval.high > 0.2


@pytest.mark.parametrize(
    ("low", "high", "margin", "decision"),
    [
        (0.01, 0.2, None, Decision.MORE),
        (0.0, 0.2, None, Decision.UNDECIDED),
        (-0.2, -0.01, None, Decision.LESS),
        (-0.2, 0.0, None, Decision.UNDECIDED),
        (0.01, 0.2, 0.1875, Decision.MORE),  # the interval reaches the margin
        (0.01, 0.2, 0.19, Decision.EQUIVALENT),
        (-0.2, -0.01, 0.1875, Decision.LESS),
        (0.01, 0.2, 0.0, Decision.MORE),
    ],
)
def test_decisions_at_their_boundaries(low: float, high: float, margin: float | None, decision: str) -> None:
    inner = Interval(max(low, -0.1875), min(high, 0.1875), 0.9)
    assert decision_of(Interval(low, high), inner, margin, None, None) is decision
    if margin == 0.0:
        assert decision_of(Interval(low, high), Interval(0.0, 0.0), margin, None, None) is Decision.MORE


def test_no_spread_at_zero_margin_is_not_equivalence() -> None:
    assert decision_of(Interval(-1e-9, 0.0), Interval(0.0, 0.0), 0.0, None, None) is Decision.UNDECIDED
    assert decision_of(Interval(-1, 1), Interval(-0.5, 0.5), 0.75, None, None) is Decision.EQUIVALENT


def mixed(only_a: int, only_b: int, P: int) -> Floats:
    return np.repeat([-1.0, 1.0, 0.0], [only_a, only_b, P - only_a - only_b])[None, :]


def adapters(d_SP: Floats, difference: float, answers: int = 1) -> Needed:
    return what_would_decide(d_SP, contrasts.of_pair(d_SP[0], answers), difference, answers)


def test_what_would_decide_between_two_adapters() -> None:
    found = adapters(mixed(16, 19, 100), 0.05)
    assert (found.problems, found.seeds, found.both) == (planning.problems_needed(0.35, 0.05), None, ())
    assert found.now_sees is not None
    grid = np.linspace(1e-3, 0.35, 2000)
    visible = min(x for x in grid if planning.problems_needed(0.35, x) <= 100)
    assert found.now_sees == pytest.approx(visible, abs=1e-3)
    # No less than assumed before a run, so that nothing is promised which the design table denies.
    assert adapters(mixed(1, 2, 41), 0.05).problems == planning.problems_needed(0.30, 0.05)
    assert design.sees(1, planning.problems_needed(0.30, 0.05)) == pytest.approx(0.05, abs=0.002)
    # With several samples, and in groups, the variance of the mean counts.
    halves = mixed(40, 44, 100) / 2
    assert adapters(halves, 0.03, 2).problems == planning.problems_needed_by_variance(0.2375, 0.03)
    groups = [str(n // 5) for n in range(100)]
    apart = np.repeat(np.random.default_rng(1).choice([-1.0, 1.0], 20), 5)
    grouped = what_would_decide(apart[None], contrasts.of_pair(apart, 1, groups), 0.05, 1)
    assert grouped.problems == planning.problems_needed_by_variance(5 * apart.reshape(20, 5)[:, 0].var(ddof=1), 0.05)


def test_groups_of_problems_are_planned_as_groups() -> None:
    """Five alike problems in each of 40 groups: as many groups are needed as there would be problems of their means."""
    d = np.random.default_rng(2).normal(0, 0.5, (10, 40)) + np.random.default_rng(3).normal(0, 0.5, (1, 40))
    wide, groups = np.repeat(d, 5, axis=1), [str(n // 5) for n in range(200)]
    found, alone = what_would_decide(wide, two_way(wide, groups), 0.1, 1), what_would_decide(d, two_way(d), 0.1, 1)
    assert found.problems is not None and alone.problems is not None
    assert (found.problems, found.seeds) == (5 * alone.problems, alone.seeds) and found.now_sees == alone.now_sees


def test_a_stricter_level_asks_for_more() -> None:
    d = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], size=(5, 300), p=[0.1, 0.8, 0.1])
    one, four = (what_would_decide(d, two_way(d), 0.05, 1, alpha) for alpha in (0.05, 0.0125))
    assert one.seeds is not None and four.seeds is not None and four.seeds > one.seeds
    assert one.now_sees is not None and four.now_sees is not None and four.now_sees > one.now_sees
    assert adapters(mixed(16, 19, 100), 0.05).problems < (  # type: ignore[operator]
        what_would_decide(mixed(16, 19, 100), contrasts.of_pair(mixed(16, 19, 100)[0], 1), 0.05, 1, 0.0125).problems
    )


def test_what_this_many_problems_see() -> None:
    assert decisions._visible(lambda x: 32, 32, 0.2) == pytest.approx(1e-4, abs=1e-6), "as many as needed are enough"
    assert decisions._visible(lambda x: 32, 31, 0.2) is None
    assert decisions._visible(lambda x: 1, 31, 0.0) is None
    assert decisions._visible(lambda x: math.ceil(1 / x), 8, 0.5) == pytest.approx(0.125, abs=1e-6)
    assert decisions._visible(lambda x: math.ceil(1 / x), 2, 0.5) == pytest.approx(0.5, abs=1e-6)


def test_what_would_decide_between_seeds() -> None:
    d = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], size=(3, 300), p=[0.1, 0.8, 0.1])
    found, seen = what_would_decide(d, two_way(d), 0.05, 1), two_way(d)
    assert found.seed_sd is not None and found.seed_sd_most is not None
    assert found.seed_sd**2 == pytest.approx(max(planning.ASSUMED.seed, seen.components.seed))
    assert found.seed_sd_most**2 == pytest.approx(seen.seed_variance_at_most()) and found.seed_sd_most > found.seed_sd
    parts = Components(max(0.0004, seen.components.seed), 0.05, 0.25)
    assert parts.problem > seen.components.problem and parts.rest > seen.components.rest, "as a design assumes"
    assert found.problems is None, "no number of problems makes up for three seeds"
    assert found.seeds == planning.seeds_needed(parts, 300, 0.05) and found.both == ()
    assert found.now_sees == planning.detectable(parts, 3, 300)
    both = what_would_decide(d[:, :30], two_way(d[:, :30]), 0.02, 1)
    assert (both.problems, both.seeds) == (None, None) and both.both


def test_never_promised_what_the_design_table_denies() -> None:
    """Studies of seeds that differ: where problems are promised, a design with that many of them sees the margin."""
    rng = np.random.default_rng(3)
    for S in (3, 5, 10):
        for _ in range(4):
            d = rng.choice([-1.0, 0.0, 1.0], size=(S, 300), p=[0.15, 0.7, 0.15]) + rng.normal(0, 0.04, (S, 1))
            promised = what_would_decide(d, two_way(d), 0.05, 1).problems
            assert promised is None or planning.detectable(planning.ASSUMED, S, promised) <= 0.05


def test_where_nothing_differed_what_is_assumed_before_a_run_counts() -> None:
    d = np.zeros((10, 10))
    found = what_would_decide(d, two_way(d), 0.05, 1)
    assert found.problems == planning.problems_needed_with(planning.ASSUMED, 10, 0.05)


def hours_run(folder: Path, seconds: Mapping[str, float | None]) -> Path:
    for stage, each in seconds.items():
        write_json(folder / stage / "manifest.json", {"stage": stage, "inputs": {}, "counts": {}, "seconds": each})
    return folder


def test_hours_go_with_seeds_and_answers(tmp_path: Path) -> None:
    made, _ = of({A: "1"})
    made = dataclasses.replace(
        made, run=hours_run(tmp_path / "run", {"train": 7200.0, "generate": 1200.0, "judge": 2400.0})
    )
    need = Needed(0.05, 100, 6, None, (6, 80))
    timed = decisions.with_hours(need, 2, 40, made)
    # Two hours of training for two seeds, one of answers for 2 × 40.
    assert (timed.problems_hours, timed.seeds_hours, timed.both_hours) == (2 + 2.5, 6 + 3, 6 + 6)
    none = decisions.with_hours(Needed(0.05, None, None, None), 2, 40, made)
    assert (none.problems_hours, none.seeds_hours, none.both_hours) == (None, None, None)
    imported = dataclasses.replace(made, record=Record(kind=Kind.IMPORT, name="x"))
    assert decisions.with_hours(need, 2, 40, imported) == need
    untimed = hours_run(tmp_path / "untimed", {"train": 7200.0, "generate": 1200.0, "judge": 0.0})
    assert decisions.with_hours(need, 2, 40, dataclasses.replace(made, run=untimed)) == need


def test_two_seeds_of_one_arm_against_each_other() -> None:
    one, two, three = seeds("a", 3)
    _, rates = of({one: "1111000000", two: "1000000000", three: "1100000000"})
    found = aa_control("a", [one, two, three], rates)
    assert found is not None and (found.arm, found.pairs) == ("a", 3)
    assert (found.largest, found.mean) == (pytest.approx(0.3), pytest.approx(0.2))
    assert aa_control("a", [one], rates) is None
    assert aa_control("a", [one, two], rates | {two: np.array([math.nan])}) is None
