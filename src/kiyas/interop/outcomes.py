"""Other people's evaluation results: the course evaluator's `detailed/*.jsonl` and rows of our own judge.

A verdict is read, never guessed: what the row cannot support becomes IE (owed) and a note.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiyas.interop.names import Named, contest_date
from kiyas.types import BASE, BASE_ARM, AdapterId, KiyasError

Row = dict[str, Any]
ID_KEYS = ("question_id", "problem_id", "task_id")
MOST_STEPS = 10**12
"""No training makes more; a larger number is a mistake."""
VERDICTS = frozenset(["AC", "WA", "TLE", "MLE", "RE", "OLE", "CE", "IE"])


def rows(path: Path, notes: list[str]) -> Iterator[tuple[int, Row]]:
    """Numbered rows of a JSONL file. A torn last line is noted; anything else broken raises KiyasError.

    A .json file may hold a list of rows, or an object with such a list in it.
    """
    data = path.read_bytes()
    if path.suffix == ".json":
        yield from enumerate(listed(path, data), 1)
        return
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                notes.append(f"{path.name}, line {number}: cut off in the middle; this row is missing")
                return
            raise KiyasError(
                f"{path}, line {number}: not valid JSON ({error})",
                "repair or remove this line and import again",
            ) from error
        if not isinstance(row, dict):
            raise KiyasError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
        yield number, row


def listed(path: Path, data: bytes) -> list[Row]:
    """The rows of a JSON document: itself a list, or the first list of outcomes or of log rows in an object."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise KiyasError(f"{path}: not valid JSON ({error})", "repair or remove this file") from error
    lists = [value] if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    for each in lists:
        if isinstance(each, list) and each and all(isinstance(row, dict) for row in each) and is_outcome(each[0]):
            return each
    return []


def problem_id(row: Row) -> str | None:
    return next((str(row[key]) for key in ID_KEYS if row.get(key) not in (None, "")), None)


def is_outcome(row: Row) -> bool:
    """Does this row tell how a program did on a problem?"""
    return problem_id(row) is not None and any(key in row for key in ("passed", "verdict", "test_results"))


@dataclass
class Outcomes:
    """What was read so far; `kept` has one row for each (checkpoint, problem, sample)."""

    kept: dict[tuple[AdapterId, str, int], tuple[Row, Row]] = field(default_factory=dict)
    problems: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, path: Path, named: Named, arm_of: Mapping[str, str] | None = None) -> None:
        """Adds one file. A row's own arm, variant, seed and step count for more than the file's name.

        Raises KiyasError with file and line for a row that cannot be read.
        """
        arm_of = arm_of or {}
        odd: Counter[str] = Counter()
        outside: list[str] = []
        count = clashes = 0
        nameless: set[str] = set()
        found = list(rows(path, self.notes))
        several_models = len({str(row["model"]) for _, row in found if row.get("model")}) > 1
        for number, row in found:
            problem = problem_id(row)
            if problem is None:
                raise KiyasError(f"{path}, line {number}: no question_id, problem_id or task_id")
            sample = row.get("sample", 0)
            if isinstance(sample, bool) or not isinstance(sample, int):
                raise KiyasError(f"{path}, line {number}: sample is {sample!r}, expected a whole number")
            adapter = _adapter(f"{path}, line {number}", row, named, arm_of, models=several_models)
            if not adapter.is_base and (row.get("arm") is None or row.get("step") is None):
                nameless.add(adapter.arm)
            judgment = self._judgment(path, number, row, adapter, problem, sample, odd)
            count += 1
            self._problem(problem, row)
            if named.window and (day := contest_date(problem)):
                early, late = (day - named.window[0]).days, (named.window[1] - day).days
                if min(early, late) < -14:
                    outside.append(problem)
            clashes += self._keep(adapter, problem, sample, row, judgment, odd)
        if 2 * clashes > count:
            raise KiyasError(
                f"{path}: {clashes} of {count} rows answer what another row of the same arm, seed, step and sample "
                "has answered otherwise",
                "give the rows their own `arm`, `seed`, `step` and `sample`, or name the files' arms with --arm",
            )
        if not count:
            self.notes.append(f"{path.name}: the file is empty")
        for arm in sorted(nameless):
            if named.step is None:
                self.notes.append(f"{path.name}: the name tells no step; taken as step 0 of arm {arm}")
        if nameless and named.by_epoch:
            self.notes.append(f"{path.name}: the name tells epochs, not steps; epoch {named.step} stands as the step")
        self.notes += [f"{path.name}: {what} ({n} {'row' if n == 1 else 'rows'})" for what, n in odd.items()]
        if outside:
            named_as = f"{named.window[0]:%Y-%m} to {named.window[1]:%Y-%m}" if named.window else ""
            self.notes.append(
                f"{path.name}: the name says {named_as}, but {len(outside)} problems are of another time "
                f"(such as {outside[0]}, about {contest_date(outside[0])})"
            )

    def _judgment(
        self,
        path: Path,
        number: int,
        row: Row,
        adapter: AdapterId,
        problem: str,
        sample: int,
        odd: Counter[str],
    ) -> Row:
        verdict, passed, total = recorded_verdict(row, odd, f"{path}, line {number}")
        program = row.get("extracted_code", row.get("program"))
        return {
            **adapter.fields(),
            "problem_id": problem,
            "sample": sample,
            "program": str(program) if program is not None else None,
            "extraction": "recorded",
            "verdict": verdict,
            "passed": passed,
            "total": total,
            "cpu_s": row.get("cpu_s"),
            "wall_s": row.get("wall_s"),
            "peak_mb": row.get("peak_mb"),
            "tests": row["tests"] if isinstance(row.get("tests"), list) else [],
            "detail": str(row.get("error") or row.get("detail") or ""),
            "flags": row["flags"] if isinstance(row.get("flags"), list) else [],
            "recorded": True,
        }

    def _problem(self, problem: str, row: Row) -> None:
        known = self.problems.setdefault(problem, {"id": problem})
        for key, source in (("title", "problem_title"), ("statement", "problem_prompt")):
            if row.get(source) and not known.get(key):
                known[key] = str(row[source])

    def _keep(self, adapter: AdapterId, problem: str, sample: int, row: Row, judgment: Row, odd: Counter[str]) -> bool:
        """Keeps the row; says whether it answers otherwise than an earlier one (neither of them IE)."""
        key = (adapter, problem, sample)
        text = row.get("model_output_raw", row.get("answer", judgment["program"]))
        completion = {
            **adapter.fields(), "problem_id": problem, "sample": sample,
            "text": str(text) if text is not None else "",
            "prompt_tokens": None, "tokens": None, "stop": None,
        }  # fmt: skip
        before, clash = self.kept.get(key), False
        if before is not None:
            old, new = before[0]["verdict"], judgment["verdict"]
            if new == "IE" and old != "IE":
                odd["answered twice: the earlier verdict was kept, the later was never judged"] += 1
                return False
            same = old == new and before[1]["text"] == completion["text"]
            odd["the same row twice" if same else "answered twice: the later row was kept"] += 1
            if old != new:
                odd["answered twice with different verdicts"] += 1
            clash = not same and old != "IE"
        self.kept[key] = (judgment, completion)
        return clash


