"""Run folders as replications: the compared answers, and what makes runs not the same comparison."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kiyas.analyse import Decision, Findings, Level, Remark
from kiyas.analyse.contrasts import informative_problems, of_pair
from kiyas.analyse.load import Loaded, load
from kiyas.pooling import alike
from kiyas.pooling.replication import Replication
from kiyas.runfolder.files import digest, sha256
from kiyas.runfolder.paths import RunDir
from kiyas.stats.inference import Floats
from kiyas.stats.meta_analysis import paired_error
from kiyas.stats.random_effects import two_way
from kiyas.types import BASE_ARM, AdapterId, KiyasError, Problems

EXPLORATORY = ("selected_on_test", "declaration_changed")


@dataclass(frozen=True)
class Compared:
    """A run's compared answers: shares of right ones of the two arms, seeds × problems, and who gave them."""

    name: str
    path: Path
    loaded: Loaded
    findings: Findings
    arms: tuple[str, str]
    """as the run itself calls them"""
    pairs: tuple[tuple[AdapterId, AdapterId], ...]
    problems: tuple[str, ...]
    a_SP: Floats
    b_SP: Floats

    def on(self, problems: Sequence[str]) -> Compared:
        """The same run on some of its problems, in this order."""
        at = {problem: i for i, problem in enumerate(self.problems)}
        order = [at[problem] for problem in problems]
        return dataclasses.replace(self, problems=tuple(problems), a_SP=self.a_SP[:, order], b_SP=self.b_SP[:, order])

    @property
    def groups(self) -> list[str] | None:
        """The group of each of these problems, as in `Loaded.groups`."""
        return self.loaded.groups_of(self.problems)

    def differences(self) -> Floats:
        """b minus a: seeds × problems."""
        return self.b_SP - self.a_SP


def read(
    path: Path, findings: Findings, a: str, b: str, names: Mapping[str, str], noted: list[Remark]
) -> Compared | None:
    """None, and a remark, where verdicts of the two arms are missing."""
    known = {BASE_ARM: BASE_ARM}
    for arm in findings.arms:
        if names.get(arm, arm) in known:
            raise KiyasError(f"{path}: two arms would be called {names.get(arm, arm)}", "choose other names for --arm")
        known[names.get(arm, arm)] = arm
    absent = [arm for arm in (a, b) if arm not in known]
    if absent:
        raise KiyasError(
            f"{path} has no arm {' and no arm '.join(absent)}: its arms are {', '.join(findings.arms)}",
            "if it is the same arm under another name, say so with --arm OLD=NEW",
        )
    pair = {known[a], known[b]}
    contrast = next((each for each in findings.contrasts if {each.a, each.b} == pair), None)
    if contrast is None and pair <= {result.arm for result in findings.results}:
        raise KiyasError(
            f"{path} has too many arms to compare every pair; {a} and {b} were not compared", "declare the pair"
        )
    if contrast is None or contrast.decision is Decision.MISSING:
        code, values = ("owed", {"n": contrast.missing}) if contrast else ("not_judged", {})
        noted.append(Remark(code, Level.WARNING, {"name": findings.name, **values}))
        return None
    loaded = load(path)
    both = [(each.a, each.b) if contrast.a == known[a] else (each.b, each.a) for each in contrast.pairs]
    if contrast.decision is Decision.DEPENDS:
        noted.append(Remark("depends", Level.WARNING, {"name": findings.name}))
    return Compared(
        findings.name,
        path,
        loaded,
        findings,
        (known[a], known[b]),
        tuple(both),
        tuple(loaded.problems),
        np.stack([loaded.rates(x) for x, _ in both]),
        np.stack([loaded.rates(y) for _, y in both]),
    )


