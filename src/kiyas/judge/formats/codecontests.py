"""CodeContests: problems of contests, with public, private and generated tests.

Rows: the data card of deepmind/code_contests on the Hub. Tests are `{"input": [], "output": []}`; a solution's language
is a number, 3 for Python 3.
"""

from __future__ import annotations

import math

from .format import BadRowError, Format, Problem, Row, Test, asked, listed_tests, paired_tests, python3, seconds, take

TESTS = ("public_tests", "private_tests", "generated_tests")
PYTHON3 = (3, "PYTHON3")
NONE: Row = {"input": [], "output": []}


def problem(row: Row) -> Problem:
    for key in ("input_file", "output_file"):
        if take(row, key, str, ""):
            raise BadRowError(f"its programs use a file ({key!r}), not standard input and output", "leave this row out")
    memory = take(row, "memory_limit_bytes", (int, float), 0)
    rating = take(row, "cf_rating", (int, float), 0)
    statement = take(row, "description", str, "")
    return Problem(
        id=take(row, "name", str),
        tests=tuple(test for key in TESTS for test in _tests(row, key)),
        statement=statement,
        question=asked(statement, None),
        time_limit_s=seconds(row, "time_limit"),
        memory_limit_mb=math.ceil(memory / 2**20) or None,
        difficulty=str(rating) if rating else "",
        tags=tuple(tag for tag in map(str, take(row, "cf_tags", list, [])) if tag),
        platform="codecontests",
        group=str(take(row, "cf_contest_id", (str, int), 0) or ""),
    )


def _tests(row: Row, key: str) -> tuple[Test, ...]:
    tests = take(row, key, (dict, list))
    if isinstance(tests, list):
        return listed_tests(tests)[0]
    return paired_tests({"inputs": take(tests, "input", list), "outputs": take(tests, "output", list)})[0]


def solutions(row: Row) -> tuple[str, ...]:
    given = take(row, "solutions", dict, {})
    pairs = zip(take(given, "language", list, []), take(given, "solution", list, []), strict=False)
    return python3(source for language, source in pairs if language in PYTHON3)


FORMAT = Format(
    name="codecontests",
    columns=("name", "description", *TESTS),
    problem=problem,
    solutions=solutions,
    public=lambda row: {**row, "private_tests": NONE, "generated_tests": NONE},
    title="CodeContests",
)
