"""Several replications of one comparison → `Pooled`: do they agree, and what do they say together?

Theory. A replication is a run folder, of which every answer is known, or the counts of a CSV file. Where all are runs
on the same problems, their errors are correlated through these problems: then replication and problem are crossed
random factors (`stats.two_way`, one row a replication), and the meta-analysis beside it speaks of these problems only.
Otherwise the meta-analysis is all there is. See docs/compare.md.

Not guaranteed: that replications differ in nothing but luck; the remarks name the settings that differ.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from kiyas.analyse import Decision, Findings, Level, Remark, analyse
from kiyas.analyse.contrasts import informative_problems
from kiyas.analyse.decisions import decision_of
from kiyas.analyse.encoding import encode
from kiyas.analyse.findings import by_weight
from kiyas.pooling import counts, runs, widths
from kiyas.pooling.replication import Replication
from kiyas.runfolder.paths import RunDir
from kiyas.stats import inference
from kiyas.stats.inference import Interval
from kiyas.stats.meta_analysis import Meta, random_effects
from kiyas.stats.random_effects import two_way
from kiyas.types import KiyasError, Problems

__all__ = ["Agreement", "Pooled", "PooledDifference", "Problems", "Replication", "agreement", "pool"]

Q_LEVEL = 0.10
"""Cochran's test misses much with few studies, so that .10 is the usual level (Cochrane Handbook, 10.10.2)."""


class Agreement(StrEnum):
    """What heterogeneity supports. OPEN: nothing shows that they differ, nor that they agree."""

    AGREE = "agree"
    DISAGREE = "disagree"
    OPEN = "open"
    ALONE = "alone"


@dataclass(frozen=True)
class PooledDifference:
    """A pooled difference. `method`: "crossed" (these and other problems), "meta" or "single" (nothing to pool)."""

    method: str
    difference: float
    interval: Interval
    interval90: Interval
    p: float
    bootstrap: Interval | None = None


@dataclass(frozen=True)
class Pooled:
    """Everything that `kiyas compare` found. `answers[0]` is what the decision uses."""

    a: str
    b: str
    replications: tuple[Replication, ...]
    problems: int | None
    """that all replications answered; None where they differ or are not known"""
    answers: tuple[PooledDifference, ...]
    meta: Meta | None
    margin: float | None
    decision: Decision
    agreement: Agreement
    remarks: tuple[Remark, ...]
    metric: str = "pass@1"
    widths: tuple[Remark, ...] = ()
    """why one interval is wider than another"""

    @property
    def exploratory(self) -> bool:
        return any(remark.code in runs.EXPLORATORY for remark in self.remarks)

    def to_json(self) -> dict[str, Any]:
        value = encode(self)
        assert isinstance(value, dict)
        return value


def pool(
    sources: Sequence[Path],
    *,
    arms: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    problems: Problems = "same",
) -> Pooled:
    """Pools run folders and CSV files of (study, arm, solved, total).

    `arms`: the two compared, (a, b); by default the first run's primary contrast, or the two arms of the first file.
    `names` renames arms, old to new. `problems`: "same" refuses runs on different problems, "shared" compares all
    runs on the problems that they share, "own" each on its own. Raises KiyasError for what is not one comparison.
    """
    names = dict(names or {})
    _refuse_twice(sources)
    tables = {path: counts.read(path, names) for path in sources if not path.is_dir()}
    found = {path: analyse(path) for path in sources if _is_run(path)}
    a, b = _arms(sources[0], tables, found, arms, names)
    remarks: list[Remark] = []
    judged = [run for path, findings in found.items() if (run := runs.read(path, findings, a, b, names, remarks))]
    runs.refuse_copies(judged)
    judged = runs.on_problems(_told_apart(judged), problems, remarks)
    metric = _metric(judged, tables)
    counted = counts.replications(tables, a, b, remarks)
    replications = [*map(runs.replication, judged), *counted]
    if not replications:
        left = ", ".join(dict.fromkeys(str(remark.values["name"]) for remark in remarks))
        raise KiyasError(f"nothing to pool: verdicts of {a} or {b} are missing in {left}", "finish the runs first")
    remarks += runs.remarks(judged, a, b)
    if counted:
        remarks.append(Remark("unpaired", Level.NOTE, {"n": len(counted)}))
    if counted and len(replications) > 1:
        remarks.append(Remark("problems_unknown", Level.NOTE))
    margins = {run.findings.margin for run in judged}
    if len(margins) > 1:
        remarks.append(Remark("margins_differ", Level.WARNING))
    margin = margins.pop() if len(margins) == 1 else None

    same = not counted and len({run.problems for run in judged}) == 1
    meta: Meta | None = None
    answers: list[PooledDifference] = []
    if len(replications) == 1:
        one = replications[0]
        agree = inference.crossed_bootstrap(judged[0].differences()) if one.method == "two-way" else None
        answers.append(PooledDifference("single", one.difference, one.interval, one.interval90, one.p, agree))
    else:
        errors = [r.within_error if same and r.within_error else r.standard_error for r in replications]
        meta = random_effects(np.array([r.difference for r in replications]), np.array(errors))
        if same and len(judged[0].problems) > 1:
            answers.append(_crossed(judged))
        ends = (meta.interval().clipped(), meta.interval(0.90).clipped())
        answers.append(PooledDifference("meta", meta.mean, *ends, meta.p))
    first = answers[0]
    return Pooled(
        a=a,
        b=b,
        replications=tuple(replications),
        problems=len(judged[0].problems) if same else None,
        answers=tuple(answers),
        meta=meta,
        margin=margin,
        decision=decision_of(first.interval, first.interval90, margin, *_informative(judged, replications, same)),
        agreement=agreement(meta, margin),
        remarks=by_weight(remarks),
        metric=metric,
        widths=tuple(widths.remarks(replications, [answer.interval for answer in answers])),
    )


