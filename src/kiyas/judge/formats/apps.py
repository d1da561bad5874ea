"""APPS: problems of contests and of coding sites, by stdin or by calls.

Rows: the data card of codeparrot/apps on the Hub. `input_output` and `solutions` are JSON texts; with `fn_name` the
inputs are lists of arguments, and a result is mostly the only entry of a list.
"""

from __future__ import annotations

from .format import BadRowError, Format, Problem, Row, asked, identity, paired_tests, python3, take, take_json


def problem(row: Row) -> Problem:
    if not row.get("input_output"):
        raise BadRowError("its 'input_output' is empty: it has no tests", "leave out rows without tests")
    tests, name = paired_tests(take_json(row, "input_output", dict))
    statement, starter = take(row, "question", str), take(row, "starter_code", str, "")
    return Problem(
        id=identity(row, "problem_id", "id"),
        tests=tests,
        statement=statement,
        question=asked(statement, name, starter),
        entry_point=name,
        platform="apps",
        difficulty=take(row, "difficulty", str, ""),
    )


def solutions(row: Row) -> tuple[str, ...]:
    return python3(take_json(row, "solutions", list, []))


FORMAT = Format(
    name="apps",
    columns=("question", "input_output"),
    problem=problem,
    solutions=solutions,
    title="APPS",
)
