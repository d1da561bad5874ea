"""What the page shows of programs and tests: cut to size, as plain data that the page's script reads.

Programs, answers, statements and error texts were written by models and strangers. They reach the page only
inside one JSON data block and are put on screen as text nodes, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiyas.analyse.findings import Findings
from kiyas.report.words import Words
from kiyas.rundir import RunDir, read_jsonl
from kiyas.types import AdapterId

CUT = 2048
CUT_PROGRAM = 20_000
BUDGET = 12_000_000
"""Characters of programs in one page; what does not fit is left out and said so."""


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: no character there can end or open anything."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def cut(value: Any, words: Words, limit: int = CUT) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text if len(text) <= limit else text[:limit] + "\n" + words("grid.cut")


class Texts:
    """Each text once: programs repeat between checkpoints."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._index: dict[str, int] = {}
        self._size = 0

    def add(self, text: str) -> int:
        """The text's number, or -1 when the page is full."""
        known = self._index.get(text)
        if known is not None:
            return known
        if self._size + len(text) > BUDGET:
            return -1
        self._size += len(text)
        self._index[text] = len(self.all)
        self.all.append(text)
        return self._index[text]


def payload(run: Path, findings: Findings, words: Words) -> dict[str, Any]:
    """For the side panel; `cells[i][j]` are the samples of problem i at checkpoint j."""
    folder = RunDir(run)
    problems = {str(row["id"]): row for row in _read(folder.problems)}
    judged: dict[tuple[AdapterId, str], list[dict[str, Any]]] = {}
    for row in _read(folder.judgments):
        judged.setdefault((AdapterId.of(row), str(row["problem_id"])), []).append(row)
    empty = {key for key, rows in judged.items() if any(not (r.get("program") or "").strip() for r in rows)}
    answers: dict[tuple[AdapterId, str, int], str] = {}
    for row in _read(folder.completions) if empty else ():
        key = (AdapterId.of(row), str(row["problem_id"]))
        if key in empty:
            answers[(*key, int(row.get("sample", 0)))] = str(row.get("text") or "")

    texts = Texts()
    cells = []
    for line in findings.grid:
        problem = problems.get(line.problem, {})
        cells.append(
            [
                [
                    _sample(row, problem, answers, texts, words)
                    for row in sorted(judged.get((adapter, line.problem), []), key=lambda r: int(r.get("sample", 0)))
                ]
                for adapter in findings.columns
            ]
        )
    shown = [_problem(line.problem, line.title, problems.get(line.problem, {}), words) for line in findings.grid]
    return {"problems": shown, "texts": texts.all, "cells": cells}


def _read(path: Path) -> list[dict[str, Any]]:
    return read_jsonl(path) if path.exists() else []


def _problem(name: str, title: str, row: Mapping[str, Any], words: Words) -> dict[str, Any]:
    tests = [t for t in row.get("tests") or [] if isinstance(t, dict)]
    return {
        "id": name,
        "title": title if title != name else "",
        "statement": cut(row.get("statement"), words, 4 * CUT),
        "tests": [[cut(t.get("input"), words, 600), cut(t.get("output"), words, 600)] for t in tests[:5]],
    }


def _sample(
    row: Mapping[str, Any],
    problem: Mapping[str, Any],
    answers: Mapping[tuple[AdapterId, str, int], str],
    texts: Texts,
    words: Words,
) -> dict[str, Any]:
    program = str(row.get("program") or "")
    shown: dict[str, Any] = {
        "v": str(row.get("verdict") or "missing"),
        "p": texts.add(cut(program, words, CUT_PROGRAM)) if program.strip() else None,
        "passed": row.get("passed"),
        "total": row.get("total"),
        "detail": cut(_text(row.get("detail")), words),
        "flags": [str(flag) for flag in row.get("flags") or []][:8],
    }
    if not program.strip():
        key = (AdapterId.of(dict(row)), str(row["problem_id"]), int(row.get("sample", 0)))
        shown["answer"] = texts.add(cut(answers.get(key, ""), words, CUT_PROGRAM))
    tests = [t for t in row.get("tests") or [] if isinstance(t, dict)]
    if tests:
        shown["tests"] = [str(t.get("verdict") or "") for t in tests][:200]
        failing = next((i for i, t in enumerate(tests) if t.get("verdict") not in ("AC", None)), None)
        if failing is not None:
            shown["failing"] = _failing(failing, tests[failing], problem, words)
    return shown


def _failing(i: int, test: Mapping[str, Any], problem: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """The first failing test with what was given, expected and got."""
    known = problem.get("tests") or []
    of = known[i] if i < len(known) and isinstance(known[i], dict) else {}
    first = next((test[key] for key in ("got", "output", "stdout") if test.get(key) is not None), None)
    said = [_text(test[key]).strip() for key in ("detail", "stderr", "error") if test.get(key)]
    error = "\n".join(dict.fromkeys(said))
    given = of.get("input", problem.get("test_code"))
    return {
        "n": i + 1,
        "v": str(test.get("verdict") or ""),
        "input": cut(given, words) if given is not None else None,
        "expected": cut(of["output"], words) if of.get("output") is not None else None,
        "got": cut(first, words) if first is not None else None,
        "error": cut(error, words) if error else None,
    }


def _text(value: Any) -> str:
    """Details may be text or a small object: one line a key."""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {item}" for key, item in value.items() if item not in (None, "", [], {}))
    return "" if value is None else str(value)
