"""Judgments and losses → `Findings`: what the numbers of a run can and cannot support.

Reads only the files of docs/formats.md; the recipe is told in docs/statistics.md. Not guaranteed: that the
arms differ in nothing but their data; the checklist names what it can see.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from kiyas.analyse.behaviour import behaviour
from kiyas.analyse.checklist import checklist, declared_seeds
from kiyas.analyse.contrasts import arm_result, choose, contrast, corrected, same_arm, score, trainings, with_hours
from kiyas.analyse.findings import (
    Beside,
    Cell,
    Choice,
    Contrast,
    Curve,
    Decision,
    Drawn,
    Findings,
    Level,
    Pair,
    RatePoint,
    Reading,
    Remark,
    Score,
    Stability,
    Training,
)
from kiyas.analyse.load import Loaded, load
from kiyas.analyse.losses import curves, loss_matrix
from kiyas.analyse.problems import grid, stability
from kiyas.analyse.rates import depends, grid_of, rate_points, tuning_seeds_of
from kiyas.types import BASE, BASE_ARM, AdapterId

__all__ = [
    "Cell",
    "Choice",
    "Contrast",
    "Curve",
    "Decision",
    "Findings",
    "Level",
    "Pair",
    "Reading",
    "Remark",
    "Score",
    "Stability",
    "Training",
    "analyse",
]

MOST_PAIRS = 10
"""With more arms than make this many pairs, only the primary contrast and those with the base are made."""


def analyse(run: Path) -> Findings:
    """Everything that the report shows, from the files of one run folder. Raises KiyasError for a bad run."""
    loaded = load(run)
    compare = loaded.study.get("compare") or {}
    select = str(compare.get("select") or "last")
    margin = compare.get("matters")
    margin = float(margin) if isinstance(margin, int | float) and margin > 0 else None

    rates = {adapter: loaded.rates(adapter) for adapter in loaded.answers}
    all_curves = curves(loaded.log)
    curve_of = {curve.training: curve for curve in all_curves}
    first_beside = next(iter(loaded.beside.values()), None)
    development = {a: first_beside.rates(a) for a in first_beside.answers} if first_beside else None
    every = trainings(loaded)
    everything = {
        training: choose(adapters, rates, curve_of.get(training), select, loaded.samples, development)
        for training, adapters in every.items()
    }
    tuning = tuning_seeds_of(loaded.study, declared_seeds(loaded.study))
    at: dict[tuple[str, str], dict[int, AdapterId]] = {}
    for training, choice in everything.items():
        at.setdefault((training.arm, training.variant), {})[training.seed] = choice.chosen
    points = rate_points(loaded, all_curves, tuning, at, rates)

    # From here on an arm is its chosen learning rate; the rest of the grid stands in `points` and `at_each_rate`.
    variant_of = _variants(loaded.arms, [*everything, *curve_of], points)

    def counts(training: Training) -> bool:
        return training.variant == variant_of.get(training.arm) and training.seed not in tuning

    judged = {training: adapters for training, adapters in every.items() if counts(training)}
    choices = tuple(everything[training] for training in judged)
    found_curves = tuple(curve for curve in all_curves if counts(curve.training))
    shown = [BASE, *(adapter for adapters in judged.values() for adapter in adapters)]
    scores = tuple(score(loaded, adapter, rates[adapter]) for adapter in rates if adapter in shown)
    chosen = {arm: at[arm, variant] for arm, variant in variant_of.items() if (arm, variant) in at}
    if BASE in loaded.answers:
        chosen[BASE_ARM] = {0: BASE}
    order = [arm for arm in (BASE_ARM, *loaded.arms) if arm in chosen]
    wanted = _wanted(loaded.arms, compare.get("primary"))
    pairs = _pairs(order, wanted, [tuple(map(str, pair)) for pair in compare.get("contrasts") or []])
    contrasts = tuple(
        _refuse_missing(
            loaded,
            judged,
            select,
            contrast(loaded, chosen, a, b, rates, margin=margin, primary=(a, b) == wanted),
        )
        for a, b in pairs
    )
    at_each_rate = tuple(
        contrast(loaded, _at_rate(chosen, at, variant), *wanted, rates, margin=margin)
        for variant in grid_of(loaded.study)
        if len(wanted) == 2 and all(arm == BASE_ARM or (arm, variant) in at for arm in wanted)
    )
    declared = {frozenset(wanted), *(frozenset(map(str, pair)) for pair in compare.get("contrasts") or [])}
    contrasts = corrected(contrasts, declared if "compare" in loaded.study else set())
    contrasts = tuple(
        dataclasses.replace(each, needed=with_hours(each, loaded, run)) if each.needed else each for each in contrasts
    )
    contrasts = tuple(
        dataclasses.replace(each, decision=Decision.DEPENDS)
        if each.primary and each.decision is not Decision.OWED and depends(each, at_each_rate, margin or 0.05)
        else each
        for each in contrasts
    )
    columns = [adapter for adapter in shown if adapter in rates]
    tests = sum(len(row.get("tests") or []) for row in loaded.problems.values())
    return Findings(
        name=str(loaded.resolved.get("name") or run.name),
        kind=str(loaded.resolved.get("kind") or "run"),
        created=str(loaded.resolved.get("created") or ""),
        arms=tuple(loaded.arms),
        problems=len(loaded.problems),
        tests=tests or None,
        samples=loaded.samples,
        select=select,
        select_declared="select" in compare,
        margin=margin,
        wanted=wanted,
        base_measured=BASE in rates,
        curves=found_curves,
        scores=scores,
        choices=choices,
        results=tuple(arm_result(loaded, arm, list(chosen[arm].values()), rates) for arm in order),
        contrasts=contrasts,
        same_arm=tuple(
            found for arm in order if (found := same_arm(arm, list(chosen[arm].values()), rates)) is not None
        ),
        rates=points,
        at_each_rate=at_each_rate,
        beside=tuple(_beside(other, chosen, pairs, margin) for other in loaded.beside.values()),
        drawn=_drawn(loaded),
        benchmark=loaded.benchmark,
        columns=tuple(columns),
        grid=grid(loaded, columns),
        flagged=loaded.flagged or {},
        clean=_clean(loaded, chosen, contrasts, margin),
        stability=stability(loaded, judged, rates),
        loss_matrix=loss_matrix(found_curves),
        behaviour=behaviour(loaded, judged, {arm: tuple(chosen[arm].values()) for arm in order}, wanted, rates),
        remarks=checklist(
            loaded,
            select=select,
            select_declared="select" in compare,
            choices=choices,
            scores=scores,
            curves=found_curves,
            points=points,
        ),
        notes=tuple(str(note) for note in loaded.resolved.get("notes") or []),
        settings=_settings(loaded),
    )


def _variants(arms: list[str], met: list[Training], points: tuple[RatePoint, ...]) -> dict[str, str]:
    """arm → the variant that stands for it: the grid's choice, else the plain one, else the first by name."""
    chosen = {point.arm: point.variant for point in points if point.chosen}
    known = {arm: sorted({training.variant for training in met if training.arm == arm}) for arm in arms}
    return {arm: chosen.get(arm, variants[0]) for arm, variants in known.items() if variants}