def _adapter(where: str, row: Row, named: Named, arm_of: Mapping[str, str], *, models: bool) -> AdapterId:
    """Whom the row is about: its own words first, `model` where the file holds several, else the file's name."""
    if row.get("arm") is None:
        arm = str(row["model"]) if models and row.get("model") else None
        arm = named.arm if arm is None else arm_of.get(arm, arm)
        return BASE if arm == BASE_ARM else AdapterId(arm, seed=named.seed, step=named.step or 0)
    arm, variant = row["arm"], row.get("variant") or ""
    if not isinstance(arm, str) or not arm.strip() or not isinstance(variant, str):
        raise KiyasError(f"{where}: arm is {arm!r} and variant {variant!r}, expected names")
    named_of = {"seed": named.seed, "step": named.step or 0}
    own = {key: value if row.get(key) is None else row[key] for key, value in named_of.items()}
    for key, value in own.items():
        _whole(value, key, where)
    arm = arm_of.get(arm, arm)
    return BASE if arm == BASE_ARM else AdapterId(arm, variant, own["seed"], own["step"])


def recorded_verdict(row: Row, odd: Counter[str], where: str) -> tuple[str, int | None, int | None]:
    """(verdict, passed, total) as the row has them. `odd` counts what had to be said about it."""
    if isinstance(row.get("verdict"), str) and row["verdict"] in VERDICTS:
        return (row["verdict"], *_of_verdict(row, where))
    counts = _counts(row, where)
    total, passed = counts["total"], counts["passed"]
    if total is not None and passed is not None and passed > total:
        raise KiyasError(f"{where}: {passed} tests passed of {total}")
    said = row.get("passed")
    program = str(row.get("extracted_code", row.get("program")) or "").strip()
    if total is None and isinstance(said, bool) and not row.get("error"):
        odd["only passed or not was recorded, no test counts"] += 1
        return ("AC" if said else "WA"), None, None
    if not total:
        if row.get("error"):
            odd["the evaluation itself failed; no verdict"] += 1
            return "IE", passed, total
        if program or said:
            odd["no test was run; no verdict"] += 1
            return "IE", passed, total
        odd["no program in the answer; counted as wrong, as recorded"] += 1
        return "WA", passed, total
    if said is not None and bool(said) != (passed == total):
        odd["`passed` contradicts the test counts; the counts were taken"] += 1
    if passed == total:
        return "AC", passed, total
    if counts["error"]:
        return "RE", passed, total
    if counts["timeout"] and not counts["failed"]:
        return "TLE", passed, total
    return "WA", passed, total


def _whole(value: Any, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_STEPS:
        raise KiyasError(f"{where}: {key} is {value!r:.80}, expected a whole number")
    return value


def _of_verdict(row: Row, where: str) -> tuple[int | None, int | None]:
    """(passed, total) beside a verdict: both or neither; `passed` may also just say yes or no."""
    passed, total = row.get("passed"), row.get("total")
    if total is None and (passed is None or isinstance(passed, bool)):
        return None, None
    passed, total = _whole(passed, "passed", where), _whole(total, "total", where)
    if passed > total:
        raise KiyasError(f"{where}: {passed} tests passed of {total}")
    return passed, total


def _counts(row: Row, where: str) -> dict[str, int | None]:
    """Tests in all, passed, failed, timed out and ended in an error, as far as the row tells."""
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
        counts[key] = None if value is None else _whole(value, f"test_results.{key}", where)
    return counts


_NOTHING: dict[str, int | None] = {"failed": None, "timeout": None, "error": None}


def _test_passed(test: Any) -> bool:
    return bool(test.get("passed")) if isinstance(test, dict) else test is True
