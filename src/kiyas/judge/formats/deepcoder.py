"""DeepCoder: problems of four sources, with tests in the shape of each.

Rows: the data card of agentica-org/DeepCoder-Preview-Dataset on the Hub (`problem`, `solutions`, `tests`). `tests` is
JSON: APPS's `{"inputs", "outputs", "fn_name"?}`, or a list of `{"input", "output", "type"}`, whose function is in
`fn_name` or in the row's `metadata`. They have no id: it is the row's number, from 0.
"""

from __future__ import annotations

from .format import Format, Problem, Row, asked, identity, listed_tests, paired_tests, python3, take, take_json


def problem(row: Row) -> Problem:
    given = take_json(row, "tests", (dict, list))
    metadata = take_json(row, "metadata", dict, {})
    if isinstance(given, dict):
        tests, name = paired_tests(given)
    else:
        tests, name = listed_tests(given, take(metadata, "func_name", str, None))
    statement, starter = take(row, "problem", str), take(row, "starter_code", str, "")
    return Problem(
        id=identity(row, "id", "problem_id"),
        tests=tests,
        statement=statement,
        question=asked(statement, name, starter),
        entry_point=name,
        platform="deepcoder",
    )


def solutions(row: Row) -> tuple[str, ...]:
    given = row.get("solutions")
    return python3([given] if isinstance(given, str) else take(row, "solutions", list, []))


FORMAT = Format(
    name="deepcoder",
    columns=("problem", "tests"),
    problem=problem,
    solutions=solutions,
    title="DeepCoder",
)
