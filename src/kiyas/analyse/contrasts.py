"""Choosing checkpoints, scoring arms, comparing them, and deciding what may be said.

Theory. A contrast is arm b minus arm a at their chosen checkpoints, paired by seed and problem. With two or
more common seeds it is about *training on this data* (two-way random effects). With one seed it is about
*these two adapters* only (McNemar, Tango). Nothing is decided over missing verdicts.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kiyas.analyse.findings import (
    ArmResult,
    Choice,
    Contrast,
    Curve,
    Decision,
    Needed,
    Pair,
    SameArm,
    Score,
    Training,
)
from kiyas.analyse.load import SOLVED, Loaded
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.stats import inference
from kiyas.stats.inference import Floats, Interval
from kiyas.types import BASE_ARM, AdapterId

_TANGO = 1.959964**2
"""Tango's 95 % interval of no differences among P problems ends at z² / (P + z²)."""
_BY_SEED, _BY_ANSWER = (Stage.TRAIN,), (Stage.GENERATE, Stage.JUDGE)
UNKNOWN = Interval(math.nan, math.nan)
NO_MARGIN_DIFFERENCE = 0.05
"""What "would decide" is computed for when the study declares no margin."""

Rates = Mapping[AdapterId, Floats]


def score(loaded: Loaded, adapter: AdapterId, rates_P: Floats) -> Score:
    """A checkpoint's score. With anything owed the rate is NaN: it is not computed over missing work."""
    rows = [row for answer in loaded.answers[adapter].values() for row in answer]
    shares = [row["passed"] / row["total"] for row in rows if row.get("total")]
    partial = tuple(
        problem
        for problem, answer in loaded.answers[adapter].items()
        if not any(row["verdict"] == SOLVED for row in answer)
        and any(row.get("total") and 0 < row["passed"] < row["total"] for row in answer)
    )
    owed = loaded.owed(adapter)
    right = [
        sum(row["verdict"] == SOLVED for row in loaded.answers[adapter].get(problem, [])) for problem in loaded.problems
    ]
    at_k: dict[str, float] = {}
    if not owed:
        ks = sorted({k for k in (1, 5, 10, 100, loaded.samples) if k <= loaded.samples})
        at_k = {str(k): float(np.mean([inference.pass_at_k(loaded.samples, c, k) for c in right])) for k in ks}
    return Score(
        adapter=adapter,
        problems=len(loaded.problems),
        samples=loaded.samples,
        solved=sum(right) / loaded.samples,
        rate=math.nan if owed else float(rates_P.mean()),
        interval=UNKNOWN if owed else rate_interval(rates_P, loaded.samples),
        tests_passed=float(np.mean(shares)) if shares else None,
        at_k=at_k,
        verdicts=dict(Counter(str(row["verdict"] or "missing") for row in rows)),
        owed=owed,
        partial=partial,
        same_as_base=_same_as_base(loaded, adapter),
    )


def rate_interval(rates_P: Floats, samples: int) -> Interval:
    """Wilson for one sample a problem, problem bootstrap above."""
    if samples == 1:
        return inference.wilson(round(float(rates_P.sum())), rates_P.size)
    return inference.problem_bootstrap(rates_P)


def _same_as_base(loaded: Loaded, adapter: AdapterId) -> float | None:
    """Share of problems whose first program is the base's, character by character."""
    base = loaded.answers.get(AdapterId(BASE_ARM))
    if adapter.is_base or base is None:
        return None
    pairs = [(rows[0], base[p][0]) for p, rows in loaded.answers[adapter].items() if base.get(p)]
    programs = [(a.get("program"), b.get("program")) for a, b in pairs if a.get("program")]
    return sum(a == b for a, b in programs) / len(programs) if programs else None


def trainings(loaded: Loaded) -> dict[Training, list[AdapterId]]:
    """Judged checkpoints of each training, in order of step; arms in the study's order."""
    found: dict[Training, list[AdapterId]] = {}
    for arm in loaded.arms:
        for adapter in loaded.adapters(arm):
            found.setdefault(Training(arm, adapter.variant, adapter.seed), []).append(adapter)
    return found


def choose(
    candidates: list[AdapterId],
    rates: Rates,
    curve: Curve | None,
    select: str,
    samples: int = 1,
    development: Rates | None = None,
) -> Choice:
    """The checkpoint that stands for a training. Ties go to the earlier step. `development`: rates there."""
    last = candidates[-1]
    known = {a: r for a in candidates if not np.isnan(r := rates[a]).any()}
    best = _best(candidates, rates)
    losses = {point.step: point.loss for point in curve.validation} if curve else {}
    with_loss = [a for a in candidates if a.step in losses]
    lowest = min(with_loss, key=lambda a: (losses[a.step], a.step), default=None)
    rules = {"primary": best, "validation": lowest or last, "development": _best(candidates, development or {})}
    chosen = rules.get(select, last)
    if known:
        best_of = inference.best_of(np.stack(list(known.values())), samples)
    else:
        best_of = inference.BestOf(math.nan, math.nan, math.nan, len(candidates))
    return Choice(Training(last.arm, last.variant, last.seed), chosen, last, best, lowest, best_of)


