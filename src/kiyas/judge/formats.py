"""Reading problems and programs. Every complaint names file, line and what is wrong."""

from __future__ import annotations

import base64
import gzip
import json
import pickletools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .extract import extract
from .types import InputError, JudgeError, Problem, Program, Test

FORMATS = ("kiyas", "livecodebench", "humaneval", "mbpp")
MOST = {"time_limit_s": 1e6, "memory_limit_mb": 1e7, "tolerance": 1e300}


class _BadRowError(JudgeError):
    """What is wrong with a row; the caller adds where."""


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a JSONL file, or of a JSON file that holds one list; `.gz` of either."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if number == 1 and line.lstrip(b"\xef\xbb\xbf \t")[:1] == b"[":
                    yield from _list_rows(path, line + file.read())
                    return
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                    raise InputError(str(path), number, f"not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise InputError(str(path), number, f"a JSON object is wanted, not {type(row).__name__}")
                yield number, row
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(str(path), 0, f"cannot be read: {reason}") from None


def _list_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        whole = json.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(str(path), getattr(error, "lineno", 0), f"not JSON: {error}") from None
    for number, row in enumerate(whole, 1):
        if not isinstance(row, dict):
            raise InputError(str(path), 0, f"entry {number} of the list is not a JSON object")
        yield number, row


# --- problems ----------------------------------------------------------------------------------------------------


def read_problems(path: str | Path, format: str | None = None, *, public_tests_only: bool = False) -> list[Problem]:
    """All problems of a file: our own rows, LiveCodeBench's, HumanEval's or MBPP's; recognised if not named.

    `public_tests_only`: of LiveCodeBench's rows without their private tests; other rows are refused.
    Raises InputError with file, line and reason; also for an id that occurs twice.
    """
    if format is not None and format not in FORMATS:
        raise InputError(str(path), 0, f"unknown format {format!r}", "one of " + ", ".join(FORMATS))
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, row in rows(Path(path)):
        try:
            if public_tests_only and "public_test_cases" not in row:
                raise _BadRowError("`tests: public` needs LiveCodeBench's 'public_test_cases'")
            problem = problem_from_row({**row, "private_test_cases": "[]"} if public_tests_only else row, format)
        except _BadRowError as error:
            raise InputError(str(path), number, str(error)) from None
        if problem.id in seen:
            raise InputError(str(path), number, f"problem {problem.id!r} stands in line {seen[problem.id]} already")
        seen[problem.id] = number
        problems.append(problem)
    if not problems:
        raise InputError(str(path), 0, "no problems in it")
    return problems


def recognise(row: dict[str, Any]) -> str:
    if "question_content" in row or "public_test_cases" in row:
        return "livecodebench"
    if "task_id" in row and "test" in row and "entry_point" in row:
        return "humaneval"
    if "task_id" in row and "test_list" in row:
        return "mbpp"
    return "kiyas"


def problem_from_row(row: dict[str, Any], format: str | None = None) -> Problem:
    readers = {"kiyas": _own, "livecodebench": _livecodebench, "humaneval": _humaneval, "mbpp": _mbpp}
    return readers[format or recognise(row)](row)


def _get(row: dict[str, Any], key: str, kinds: type | tuple[type, ...], default: Any = ...) -> Any:
    value = row.get(key)
    if value is None:
        if default is ...:
            raise _BadRowError(f"key {key!r} is missing")
        return default
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        names = kinds.__name__ if isinstance(kinds, type) else " or ".join(kind.__name__ for kind in kinds)
        raise _BadRowError(f"{key!r} is a {type(value).__name__}, not a {names}")
    return value


def _own(row: dict[str, Any]) -> Problem:
    tests = []
    for number, test in enumerate(_get(row, "tests", list, []), 1):
        if (
            not isinstance(test, dict)
            or not isinstance(test.get("input"), str)
            or not isinstance(test.get("output"), str)
        ):
            raise _BadRowError(f"test {number} is not an object with the strings 'input' and 'output'")
        tests.append(Test(test["input"], test["output"]))
    problem = Problem(
        id=str(_get(row, "id", (str, int))),
        tests=tuple(tests),
        title=_get(row, "title", str, ""),
        statement=_get(row, "statement", str, ""),
        entry_point=_get(row, "entry_point", str, None),
        test_code=_get(row, "test_code", str, None),
        preamble=_get(row, "preamble", str, ""),
        checker=_get(row, "checker", str, None),
        tolerance=_get(row, "tolerance", (int, float), None),
        time_limit_s=_get(row, "time_limit_s", (int, float), None),
        memory_limit_mb=_get(row, "memory_limit_mb", int, None),
        platform=_get(row, "platform", str, ""),
        difficulty=_get(row, "difficulty", str, ""),
        date=_get(row, "date", str, ""),
        tags=tuple(map(str, _get(row, "tags", list, []))),
    )
    return _checked(problem)


def _checked(problem: Problem) -> Problem:
    if problem.test_code is None and not problem.tests:
        raise _BadRowError("no tests ('tests' or 'test_code' is wanted)")
    for name, most in MOST.items():
        limit = getattr(problem, name)
        if limit is not None and not 0 < limit <= most:
            raise _BadRowError(f"a {name!r} of {limit:.6g} makes no sense")
    if problem.entry_point is not None and problem.test_code is None:
        for number, test in enumerate(problem.tests, 1):
            try:
                for line in test.input.split("\n"):
                    json.loads(line)
                json.loads(test.output)
            except (ValueError, RecursionError) as error:
                raise _BadRowError(
                    f"test {number}: with 'entry_point', each input line and the output are JSON: {error}"
                ) from None
    return problem


def _livecodebench(row: dict[str, Any]) -> Problem:
    tests = _lcb_tests(row, "public_test_cases") + _lcb_tests(row, "private_test_cases")
    metadata = row.get("metadata") or {}
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError as error:
            raise _BadRowError(f"'metadata' is not JSON: {error}") from None
    functional = any(test.get("testtype") == "functional" for test in tests)
    entry_point = metadata.get("func_name") if isinstance(metadata, dict) else None
    if functional and not entry_point:
        raise _BadRowError("functional tests, but no 'func_name' in 'metadata'")
    return _checked(
        Problem(
            id=str(_get(row, "question_id", (str, int))),
            tests=tuple(Test(test["input"], test["output"]) for test in tests),
            title=_get(row, "question_title", str, ""),
            statement=_get(row, "question_content", str, ""),
            entry_point=entry_point if functional or not tests else None,
            platform=_get(row, "platform", str, ""),
            difficulty=_get(row, "difficulty", str, ""),
            date=_get(row, "contest_date", str, ""),
        )
    )


def _lcb_tests(row: dict[str, Any], key: str) -> list[dict[str, str]]:
    """A list, its JSON, or (private tests) base64 of zlib of a pickled JSON string; that one string is read by

    its opcode: nothing is ever unpickled."""
    value = row.get(key) or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                pickled = zlib.decompress(base64.b64decode(value, validate=True))
                strings = [
                    arg for op, arg, _ in pickletools.genops(pickled) if isinstance(arg, str) and "UNICODE" in op.name
                ]
                value = json.loads(strings[0])
            except (ValueError, zlib.error, IndexError) as error:
                raise _BadRowError(f"{key!r} can be read neither as JSON nor as packed JSON: {error}") from None
    good = isinstance(value, list) and all(
        isinstance(test, dict) and isinstance(test.get("input"), str) and isinstance(test.get("output"), str)
        for test in value
    )
    if not good:
        raise _BadRowError(f"{key!r} is not a list of objects with the strings 'input' and 'output'")
    return list(value)


def _humaneval(row: dict[str, Any]) -> Problem:
    name, prompt = _get(row, "entry_point", str), _get(row, "prompt", str, "")
    before, asked, _ = prompt.partition(f"def {name}(")
    return Problem(
        id=str(_get(row, "task_id", (str, int))),
        tests=(),
        statement=prompt,
        preamble=before if asked else "",
        entry_point=name,
        test_code=f"{_get(row, 'test', str)}\n\ncheck({name})\n",
        platform="humaneval",
    )


def _mbpp(row: dict[str, Any]) -> Problem:
    # `challenge_test_list` is left out, as in the benchmark's own evaluation.
    imports, tests = _get(row, "test_imports", list, []), _get(row, "test_list", list)
    if not tests or not all(isinstance(line, str) for line in [*imports, *tests]):
        raise _BadRowError("'test_list' (or 'test_imports') is not a list of strings")
    before = _get(row, "test_setup_code", str, "") or "\n".join(imports)
    return Problem(
        id=str(_get(row, "task_id", (str, int))),
        tests=(),
        statement=str(row.get("text") or row.get("prompt") or ""),
        test_code="\n".join([before, *tests]) + "\n",
        platform="mbpp",
    )


# --- programs ----------------------------------------------------------------------------------------------------


def read_programs(path: str | Path | Iterable[str | Path]) -> Iterator[Program]:
    """Programs in input order, one by one: a file, a folder, a glob, or several of these.

    Our own rows, LiveCodeBench's list with `code_list`, or the course evaluator's rows with `extracted_code`.
    """
    for file in program_files(path):
        for number, row in rows(file):
            try:
                yield from programs_from_row(row, f"{file}:{number}")
            except _BadRowError as error:
                raise InputError(str(file), number, str(error)) from None


def program_files(path: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files meant, sorted within a folder or glob. Raises InputError where there is none."""
    if not isinstance(path, str | Path):
        return [file for one in path for file in program_files(one)]
    place = Path(path)
    if place.is_dir():
        found = sorted(
            file
            for pattern in ("*.jsonl", "*.json", "*.jsonl.gz")
            for file in place.glob(pattern)
            if not file.name.endswith(".meta.json")
        )
        if not found:
            raise InputError(str(path), 0, "no .jsonl or .json file in this folder")
        return found
    if place.exists():
        return [place]
    if any(sign in str(path) for sign in "*?["):
        anchor = Path(place.anchor) if place.is_absolute() else Path()
        found = sorted(anchor.glob(str(place.relative_to(place.anchor) if place.is_absolute() else place)))
        if found:
            return found
    raise InputError(str(path), 0, "no such file")


def programs_from_row(row: dict[str, Any], origin: str = "") -> Iterator[Program]:
    problem_id = next((row[key] for key in ("problem_id", "question_id", "task_id") if row.get(key) is not None), None)
    if not isinstance(problem_id, str | int):
        raise _BadRowError("key 'problem_id' (or 'question_id') is missing")
    problem_id = str(problem_id)
    if isinstance(row.get("code_list"), list):
        rest = {key: value for key, value in row.items() if key not in ("code_list", "output_list", "graded_list")}
        for sample, code in enumerate(row["code_list"]):
            if not isinstance(code, str):
                raise _BadRowError(f"entry {sample + 1} of 'code_list' is not a string")
            passed_on = {**rest, "problem_id": problem_id, "sample": sample, "program": code}
            yield Program(problem_id, code, passed_on, origin=origin)
        return
    for key in ("program", "extracted_code"):
        if isinstance(row.get(key), str):
            yield Program(problem_id, row[key], {**row, "problem_id": problem_id}, origin=origin)
            return
    answer = row.get("answer")
    if not isinstance(answer, str):
        raise _BadRowError("neither 'program' nor 'answer' (nor 'code_list', 'extracted_code') is there as a string")
    found = extract(answer)
    yield Program(problem_id, found.program, {**row, "problem_id": problem_id}, found, origin)
