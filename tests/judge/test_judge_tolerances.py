"""The error that a statement allows: read where it says so, nowhere else, and applied."""

import gzip
import json
from pathlib import Path

import pytest

from kiyas.judge import Outcome, Problem, Program, Test, judge, read_problems, with_tolerance
from kiyas.judge.tolerances import stated

SHARED = Path(__file__).parents[3] / "shared" / "data"
FORMAL = (
    "Formally, let your answer be $a$, and the jury's answer be $b$. Your answer is accepted if and only if "
    "$\\frac{|a-b|}{\\max(1,|b|)} \\le 10^{-6}$."
)
FORMAL_HTML = "Your answer is correct if absolute or relative error is at most 10<sup>&minus;6</sup>."
EITHER_6 = (1e-6, "either")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("The absolute or relative error from the true value should be at most $10^{-6}$.", EITHER_6),
        ("Output is correct if its absolute or relative error from the true value is at most 10^{-6}.", EITHER_6),
        ("if its absolute or relative error does not exceed $10^{-6}$. " + FORMAL, EITHER_6),
        (FORMAL, EITHER_6),
        (FORMAL_HTML, EITHER_6),
        ("Your answer will be considered correct if its absolute or relative error doesn't exceed 10 - 6.", EITHER_6),
        ("correct if its absolute or relative error doesn't exceed 10^{ - 6}.", EITHER_6),
        ("absolute or relative error of your answer must be at most 1e-9", (1e-9, "either")),
        ("The relative or absolute error of the answer should not be more than 10^-4", (1e-4, "either")),
        ("Your answer must be within 10^(-6) absolute or relative error.", EITHER_6),
        ("absolute or relative error of \\(10^{-9}\\) or less is accepted", (1e-9, "either")),
        ("It is considered correct if absolute or relative error is less than 10**-6.", EITHER_6),
        ("If the absolute error or the relative error of your answer is at most\n10^{-6}, it is right.", EITHER_6),
        ("The answer must have an absolute or relative error of at most 5 \\times 10^{-7}.", (5e-7, "either")),
        ("The output must have an absolute or relative error of 0.000001 or less.", EITHER_6),
        ("Your answer must have an absolute or relative error of 10−6 or less.", EITHER_6),
        ("The absolute error of your answer must not exceed 0.01", (0.01, "absolute")),
        ("Your answer must have a relative error of at most 1e-6.", (1e-6, "relative")),
        ("想定解答との絶対誤差または相対誤差が $10^{-6}$ 以下であれば正解として扱われる。", EITHER_6),
        ("出力は、真の値との絶対誤差または相対誤差が 10^{−6} 以下のとき正解と判定される。", EITHER_6),
        ("なお、絶対誤差または相対誤差が 10⁻⁹ 以下であれば許容される。", (1e-9, "either")),
        ("相対誤差あるいは絶対誤差が \\(10^{-9}\\) 以下", (1e-9, "either")),
        ("絶対誤差が 0.001 以下であれば正解", (1e-3, "absolute")),
        ("Answers within 10^-5 of the actual answer will be accepted.", (1e-5, "absolute")),
        ("Answers within <code>10<sup>-5</sup></code> of the actual answer will be accepted.", (1e-5, "absolute")),
        ("", None),
        ("Print the answer with 6 digits after the decimal point.", None),
        ("Given numbers between 0.1 and 0.5, print the absolute difference.", None),
        ("The sensor has an error of 0.05. Print the absolute value.", None),
        ("Print the values whose relative error is unknown, as many as 10.", None),
        ("Print the numbers in relative order; 0.01 ≤ x.", None),
        ("Both absolute and relative error of your answer must not exceed 10^-6.", None),
        ("The absolute error must be at most 10^{-6} or the relative error at most 10^{-4} to be accepted.", None),
        ("relative error of the answer: at most 10^{-6}. absolute error of the answer: at most 10^{-3}.", None),
    ],
)  # fmt: skip
def test_what_a_statement_says(statement: str, found: tuple[float, str] | None) -> None:
    assert stated(statement) == found
    assert stated(f"Add two numbers.\n\n{statement}\n\nInput\n\n0.5 0.25\n") == found


def test_a_problem_s_own_word_wins() -> None:
    words = "The absolute or relative error from the true value should be at most 10^{-6}."
    test = (Test("", ""),)
    assert with_tolerance(Problem("p", test, statement=words)).tolerance == 1e-6
    own = Problem("p", test, statement=words, tolerance=0.1)
    assert with_tolerance(own) is own
    checked = Problem("p", test, statement=words, checker="unordered")
    assert with_tolerance(checked) is checked
    absolute = Problem("p", test, statement="The absolute error of the answer must be at most 10^-3.")
    assert with_tolerance(absolute).checker == "floats:absolute:0.001"