def _metric(judged: Sequence[runs.Compared], tables: Mapping[Path, counts.Counts]) -> str:
    """The one metric of all replications; files of counts are of pass@1."""
    named = {str(run.path): run.findings.metric for run in judged} | {str(path): "pass@1" for path in tables}
    if len(set(named.values())) > 1:
        told = ", ".join(f"{name} {metric}" for name, metric in named.items())
        raise KiyasError(
            f"the replications have different metrics: {told}",
            "a difference in one metric is not one in another: give only those of one metric",
        )
    return next(iter(named.values()), "pass@1")


def agreement(meta: Meta | None, margin: float | None) -> Agreement:
    """Disagree: Q finds more spread than chance. Agree: not so, and one more replication's true difference is expected
    on the same side of zero, or within the margin."""
    if meta is None:
        return Agreement.ALONE
    if meta.q_p < Q_LEVEL:
        return Agreement.DISAGREE
    expected = meta.prediction
    if expected is not None and (expected.excludes_zero() or (margin is not None and expected.inside(margin))):
        return Agreement.AGREE
    return Agreement.OPEN


def _crossed(judged: Sequence[runs.Compared]) -> PooledDifference:
    """Replication × problem as two crossed random factors; every replication counts alike."""
    d_RP = np.stack([run.differences().mean(axis=0) for run in judged])
    found = two_way(d_RP, judged[0].groups)
    return PooledDifference(
        "crossed", found.mean, found.interval(), found.interval(0.90), found.p, inference.crossed_bootstrap(d_RP)
    )


def _informative(
    judged: Sequence[runs.Compared], replications: Sequence[Replication], same: bool
) -> tuple[int | None, int]:
    """(problems on which the arms could differ, all problems); of the first the most there can be."""
    if same:
        tables = [np.concatenate([getattr(run, side) for run in judged]) for side in ("a_SP", "b_SP")]
        return informative_problems(*tables), len(judged[0].problems)
    return sum(each.informative or 0 for each in replications), sum(each.problems for each in replications)


def _is_run(path: Path) -> bool:
    if path.is_dir() and not RunDir(path).is_begun:
        raise KiyasError(f"{path} is not a run folder: it holds no resolved.json", "give run folders or CSV files")
    return path.is_dir()


def _refuse_twice(sources: Sequence[Path]) -> None:
    twice = [str(path) for path, n in Counter(path.resolve() for path in sources).items() if n > 1]
    if twice:
        raise KiyasError(f"given twice: {', '.join(twice)}", "a run counts once; give every run or file once")


def _arms(
    first: Path,
    tables: Mapping[Path, counts.Counts],
    found: Mapping[Path, Findings],
    arms: Sequence[str] | None,
    names: Mapping[str, str],
) -> tuple[str, str]:
    if arms is not None:
        a, b = (names.get(arm, arm) for arm in arms)
    elif first in found:
        wanted = [names.get(arm, arm) for arm in found[first].wanted]
        if len(wanted) != 2:
            raise KiyasError(f"{first} compares nothing: it has one arm or none", "name two with --arms A B")
        a, b = wanted
    else:
        met = list(dict.fromkeys(arm for of_study in tables[first].values() for arm in of_study))
        if len(met) != 2:
            raise KiyasError(f"{first} has {len(met)} arms: {', '.join(met)}", "name two of them with --arms A B")
        a, b = met
    if a == b:
        raise KiyasError(f"an arm cannot be compared with itself: {a}", "name two different arms")
    return a, b


def _told_apart(judged: Sequence[runs.Compared]) -> list[runs.Compared]:
    """Runs of one name are distinguished by their folders."""
    count = Counter(run.name for run in judged)
    return [dataclasses.replace(run, name=str(run.path)) if count[run.name] > 1 else run for run in judged]
