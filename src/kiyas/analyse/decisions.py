"""What may be said: the rules that turn the numbers of one contrast into a decision, and what would decide it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from kiyas.analyse.findings import Decision, Needed
from kiyas.analyse.load import Loaded
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Kind
from kiyas.stats import planning
from kiyas.stats.inference import Floats, Interval, Paired
from kiyas.stats.random_effects import Components, Estimate, TwoWay
from kiyas.types import BASE_ARM

ALPHA = 0.05
"""Chance of a false claim."""
FEWEST_INFORMATIVE = 10
"""Fewer problems that some answers solve and others do not make no two arms equivalent."""


def wanted_pair(loaded: Loaded) -> tuple[str, ...]:
    """The primary contrast: as declared, else the first two arms, else the only arm against the base."""
    arms = loaded.arms
    return loaded.record.compare.primary or (tuple(arms[:2]) if len(arms) >= 2 else (BASE_ARM, *arms))


def decision_of(
    interval: Interval, interval90: Interval, margin: float | None, informative: int | None, problems: int | None
) -> Decision:
    """From numbers to words.

    More or less: the interval excludes zero, which it never does where the test does not reject zero. Equivalent: a
    margin was declared, the interval of the two one-sided tests lies within it, and enough problems could have shown a
    difference (where that is known). Both can hold: a small difference that is certain counts as equivalent, since the
    study declared that it does not matter.
    """
    enough = informative is None or problems is None or informative >= informative_needed(margin or 0.0, problems)
    if margin is not None and interval90.inside(margin) and enough:
        return Decision.EQUIVALENT
    if interval.excludes_zero():
        return Decision.MORE if interval.low > 0 else Decision.LESS
    return Decision.UNDECIDED


def informative_needed(margin: float, problems: int) -> int:
    """Problems that must have been solved by some answers and not by others, for a claim that arms are equivalent.

    Were they no more than the margin's share of the problems, the arms could not have differed by more than the margin.
    """
    return max(FEWEST_INFORMATIVE, math.floor(margin * problems) + 1)


def what_would_decide(
    d_SP: Floats, found: Estimate | Paired, difference: float, samples: int, alpha: float = ALPHA
) -> Needed:
    """Designs that would detect `difference` with 80 % power, at the contrast's own level.

    No component is smaller than assumed before anything is measured, so that nothing is promised which the design table
    of the study denies. Few seeds often estimate the variance between them as zero: more problems at the same seeds are
    promised only if they do at its upper limit. Groups of problems are counted as such, at their mean size.
    """
    S, P = d_SP.shape
    assumed = planning.assumed(samples)
    if not isinstance(found, TwoWay):
        return _between_two(d_SP[0], found, difference, assumed, alpha)
    units = found.unit_means.size
    size, seen = P / units, found.components
    seed, most = max(assumed.seed, seen.seed), max(assumed.seed, found.seed_variance_at_most())
    parts = Components(seed, max(assumed.problem / size, seen.problem), max(assumed.rest / size, seen.rest))
    groups = planning.problems_needed_with(replace(parts, seed=most), S, difference, alpha)
    problems = None if groups is None else math.ceil(groups * size)
    seeds = planning.seeds_needed(parts, units, difference, alpha)
    both: tuple[int, ...] = ()
    if problems is None and seeds is None and (design := planning.design_needed(parts, difference, alpha)):
        both = design[0], math.ceil(design[1] * size)
    now = min(1.0, planning.detectable(parts, S, units, alpha=alpha))
    allowed = math.sqrt(most) if most > assumed.seed else None
    return Needed(difference, problems, seeds, now, both, seed_sd=math.sqrt(seed), seed_sd_most=allowed)


def _between_two(d_P: Floats, found: Estimate | Paired, difference: float, assumed: Components, alpha: float) -> Needed:
    """Two adapters: McNemar's test, or where groups or several answers count, the variance of the mean."""
    P, least = d_P.size, assumed.problem + assumed.rest
    if isinstance(found, Paired):
        discordance = max(least, (found.only_a + found.only_b) / P)

        def needed(difference: float) -> int:
            return planning.problems_needed(discordance, difference, alpha=alpha)

        largest = discordance
    else:
        variance = max(least, float(found.unit_means.var(ddof=1)) * P / found.unit_means.size)

        def needed(difference: float) -> int:
            return planning.problems_needed_by_variance(variance, difference, alpha=alpha)

        largest = 1.0
    return Needed(difference, needed(difference) if largest >= difference else None, None, _visible(needed, P, largest))


def _visible(needed: Callable[[float], int], problems: int, largest: float) -> float | None:
    """Smallest difference that `problems` problems can detect; None where not even the largest possible one is."""
    if largest <= 0 or needed(largest) > problems:
        return None
    low, high = 1e-4, largest
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= problems else (middle, high)
    return high


def with_hours(need: Needed, seeds: int, problems: int, loaded: Loaded) -> Needed:
    """With the hours that it would take, where the stages of this run (so many seeds and problems) were timed.

    Training goes with the seeds, answering and judging with seeds × problems; the base and what else is fixed is small.
    """
    folder = RunDir(loaded.run)
    if loaded.record.kind is not Kind.RUN:
        return need
    manifests = {stage: folder.manifest(stage) for stage in (Stage.TRAIN, Stage.GENERATE, Stage.JUDGE)}
    seconds = {stage: float(manifest["seconds"]) if manifest else 0.0 for stage, manifest in manifests.items()}
    if not all(seconds.values()):
        return need

    def hours(more_seeds: float, more_problems: float) -> float:
        answering = seconds[Stage.GENERATE] + seconds[Stage.JUDGE]
        return (seconds[Stage.TRAIN] * more_seeds + answering * more_seeds * more_problems) / 3600

    return replace(
        need,
        problems_hours=hours(1, need.problems / problems) if need.problems else None,
        seeds_hours=hours(need.seeds / seeds, 1) if need.seeds else None,
        both_hours=hours(need.both[0] / seeds, need.both[1] / problems) if need.both else None,
    )