def statements() -> dict[str, str]:
    found = {}
    for row in map(json.loads, (SHARED / "atcoder-easy-41" / "problems.jsonl").read_text().splitlines()):
        found[str(row["id"])] = row.get("statement", "")
    with gzip.open(SHARED / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            found[row["task_id"]] = row["prompt"]
    return found


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_no_false_reading_of_real_statements() -> None:
    read = {id: stated(text) for id, text in statements().items()}
    assert len(read) == 205
    assert {id: found for id, found in read.items() if found is not None} == {"abc375_b": EITHER_6}


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_a_real_problem_can_be_solved() -> None:
    problems = read_problems(SHARED / "atcoder-easy-41" / "problems.jsonl")
    source = (
        "import math\nn = int(input())\nx = y = d = 0\nfor _ in range(n):\n    a, b = map(int, input().split())\n"
        "    d += math.sqrt((a - x) ** 2 + (b - y) ** 2)\n    x, y = a, b\nprint(d + math.sqrt(x * x + y * y))\n"
    )
    for rule, verdict in (("statement", Outcome.AC), ("exact", Outcome.WA)):
        (found,) = judge([Program("abc375_b", source)], problems, isolation="best", workers=1, tolerance=rule)
        assert found.verdict is verdict
        assert ("accepted within 1e-06" in found.flags) is (verdict is Outcome.AC)


HALF = "The absolute or relative error of your answer must be at most 10^-2."


@pytest.mark.parametrize(
    ("printed", "tolerance", "verdict", "flags"),
    [
        ("0.5", "statement", "AC", ()),
        ("0.49", "statement", "AC", ("accepted within 0.01",)),
        ("0.49", "exact", "WA", ()),
        ("0.48", "statement", "WA", ()),
    ],
)
def test_a_verdict_that_depends_on_it_says_so(
    printed: str, tolerance: str, verdict: str, flags: tuple[str, ...]
) -> None:
    problem = Problem("p", (Test("", "0.5\n"),), statement=HALF)
    program = Program("p", f"print({printed})")
    (found,) = judge([program], [problem], isolation="best", workers=1, tolerance=tolerance)
    assert (found.verdict.value, found.flags) == (verdict, flags)


def check(source: str, program: str, expected: str = "1\n") -> tuple[str, str, tuple[str, ...]]:
    problem = Problem("p", (Test("", expected),), checker=source)
    (found,) = judge([Program("p", program)], [problem], isolation="best", workers=1)
    return found.verdict.value, found.detail, found.flags


@pytest.mark.parametrize(
    ("result", "verdict", "detail"),
    [
        ("True", "AC", ""),
        ("False", "WA", "test 1: refused by the checker"),
        ("1", "AC", ""),
        ("0.5", "WA", "test 1: refused by the checker (score 0.5)"),
        ("(0.5, 'half of it')", "WA", "test 1: refused by the checker (score 0.5): half of it"),
        ("[False, 'not a path']", "WA", "test 1: refused by the checker: not a path"),
        ("(1.0, 'well done')", "AC", ""),
    ],
)
def test_what_a_checker_may_return(result: str, verdict: str, detail: str) -> None:
    found = check(f"def check(input, expected, output):\n    return {result}\n", "print(1)")
    assert found[:2] == (verdict, detail)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("return None", "it returned neither true or false nor a score"),
        ("return 'yes'", "it returned neither true or false nor a score"),
        ("(", "it does not compile"),
    ],
)
def test_a_checker_that_fails_is_named(body: str, reason: str) -> None:
    verdict, detail, flags = check(f"def check(input, expected, output):\n    {body}\n", "print(1)")
    assert (verdict, flags) == ("IE", ("the checker failed",))
    assert detail == f"test 1: the problem's checker failed: {reason}"


def test_a_checker_sees_the_bytes_that_were_printed() -> None:
    same = "def check(input, expected, output):\n    return output.strip() == expected.strip()\n"
    program = "import sys\nsys.stdout.buffer.write(b'\\xff')"
    assert check(same, program, "\ufffd")[0] == "WA"
    assert check(same, program, "\udcff")[0] == "AC"


@pytest.mark.parametrize(
    ("name", "printed", "expected", "verdict"),
    [
        ("unordered", "b\\na", "a\nb\n", "AC"),
        ("unordered", "b\\nb", "a\nb\n", "WA"),
        ("case-insensitive", "yes", "YES\n", "AC"),
        ("floats:absolute:0.1", "100.5", "100", "WA"),
        ("floats:relative:0.1", "100.5", "100", "AC"),
        ("floats:0.1", "100.5", "100", "AC"),
    ],
)
def test_built_in_checkers(name: str, printed: str, expected: str, verdict: str) -> None:
    assert check(name, f"print('{printed}')", expected)[0] == verdict


@pytest.mark.parametrize("mode", ["strict", "livecodebench", "both"])
def test_no_program_is_never_accepted(mode: str) -> None:
    problem = Problem("p", (Test("2\n", ""),))
    (found,) = judge([Program("p", "")], [problem], isolation="best", workers=1, mode=mode)
    assert found.verdict is Outcome.WA and found.livecodebench in (None, Outcome.WA)
