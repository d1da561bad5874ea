"""Judgments and losses → `Findings`: what the numbers of a run can and cannot support.

Reads only the files of docs/formats.md; the methods are in docs/statistics.md. Not guaranteed: that the
arms differ in nothing but their data; the checklist names what it can see.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiyas.analyse.behaviour import behaviour
from kiyas.analyse.checklist import checklist
from kiyas.analyse.claims import claims
from kiyas.analyse.contrasts import aa_control, arm_result, contrast, margin_of, pairs_of, score
from kiyas.analyse.decisions import wanted_pair
from kiyas.analyse.distinct import accepted
from kiyas.analyse.findings import Decision, Drawn, Findings, Level, Remark, SecondaryResult
from kiyas.analyse.load import Loaded, load
from kiyas.analyse.losses import loss_matrix
from kiyas.analyse.numerical_floor import numerical_floor
from kiyas.analyse.other_k import other_k
from kiyas.analyse.problems import grid, stability
from kiyas.analyse.selection import BySeed, select
from kiyas.types import BASE

__all__ = ["Decision", "Findings", "Level", "Remark", "analyse"]


def analyse(run: Path) -> Findings:
    """Everything that the report shows, from the files of one run folder. Raises KiyasError for a bad run."""
    loaded = load(run)
    selected = select(loaded)
    claimed = claims(loaded, selected)

    record, rates, chosen, order = loaded.record, selected.rates, selected.chosen, selected.order
    adapters = {arm: tuple(chosen[arm].values()) for arm in order}
    scores = tuple(score(loaded, adapter, rates[adapter]) for adapter in rates if adapter in selected.columns)
    wanted = wanted_pair(loaded)
    # What happens to single answers is about pass@1, whatever the metric is.
    shares = rates if loaded.record.compare.k == 1 else {adapter: loaded.rates(adapter, 1) for adapter in rates}
    return Findings(
        name=record.name,
        kind=record.kind.value,
        created=record.created,
        arms=tuple(loaded.arms),
        problems=len(loaded.problems),
        tests=loaded.tests,
        samples=loaded.samples,
        select=record.compare.select,
        select_declared=record.study is not None,
        margin=margin_of(loaded),
        wanted=wanted,
        base_measured=BASE in rates,
        curves=selected.curves,
        scores=scores,
        choices=selected.choices,
        results=tuple(arm_result(loaded, arm, adapters[arm], rates) for arm in order),
        contrasts=claimed.contrasts,
        aa_control=tuple(found for arm in order if (found := aa_control(arm, adapters[arm], rates)) is not None),
        learning_rates=selected.points,
        at_each_rate=claimed.at_each_rate,
        secondary=tuple(_secondary(other, loaded, chosen) for other in loaded.secondary.values()),
        drawn=tuple(
            Drawn(name, " + ".join(arm.sources), arm.draws) for name, arm in record.arms.items() if arm.sources
        ),
        benchmark=loaded.benchmark,
        columns=tuple(selected.columns),
        grid=grid(loaded, selected.columns),
        flagged=loaded.flagged or {},
        uncontaminated=claimed.uncontaminated,
        stability=stability(loaded, selected.judged, shares),
        loss_matrix=loss_matrix(selected.curves),
        behaviour=behaviour(loaded, selected.judged, adapters, wanted, shares),
        remarks=checklist(loaded, selected, scores),
        notes=record.notes,
        settings=_settings(loaded),
        metric=record.compare.metric,
        other_k=other_k(loaded, chosen, wanted),
        accepted=accepted(loaded, adapters),
        numerical_floor=numerical_floor(loaded, next((each for each in claimed.contrasts if each.primary), None)),
        data=loaded.data,
        shared_rows=loaded.shared_rows,
    )


def _secondary(other: Loaded, loaded: Loaded, chosen: Mapping[str, BySeed]) -> SecondaryResult:
    """The same checkpoints on another benchmark: nothing is chosen anew there."""
    rates = {adapter: other.rates(adapter) for of_arm in chosen.values() for adapter in of_arm.values()}
    margin, pairs = margin_of(loaded), pairs_of(loaded, list(chosen))
    return SecondaryResult(
        other.benchmark,
        len(other.problems),
        other.tests,
        tuple(arm_result(other, arm, list(of_arm.values()), rates) for arm, of_arm in chosen.items()),
        tuple(contrast(other, chosen, a, b, rates, margin=margin, primary=n == 0) for n, (a, b) in enumerate(pairs)),
    )


def _settings(loaded: Loaded) -> dict[str, Any]:
    """What the report prints under "how this was made"; plain values only."""
    about = loaded.record.model_dump(mode="json", exclude={"base": {"files"}, "study": {"training": {"report_to"}}})
    keys = ("kiyas_version", "python", "platform", "packages", "git", "device", "overrides", "declared_sha256")
    shown: dict[str, Any] = {key: about[key] for key in (*keys, "base", "judge") if about[key]}
    sections = ("seeds", "training", "peft", "generation", "benchmarks", "compare")
    shown |= {key: about["study"][key] for key in sections if about["study"]}
    return shown | ({"data": dict(loaded.arm_counts)} if loaded.arm_counts else {})
