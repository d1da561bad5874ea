"""What the page shows of programs and tests: cut to size, compressed, one chunk a problem.

Programs, answers, statements and error texts were written by models and strangers. They reach the page only
inside JSON data blocks and are put on screen as text nodes, never as markup. A chunk is opened when its problem is.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiyas.analyse.findings import Findings
from kiyas.judge import Outcome, Problem, TestResult
from kiyas.judge.terminal import straight
from kiyas.report.language import Language
from kiyas.runfolder import rows
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId, Answered, Judgment

CUT = 2048
CUT_PROGRAM = 20_000
SHORTEST_CUT = 100

Row = dict[str, Any]


def script_json(value: Any) -> str:
    """JSON that can be inside a script element: no character there can end or open anything."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def chunks(run: Path, findings: Findings, words: Language, room: int) -> list[str]:
    """One text for each row of the grid: base64 of gzip of `_problem`'s JSON; together at most `room` characters.

    What does not fit is cut, the longest texts first, and every cut text says where the whole text is. If that is not
    enough, all chunks are empty.
    """
    folder = RunDir(run)
    problems = {id: problem for id, (problem, _) in rows.problems(folder).items()}
    judged: dict[str, dict[AdapterId, list[Judgment]]] = {}
    for each in rows.judgments(folder):
        judged.setdefault(each.problem_id, {}).setdefault(each.adapter, []).append(each)
    for of_problem in judged.values():
        for samples in of_problem.values():
            samples.sort(key=lambda each: each.sample)
    without = {each.key for of in judged.values() for samples in of.values() for each in samples if not _written(each)}
    answers = {each.key: each.text for each in (rows.completions(folder) if without else ()) if each.key in without}

    limit = CUT_PROGRAM
    while limit >= SHORTEST_CUT:
        made, size = [], 0
        for line in findings.grid:
            problem = problems.get(line.problem, Problem(line.problem, ()))
            texts = _Texts(line.problem, limit, words)
            made.append(_pack(_problem(problem, judged.get(line.problem, {}), findings.columns, answers, texts)))
            size += len(made[-1])
            if size > room:
                break
        else:
            return made
        limit //= 2
    return [""] * len(findings.grid)


def _written(judgment: Judgment) -> bool:
    return bool(judgment.program and judgment.program.strip())


def _pack(value: Any) -> str:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


@dataclass(frozen=True)
class _Texts:
    """Cuts the texts of one problem to `limit` characters or fewer."""

    problem: str
    limit: int
    words: Language

    def cut(self, text: str, file: str, who: AdapterId | None = None, most: int = CUT) -> str:
        """At most `most` characters; a text that was cut ends with the name of the file that holds it whole."""
        limit, text = min(most, self.limit), straight(text)
        if len(text) <= limit:
            return text
        key, checkpoint = ("grid.cut_of", str(who)) if who else ("grid.cut", "")
        return f"{text[:limit]}\n{self.words(key, file=file, problem=self.problem, checkpoint=checkpoint)}"


PROBLEMS, JUDGMENTS, COMPLETIONS = "data/problems.jsonl", "judge/judgments.jsonl", "generate/completions.jsonl"


def _problem(
    problem: Problem,
    judged: Mapping[AdapterId, list[Judgment]],
    columns: tuple[AdapterId, ...],
    answers: Mapping[Answered, str],
    texts: _Texts,
) -> Row:
    """`cells[j]` are the samples at checkpoint j; `tests` holds, by number, the tests that are shown."""
    cells = [[_sample(each, answers, texts) for each in judged.get(adapter, [])] for adapter in columns]
    samples = [sample for cell in cells for sample in cell]
    wanted = {sample["failing"]["n"] for sample in samples if "failing" in sample}
    if any("tests" not in sample for sample in samples):
        wanted |= set(range(1, len(problem.tests) + 1))
    tests = {}
    for n in sorted(wanted):
        known = n <= len(problem.tests)
        pair = (problem.tests[n - 1].input, problem.tests[n - 1].output) if known else (problem.test_code, None)
        tests[n] = [None if value is None else texts.cut(value, PROBLEMS) for value in pair]
    return {
        "statement": texts.cut(problem.statement, PROBLEMS, most=4 * CUT),
        "tests": tests,
        "cells": cells,
    }


def _sample(judgment: Judgment, answers: Mapping[Answered, str], texts: _Texts) -> Row:
    who = judgment.adapter
    shown: Row = {
        "v": judgment.verdict or "missing",
        "passed": judgment.passed,
        "total": judgment.total,
        "detail": texts.cut(judgment.detail, JUDGMENTS, who),
        "flags": [texts.cut(flag, JUDGMENTS, who) for flag in judgment.flags],
    }
    if _written(judgment):
        shown["program"] = texts.cut(judgment.program or "", JUDGMENTS, who, CUT_PROGRAM)
    else:
        shown["answer"] = texts.cut(answers.get(judgment.key, ""), COMPLETIONS, who, CUT_PROGRAM)
    if judgment.tests:
        shown["tests"] = [test.verdict for test in judgment.tests]
        failing = next((i for i, test in enumerate(judgment.tests) if test.verdict is not Outcome.AC), None)
        if failing is not None:
            shown["failing"] = {"n": failing + 1, **_failing(judgment.tests[failing], who, texts)}
    return shown


def _failing(test: TestResult, who: AdapterId, texts: _Texts) -> Row:
    """The first failing test with what was got; what was given and expected is shown with the problem."""
    error = "\n".join(dict.fromkeys(text.strip() for text in (test.detail, test.stderr) if text))
    return {
        "v": test.verdict,
        "got": texts.cut(test.got, JUDGMENTS, who),
        "error": texts.cut(error, JUDGMENTS, who) if error else None,
    }
