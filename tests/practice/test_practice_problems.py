"""Problems, statements, programs and hidden tests against each other."""

from __future__ import annotations

import ast
import contextlib
import io
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from kiyas.practice import worlds
from kiyas.practice.grammar import FILTERS, MAPS, REDUCES, Spec, render_input, solve
from kiyas.practice.hidden_tests import hidden_tests
from kiyas.practice.solutions import STYLES, completion, program
from kiyas.practice.statements import statement


def execute(source: str, given: str) -> str:
    """What a program prints: a dull runner in this process, for programs that we wrote."""
    lines = iter(given.splitlines())
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source, "program", "exec"), {"input": lambda: next(lines), "__name__": "__main__"})
    return out.getvalue()


@pytest.fixture(scope="module")
def problems() -> list[worlds.Drawn]:
    return list(worlds._problems(Random("tests/practice"), "training", 500))


def every_operation() -> list[Spec]:
    """One problem for each operation of each slot, alone or with the plainest partner."""
    specs = []
    for family in FILTERS:
        plain = "join" if family != "pair" else "sum"
        for slot, table in (("filter", FILTERS), ("map", MAPS), ("reduce", REDUCES)):
            for name, op in table[family].items():
                k: Any = {"": None, "number": 7, "letter": "e"}[op.constant]
                spec = Spec(family, "", "", plain, "value")
                spec = replace(spec, **{slot: name})
                specs.append(spec if slot == "reduce" else replace(spec, **{f"{slot}_k": k}))
    return specs


def inputs_of(family: str) -> list[Any]:
    if family == "pair":
        return [[1, 1], [37, 5], [5, 370], [9999, 100]]
    if family == "string":
        return ["a", "xyz", "eee", "kangaroo", "thequickbrownfox"]
    return [[-3], [7], [8, 7, 6], [-14, 0, 14, -1, 1], [40, -40, 3, 3, 3, 100]]


def test_every_style_solves_every_operation() -> None:
    specs = every_operation()
    assert len(specs) == 10 + 10 + 15 + 8 + 6 + 10 + 8 + 8 + 8
    for spec in specs:
        for items in inputs_of(spec.family):
            expected = solve(spec, items)
            for style in STYLES:
                printed = execute(program(spec, style), render_input(spec.family, items))
                assert printed == expected + "\n", (spec, style, items)


def test_every_style_passes_the_hidden_tests_of_drawn_problems(problems: list[worlds.Drawn]) -> None:
    for problem in problems:
        for style in STYLES:
            source = program(problem.spec, style)
            for test in problem.tests:
                assert execute(source, test["input"]) == test["output"] + "\n", (problem.spec, style, test)


def test_the_five_styles_are_five_programs(problems: list[worlds.Drawn]) -> None:
    """Different syntax trees, not only different spelling."""
    for problem in problems:
        trees = {ast.dump(ast.parse(program(problem.spec, style))) for style in STYLES}
        assert len(trees) == len(STYLES), problem.spec


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="no style 'poetry'"):
        program(Spec("list", "", "", "sum", "value"), "poetry")


def test_the_sample_of_a_statement_is_answered_right(problems: list[worlds.Drawn]) -> None:
    for problem in problems:
        given, shown = problem.statement.split("Sample Input\n")[1].split("\nSample Output\n")
        assert execute(program(problem.spec, "loop"), given).rstrip("\n") == shown


def test_no_statement_or_program_has_an_unfilled_place(problems: list[worlds.Drawn]) -> None:
    for problem in problems:
        for text in (problem.statement, *(completion(problem.spec, style) for style in STYLES)):
            assert "{" not in text and "}" not in text and "None" not in text, text


def test_statements_have_paraphrases() -> None:
    spec = Spec("list", "even", "square", "sum", "value")
    texts = {statement(spec, [1, 2, 3, 4], Random(f"paraphrase {i}")) for i in range(60)}
    assert len(texts) > 10


def test_nothing_left_is_explained_exactly_where_it_can_happen(problems: list[worlds.Drawn]) -> None:
    for problem in problems:
        spec = problem.spec
        told = "nothing is left" in problem.statement or "there is none" in problem.statement
        filtered = spec.family != "pair" and bool(spec.filter)
        assert told == (filtered and spec.reduce_op.undefined_on_nothing), problem.statement


def test_eight_or_nine_tests_that_no_constant_program_passes(problems: list[worlds.Drawn]) -> None:
    for problem in problems:
        assert len(problem.tests) in (8, 9)
        counts = Counter(test["output"] for test in problem.tests)
        assert len(counts) >= 2
        if problem.spec.form != "value":
            assert set(counts) == {"Yes", "No"} and min(counts.values()) >= 2


def test_leaving_out_a_step_fails_a_test(problems: list[worlds.Drawn]) -> None:
    for problem in problems:
        for lazy in (replace(problem.spec, filter=""), replace(problem.spec, map="")):
            if lazy == problem.spec:
                continue
            source = program(lazy, "comprehension")
            outputs = [execute(source, test["input"]).rstrip("\n") for test in problem.tests]
            assert outputs != [test["output"] for test in problem.tests], problem.spec


@pytest.mark.parametrize(
    "spec",
    [
        Spec("list", "even", "", "sum", "parity"),  # always Yes
        Spec("list", "positive", "absolute", "sum", "value"),  # the map does nothing
        Spec("string", "equal", "", "distinct", "threshold", "e", None, 5),  # never above 1
    ],
)
def test_problems_without_a_question_are_refused(spec: Spec) -> None:
    assert all(hidden_tests(spec, Random(f"refuse {i}")) is None for i in range(5))


def test_an_answer_is_one_fenced_block() -> None:
    """Nothing around it; the end of turn is added by the chat template."""
    text = completion(Spec("pair", "", "", "sum", "value"), "comprehension")
    assert text.startswith("```python\n") and text.endswith("\n```") and text.count("```") == 2
