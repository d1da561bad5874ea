"""BigCodeBench: a function that uses libraries; its `test` is a unittest class `TestCases`.

Rows: the data card of bigcode/bigcodebench on the Hub (`complete_prompt`, `instruct_prompt`, `libs`, `test` …).
"""

from __future__ import annotations

import ast
import re
import sys

from .format import BadRowError, Format, Problem, Row, foreign_imports, parted, python3, take
from .running import run_unittest

CLASS = re.compile(r"^class TestCases\b", re.M)


def problem(row: Row) -> Problem:
    name, prompt, test = (take(row, key, str) for key in ("entry_point", "complete_prompt", "test"))
    if not CLASS.search(test):
        raise BadRowError("its 'test' does not define the class TestCases")
    preamble, stub = parted(prompt, name)
    asked = take(row, "instruct_prompt", str, "")
    return Problem(
        id=str(take(row, "task_id", (str, int))),
        tests=(),
        statement=asked or prompt,
        question="" if asked else f"Complete the following Python function.\n\n```python\n{prompt.strip()}\n```",
        preamble=preamble,
        stub=stub,
        entry_point=name,
        test_code=run_unittest(test, "TestCases"),
        modules=tuple(dict.fromkeys([*_libraries(row), *foreign_imports(test)])),
        platform="bigcodebench",
    )


def _libraries(row: Row) -> list[str]:
    """`libs`: a list as Python writes it; programs need them as much as the tests."""
    libs = row.get("libs") or []
    if isinstance(libs, str):
        try:
            libs = ast.literal_eval(libs)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise BadRowError("'libs' is not a list of modules") from None
    if not isinstance(libs, list) or not all(isinstance(each, str) and each.isidentifier() for each in libs):
        raise BadRowError("'libs' is not a list of modules")
    return [each for each in libs if each not in sys.stdlib_module_names]


def solutions(row: Row) -> tuple[str, ...]:
    solution = take(row, "canonical_solution", str, "")
    return python3([take(row, "complete_prompt", str) + solution]) if solution.strip() else ()


FORMAT = Format(
    name="bigcodebench",
    columns=("task_id", "complete_prompt", "entry_point", "test"),
    problem=problem,
    solutions=solutions,
    title="BigCodeBench",
)
