"""What a study as a whole supports: one decision over all that it declared.

Declared contrasts share the chance of a false claim (Holm 1979). Each is answered with and without contaminated
problems and, where there is a grid, at every learning rate; a claim needs all of these to agree.
Nothing is decided over missing verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kiyas.analyse.contrasts import at_each_rate, compare, contrast, estimate
from kiyas.analyse.decisions import ALPHA, wanted_pair, what_would_decide, with_hours
from kiyas.analyse.findings import Contrast, Decision, Needed
from kiyas.analyse.learning_rates import at_one_rate, rate_chosen, signs_flip
from kiyas.analyse.load import Loaded
from kiyas.analyse.selection import Selection
from kiyas.stats import inference
from kiyas.study.settings import Select
from kiyas.types import BASE_ARM

Pair = frozenset[str]


@dataclass(frozen=True)
class Claims:
    """`uncontaminated`: the primary contrast without the problems that are in any arm's training data."""

    contrasts: tuple[Contrast, ...]
    at_each_rate: tuple[Contrast, ...]
    uncontaminated: Contrast | None


def claims(loaded: Loaded, selected: Selection) -> Claims:
    """All contrasts, with the decisions that the study supports."""
    contrasts = [_refuse_missing(loaded, selected, each) for each in compare(loaded, selected)]
    declared: set[Pair] = set()
    if loaded.record.study is not None:
        declared = {frozenset(pair) for pair in (wanted_pair(loaded), *loaded.record.compare.contrasts)}
    asked = [each for each in contrasts if pair_of(each) in declared or each.primary]
    own = _levels(loaded, selected, asked, len(declared))
    found: list[Contrast] = []
    at_rates: tuple[Contrast, ...] = ()
    clean: Contrast | None = None
    for each in contrasts:
        each = replace(each, declared=pair_of(each) in declared)
        if pair_of(each) in own:
            each, rates_of, clean_of = _answer(loaded, selected, each, own[pair_of(each)])
            if each.primary:
                at_rates, clean = rates_of, clean_of
        found.append(each)
    return Claims(tuple(found), at_rates, clean)


def _levels(loaded: Loaded, selected: Selection, asked: Sequence[Contrast], declared: int) -> dict[Pair, Shared]:
    """Of several declared contrasts, each one's part; one whose verdicts are missing remains one of them."""
    if declared < 2:
        return {pair_of(each): Shared(None, ALPHA, ALPHA) for each in asked}
    p_values = []
    for each in asked:
        clean = _without_contaminated(loaded, selected, each, ALPHA, ALPHA)
        p = max(each.p, clean.p) if clean is not None else each.p
        p_values.append(1.0 if each.decision is Decision.MISSING or math.isnan(p) else p)
    shared = share([*p_values, *[1.0] * (declared - len(p_values))])
    return {pair_of(each): part for each, part in zip(asked, shared, strict=False)}


def _answer(
    loaded: Loaded, selected: Selection, found: Contrast, own: Shared
) -> tuple[Contrast, tuple[Contrast, ...], Contrast | None]:
    """What a declared contrast supports; the same at each learning rate; and without contaminated problems."""
    at_rates = at_each_rate(loaded, selected, found.a, found.b, own.alpha)
    if found.decision is Decision.MISSING:
        return found, at_rates, None
    if own.p is not None:
        again = contrast(
            loaded, selected.chosen, found.a, found.b, selected.rates,
            margin=found.margin, primary=found.primary, alpha=own.alpha, equal=own.equal,
        )  # fmt: skip
        found = replace(again, declared=found.declared, holm=own.p, family=own.family)
    clean = _without_contaminated(loaded, selected, found, own.alpha, own.equal)
    if clean is not None:
        found, clean = together(found, clean)
    elif loaded.contaminated and found.decision is not Decision.UNDECIDED:  # every problem is
        found = replace(found, decision=Decision.CONTAMINATED, alone=found.decision)
    found = _over_the_grid(loaded, selected, found, at_rates)
    if found.primary and found.decision is Decision.UNDECIDED and found.informative:
        found = replace(found, needed=_needed(loaded, selected, found, own.alpha))
    return found, at_rates, clean


