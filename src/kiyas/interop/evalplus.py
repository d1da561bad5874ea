"""EvalPlus's and BigCodeBench's `*_eval_results.json`, and the results of `code_eval` (bigcode-evaluation-harness).

One JSON document: `eval` holds, for each problem, one entry a sample, with `base_status` and `plus_status` (EvalPlus,
evalplus/evaluate.py) or `status` (BigCodeBench). A sample passes where all of its tests pass: the base tests and, if
they were run, those that EvalPlus added. `code_eval` keeps `[number, {passed, completion_id}]` for each problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from kiyas.interop.answers import Answer, problem_of, text_of, whole
from kiyas.interop.files import Row, Table
from kiyas.judge import Outcome
from kiyas.types import KiyasError

NAME = "EvalPlus and bigcode results"
VERDICTS = {"pass": Outcome.AC, "fail": Outcome.WA, "timeout": Outcome.TLE, "timed out": Outcome.TLE}
PROBLEM, ENTRY = "problem of the document", "entry of the document"
"""Keys of the rows that `rows` makes"""


def rows(document: Row, where: str) -> Table:
    """One row a sample; none where the document is of another kind."""
    found = document.get("eval")
    if isinstance(found, dict) and any(map(_has_status, found.values())):
        return [row for problem, each in found.items() for row in _samples(problem, each, f"{where}, {problem:.80}")]
    if any(map(_has_pair, document.values())):
        return [row for problem, each in document.items() for row in _samples(problem, each, f"{where}, {problem:.80}")]
    return []


def _has_status(found: Any) -> bool:
    entry = found[0] if isinstance(found, list) and found else found
    return isinstance(entry, dict) and not {"base_status", "base", "status"}.isdisjoint(entry)


def _has_pair(found: Any) -> bool:
    entry = found[0] if isinstance(found, list) and found else None
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict) and "completion_id" in entry[1]


def _samples(problem: str, found: Any, where: str) -> Table:
    """EvalPlus before 0.2: `base` and `plus` are lists of `[status, tests]`, one a sample."""
    if isinstance(found, dict) and isinstance(found.get("base"), list):
        plus = found.get("plus") or [None] * len(found["base"])
        if not isinstance(plus, list) or len(plus) != len(found["base"]):
            plus = ["not one for each of `base`"] * len(found["base"])
        found = [
            {f"{key}_status": each[0] if isinstance(each, list) and each else each for key, each in both.items()}
            for both in ({"base": one, "plus": other} for one, other in zip(found["base"], plus, strict=True))
        ]
    entries = found if isinstance(found, list) else [found]
    return [
        (f"{where}, entry {number}", {PROBLEM: problem, "number": number - 1, ENTRY: entry})
        for number, entry in enumerate(entries, 1)
    ]


def recognises(row: Row) -> bool:
    return PROBLEM in row


def answers(row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
    sample, entry = row["number"], row[ENTRY]
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict):
        entry = entry[1]
        sample = whole(entry.get("completion_id"), "completion_id", where)
    if not isinstance(entry, dict):
        raise KiyasError(f"{where}: found {str(entry)[:80]!r}, expected an object")
    problem, program = problem_of(row[PROBLEM]), text_of(entry.get("solution"))
    if isinstance(entry.get("passed"), bool):
        verdict = Outcome.AC if entry["passed"] else Outcome.WA
        yield Answer(problem, verdict, sample, program, program, detail=str(entry.get("result") or ""))
        return
    keys = ("base_status", "plus_status") if "base_status" in entry else ("status",)
    said = {key: entry[key] for key in keys if entry.get(key) is not None}
    for key, value in said.items():
        if not isinstance(value, str) or value not in VERDICTS:
            raise KiyasError(f"{where}: {key} is {str(value)[:80]!r}, expected {', '.join(VERDICTS)}")
    if "base_status" in entry and "plus_status" not in said:
        odd["only the base tests were run, not those that EvalPlus adds"] += 1
    detail = ", ".join(f"{key} {value}" for key, value in said.items())
    verdicts = [VERDICTS[value] for value in said.values()]
    yield Answer(problem, _worst(verdicts), sample, program, program, detail=detail)


def _worst(verdicts: list[Outcome]) -> Outcome | None:
    """All must be AC; None where nothing was said."""
    return next((each for each in verdicts if each is not Outcome.AC), Outcome.AC if verdicts else None)
