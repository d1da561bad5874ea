"""What a study as a whole supports: one decision over all that it declared.

Declared contrasts share the chance of a false claim (Holm 1979). The primary one is answered with and without
contaminated problems and, where there is a grid, at every learning rate; a claim needs all of these to agree.
Nothing is decided over missing verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kiyas.analyse.contrasts import compare, contrast, estimate
from kiyas.analyse.decisions import ALPHA, wanted_pair, what_would_decide, with_hours
from kiyas.analyse.findings import Contrast, Decision, Needed
from kiyas.analyse.learning_rates import at_one_rate, signs_flip
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
    contrasts, at_each_rate = compare(loaded, selected)
    contrasts = tuple(_refuse_missing(loaded, selected, each) for each in contrasts)
    clean = _without_contaminated(loaded, selected, contrasts, ALPHA, ALPHA)
    declared: set[Pair] = set()
    if loaded.record.study is not None:
        declared = {frozenset(pair) for pair in (wanted_pair(loaded), *loaded.record.compare.contrasts)}
    contrasts = tuple(replace(each, declared=pair_of(each) in declared) for each in contrasts)
    family = [each for each in contrasts if each.declared and math.isfinite(each.p)]
    if len(family) > 1:
        shared = share([_p(each, clean) for each in family])
        own = {pair_of(each): part for each, part in zip(family, shared, strict=True)}
        contrasts = tuple(_at_its_level(loaded, selected, each, own.get(pair_of(each))) for each in contrasts)
        first = own.get(frozenset(wanted_pair(loaded)))
        if first is not None:
            clean = _without_contaminated(loaded, selected, contrasts, first.alpha, first.equal)
    found = []
    for each in contrasts:
        if each.primary and each.decision is not Decision.MISSING:
            if clean is not None:
                each, clean = together(each, clean)
            each = _over_the_grid(loaded, selected, each, at_each_rate)
            if each.decision is Decision.UNDECIDED:
                each = replace(each, needed=_needed(loaded, selected, each))
        found.append(each)
    return Claims(tuple(found), at_each_rate, clean)


def _at_its_level(loaded: Loaded, selected: Selection, found: Contrast, own: Shared | None) -> Contrast:
    """A declared contrast once more, at its part of the chance of a false claim."""
    if own is None or found.decision is Decision.MISSING:
        return found
    again = contrast(
        loaded, selected.chosen, found.a, found.b, selected.rates,
        margin=found.margin, primary=found.primary, alpha=own.alpha, equal=own.equal,
    )  # fmt: skip
    return replace(again, declared=True, holm=own.p)


def _over_the_grid(
    loaded: Loaded, selected: Selection, found: Contrast, at_each_rate: tuple[Contrast, ...]
) -> Contrast:
    """The primary contrast, which depends on the learning rate where single rates do not bear it out."""
    found = replace(found, at_one_rate=at_one_rate(found, at_each_rate, selected.points))
    flips = signs_flip(found, at_each_rate, loaded.record.compare.matters)
    return replace(found, decision=Decision.DEPENDS) if flips or found.at_one_rate is False else found


def pair_of(found: Contrast) -> Pair:
    return frozenset((found.a, found.b))


def _p(found: Contrast, clean: Contrast | None) -> float:
    """Of the claim that the difference is there with and without contaminated problems."""
    return max(found.p, clean.p) if found.primary and clean is not None else found.p


@dataclass(frozen=True)
class Shared:
    """A declared contrast's part: its corrected p, and the levels of its two claims, "more" and "equivalent"."""

    p: float
    alpha: float
    equal: float


def share(p_values: Sequence[float], alpha: float = ALPHA) -> list[Shared]:
    """Holm's steps: the smallest p is held against alpha/m, the next against alpha/(m − 1), up to the first that fails,
    whose level also holds for the rest. An interval at a contrast's own level then excludes zero just where Holm's test
    rejects it. Equivalence is held against alpha/m (Bonferroni)."""
    m = len(p_values)
    corrected = inference.holm(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    rejected = sum(p < alpha for p in corrected)
    step = {i: min(rank, rejected, m - 1) for rank, i in enumerate(order)}
    return [Shared(corrected[i], alpha / (m - step[i]), alpha / m) for i in range(m)]


def together(found: Contrast, clean: Contrast) -> tuple[Contrast, Contrast]:
    """One decision over two answers to one question: what both say, else undecided."""
    both = found.decision if found.decision is clean.decision else Decision.UNDECIDED
    return replace(found, decision=both, alone=found.decision), replace(clean, decision=both, alone=clean.decision)


def _needed(loaded: Loaded, selected: Selection, found: Contrast) -> Needed:
    """What would decide it, with the hours that this would take here."""
    d_SP = np.stack([selected.rates[pair.b] - selected.rates[pair.a] for pair in found.pairs])
    margin = loaded.record.compare.matters if found.margin is None else found.margin
    needed = what_would_decide(d_SP, estimate(d_SP, loaded), margin, loaded.samples)
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
    loaded: Loaded, selected: Selection, contrasts: Sequence[Contrast], alpha: float, equal: float
) -> Contrast | None:
    """None where nothing is contaminated, or nothing else is left."""
    primary = next((each for each in contrasts if each.primary), None)
    ids = {id for each in (loaded.flagged or {}).values() for id in each}
    if primary is None or not ids or primary.decision is Decision.MISSING:
        return None
    rest = loaded.without(ids)
    rates = {adapter: rest.rates(adapter) for of_arm in selected.chosen.values() for adapter in of_arm.values()}
    if not rest.problems:
        return None
    return contrast(
        rest, selected.chosen, primary.a, primary.b, rates,
        margin=primary.margin, primary=True, alpha=alpha, equal=equal,
    )  # fmt: skip
