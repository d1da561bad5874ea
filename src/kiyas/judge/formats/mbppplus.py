"""MBPP+ (EvalPlus): MBPP's problems with a longer `test`, which imports numpy and which the model does not see."""

from __future__ import annotations

from dataclasses import replace

from . import humanevalplus, mbpp
from .format import Format, Problem, Row, take


def problem(row: Row) -> Problem:
    base = mbpp.problem(row)  # asks the question with `test_list` alone
    return replace(base, test_code=f"{base.test_code}\n{take(row, 'test', str)}\n", platform="mbppplus")


FORMAT = Format(
    name="mbppplus",
    columns=("task_id", "test_list", "test"),
    problem=problem,
    modules=("numpy",),
    solution=lambda row: row.get("code"),
    title="MBPP+",
    citation=humanevalplus.CITATION,
    hub_id="evalplus/mbppplus",
)
