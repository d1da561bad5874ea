"""HumanEval+ (EvalPlus): HumanEval's problems and columns with a longer `test`, which imports numpy."""

from __future__ import annotations

from dataclasses import replace

from . import humaneval, mbppplus
from .format import Format, Problem, Row, imported

MODULES = ("numpy",)


def differs(row: Row) -> str:
    test = str(row["test"])
    if not humaneval.CHECK.search(test):
        return "its 'test' does not define check"
    if imported(test) & set(MODULES) or humaneval.INPUTS.search(test):
        return ""
    return f"its 'test' neither imports {', '.join(MODULES)} nor has a list of inputs"


def problem(row: Row) -> Problem:
    return replace(humaneval.problem(row), platform="humanevalplus")


FORMAT = Format(
    name="humanevalplus",
    columns=humaneval.COLUMNS,
    differs=differs,
    problem=problem,
    modules=MODULES,
    solutions=humaneval.solutions,
    title="HumanEval+",
    citation=mbppplus.FORMAT.citation,
    hub_id="evalplus/humanevalplus",
)