def _over_the_grid(loaded: Loaded, selected: Selection, found: Contrast, at_rates: tuple[Contrast, ...]) -> Contrast:
    """A contrast depends on the learning rate where single rates do not bear it out, or none could be chosen."""
    chosen, one = rate_chosen(found, selected.points), at_one_rate(found, at_rates, selected.points)
    flips = signs_flip(found, at_rates, loaded.record.compare.matters)
    found = replace(found, at_one_rate=one, rate_chosen=chosen)
    depends = flips or one is False or (one is not None and not chosen)
    return replace(found, decision=Decision.DEPENDS) if depends else found


def pair_of(found: Contrast) -> Pair:
    return frozenset((found.a, found.b))


@dataclass(frozen=True)
class Shared:
    """A declared contrast's part: its corrected p, and the levels of its two claims, "more" and "equivalent"."""

    p: float | None
    """None where it is the only one"""
    alpha: float
    equal: float
    family: int | None = None
    """how many share"""


def share(p_values: Sequence[float], alpha: float = ALPHA) -> list[Shared]:
    """Holm's steps: the smallest p is held against alpha/m, the next against alpha/(m − 1), up to the first that fails,
    whose level also holds for the rest. An interval at a contrast's own level then excludes zero just where Holm's test
    rejects it. Equivalence is held against alpha/m (Bonferroni)."""
    m = len(p_values)
    corrected = inference.holm(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    rejected = sum(p < alpha for p in corrected)
    step = {i: min(rank, rejected, m - 1) for rank, i in enumerate(order)}
    return [Shared(corrected[i], alpha / (m - step[i]), alpha / m, m) for i in range(m)]


def together(found: Contrast, clean: Contrast) -> tuple[Contrast, Contrast]:
    """One decision over two answers to one question: what both say; else it depends on the contaminated problems."""
    both = found.decision if found.decision is clean.decision else Decision.CONTAMINATED
    return replace(found, decision=both, alone=found.decision), replace(clean, decision=both, alone=clean.decision)


def _needed(loaded: Loaded, selected: Selection, found: Contrast, alpha: float) -> Needed:
    """What would decide it, with the hours that this would take here."""
    d_SP = np.stack([selected.rates[pair.b] - selected.rates[pair.a] for pair in found.pairs])
    margin = loaded.record.compare.matters if found.margin is None else found.margin
    # An estimate of pass@k uses up k answers.
    answers = max(1, loaded.samples // loaded.record.compare.k)
    needed = what_would_decide(d_SP, estimate(d_SP, loaded), margin, answers, alpha)
    return with_hours(needed, found.seeds, found.problems, loaded)


def _refuse_missing(loaded: Loaded, selected: Selection, found: Contrast) -> Contrast:
    """Declared seeds that were never judged are missing; so is every candidate when the best one is chosen."""
    arms = {found.a, found.b} - {BASE_ARM}
    each = loaded.samples * len(loaded.problems)
    declared = set(loaded.record.study.seed_list) if loaded.record.study else set()
    missing = sum(each * len(declared - {t.seed for t in selected.judged if t.arm == arm}) for arm in arms)
    development = next(iter(loaded.secondary.values()), None)
    asked = {Select.PRIMARY: loaded, Select.DEVELOPMENT: development}.get(loaded.record.compare.select)
    if asked is not None:
        missing += sum(asked.missing(a) for t, adapters in selected.judged.items() if t.arm in arms for a in adapters)
    missing = max(missing, found.missing)
    return replace(found, decision=Decision.MISSING, missing=missing) if missing else found


def _without_contaminated(
    loaded: Loaded, selected: Selection, found: Contrast, alpha: float, equal: float
) -> Contrast | None:
    """The same contrast there. None where nothing is contaminated, or nothing else is left."""
    if not loaded.contaminated or found.decision is Decision.MISSING:
        return None
    rest = loaded.without(loaded.contaminated)
    rates = {adapter: rest.rates(adapter) for of_arm in selected.chosen.values() for adapter in of_arm.values()}
    if not rest.problems:
        return None
    return contrast(
        rest, selected.chosen, found.a, found.b, rates,
        margin=found.margin, primary=found.primary, alpha=alpha, equal=equal,
    )  # fmt: skip