def _clean(
    loaded: Loaded, chosen: dict[str, dict[int, AdapterId]], contrasts: tuple[Contrast, ...], margin: float | None
) -> Contrast | None:
    """The primary contrast once more, without the problems that stand in any arm's training data."""
    primary = next((each for each in contrasts if each.primary), None)
    ids = {id for each in (loaded.flagged or {}).values() for id in each}
    if primary is None or not ids or primary.decision is Decision.OWED:
        return None
    rest = loaded.without(ids)
    rates = {adapter: rest.rates(adapter) for of_arm in chosen.values() for adapter in of_arm.values()}
    return contrast(rest, chosen, primary.a, primary.b, rates, margin=margin, primary=True) if rest.problems else None


def _at_rate(
    chosen: dict[str, dict[int, AdapterId]], at: dict[tuple[str, str], dict[int, AdapterId]], variant: str
) -> dict[str, dict[int, AdapterId]]:
    """The checkpoints that would stand for the arms if all had this learning rate."""
    return {arm: at.get((arm, variant), of_arm) for arm, of_arm in chosen.items()}


def _beside(
    other: Loaded, chosen: dict[str, dict[int, AdapterId]], pairs: list[tuple[str, ...]], margin: float | None
) -> Beside:
    """The same checkpoints on another benchmark: nothing is chosen anew there."""
    rates = {adapter: other.rates(adapter) for of_arm in chosen.values() for adapter in of_arm.values()}
    return Beside(
        other.benchmark,
        len(other.problems),
        sum(len(row.get("tests") or []) for row in other.problems.values()) or None,
        tuple(arm_result(other, arm, list(of_arm.values()), rates) for arm, of_arm in chosen.items()),
        tuple(contrast(other, chosen, a, b, rates, margin=margin, primary=n == 0) for n, (a, b) in enumerate(pairs)),
    )


