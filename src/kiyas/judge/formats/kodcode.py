"""KodCode: a question, and a `test` in pytest's manner that imports the program as `solution`.

Rows: the data card of KodCode/KodCode-V1 on the Hub. Its test functions are called by a runner of ours (running.py).
"""

from __future__ import annotations

from .format import Format, Problem, Row, foreign_imports, python3, take, take_json
from .running import run_pytest


def problem(row: Row) -> Problem:
    test, statement = take(row, "test", str), take(row, "question", str)
    about = take_json(row, "test_info", list, [])
    heads = [str(each.get("function_declaration") or "") for each in about if isinstance(each, dict)]
    shown = "\n".join(head for head in heads if head)
    named = f"\n\nYour program must define:\n\n```python\n{shown}\n```" if shown else ""
    return Problem(
        id=str(take(row, "question_id", (str, int), "")),
        tests=(),
        statement=statement,
        question=statement.strip() + named,
        test_code=run_pytest(test),
        modules=foreign_imports(test),
        platform="kodcode",
        difficulty=take(row, "gpt_difficulty", str, ""),
        tags=tuple(each for each in [take(row, "subset", str, "")] if each),
    )


FORMAT = Format(
    name="kodcode",
    columns=("question", "solution", "test"),
    problem=problem,
    solutions=lambda row: python3([row.get("solution")]),
    title="KodCode",
)
