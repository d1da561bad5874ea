"""What may be said: the rules that turn a contrast's numbers into a decision, and what would decide it.

Nothing is decided over missing verdicts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from kiyas.analyse.findings import Contrast, Decision, Needed
from kiyas.analyse.learning_rates import depends
from kiyas.analyse.load import Loaded
from kiyas.analyse.selection import Selection
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind
from kiyas.stats import inference
from kiyas.stats.inference import Floats, Interval
from kiyas.study.settings import Select
from kiyas.types import BASE_ARM

_TANGO = 1.959964**2
"""Tango's 95 % interval of no differences among P problems ends at z² / (P + z²)."""


def decide(
    loaded: Loaded, selected: Selection, contrasts: Sequence[Contrast], at_each_rate: tuple[Contrast, ...]
) -> tuple[Contrast, ...]:
    """The contrasts with what the study as a whole supports.

    Where declared work is missing nothing is said; declared contrasts share the chance of a false claim; the primary
    one depends on the learning rate where its sign changes across the grid.
    """
    declared = set()
    if loaded.record.study is not None:
        declared = {frozenset(pair) for pair in (wanted_pair(loaded), *loaded.record.compare.contrasts)}
    found = []
    for each in corrected([_refuse_missing(loaded, selected, each) for each in contrasts], declared):
        asked = each.primary and each.decision is not Decision.MISSING
        if asked and depends(each, at_each_rate, loaded.record.compare.matters):
            each = dataclasses.replace(each, decision=Decision.DEPENDS)
        found.append(_with_hours(each, loaded))
    return tuple(found)


def wanted_pair(loaded: Loaded) -> tuple[str, ...]:
    """The primary contrast: as declared, else the first two arms, else the only arm against the base."""
    arms = loaded.arms
    return loaded.record.compare.primary or (tuple(arms[:2]) if len(arms) >= 2 else (BASE_ARM, *arms))


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
    return dataclasses.replace(found, decision=Decision.MISSING, missing=missing) if missing else found


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


def decision_of(
    difference: float,
    interval: Interval,
    interval90: Interval,
    p: float,
    margin: float | None,
) -> Decision:
    """From numbers to words.

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
    """Designs that would detect `difference` with 80 % power, if spread and discordance stay as observed."""
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


def _visible(needed: Callable[[float], int], problems: int, largest: float) -> float | None:
    """Smallest difference that `problems` problems can detect; None where not even the largest possible one is."""
    if largest <= 0 or needed(largest) > problems:
        return None
    low, high = 1e-4, largest
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= problems else (middle, high)
    return high


def _with_hours(found: Contrast, loaded: Loaded) -> Contrast:
    """What would decide, with the hours that it would take where this run's own stages were timed.

    Training goes with the seeds, answering and judging with seeds × problems; the base and what else is fixed is small.
    """
    folder, need = RunDir(loaded.run), found.needed
    if need is None or loaded.record.kind is not Kind.RUN:
        return found
    manifests = {stage: folder.manifest(stage) for stage in (Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)}
    seconds = {stage: float(manifest["seconds"]) if manifest else 0.0 for stage, manifest in manifests.items()}
    if not all(seconds.values()):
        return found

    def hours(seeds: float, problems: float) -> float:
        answering = seconds[Stage.GENERATE] + seconds[Stage.JUDGE]
        return (seconds[Stage.TRAIN] * seeds + answering * seeds * problems) / 3600

    with_hours = dataclasses.replace(
        need,
        problems_hours=hours(1, need.problems / found.problems) if need.problems else None,
        seeds_hours=hours(need.seeds / found.seeds, 1) if need.seeds else None,
        both_hours=hours(need.both[0] / found.seeds, need.both[1] / found.problems) if need.both else None,
    )
    return dataclasses.replace(found, needed=with_hours)
