"""Verifiable coding problems: contests' problems with the tests in `verification_info`.

Rows: the data cards of open-r1/verifiable-coding-problems-python and PrimeIntellect/verifiable-coding-problems on the
Hub; `verification_info` is an object or its JSON, `gold_standard_solution` mostly is in a fence.
"""

from __future__ import annotations

from .format import BadRowError, Format, Problem, Row, asked, identity, listed_tests, python3, take, take_json


def problem(row: Row) -> Problem:
    info = take_json(row, "verification_info", dict)
    language = take(info, "language", str, "python")
    if language.lower() not in ("python", "python3"):
        raise BadRowError(f"its language is {language}, not Python", "leave out rows in other languages")
    tests, name = listed_tests(take_json(info, "test_cases", list))
    statement = take(row, "prompt", str, "") or take(row, "problem_statement", str, "")
    return Problem(
        id=identity(row, "problem_id", "id"),
        tests=tests,
        statement=statement,
        question="" if name is None else asked(statement, name),
        entry_point=name,
        platform=take(row, "source", str, "") or "verifiable",
    )


FORMAT = Format(
    name="verifiable",
    columns=("verification_info", "prompt|problem_statement"),
    problem=problem,
    solutions=lambda row: python3([row.get("gold_standard_solution")]),
    title="Verifiable coding problems",
)
