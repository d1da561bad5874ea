"""What the page shows of programs and tests: cut to size, compressed, one chunk a problem.

Programs, answers, statements and error texts were written by models and strangers. They reach the page only
inside JSON data blocks and are put on screen as text nodes, never as markup. A chunk is opened when its problem is.
"""

from __future__ import annotations

import base64
import bisect
import gzip
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.analyse.findings import Findings
from kiyas.judge import Outcome, Problem, TestResult
from kiyas.judge.terminal import straight
from kiyas.runfolder import rows
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId, Answered, Judgment

CUT = 2048
CUT_PROGRAM = 20_000
CUT_FURTHER = 512
"""Of a test that is no answer's first failing one."""
LIMITS = (
    *(CUT_PROGRAM, 10_000, 5000, 2500, 1800, 1500, 1300, 1100, 950, 800),
    *(700, 600, 550, 500, 425, 350, 300, 250, 200, 150, 100),
)
CHOSEN = 8
"""The texts of chosen checkpoints may be so many times as long as the others'."""
GOLDEN = 0.6180339887
SAMPLE = 20
"""problems by which the size of all is guessed"""

Row = dict[str, Any]
Text = str | list[str]
"""A text, or what is left of one that was cut and the file that holds it whole."""


def script_json(value: Any) -> str:
    """JSON that can be inside a script element: no character there can end or open anything."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def chunks(run: Path, findings: Findings, chosen: Collection[int], room: int) -> list[str]:
    """One text for each row of the grid: base64 of gzip of `_problem`'s JSON; together at most `room` characters.

    What does not fit is left out, the least wanted first: of columns that are not in `chosen` the answers around the
    programs and all failing tests but the first; then the ends of long texts, the longest first. What was cut says
    where it is whole. If that is not enough, all chunks are empty.
    """
    folder = RunDir(run)
    problems = {id: problem for id, (problem, _) in rows.problems(folder).items()}
    judged: dict[str, dict[AdapterId, list[Judgment]]] = {}
    for each in rows.judgments(folder):
        judged.setdefault(each.problem_id, {}).setdefault(each.adapter, []).append(each)
    for of_problem in judged.values():
        for samples in of_problem.values():
            samples.sort(key=lambda each: each.sample)
    answers = {each.key: each.text for each in rows.completions(folder)}

    def chunk(i: int, limit: int | None) -> str:
        id = findings.grid[i].problem
        problem = problems.get(id, Problem(id, ()))
        cuts = [(adapter, _Cut(limit, j in chosen)) for j, adapter in enumerate(findings.columns)]
        return _pack(_problem(problem, judged.get(id, {}), cuts, answers, _Cut(limit, True)))

    # A sample from all over the benchmark says at which limit to begin.
    count = len(findings.grid)
    sample = sorted(range(count), key=lambda i: i * GOLDEN % 1)[:SAMPLE]

    def seems_to_fit(limit: int | None) -> bool:
        return sum(len(chunk(i, limit)) for i in sample) * count <= room * len(sample)

    limits = (None, *LIMITS)
    first = 0 if seems_to_fit(None) else bisect.bisect_left(limits, True, lo=1, key=seems_to_fit)
    for limit in limits[first:]:
        made: list[str] = []
        left = room
        while len(made) < count and left >= 0:
            made.append(chunk(len(made), limit))
            left -= len(made[-1])
        if left >= 0:
            return made
    return [""] * count


def _written(judgment: Judgment) -> bool:
    return bool(judgment.program and judgment.program.strip())


def _pack(value: Any) -> str:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


@dataclass(frozen=True)
class _Cut:
    """How much of a column's texts there is room for: up to `limit` characters of each, all with None.

    Where there is a limit, columns that were not chosen have neither the text around a program nor what further failing
    tests got.
    """

    limit: int | None
    chosen: bool

    @property
    def whole(self) -> bool:
        return self.chosen or self.limit is None

    def __call__(self, text: str, file: str, most: int = CUT) -> Text:
        if self.limit is not None:
            most = min(most, self.limit * (CHOSEN if self.chosen else 1))
        text = straight(text)
        return text if len(text) <= most else [text[:most], file]


PROBLEMS, JUDGMENTS, COMPLETIONS = "data/problems.jsonl", "judge/judgments.jsonl", "generate/completions.jsonl"


def _problem(
    problem: Problem,
    judged: Mapping[AdapterId, list[Judgment]],
    columns: Sequence[tuple[AdapterId, _Cut]],
    answers: Mapping[Answered, str],
    cut: _Cut,
) -> Row:
    """`cells[j]` numbers the samples at checkpoint j in `samples`, where equal ones are once.

    `tests` holds those that are shown, by number: input and expected output, or the code that tests. `known` counts all
    that the run folder has.
    """
    known: dict[str, int] = {}
    samples: list[Row] = []
    cells = []
    for adapter, own in columns:
        cell = []
        for each in judged.get(adapter, []):
            sample = _sample(each, answers, own)
            number = known.setdefault(json.dumps(sample), len(samples))
            if number == len(samples):
                samples.append(sample)
            cell.append(number)
        cells.append(cell)
    failings = [sample["failing"] for sample in samples if "failing" in sample]
    first = {failing[0]["n"] for failing in failings if failing}
    if any("tests" not in sample for sample in samples):
        first |= set(range(1, len(problem.tests) + 1))
    further = {each["n"] for failing in failings for each in failing if "left_out" not in each}
    tests: dict[int, list[Text]] = {}
    for n in sorted(first | further):
        if n <= len(problem.tests):
            most = CUT if n in first else CUT_FURTHER
            tests[n] = [cut(text, PROBLEMS, most) for text in (problem.tests[n - 1].input, problem.tests[n - 1].output)]
        elif problem.test_code:
            tests[n] = [cut(problem.test_code, PROBLEMS)]
    return {
        "statement": cut(problem.statement, PROBLEMS, 4 * CUT),
        "tests": tests,
        "known": len(problem.tests) or int(bool(problem.test_code)),
        "samples": samples,
        "cells": cells,
    }


def _sample(judgment: Judgment, answers: Mapping[Answered, str], cut: _Cut) -> Row:
    """`answer` is what is around the program, or all of the answer where the program is not in it as it is."""
    shown: Row = {"v": judgment.verdict or "missing", "flags": [cut(flag, JUDGMENTS) for flag in judgment.flags]}
    if judgment.total:
        shown |= {"passed": judgment.passed, "total": judgment.total}
    if judgment.not_run:
        shown["not_run"] = judgment.not_run
    if judgment.detail:
        shown["detail"] = cut(judgment.detail, JUDGMENTS)
    program, answer = judgment.program if _written(judgment) else None, answers.get(judgment.key)
    if program is not None:
        shown["program"] = cut(program, JUDGMENTS, CUT_PROGRAM)
    if answer is not None:
        if program is not None and not cut.whole:
            shown["left_out"] = True
        else:
            around = answer.split(program, 1) if program else [answer]
            shown["answer"] = [cut(text, COMPLETIONS, CUT_PROGRAM) for text in around]
    if judgment.tests:
        shown["tests"] = [test.verdict for test in judgment.tests]
        failing = [n for n, test in enumerate(judgment.tests, 1) if test.verdict is not Outcome.AC]
        shown["failing"] = [
            {"n": n, "v": judgment.tests[n - 1].verdict}
            | (_failing(judgment, n, cut, CUT_FURTHER if k else CUT) if cut.whole or not k else {"left_out": True})
            for k, n in enumerate(failing)
        ]
    return shown


def _failing(judgment: Judgment, n: int, cut: _Cut, most: int) -> Row:
    """What a failing test got, None where that is not known; what was given and expected is shown with the problem."""
    test: TestResult = judgment.tests[n - 1]
    error = "\n".join(dict.fromkeys(text.strip() for text in (test.detail, test.stderr) if text))
    unknown = judgment.recorded and not test.got
    return {
        "got": None if unknown else cut(test.got, JUDGMENTS, most),
        "error": cut(error, JUDGMENTS, most) if error else None,
    }
