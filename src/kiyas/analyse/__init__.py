"""Judgments and losses → `Findings`: what the numbers of a run can and cannot support.

Reads only the files of docs/formats.md; the recipe is told in docs/statistics.md. Not guaranteed: that the
arms differ in nothing but their data; the checklist names what it can see.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from kiyas.analyse.checklist import checklist, declared_seeds
from kiyas.analyse.contrasts import arm_result, choose, contrast, same_arm, score, trainings
from kiyas.analyse.findings import (
    Cell,
    Choice,
    Contrast,
    Curve,
    Decision,
    Findings,
    Level,
    Pair,
    Reading,
    Remark,
    Score,
    Stability,
    Training,
)
from kiyas.analyse.load import Loaded, load
from kiyas.analyse.losses import curves
from kiyas.analyse.problems import grid, stability
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
    scores = tuple(score(loaded, adapter, rates[adapter]) for adapter in rates)
    found_curves = curves(loaded.log)
    curve_of = {curve.training: curve for curve in found_curves}
    judged = trainings(loaded)
    choices = tuple(choose(adapters, rates, curve_of.get(t), select, loaded.samples) for t, adapters in judged.items())

    chosen = _chosen(loaded, choices)
    order = [arm for arm in (BASE_ARM, *loaded.arms) if arm in chosen]
    wanted = _wanted(loaded.arms, compare.get("primary"))
    pairs = _pairs(order, wanted)
    contrasts = tuple(
        _refuse_missing(
            loaded,
            judged,
            select,
            contrast(loaded, chosen, a, b, rates, margin=margin, primary=(a, b) == wanted),
        )
        for a, b in pairs
    )
    columns = [*([BASE] if BASE in rates else []), *(a for adapters in judged.values() for a in adapters)]
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
        columns=tuple(columns),
        grid=grid(loaded, columns),
        stability=stability(loaded, judged, rates),
        remarks=checklist(
            loaded,
            select=select,
            select_declared="select" in compare,
            choices=choices,
            scores=scores,
            curves=found_curves,
        ),
        notes=tuple(str(note) for note in loaded.resolved.get("notes") or []),
        settings=_settings(loaded),
    )


def _chosen(loaded: Loaded, choices: tuple[Choice, ...]) -> dict[str, dict[int, AdapterId]]:
    """arm → seed → checkpoint. Of several variants the plain one counts, else the first by name."""
    chosen: dict[str, dict[int, AdapterId]] = {}
    if BASE in loaded.answers:
        chosen[BASE_ARM] = {0: BASE}
    for arm in loaded.arms:
        of_arm = [choice for choice in choices if choice.training.arm == arm]
        if of_arm:
            variant = min(choice.training.variant for choice in of_arm)
            chosen[arm] = {c.training.seed: c.chosen for c in of_arm if c.training.variant == variant}
    return chosen


def _wanted(arms: list[str], declared: Any) -> tuple[str, ...]:
    """The primary contrast: as declared, else the first two arms, else the only arm against the base."""
    if isinstance(declared, list | tuple) and len(declared) == 2:
        return (str(declared[0]), str(declared[1]))
    return tuple(arms[:2]) if len(arms) >= 2 else (BASE_ARM, *arms)


def _pairs(order: list[str], wanted: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The primary contrast first, then every arm against the base, then the other pairs of arms."""
    arms = [arm for arm in order if arm != BASE_ARM]
    pairs: list[tuple[str, ...]] = [wanted] if len(wanted) == 2 and all(arm in order for arm in wanted) else []
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
    if select == "primary":
        owed += sum(loaded.owed(a) for t, adapters in judged.items() if t.arm in arms for a in adapters)
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
