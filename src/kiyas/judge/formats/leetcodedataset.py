"""LeetCodeDataset: LeetCode's problems; `test` defines `check(candidate)`, and `prompt` has what both sides import.

Rows: the data card of newfacade/LeetCodeDataset on the Hub. `entry_point` is an expression, `Solution().f`.
"""

from __future__ import annotations

from . import humaneval
from .format import BadRowError, Format, Problem, Row, foreign_imports, parted, python3, take


def problem(row: Row) -> Problem:
    name, starter, test = (take(row, key, str) for key in ("entry_point", "starter_code", "test"))
    if not humaneval.CHECK.search(test):
        raise BadRowError("its 'test' does not define check")
    comments, stub = parted(starter, name.partition(".")[0].removesuffix("()"))
    statement = take(row, "problem_description", str, "")
    return Problem(
        id=str(take(row, "task_id", (str, int))),
        tests=(),
        statement=statement or starter,
        question=f"{statement.strip()}\n\nComplete this class. Answer with the whole class.\n\n"
        f"```python\n{starter.strip()}\n```",
        preamble=f"{take(row, 'prompt', str, '')}\n{comments}",
        stub=stub,
        entry_point=name,
        test_code=humaneval.called(test, name),
        modules=foreign_imports(test),
        platform="leetcode",
        difficulty=take(row, "difficulty", str, ""),
        date=take(row, "estimated_date", str, ""),
        tags=tuple(map(str, take(row, "tags", list, []))),
    )


FORMAT = Format(
    name="leetcodedataset",
    columns=("task_id", "prompt", "entry_point", "test", "starter_code"),
    problem=problem,
    solutions=lambda row: python3([row.get("completion")]),
    title="LeetCodeDataset",
)
