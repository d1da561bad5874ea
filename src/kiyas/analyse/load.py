"""Reads a run folder into arrays. A verdict that is absent or IE is *missing*: it never counts as wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kiyas.analyse.encoding import decode
from kiyas.analyse.findings import DataFacts
from kiyas.judge import Problem
from kiyas.runfolder import rows
from kiyas.runfolder.files import read_json, read_sealed
from kiyas.runfolder.manifests import READS, refuse
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Record, read_record
from kiyas.similarity.shared_rows import SharedRows, shared_rows
from kiyas.stats.inference import Floats, pass_at_k
from kiyas.types import BASE_ARM, AdapterId, Answered, Judgment, KiyasError, LogRow

PassRates = Mapping[AdapterId, Floats]
"""The declared metric, or pass@k for a stated k, of checkpoints by problem: [P]; NaN where a verdict is missing"""


@dataclass(frozen=True)
class Loaded:
    """A run as read. `answers[adapter][problem]` are the judgments, one a sample, in order of sample."""

    record: Record
    problems: Mapping[str, Problem]
    log: list[LogRow]
    answers: Mapping[AdapterId, Mapping[str, list[Judgment]]]
    stops: Mapping[AdapterId, Counter[str]]
    """how the answers ended: "eos" or "length" """
    arm_counts: Mapping[str, Mapping[str, Any]]
    """what the data stage counted for each arm; empty where there was no such stage"""
    samples: int
    run: Path
    benchmark: str = ""
    """label of these problems' benchmark; empty where nothing names it"""
    cut: frozenset[Answered] = frozenset()
    """the answers that ended at the length limit"""
    secondary: Mapping[str, Loaded] = field(default_factory=dict)
    """the same adapters on the study's other benchmarks"""
    redecoded: Mapping[Answered, bool] = field(default_factory=dict)
    """answers that were decoded again in another batch shape: was the text the same?"""
    flagged: Mapping[str, tuple[str, ...]] | None = None
    """problems that are in an arm's training data, by arm; None where that was not looked for"""
    searched: frozenset[str] = frozenset()
    """the arms whose training data were searched for the problems"""
    texts: Mapping[AdapterId, Mapping[tuple[str, int], int]] = field(default_factory=dict)
    """hashes of whole answers by (problem, sample), where the run folder has them"""
    data: tuple[DataFacts, ...] = ()
    """by arm, as the data stage measured them"""
    shared_rows: tuple[SharedRows, ...] = ()
    """of every two arms whose training data are in the run folder"""

    @property
    def contaminated(self) -> set[str]:
        """Problems of the benchmark that are in the training data of any arm."""
        return {id for ids in (self.flagged or {}).values() for id in ids}

    def without(self, ids: set[str]) -> Loaded:
        """The same without some problems."""
        return self._only({id for id in self.problems if id not in ids})

    def _only(self, ids: set[str]) -> Loaded:
        problems = {id: problem for id, problem in self.problems.items() if id in ids}
        answers = {
            adapter: {problem: judged for problem, judged in of_problem.items() if problem in ids}
            for adapter, of_problem in self.answers.items()
        }
        return replace(self, problems=problems, answers=answers)

    @property
    def arms(self) -> list[str]:
        """In the study's order, then as met; without the base."""
        met = [a.arm for a in self.answers] + [row.adapter.arm for row in self.log]
        return [arm for arm in dict.fromkeys([*self.record.arms, *met]) if arm != BASE_ARM]

    @property
    def tests(self) -> int | None:
        """How many tests the problems have; None where they are not known."""
        return sum(len(problem.tests) for problem in self.problems.values()) or None

    @property
    def groups(self) -> list[str] | None:
        return self.groups_of(tuple(self.problems))

    def groups_of(self, ids: Sequence[str]) -> list[str] | None:
        """The group of each of these problems, where the benchmark knows groups of several; else None.

        A problem without a group is alone. Of one single group nothing could be said.
        """
        found = [self.problems[id].group or f"\0{id}" for id in ids]
        return found if 1 < len(set(found)) < len(found) else None

    def adapters(self, arm: str) -> list[AdapterId]:
        return sorted(a for a in self.answers if a.arm == arm)

    def rates(self, adapter: AdapterId, k: int | None = None) -> Floats:
        """pass@k per problem, unbiased, NaN where a verdict is missing: shape P. By default k is the declared metric's.

        pass@1 is the share of right samples.
        """
        answers, k = self.answers[adapter], k or self.record.compare.k
        return np.array([self._rate(answers.get(problem, []), k) for problem in self.problems])

    def _rate(self, judged: list[Judgment], k: int) -> float:
        if len(judged) < self.samples or any(each.missing for each in judged):
            return float("nan")
        if k == 1:
            return float(np.mean([each.solved for each in judged]))
        return pass_at_k(len(judged), sum(each.solved for each in judged), k)

    def judged(self, adapter: AdapterId, problem: str) -> list[Judgment]:
        """The judgments of one problem that are not missing."""
        return [each for each in self.answers[adapter].get(problem, []) if not each.missing]

    def missing(self, adapter: AdapterId) -> int:
        """How many of the verdicts that this checkpoint should have are missing."""
        found = sum(min(self.samples, len(self.judged(adapter, problem))) for problem in self.problems)
        return self.samples * len(self.problems) - found