def _best(candidates: list[AdapterId], rates: Rates) -> AdapterId:
    """The candidate with the highest rate among those of which nothing is owed; else the last."""
    known = {a: r for a in candidates if not np.isnan(r := rates.get(a, np.array([np.nan]))).any()}
    # Rounded: the same count of right answers can give means that differ in the last bit.
    return max(known, key=lambda a: (round(float(known[a].mean()), 9), -a.step), default=candidates[-1])


def arm_result(loaded: Loaded, arm: str, adapters: list[AdapterId], rates: Rates) -> ArmResult:
    """An arm over its seeds at the chosen checkpoints."""
    owed = sum(loaded.owed(a) for a in adapters)
    table_SP = np.stack([rates[a] for a in adapters])
    if owed:
        interval, mean = UNKNOWN, math.nan
    elif len(adapters) == 1:
        interval, mean = rate_interval(table_SP[0], loaded.samples), float(table_SP.mean())
    elif table_SP.shape[1] < 2:
        interval, mean = Interval(0.0, 1.0), float(table_SP.mean())
    else:
        interval, mean = inference.two_way(table_SP).interval(), float(table_SP.mean())
        interval = Interval(max(0.0, interval.low), min(1.0, interval.high))
    return ArmResult(arm, tuple(adapters), mean, interval, float(np.nansum(table_SP)) / len(adapters), owed)


def pair(loaded: Loaded, a: AdapterId, b: AdapterId, rates: Rates) -> Pair:
    """Two given checkpoints on the same problems."""
    a_P, b_P = rates[a], rates[b]
    owed = loaded.owed(a) + loaded.owed(b)
    if owed:
        return Pair(a, b, math.nan, math.nan, math.nan, math.nan, math.nan, UNKNOWN, None, math.nan, owed)
    d_P = b_P - a_P
    only_a, only_b = float(np.maximum(-d_P, 0).sum()), float(np.maximum(d_P, 0).sum())
    both = float(np.minimum(a_P, b_P).sum())
    exact: float | None = None
    interval, p = pair_interval(d_P, loaded.samples, 0.95), 1.0
    if loaded.samples == 1:
        test = inference.mcnemar(round(only_a), round(only_b))
        exact, p = test.exact, test.mid
    else:
        p = inference.sign_flip(d_P)
    neither = d_P.size - both - only_a - only_b
    return Pair(a, b, both, only_a, only_b, neither, float(d_P.mean()), interval, exact, p, 0)


def pair_interval(d_P: Floats, samples: int, level: float) -> Interval:
    """Tango's for one sample a problem, problem bootstrap above."""
    if samples == 1:
        return inference.paired_interval(int((d_P < 0).sum()), int((d_P > 0).sum()), d_P.size, level)
    return inference.problem_bootstrap(d_P, level)


def contrast(
    loaded: Loaded,
    chosen: Mapping[str, Mapping[int, AdapterId]],
    a: str,
    b: str,
    rates: Rates,
    *,
    margin: float | None,
    primary: bool = False,
) -> Contrast:
    """Arm b minus arm a. The base stands against every seed of an arm."""
    of_a, of_b = chosen[a], chosen[b]
    if a == BASE_ARM:
        seeds = sorted(of_b)
        pairs = [(next(iter(of_a.values())), of_b[s]) for s in seeds]
    elif b == BASE_ARM:
        seeds = sorted(of_a)
        pairs = [(of_a[s], next(iter(of_b.values()))) for s in seeds]
    else:
        seeds = sorted(of_a.keys() & of_b.keys())
        pairs = [(of_a[s], of_b[s]) for s in seeds]
    if not pairs:
        # Different seeds only: the first of each, as two adapters.
        pairs = [(of_a[min(of_a)], of_b[min(of_b)])]
    compared = tuple(pair(loaded, x, y, rates) for x, y in pairs)
    owed = sum(loaded.owed(adapter) for adapter in {adapter for both in pairs for adapter in both})
    P = len(loaded.problems)
    if owed or not P:
        return Contrast(
            a, b, primary, "none", len(pairs), P, math.nan, UNKNOWN, UNKNOWN, None, math.nan, Decision.OWED,
            margin, compared, None, None, owed,
        )  # fmt: skip

    d_SP = np.stack([rates[y] - rates[x] for x, y in pairs])
    mean = float(d_SP.mean())
    bootstrap: Interval | None = None
    components: inference.Components | None = None
    if len(pairs) > 1 and P > 1:
        method, found = "two-way", inference.two_way(d_SP)
        interval, interval90, p = found.interval(), found.interval(0.90), found.p
        bootstrap, components = inference.crossed_bootstrap(d_SP), found.components
    else:
        method = "pair"
        interval, p = compared[0].interval, compared[0].mid_p
        interval90 = pair_interval(d_SP[0], loaded.samples, 0.90)
    decision = decide(mean, interval, interval90, p, margin)
    needed = None
    if decision is Decision.UNDECIDED:
        needed = what_would_decide(d_SP, components, margin or NO_MARGIN_DIFFERENCE, loaded.samples)
    return Contrast(
        a, b, primary, method, len(pairs), P, mean, interval, interval90, bootstrap, p, decision, margin,
        compared, components, needed, 0,
    )  # fmt: skip


