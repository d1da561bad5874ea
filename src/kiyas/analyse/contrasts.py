"""Scoring checkpoints and arms, and comparing them.

Theory. A contrast is arm b minus arm a at their chosen checkpoints, paired by seed and problem. With two or
more common seeds it is about *training on this data* (two-way random effects). With one seed it is about
*these two adapters* only (McNemar, Tango). Nothing is decided over missing verdicts.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from kiyas.analyse.decisions import ALPHA, decision_of, wanted_pair
from kiyas.analyse.findings import (
    AAControl,
    ArmResult,
    Contrast,
    Decision,
    Pair,
    Score,
)
from kiyas.analyse.load import Loaded, PassRates
from kiyas.analyse.metric import shown_k
from kiyas.analyse.selection import BySeed, Selection
from kiyas.stats import inference
from kiyas.stats.inference import Floats, Interval, Paired
from kiyas.stats.random_effects import Estimate, TwoWay, one_way, two_way
from kiyas.types import BASE, BASE_ARM, AdapterId

MOST_PAIRS = 10
"""With more arms than make this many pairs, only the declared contrasts and those with the base are made."""
UNKNOWN = Interval(math.nan, math.nan)


def score(loaded: Loaded, adapter: AdapterId, rates_P: Floats) -> Score:
    """A checkpoint's score. With anything missing the rate is NaN: it is not computed over missing work."""
    answers = loaded.answers[adapter]
    every = [each for judged in answers.values() for each in judged]
    shares = [each.share for each in every if each.share is not None]
    most = [each.share_most for each in every if each.share_most is not None]
    partial = tuple(
        problem
        for problem, judged in answers.items()
        if not any(each.solved for each in judged) and any(each.partly for each in judged)
    )
    missing = loaded.missing(adapter)
    right = [sum(each.solved for each in answers.get(problem, [])) for problem in loaded.problems]
    at_k: dict[str, float] = {}
    if not missing:
        at_k = {
            str(k): float(np.mean([inference.pass_at_k(loaded.samples, c, k) for c in right])) for k in shown_k(loaded)
        }
    return Score(
        adapter=adapter,
        problems=len(loaded.problems),
        samples=loaded.samples,
        solved=sum(right) / loaded.samples if loaded.record.compare.k == 1 else float(np.nansum(rates_P)),
        rate=math.nan if missing else float(rates_P.mean()),
        interval=UNKNOWN if missing else inference.rate_interval(rates_P, loaded.samples),
        tests_passed=float(np.mean(shares)) if shares else None,
        at_k=at_k,
        verdicts=dict(Counter(str(each.verdict or "missing") for each in every)),
        missing=missing,
        partial=partial,
        same_as_base=_same_as_base(loaded, adapter),
        tests_passed_most=float(np.mean(most)) if most else None,
    )


def _same_as_base(loaded: Loaded, adapter: AdapterId) -> float | None:
    """Share of problems whose first program is the base's, character by character."""
    base = loaded.answers.get(BASE)
    if adapter.is_base or base is None:
        return None
    pairs = [(judged[0].program, base[p][0].program) for p, judged in loaded.answers[adapter].items() if base.get(p)]
    programs = [(own, of_base) for own, of_base in pairs if own]
    return sum(own == of_base for own, of_base in programs) / len(programs) if programs else None


def arm_result(loaded: Loaded, arm: str, adapters: Sequence[AdapterId], rates: PassRates) -> ArmResult:
    """An arm over its seeds at the chosen checkpoints."""
    missing = sum(loaded.missing(a) for a in adapters)
    table_SP = np.stack([rates[a] for a in adapters])
    mean = math.nan if missing else float(table_SP.mean())
    if missing:
        interval = UNKNOWN
    elif len(adapters) == 1:
        interval = inference.rate_interval(table_SP[0], loaded.samples)
    elif table_SP.shape[1] < 2:
        interval = Interval(0.0, 1.0)
    else:
        interval = two_way(table_SP, loaded.groups, a_rate=True).interval()
    return ArmResult(arm, tuple(adapters), mean, interval, float(np.nansum(table_SP)) / len(adapters), missing)


def pair(loaded: Loaded, a: AdapterId, b: AdapterId, rates: PassRates) -> Pair:
    """Two given checkpoints on the same problems."""
    a_P, b_P = rates[a], rates[b]
    missing = loaded.missing(a) + loaded.missing(b)
    if missing:
        return Pair(a, b, math.nan, math.nan, math.nan, math.nan, math.nan, UNKNOWN, None, math.nan, missing)
    d_P = b_P - a_P
    only_a, only_b = float(np.maximum(-d_P, 0).sum()), float(np.maximum(d_P, 0).sum())
    both = float(np.minimum(a_P, b_P).sum())
    neither = d_P.size - both - only_a - only_b
    found = of_pair(d_P, loaded.samples, loaded.groups)
    return Pair(a, b, both, only_a, only_b, neither, found.mean, found.interval(), found.exact_p, found.p, 0)


def of_pair(d_P: Floats, answers: int, groups: Sequence[str] | None = None) -> Estimate | Paired:
    """Two adapters: with one answer each McNemar and Tango; with several, or problems in groups, Student's t."""
    if answers > 1 or groups is not None:
        return one_way(d_P, groups)
    return Paired(int((d_P < 0).sum()), int((d_P > 0).sum()), d_P.size)


def compare(loaded: Loaded, selected: Selection) -> tuple[Contrast, ...]:
    """All contrasts at the chosen checkpoints, the primary one first."""
    wanted, margin = wanted_pair(loaded), margin_of(loaded)
    return tuple(
        contrast(loaded, selected.chosen, a, b, selected.rates, margin=margin, primary=(a, b) == wanted)
        for a, b in pairs_of(loaded, selected.order)
    )


