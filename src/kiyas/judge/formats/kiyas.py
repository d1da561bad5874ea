"""Our own rows: docs/judge.md."""

from __future__ import annotations

from .format import Format, Problem, Row, Test, python3, take, take_tests, take_texts


def problem(row: Row) -> Problem:
    return Problem(
        id=str(take(row, "id", (str, int))),
        tests=tuple(Test(test["input"], test["output"]) for test in take_tests(row, "tests")),
        title=take(row, "title", str, ""),
        statement=take(row, "statement", str, ""),
        question=take(row, "question", str, ""),
        entry_point=take(row, "entry_point", str, None),
        test_code=take(row, "test_code", str, None),
        preamble=take(row, "preamble", str, ""),
        stub=take(row, "stub", str, ""),
        given=take(row, "given", str, ""),
        modules=tuple(take_texts(row, "modules", [])),
        checker=take(row, "checker", str, None),
        tolerance=take(row, "tolerance", (int, float), None),
        time_limit_s=take(row, "time_limit_s", (int, float), None),
        memory_limit_mb=take(row, "memory_limit_mb", int, None),
        platform=take(row, "platform", str, ""),
        difficulty=take(row, "difficulty", str, ""),
        date=take(row, "date", str, ""),
        group=str(take(row, "group", (str, int), "")),
        tags=tuple(map(str, take(row, "tags", list, []))),
    )


def solutions(row: Row) -> tuple[str, ...]:
    return python3(take_texts(row, "solutions", []))


FORMAT = Format(
    name="kiyas",
    columns=("id", "tests|test_code"),
    # DeepCoder's rows may have an id.
    differs=lambda row: "it has a 'problem', and no 'statement'" if "problem" in row and "statement" not in row else "",
    problem=problem,
    solutions=solutions,
)
