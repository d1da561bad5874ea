"""Our own rows: docs/judge.md."""

from __future__ import annotations

from .format import BadRowError, Format, Problem, Row, Test, take, take_texts


def problem(row: Row) -> Problem:
    tests = []
    for number, test in enumerate(take(row, "tests", list, []), 1):
        if (
            not isinstance(test, dict)
            or not isinstance(test.get("input"), str)
            or not isinstance(test.get("output"), str)
        ):
            raise BadRowError(f"test {number} is not an object with the strings 'input' and 'output'")
        tests.append(Test(test["input"], test["output"]))
    return Problem(
        id=str(take(row, "id", (str, int))),
        tests=tuple(tests),
        title=take(row, "title", str, ""),
        statement=take(row, "statement", str, ""),
        question=take(row, "question", str, ""),
        entry_point=take(row, "entry_point", str, None),
        test_code=take(row, "test_code", str, None),
        preamble=take(row, "preamble", str, ""),
        modules=tuple(take_texts(row, "modules", [])),
        checker=take(row, "checker", str, None),
        tolerance=take(row, "tolerance", (int, float), None),
        time_limit_s=take(row, "time_limit_s", (int, float), None),
        memory_limit_mb=take(row, "memory_limit_mb", int, None),
        platform=take(row, "platform", str, ""),
        difficulty=take(row, "difficulty", str, ""),
        date=take(row, "date", str, ""),
        tags=tuple(map(str, take(row, "tags", list, []))),
    )


FORMAT = Format(name="kiyas", columns=("id", "tests|test_code"), problem=problem)
