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
from kiyas.report.words import Words
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId

CUT = 2048
CUT_PROGRAM = 20_000
SHORTEST_CUT = 100

Row = dict[str, Any]


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: no character there can end or open anything."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def chunks(run: Path, findings: Findings, words: Words, room: int) -> list[str]:
    """One text for each row of the grid: base64 of gzip of `_problem`'s JSON; together at most `room` characters.

    What does not fit is cut, the longest texts first, and every cut text says where it stands whole. If that is not
    enough, all chunks are empty.
    """
    folder = RunDir(run)
    problems = {str(row["id"]): row for row in _read(folder.problems)}
    judged: dict[str, dict[AdapterId, list[Row]]] = {}
    for row in _read(folder.judgments):
        judged.setdefault(str(row["problem_id"]), {}).setdefault(AdapterId.of(row), []).append(row)
    for of_problem in judged.values():
        for rows in of_problem.values():
            rows.sort(key=_sample_number)
    without = {_key(row) for of in judged.values() for rows in of.values() for row in rows if not _program(row).strip()}
    answers = {}
    for row in _read(folder.completions) if without else ():
        if _key(row) in without:
            answers[_key(row)] = str(row.get("text") or "")

    limit = CUT_PROGRAM
    while limit >= SHORTEST_CUT:
        made, size = [], 0
        for line in findings.grid:
            problem = problems.get(line.problem, {})
            texts = _Texts(line.problem, limit, words)
            made.append(_pack(_problem(problem, judged.get(line.problem, {}), findings.columns, answers, texts)))
            size += len(made[-1])
            if size > room:
                break
        else:
            return made
        limit //= 2
    return [""] * len(findings.grid)


def _read(path: Path) -> list[Row]:
    return read_jsonl(path) if path.exists() else []


def _key(row: Row) -> tuple[AdapterId, str, int]:
    return AdapterId.of(row), str(row["problem_id"]), _sample_number(row)


def _sample_number(row: Row) -> int:
    return int(row.get("sample", 0))


def _program(row: Row) -> str:
    return str(row.get("program") or "")


def _pack(value: Any) -> str:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


@dataclass(frozen=True)
class _Texts:
    """Cuts the texts of one problem to `limit` characters or fewer."""

    problem: str
    limit: int
    words: Words

    def cut(self, value: Any, file: str, who: AdapterId | None = None, most: int = CUT) -> str:
        """At most `most` characters; a text that was cut ends with the name of the file that holds it whole."""
        text = value if isinstance(value, str) else "" if value is None else str(value)
        limit = min(most, self.limit)
        if len(text) <= limit:
            return text
        key, checkpoint = ("grid.cut_of", str(who)) if who else ("grid.cut", "")
        return f"{text[:limit]}\n{self.words(key, file=file, problem=self.problem, checkpoint=checkpoint)}"


PROBLEMS, JUDGMENTS, COMPLETIONS = "data/problems.jsonl", "judge/judgments.jsonl", "generate/completions.jsonl"


def _problem(
    problem: Row,
    judged: Mapping[AdapterId, list[Row]],
    columns: tuple[AdapterId, ...],
    answers: Mapping[tuple[AdapterId, str, int], str],
    texts: _Texts,
) -> Row:
    """`cells[j]` are the samples at checkpoint j; `tests` holds, by number, the tests that are shown."""
    cells = [[_sample(row, answers, texts) for row in judged.get(adapter, [])] for adapter in columns]
    samples = [sample for cell in cells for sample in cell]
    known = [test if isinstance(test, dict) else {} for test in problem.get("tests") or []]
    wanted = {sample["failing"]["n"] for sample in samples if "failing" in sample}
    if any("tests" not in sample for sample in samples):
        wanted |= set(range(1, len(known) + 1))
    tests = {}
    for n in sorted(wanted):
        test = known[n - 1] if n <= len(known) else {}
        pair = test.get("input", problem.get("test_code")), test.get("output")
        tests[n] = [None if value is None else texts.cut(value, PROBLEMS) for value in pair]
    return {
        "statement": texts.cut(problem.get("statement"), PROBLEMS, most=4 * CUT),
        "tests": tests,
        "cells": cells,
    }


def _sample(row: Row, answers: Mapping[tuple[AdapterId, str, int], str], texts: _Texts) -> Row:
    program, who = _program(row), AdapterId.of(row)
    shown: Row = {
        "v": str(row.get("verdict") or "missing"),
        "passed": row.get("passed"),
        "total": row.get("total"),
        "detail": texts.cut(_text(row.get("detail")), JUDGMENTS, who),
        "flags": [texts.cut(flag, JUDGMENTS, who) for flag in row.get("flags") or []],
    }
    if program.strip():
        shown["program"] = texts.cut(program, JUDGMENTS, who, CUT_PROGRAM)
    else:
        shown["answer"] = texts.cut(answers.get(_key(row), ""), COMPLETIONS, who, CUT_PROGRAM)
    tests = [t for t in row.get("tests") or [] if isinstance(t, dict)]
    if tests:
        shown["tests"] = [str(t.get("verdict") or "") for t in tests]
        failing = next((i for i, t in enumerate(tests) if t.get("verdict") not in ("AC", None)), None)
        if failing is not None:
            shown["failing"] = {"n": failing + 1, **_failing(tests[failing], who, texts)}
    return shown


def _failing(test: Mapping[str, Any], who: AdapterId, texts: _Texts) -> Row:
    """The first failing test with what was got; what was given and expected stands with the problem."""
    first = next((test[key] for key in ("got", "output", "stdout") if test.get(key) is not None), None)
    said = [_text(test[key]).strip() for key in ("detail", "stderr", "error") if test.get(key)]
    error = "\n".join(dict.fromkeys(said))
    return {
        "v": str(test.get("verdict") or ""),
        "got": texts.cut(first, JUDGMENTS, who) if first is not None else None,
        "error": texts.cut(error, JUDGMENTS, who) if error else None,
    }


def _text(value: Any) -> str:
    """Details may be text or a small object: one line a key."""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {item}" for key, item in value.items() if item not in (None, "", [], {}))
    return "" if value is None else str(value)