def at_each_rate(loaded: Loaded, selected: Selection, a: str, b: str, alpha: float = ALPHA) -> tuple[Contrast, ...]:
    """Two arms at each rate of the grid by itself; none without one."""
    at = selected.at_rate

    def at_rate(variant: str) -> dict[str, BySeed]:
        """The checkpoints that would represent the arms if all had this learning rate."""
        return {arm: at.get((arm, variant), of_arm) for arm, of_arm in selected.chosen.items()}

    return tuple(
        contrast(loaded, at_rate(variant), a, b, selected.rates, margin=margin_of(loaded), alpha=alpha)
        for variant in dict.fromkeys(point.variant for point in selected.points)
        if all(arm == BASE_ARM or (arm, variant) in at for arm in (a, b))
    )


def margin_of(loaded: Loaded) -> float | None:
    """The equivalence margin; None where nothing was declared."""
    return loaded.record.study.compare.matters if loaded.record.study else None


def pairs_of(loaded: Loaded, order: list[str]) -> list[tuple[str, ...]]:
    """The primary contrast first, then what else was declared, every arm against the base, the other pairs of arms."""
    declared = (wanted_pair(loaded), *loaded.record.compare.contrasts)
    arms = [arm for arm in order if arm != BASE_ARM]
    pairs = [pair for pair in declared if len(pair) == 2 and all(arm in order for arm in pair)]
    if BASE_ARM in order:
        pairs += [(BASE_ARM, arm) for arm in arms]
    between = list(itertools.combinations(arms, 2))
    pairs += between if len(between) <= MOST_PAIRS else []
    first: dict[frozenset[str], tuple[str, ...]] = {}
    for pair in pairs:
        first.setdefault(frozenset(pair), pair)
    return list(first.values())


def by_seed(chosen: Mapping[str, BySeed], a: str, b: str) -> dict[int, tuple[AdapterId, AdapterId]]:
    """The checkpoints that are compared, by the seeds that both arms have; the base with every seed of the other."""
    of_a, of_b = chosen[a], chosen[b]
    if a == BASE_ARM:
        of_a = dict.fromkeys(of_b, BASE)
    elif b == BASE_ARM:
        of_b = dict.fromkeys(of_a, BASE)
    return {seed: (of_a[seed], of_b[seed]) for seed in sorted(of_a.keys() & of_b.keys())}


def contrast(
    loaded: Loaded,
    chosen: Mapping[str, BySeed],
    a: str,
    b: str,
    rates: PassRates,
    *,
    margin: float | None,
    primary: bool = False,
    alpha: float = ALPHA,
    equal: float | None = None,
) -> Contrast:
    """Arm b minus arm a. The base is compared with every seed of an arm.

    `alpha`: chance of a false "more"; `equal`: of a false "equivalent" (default: the same).
    """
    # Different seeds only: the first of each, as two adapters.
    pairs = list(by_seed(chosen, a, b).values()) or [(chosen[a][min(chosen[a])], chosen[b][min(chosen[b])])]
    compared = tuple(pair(loaded, x, y, rates) for x, y in pairs)
    missing = sum(loaded.missing(adapter) for adapter in {adapter for both in pairs for adapter in both})
    P = len(loaded.problems)
    if missing or not P:
        return Contrast(
            a, b, primary, "none", len(pairs), P, math.nan, UNKNOWN, UNKNOWN, None, math.nan, Decision.MISSING,
            margin, compared, None, None, missing,
        )  # fmt: skip

    tables = [np.stack([rates[each[side]] for each in pairs]) for side in (0, 1)]
    d_SP = tables[1] - tables[0]
    found = estimate(d_SP, loaded)
    method = "two-way" if isinstance(found, TwoWay) else "pair"
    # Two one-sided tests at alpha.
    interval, interval90 = found.interval(1 - alpha), found.interval(1 - 2 * (alpha if equal is None else equal))
    informative = informative_problems(*tables)
    decision = decision_of(interval, interval90, margin, informative, P)
    return Contrast(
        a, b, primary, method, len(pairs), P, found.mean, interval, interval90,
        inference.crossed_bootstrap(d_SP) if isinstance(found, TwoWay) else None,
        found.p, decision, margin, compared, found.components if isinstance(found, TwoWay) else None, None, 0,
        informative=informative, groups=len(set(loaded.groups)) if loaded.groups else None,
    )  # fmt: skip


def estimate(d_SP: Floats, loaded: Loaded) -> Estimate | Paired:
    """With two or more seeds about training on these data, else about these two adapters."""
    if min(d_SP.shape) > 1:
        return two_way(d_SP, loaded.groups)
    return of_pair(d_SP[0], loaded.samples, loaded.groups)


def informative_problems(a_SP: Floats, b_SP: Floats) -> int:
    """Problems that some of these answers solve and others do not: only there can arms differ."""
    both = np.concatenate([a_SP, b_SP])
    return int(((both.max(axis=0) > 0) & (both.min(axis=0) < 1)).sum())


def aa_control(arm: str, adapters: Sequence[AdapterId], rates: PassRates) -> AAControl | None:
    """A/A: how far apart two seeds of one arm are. None with one seed or with missing work."""
    means = [float(rates[a].mean()) for a in adapters]
    if len(means) < 2 or any(math.isnan(mean) for mean in means):
        return None
    gaps = [abs(x - y) for x, y in itertools.combinations(means, 2)]
    return AAControl(arm, len(gaps), max(gaps), sum(gaps) / len(gaps))
