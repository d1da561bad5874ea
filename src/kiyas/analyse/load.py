"""Reads a run folder into arrays. A missing verdict and IE are *owed*: never counted as wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.stats.inference import Floats
from kiyas.study.settings import benchmark_label
from kiyas.types import BASE_ARM, AdapterId, KiyasError

Row = dict[str, Any]
SOLVED, OWED = "AC", (None, "IE")


@dataclass(frozen=True)
class Loaded:
    """A run as read. `answers[adapter][problem]` are the judged rows, one a sample, in order of sample."""

    resolved: Row
    study: Row
    problems: Mapping[str, Row]
    log: list[Row]
    answers: Mapping[AdapterId, Mapping[str, list[Row]]]
    stops: Mapping[AdapterId, Mapping[str, int]]
    counts: Row
    samples: int
    run: Path
    benchmark: str = ""
    """label of these problems' benchmark; empty where nothing names it"""
    cut: frozenset[tuple[AdapterId, str, int]] = frozenset()
    """(checkpoint, problem, sample) of the answers that ended at the length limit"""
    beside: Mapping[str, Loaded] = field(default_factory=dict)
    """the same adapters on the study's other benchmarks"""
    flagged: Mapping[str, tuple[str, ...]] | None = None
    """problems that stand in an arm's training data, by arm; None where that was not looked for"""

    def without(self, ids: set[str]) -> Loaded:
        """The same without some problems."""
        problems = {id: row for id, row in self.problems.items() if id not in ids}
        answers = {
            adapter: {problem: rows for problem, rows in of_problem.items() if problem not in ids}
            for adapter, of_problem in self.answers.items()
        }
        return replace(self, problems=problems, answers=answers)

    @property
    def arms(self) -> list[str]:
        """In the study's order, then as met; without the base."""
        met = [a.arm for a in self.answers] + [str(row["arm"]) for row in self.log]
        declared = list(self.study.get("arms") or {})
        return [arm for arm in dict.fromkeys(declared + met) if arm != BASE_ARM]

    def adapters(self, arm: str) -> list[AdapterId]:
        return sorted(a for a in self.answers if a.arm == arm)

    def rates(self, adapter: AdapterId) -> Floats:
        """Share of right samples per problem, NaN where the work is owed: shape P."""
        answers = self.answers[adapter]
        return np.array([self._rate(answers.get(problem, [])) for problem in self.problems])

    def _rate(self, rows: list[Row]) -> float:
        if len(rows) < self.samples or any(row["verdict"] in OWED for row in rows):
            return float("nan")
        right = [row["verdict"] == SOLVED for row in rows]
        return float(np.mean(right))

    def owed(self, adapter: AdapterId) -> int:
        """Verdicts that are missing or IE among those this checkpoint should have."""
        answers = self.answers[adapter]
        judged = sum(
            min(self.samples, sum(row["verdict"] not in OWED for row in answers.get(problem, [])))
            for problem in self.problems
        )
        return self.samples * len(self.problems) - judged


def load(run: Path) -> Loaded:
    """Raises KiyasError when the run has no verdicts at all."""
    folder = RunDir(run)
    resolved = read_json(folder.resolved)
    if not isinstance(resolved, dict):
        raise KiyasError(f"{folder.resolved}: expected a JSON object")
    study = resolved.get("study") or {}
    judgments = read_jsonl(folder.judgments) if folder.judgments.exists() else []
    log = read_jsonl(folder.train_log) if folder.train_log.exists() else []
    if not judgments and not log:
        raise KiyasError(
            f"{run} holds neither verdicts nor a training log: there is nothing to analyse",
            "run the study (or the import) to the end first",
        )
    problems = {str(row["id"]): row for row in read_jsonl(folder.problems)} if folder.problems.exists() else {}
    home = {id: str(row.get("benchmark") or "") for id, row in problems.items()}
    benchmarks = list(dict.fromkeys(["", *home.values()]))

    answers: dict[AdapterId, dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for number, row in enumerate(judgments, 1):
        try:
            adapter, problem = AdapterId.of(row), str(row["problem_id"])
            row["verdict"] = row["verdict"] or None
            answers[adapter][problem][int(row.get("sample", 0))] = row
        except (KeyError, TypeError, ValueError) as error:
            raise KiyasError(f"{folder.judgments}, row {number}: {error!r} is missing or wrong") from error
        problems.setdefault(problem, {"id": problem})
    ordered = {
        adapter: {p: [rows[s] for s in sorted(rows)] for p, rows in by_problem.items()}
        for adapter, by_problem in sorted(answers.items())
    }
    declared = (study.get("generation") or {}).get("num_samples")
    seen = [len(rows) for by_problem in ordered.values() for rows in by_problem.values()]
    samples = int(declared) if isinstance(declared, int) and declared > 0 else max(seen, default=1)

    stops: dict[AdapterId, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    cut = set()
    if folder.completions.exists():
        for row in read_jsonl(folder.completions):
            if row.get("stop"):
                stops[AdapterId.of(row)][str(row["stop"])] += 1
            if row.get("stop") == "length":
                cut.add((AdapterId.of(row), str(row["problem_id"]), int(row.get("sample") or 0)))
    counts = (folder.manifest(Stage.DATA) or {}).get("counts") or {}
    whole = Loaded(resolved, study, problems, log, ordered, stops, counts, samples, run, cut=frozenset(cut))
    primary, *others = (_part(whole, benchmark, home) for benchmark in benchmarks)
    label = benchmark_label(str(((study.get("benchmarks") or {}).get("primary") or {}).get("dataset") or ""))
    beside = {other.benchmark: other for other in others}
    return replace(primary, benchmark=label, beside=beside, flagged=_flagged(folder, set(primary.problems)))


def _flagged(folder: RunDir, problems: set[str]) -> dict[str, tuple[str, ...]] | None:
    """Of these problems, those that were found in training data."""
    if not folder.contamination.exists():
        return None
    found: dict[str, set[str]] = {}
    for each in read_json(folder.contamination):
        ids = {str(match["problem"]) for kind in ("exact", "ngram", "near", "solution") for match in each[kind]}
        found.setdefault(str(each["arm"]), set()).update(ids & problems)
    return {arm: tuple(sorted(ids)) for arm, ids in found.items() if ids}


def _part(whole: Loaded, benchmark: str, home: Mapping[str, str]) -> Loaded:
    """A run as far as it is about one benchmark. Problems that only verdicts name are of the primary one."""
    answers = {
        adapter: {p: rows for p, rows in of_problem.items() if home.get(p, "") == benchmark}
        for adapter, of_problem in whole.answers.items()
    }
    problems = {id: row for id, row in whole.problems.items() if home.get(id, "") == benchmark}
    return replace(whole, problems=problems, answers=answers, benchmark=benchmark)
