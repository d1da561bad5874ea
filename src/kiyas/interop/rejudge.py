"""Recorded programs → our judge: every verdict determined again, and where it differs from the recorded one."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kiyas import judge
from kiyas.interop.answers import Answer
from kiyas.interop.files import Row
from kiyas.interop.kept import Kept
from kiyas.judge.programs import found_in
from kiyas.judge.pulse import JudgingPace
from kiyas.judge.terminal import many
from kiyas.judge.tiers import choose
from kiyas.judge.types import Isolation
from kiyas.judge.verdicts import CHECKER_FAILED
from kiyas.judging.stage import prove, refuse_common_failure, sound, verdicts
from kiyas.runfolder.paths import RunDir
from kiyas.runfolder.spreadsheet import text_in_cell
from kiyas.study.settings import Judge
from kiyas.types import Answered, Judgment, KiyasError
from kiyas.work.progress import bar, counted


@dataclass(frozen=True)
class Rejudged:
    """`rows`: the judgments that replace the recorded ones. `kept`: answers that could not be judged again."""

    rows: Mapping[Answered, Row]
    differences: list[Row]
    kept: int
    owed: int
    other_programs: int
    tier: judge.Tier | None
    """None where no program could be judged again"""
    doubts: list[str]
    """what was found wrong with problems, in sentences; answers to a refused one stay as recorded"""

    def __str__(self) -> str:
        """What was found, in a sentence or a few."""
        gained = sum(row["ours"] == "AC" != row["recorded"] for row in self.differences)
        lost = sum(row["recorded"] == "AC" != row["ours"] for row in self.differences)
        compared = len(self.rows) - self.owed
        parts = {
            "recorded as solved and not solved": lost,
            "recorded as not solved and solved": gained,
            "passed a different number of tests": len(self.differences) - gained - lost,
            "had no verdict before": self.owed,
            "stay as recorded (no tests for their problem, it is refused, or no program)": self.kept,
            "contain a program that, by our extraction, differs from the recorded one": self.other_programs,
        }
        return "; ".join(
            [
                f"judged again: {many(len(self.rows), 'answer')}" + (f" ({self.tier} isolation)" if self.tier else ""),
                f"{compared - len(self.differences)} of {compared} recorded verdicts are confirmed",
                *(f"{count} {what}" for what, count in parts.items() if count),
                *self.doubts,
            ]
        )


COLUMNS = (
    "arm", "variant", "seed", "step", "problem_id", "sample", "recorded", "ours",
    "passed_then", "total_then", "passed_now", "total_now", "detail",
)  # fmt: skip


def rejudge(answers: Mapping[Answered, Answer], benchmark: list[Row], settings: Judge, folder: RunDir) -> Rejudged:
    """Runs every program whose problem has tests; the same program for the same problem once.

    What is judged is kept in `folder`, where the same import finds it again after it was stopped.

    In a chat answer our own extraction finds the program; where there is none, or the answer is only the rest of a
    function, the recorded program is run. Raises KiyasError when nothing can be judged, or not with these
    settings, or when the sandbox failed.
    """
    problems = {
        str(row["id"]): judge.problem_from_row(row, "kiyas")
        for row in benchmark
        if row.get("tests") or row.get("test_code")
    }
    if not problems:
        raise KiyasError("nothing can be judged again: no problem has tests", "give them with --problems FILE")
    settings = settings.model_copy(update={"isolation": Isolation(choose(settings.isolation, settings.python))})
    asked = {answer.id for answer in answers.values()}
    used = [problem for id, problem in problems.items() if id in asked]
    kept = Kept(folder, settings)
    findings = kept.proof(used)
    if findings is None:
        with counted("prove", "programs") as proved:
            findings = prove(used, settings, proved)
    with folder.lock(), kept:
        kept.add_proof(used, findings)
        return _rejudge(answers, problems, used, settings, findings, kept)


def _rejudge(
    answers: Mapping[Answered, Answer],
    problems: Mapping[str, judge.Problem],
    used: list[judge.Problem],
    settings: Judge,
    findings: list[judge.Finding],
    kept: Kept,
) -> Rejudged:
    good = sound(used, findings, "the problems")
    wanted: dict[tuple[str, str], list[Answered]] = {}
    found: dict[Answered, Row] = {}
    others = 0
    for key, answer in answers.items():
        program, extraction = _program(answer, problems.get(answer.id), settings)
        if program is None or answer.id not in good:
            continue
        others += answer.program is not None and program.strip() != answer.program.strip()
        found[key] = {"program": program, "extraction": extraction}
        wanted.setdefault((answer.id, program), []).append(key)
    tier: judge.Tier | None = None
    before = 0
    for id, program in list(wanted):
        if (row := kept.verdict(problems[id], program)) is not None:
            for key in (same := wanted.pop((id, program))):
                found[key] |= row
            before, tier = before + len(same), judge.Tier(row["tier"])
    with bar("judge", len(found), "answers", before) as progress:
        pace = JudgingPace(Counter(id for id, _ in wanted))
        progress.left = pace.left_s
        for verdict in verdicts(wanted, problems.values(), settings):
            if verdict.verdict is judge.Outcome.IE:
                if CHECKER_FAILED in verdict.flags:
                    raise KiyasError(
                        f"problem {verdict.problem_id} cannot be judged: {verdict.detail}; nothing was imported",
                        "mend its checker, or leave the problem out",
                    )
                raise KiyasError(
                    f"a program could not be judged, the sandbox failed ({verdict.detail}); nothing was imported",
                    "see `kiyas doctor`; the same command goes on from the verdicts so far",
                )
            tier = verdict.tier
            same = wanted[verdict.problem_id, verdict.program.source]
            row = verdict.to_row()
            kept.add(problems[verdict.problem_id], verdict.program.source, row)
            for key in same:
                found[key] |= row
            pace.judged(verdict.problem_id, verdict.cpu_s)
            progress.update(len(same))
    refuse_common_failure(
        Judgment.of({**adapter.fields(), "problem_id": id, "sample": sample, **found[adapter, id, sample]})
        for adapter, id, sample in found
    )
    differences = [row for key in sorted(found) if (row := _difference(key, answers[key], found[key])) is not None]
    owed = sum(answers[key].missing for key in found)
    rows = {key: {**row, **_recorded(answers[key])} for key, row in found.items()}
    doubts = judge.in_words(findings, len(used))
    return Rejudged(rows, differences, len(answers) - len(found), owed, others, tier, doubts)


def _program(answer: Answer, problem: judge.Problem | None, settings: Judge) -> tuple[str | None, Any]:
    if answer.chat and answer.text is not None:
        extraction = found_in(answer.text, problem, settings.extraction)
        return extraction.program, {"method": extraction.method, "reason": extraction.reason}
    return answer.program, "recorded"


def _recorded(answer: Answer) -> Row:
    return {
        "recorded": False,
        "recorded_verdict": answer.verdict,
        "recorded_passed": answer.passed,
        "recorded_total": answer.total,
    }


def _difference(key: Answered, answer: Answer, ours: Row) -> Row | None:
    """Solved or not, otherwise than recorded; or of as many tests another number passed."""
    if answer.missing:
        return None
    other_count = answer.total == ours["total"] and answer.passed != ours["passed"]
    if (answer.verdict == "AC") == (ours["verdict"] == "AC") and not other_count:
        return None
    adapter, problem, sample = key
    values = (
        *adapter.fields().values(), problem, sample, answer.verdict, ours["verdict"],
        answer.passed, answer.total, ours["passed"], ours["total"], ours["detail"],
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def table(differences: list[Row]) -> str:
    """The differences as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in differences:
        writer.writerow({key: text_in_cell(value) if isinstance(value, str) else value for key, value in row.items()})
    return text.getvalue()