def on_problems(runs: Sequence[Compared], problems: Problems, noted: list[Remark]) -> list[Compared]:
    """All runs in one order of problems, on those that were asked for."""
    if len(runs) < 2:
        return list(runs)
    shared = sorted(set.intersection(*(set(run.problems) for run in runs)))
    counts = ", ".join(f"{run.name} {len(run.problems)}" for run in runs)
    _refuse_other_tests(runs, shared)
    if all(len(run.problems) == len(shared) for run in runs) or (problems == "shared" and shared):
        if any(len(run.problems) > len(shared) for run in runs):
            values = {"shared": len(shared), "counts": counts}
            noted.append(Remark("shared_problems", Level.WARNING, values))
        return [run.on(shared) for run in runs]
    if problems == "own":
        noted.append(Remark("own_problems", Level.WARNING, {"shared": len(shared), "counts": counts}))
        return list(runs)
    raise KiyasError(
        f"the runs answered different problems: they share {len(shared)} ({counts})",
        "--problems shared compares them on those; --problems own takes each on its own"
        if shared
        else "another benchmark is another comparison; --problems own pools them all the same",
    )


def _refuse_other_tests(runs: Sequence[Compared], shared: Sequence[str]) -> None:
    """The same id must mean the same problem, as far as the run folders tell the tests."""
    for problem in shared:
        told = {str(run.path): tests for run in runs if (tests := run.loaded.problems[problem].tests)}
        if len(set(told.values())) > 1:
            raise KiyasError(
                f"problem {problem} has other tests in {' and '.join(told)}",
                "the same id must mean the same problem: judge the runs on one file of problems",
            )


def remarks(runs: Sequence[Compared], a: str, b: str) -> list[Remark]:
    """What differs between the runs and may matter, as far as each records it; and what their own reports warn of."""
    found = alike.differences({run.name: (run.loaded, run.arms) for run in runs}, a, b)
    warnings = {
        run.name: [remark.code for remark in run.findings.remarks if remark.level is Level.WARNING] for run in runs
    }
    found += [
        Remark(code, Level.WARNING, {"names": ", ".join(who)})
        for code in EXPLORATORY
        if (who := [name for name, codes in warnings.items() if code in codes])
    ]
    if any(warnings.values()):
        told = ", ".join(f"{name} {len(codes)}" for name, codes in warnings.items() if codes)
        found.append(Remark("own_warnings", Level.NOTE, {"counts": told}))
    return found


def refuse_copies(runs: Sequence[Compared]) -> None:
    """A copy, or the same seeds trained again, adds nothing but false certainty."""
    met: dict[str, Path] = {}
    for run in runs:
        for content in _contents(run):
            if met.setdefault(content, run.path) != run.path:
                raise KiyasError(
                    f"{met[content]} and {run.path} hold the same programs and verdicts",
                    "a copy, or the same seeds trained again, is not a replication; give only one of them",
                )


def _contents(run: Compared) -> set[str]:
    """A digest of each pair's programs and verdicts; where no programs were recorded, of the file of verdicts."""
    found = set()
    for pair in run.pairs:
        every = [each for a in pair for problem in run.problems for each in run.loaded.answers[a].get(problem, [])]
        if any(each.program for each in every):
            found.add(digest([(each.problem_id, each.verdict, each.program) for each in every]))
    return found or {sha256(RunDir(run.path).judgments)}


def replication(run: Compared) -> Replication:
    """The numbers of the run's own report, on the problems that are compared."""
    d_SP, samples = run.differences(), run.loaded.samples
    S, P = d_SP.shape
    answers, exact = S * samples, None
    # An error of 0 would outweigh every other replication; half of one answer is the least that is believed.
    least = paired_error(np.zeros(P), answers)
    if S > 1 and P > 1:
        crossed = two_way(d_SP, run.groups)
        parts, interval, interval90, p = crossed.components, crossed.interval(), crossed.interval(0.90), crossed.p
        method, error = "two-way", max(crossed.standard_error, least)
        within = max(math.sqrt(parts.seed / S + parts.rest / (S * P)), least)
    else:
        found = of_pair(d_SP.mean(axis=0), answers, run.groups)
        method, interval, interval90, p = "pair", found.interval(), found.interval(0.90), found.p
        exact = found.exact_p
        error = within = paired_error(d_SP.mean(axis=0), answers)
    return Replication(
        run.name, method, S, P, float(run.a_SP.mean()), float(run.b_SP.mean()), float(d_SP.mean()),
        interval, interval90, p, error, within, informative_problems(run.a_SP, run.b_SP), exact, samples,
    )  # fmt: skip