def load(run: Path) -> Loaded:
    """Raises KiyasError when the run has no verdicts at all, or a file is not what the run wrote."""
    folder = RunDir(run)
    refuse(folder, READS[Stage.ANALYSE])
    record, judgments, log = read_record(folder), rows.judgments(folder), rows.log(folder)
    if not judgments and not log:
        raise KiyasError(
            f"{run} holds neither verdicts nor a training log: there is nothing to analyse",
            "run the study (or the import) to the end first",
        )
    known = rows.problems(folder)
    home = {id: label for id, (_, label) in known.items()}
    problems = {id: problem for id, (problem, _) in known.items()}

    answers: dict[AdapterId, dict[str, dict[int, Judgment]]] = defaultdict(lambda: defaultdict(dict))
    for each in judgments:
        answers[each.adapter][each.problem_id][each.sample] = each
        problems.setdefault(each.problem_id, Problem(each.problem_id, ()))
    ordered = {
        # In the order of the problems: verdicts come in any.
        adapter: {p: [judged[p][s] for s in sorted(judged[p])] for p in problems if p in judged}
        for adapter, judged in sorted(answers.items())
    }
    seen = [len(judged) for by_problem in ordered.values() for judged in by_problem.values()]
    samples = record.study.generation.num_samples if record.study else max(seen, default=1)

    stops: dict[AdapterId, Counter[str]] = defaultdict(Counter)
    again = {each.key: each.text for each in rows.redecoded(folder)}
    redecoded = {}
    cut = set()
    texts: dict[AdapterId, dict[tuple[str, int], int]] = defaultdict(dict)
    for completion in rows.completions(folder):
        if completion.text.strip():
            texts[completion.adapter][completion.problem_id, completion.sample] = hash(completion.text)
        if completion.stop:
            stops[completion.adapter][completion.stop] += 1
        if completion.stop == "length":
            cut.add(completion.key)
        if completion.key in again:
            redecoded[completion.key] = completion.text == again[completion.key]
    whole = Loaded(
        record, problems, log, ordered, stops, folder.arm_counts, samples, run,
        cut=frozenset(cut), redecoded=redecoded, texts=texts,
    )  # fmt: skip
    # Problems that only verdicts name are of the primary benchmark.
    ids: dict[str, set[str]] = {label: set() for label in dict.fromkeys(["", *home.values()])}
    for problem in problems:
        ids[home.get(problem, "")].add(problem)
    primary, *others = (replace(whole._only(of), benchmark=label) for label, of in ids.items())
    label = record.study.benchmarks.primary.label if record.study else ""
    secondary = {other.benchmark: other for other in others}
    flagged = _flagged(folder, set(primary.problems))
    arms = {arm: rows.examples(folder, arm) for arm in primary.arms}
    return replace(
        primary,
        benchmark=label,
        secondary=secondary,
        flagged=flagged and {arm: ids for arm, ids in flagged.items() if ids},
        searched=frozenset(flagged or ()),
        data=_data(folder),
        shared_rows=tuple(shared_rows(arms)),
    )


def _data(folder: RunDir) -> tuple[DataFacts, ...]:
    """None before run folders had them, and in imports."""
    return decode(tuple[DataFacts, ...], read_sealed(folder.data_facts)) if folder.data_facts.exists() else ()


def _flagged(folder: RunDir, problems: set[str]) -> dict[str, tuple[str, ...]] | None:
    """Of these problems, those that were found in training data, for every arm that was searched."""
    if not folder.contamination.exists():
        return None
    found: dict[str, set[str]] = {}
    for each in read_json(folder.contamination):
        ids = {str(match["problem"]) for kind in ("exact", "ngram", "near", "solution") for match in each[kind]}
        found.setdefault(str(each["arm"]), set()).update(ids & problems)
    return {arm: tuple(sorted(ids)) for arm, ids in found.items()}