def corrected(contrasts: Sequence[Contrast], declared: set[frozenset[str]]) -> tuple[Contrast, ...]:
    """Marks what the study declared; several declared ones share the chance of a false claim (Holm 1979)."""
    marked = [dataclasses.replace(each, declared=frozenset((each.a, each.b)) in declared) for each in contrasts]
    family = [i for i, each in enumerate(marked) if each.declared and math.isfinite(each.p)]
    if len(family) > 1:
        for i, p in zip(family, inference.holm([marked[i].p for i in family]), strict=True):
            lost = marked[i].decision in (Decision.MORE, Decision.LESS) and p >= 0.05
            decision = Decision.UNDECIDED if lost else marked[i].decision
            marked[i] = dataclasses.replace(marked[i], holm=p, decision=decision)
    return tuple(marked)


def decide(
    difference: float,
    interval: Interval,
    interval90: Interval,
    p: float,
    margin: float | None,
) -> Decision:
    """Words follow numbers.

    More or less: the 95 % interval and the test both say so. Equivalent: a margin was declared and the 90 %
    interval lies within it (two one-sided tests at 5 %). Both can hold: a small difference that is certain
    counts as equivalent, since the study declared that it does not matter.
    """
    if margin is not None and interval90.inside(margin):
        return Decision.EQUIVALENT
    if interval.excludes_zero() and p < 0.05:
        return Decision.MORE if difference > 0 else Decision.LESS
    return Decision.UNDECIDED


def what_would_decide(d_SP: Floats, components: inference.Components | None, difference: float, samples: int) -> Needed:
    """Designs that would see `difference` with 80 % power, if spread and discordance stay as observed."""
    S, P = d_SP.shape
    if components is None:
        discordance = float((d_SP != 0).mean()) if samples == 1 else float((d_SP**2).mean())
        problems = inference.problems_needed(discordance, difference) if discordance >= difference else None
        return Needed(
            difference,
            problems,
            None,
            _visible(lambda x: inference.problems_needed(discordance, x), P, discordance),
        )
    if components.standard_error(S, P) == 0:
        # Nothing differed: as many problems as would show, had one of them differed, that it is less than that.
        return Needed(difference, math.ceil(_TANGO * (1 - difference) / difference), None, None)
    problems = inference.problems_needed_with(components, S, difference)
    seeds = inference.seeds_needed(components, P, difference)
    both = inference.design_needed(components, difference) if problems is None and seeds is None else None
    return Needed(difference, problems, seeds, inference.detectable(components, S, P), both or ())


def with_hours(found: Contrast, loaded: Loaded, run: Path) -> Needed | None:
    """What would decide, with the hours that it would take where this run's own stages tell.

    Training goes with the seeds, answering and judging with seeds × problems; the base and what else is fixed is small.
    """
    folder, need = RunDir(run), found.needed
    seconds = {stage: (folder.manifest(stage) or {}).get("seconds") for stage in (*_BY_SEED, *_BY_ANSWER)}
    if need is None or loaded.resolved.get("kind") != "run" or not all(seconds.values()):
        return need

    def hours(seeds: float, problems: float) -> float:
        by_seed = sum(float(seconds[stage] or 0) for stage in _BY_SEED)
        return (by_seed * seeds + sum(float(seconds[stage] or 0) for stage in _BY_ANSWER) * seeds * problems) / 3600

    return dataclasses.replace(
        need,
        problems_hours=hours(1, need.problems / found.problems) if need.problems else None,
        seeds_hours=hours(need.seeds / found.seeds, 1) if need.seeds else None,
        both_hours=hours(need.both[0] / found.seeds, need.both[1] / found.problems) if need.both else None,
    )


def _visible(needed: Callable[[float], int], problems: int, largest: float) -> float | None:
    """Smallest difference that `problems` problems see; None where not even the largest possible one is."""
    if largest <= 0 or needed(largest) > problems:
        return None
    low, high = 1e-4, largest
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= problems else (middle, high)
    return high


def same_arm(arm: str, adapters: list[AdapterId], rates: Rates) -> SameArm | None:
    """A/A: how far apart two seeds of one arm are. None with one seed or with owed work."""
    means = [float(rates[a].mean()) for a in adapters]
    if len(means) < 2 or any(math.isnan(mean) for mean in means):
        return None
    gaps = [abs(x - y) for x, y in itertools.combinations(means, 2)]
    return SameArm(arm, len(gaps), max(gaps), sum(gaps) / len(gaps))