def _drawn(loaded: Loaded) -> tuple[Drawn, ...]:
    arms = loaded.study.get("arms") or {}
    return tuple(
        Drawn(name, " + ".join([arm["from_"]] if arm.get("from_") else arm["mix"]), int(arm.get("draws") or 1))
        for name, arm in arms.items()
        if arm.get("from_") or arm.get("mix")
    )


def _wanted(arms: list[str], declared: Any) -> tuple[str, ...]:
    """The primary contrast: as declared, else the first two arms, else the only arm against the base."""
    if isinstance(declared, list | tuple) and len(declared) == 2:
        return (str(declared[0]), str(declared[1]))
    return tuple(arms[:2]) if len(arms) >= 2 else (BASE_ARM, *arms)


def _pairs(order: list[str], wanted: tuple[str, ...], declared: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The primary contrast first, then what else was declared, every arm against the base, the other pairs of arms."""
    arms = [arm for arm in order if arm != BASE_ARM]
    pairs = [pair for pair in (wanted, *declared) if len(pair) == 2 and all(arm in order for arm in pair)]
    if BASE_ARM in order:
        pairs += [(BASE_ARM, arm) for arm in arms]
    between = list(itertools.combinations(arms, 2))
    pairs += between if len(between) <= MOST_PAIRS else []
    first: dict[frozenset[str], tuple[str, ...]] = {}
    for pair in pairs:
        first.setdefault(frozenset(pair), pair)
    return list(first.values())


def _refuse_missing(loaded: Loaded, judged: dict[Training, list[AdapterId]], select: str, found: Contrast) -> Contrast:
    """Declared seeds that were never judged are owed; so is every candidate when the best one is chosen."""
    arms = {found.a, found.b} - {BASE_ARM}
    each = loaded.samples * len(loaded.problems)
    declared = declared_seeds(loaded.study)
    owed = sum(each * len(declared - {t.seed for t in judged if t.arm == arm}) for arm in arms)
    development = next(iter(loaded.beside.values()), None)
    asked = {"primary": loaded, "development": development}.get(select)
    if asked is not None:
        owed += sum(asked.owed(a) for t, adapters in judged.items() if t.arm in arms for a in adapters)
    owed = max(owed, found.owed)
    return dataclasses.replace(found, decision=Decision.OWED, owed=owed) if owed else found


def _settings(loaded: Loaded) -> dict[str, Any]:
    """What the report prints under "how this was made"; plain values only."""
    resolved = loaded.resolved
    keys = (
        "kiyas_version",
        "python",
        "platform",
        "packages",
        "git",
        "device",
        "overrides",
        "declared_sha256",
    )
    shown: dict[str, Any] = {key: resolved[key] for key in keys if resolved.get(key)}
    for key in ("base", "judge"):
        if isinstance(resolved.get(key), dict):
            shown[key] = resolved[key]
    for key in ("seeds", "training", "peft", "generation", "benchmarks", "compare"):
        if loaded.study.get(key) is not None:
            shown[key] = loaded.study[key]
    if loaded.counts.get("arms"):
        shown["data"] = loaded.counts["arms"]
    return shown
