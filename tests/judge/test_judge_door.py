"""The judge's own door: what people's rows and answers look like, read right or refused in one line."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from format_rows import EXAMPLES

from kiyas.judge import ExtractionRule, InputError, Limits, Outcome, Problem, judge, problem_from_row, read_problems
from kiyas.judge.formats.format import BadRowError, foreign_imports, megabytes, python3, seconds
from kiyas.judge.programs import for_problem, read_programs
from kiyas.judge.stubs import continued, parted

Row = dict[str, Any]


def write(path: Path, *rows: Any) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def verdicts(problem: Problem, *rows: Row, folder: Path, python: str | None = None) -> list[Outcome]:
    path = write(folder / "a.jsonl", *({"problem_id": problem.id, **row} for row in rows))
    programs = (for_problem(program, problem, ExtractionRule.KIYAS) for program in read_programs(path))
    limits = Limits(time_s=3)
    found = judge(programs, [problem], workers=1, isolation="best", python=python, limits=limits)
    return [verdict.verdict for verdict in found]


def refusal(row: Row, format: str | None = None) -> str:
    with pytest.raises(BadRowError) as caught:
        problem_from_row(row, format, 0)
    assert "\n" not in caught.value.args[0]
    return str(caught.value.args[0])


# -- answers that are only the rest of a function ---------------------------------------------------------------------

HUMANEVAL = EXAMPLES["humaneval"].row
TEST = "def check(candidate):\n    assert candidate(21) == 42\n    assert candidate(-1) == -2\n"
HEADS = {
    "def": "import math\n\n\ndef double(x):\n",
    "async def": "import asyncio\n\n\nasync def double(x):\n",
    "decorator": "import functools\n\n\n@functools.cache\n@functools.wraps(\n    len\n)\ndef double(x):\n",
    "helper": "import math\n\n\ndef half(x):\n    return x / 2\n\n\ndef double(x):\n",
    "class": "import math\n\n\nclass Helper:\n    pass\n\n\nclass double:\n",
}


def of_head(kind: str) -> tuple[Problem, str]:
    """The problem, and the rest of its function."""
    test = (
        TEST.replace("candidate(", "asyncio.run(candidate(").replace(") ==", ")) ==") if kind == "async def" else TEST
    )
    body = "    def __new__(cls, x):\n        return 2 * x\n" if kind == "class" else "    y = x + x\n    return y\n"
    if kind == "async def":
        test = f"import asyncio\n{test.replace('def check(asyncio.run(candidate)):', 'def check(candidate):')}"
    row = {**HUMANEVAL, "prompt": f'{HEADS[kind]}    """Double it."""\n', "canonical_solution": body, "test": test}
    return problem_from_row(row), body


@pytest.mark.parametrize("kind", HEADS)
def test_a_body_gets_its_prompt(kind: str, tmp_path: Path) -> None:
    problem, body = of_head(kind)
    whole = problem.statement + body
    rows: list[Row] = [
        {"completion": body}, {"program": body}, {"solution": whole}, {"program": whole.partition("\n\n\n")[2]},
        {"answer": body}, {"answer": f"So:\n```python\n{body}```\n"}, {"answer": f"```python\n{whole}```"},
        {"completion": f"```python\n{whole}```\n"}, {"completion": f"{body}\n\nprint('more')\n"},
        {"program": f"from __future__ import annotations\n{whole}"}, *[{"program": each} for each in problem.solutions],
    ]  # fmt: skip
    assert verdicts(problem, *rows, folder=tmp_path) == [Outcome.AC] * len(rows)
    wrong = [{key: text.replace("x + x", "x").replace("2 * x", "x") for key, text in row.items()} for row in rows]
    assert set(verdicts(problem, *wrong, {"completion": "    pass\n"}, folder=tmp_path)) <= {Outcome.WA, Outcome.RE}


@pytest.mark.parametrize(
    "rest",
    ["    y = 2 * x\n    return y\n", "y = 2 * x\n    return y\n", "y = 2 * x\nreturn y\n", "return 2 * x",
     "  y = 2 * x\n  return y\n", "\tif x:\n\t\treturn 2 * x\n\treturn 0\n", "if x:\n    return 2 * x\nreturn 0",
     "\n\n    return 2 * x\n"],
)  # fmt: skip
def test_bodies_that_lost_their_indentation(rest: str) -> None:
    stub = "def double(x):\n    pass\n" if rest.startswith(("  y", "\t")) else 'def double(x):\n    """Double it."""\n'
    stub = stub.replace("    pass\n", "")
    names: Row = {}
    exec(continued(stub, rest, "double") or "", names)
    assert names["double"](21) == 42


@pytest.mark.parametrize(
    "source",
    ["def double(x):\n    return 2 * x\n",
     "def double(x:\n    return 2 * x\n", "x = 3\n", "", "def other(x):\n    return x\n",
     "class double:\n    def f(self) return", "    async def double(x): return", "nonsense here"],
)  # fmt: skip
def test_what_is_not_a_rest_stays_as_it_is(source: str) -> None:
    if not source.startswith("    async"):
        assert continued('def double(x):\n    """Double it."""\n', source, "double") is None


def test_prompts_are_parted() -> None:
    assert parted("import re\n\ndef f(x):\n    pass", "f") == ("import re\n\n", "def f(x):\n    pass\n")
    assert parted("a = 1\n@one\n@two(\n  3)\nasync def f(x):\n", "f") == (
        "a = 1\n",
        "@one\n@two(\n  3)\nasync def f(x):\n",
    )
    assert parted("def ff(x):\n    pass\n", "f")[::-1] == ("", "def ff(x):\n    pass\n")
    assert parted("Write f.", "f") == parted("Hello", "f") == parted("", "f") == ("", "")
    assert parted("from typing import *\n", "f") == ("from typing import *\n", "")


# -- rows of the formats -----------------------------------------------------------------------------------------------


def test_calls_as_apps_writes_them(tmp_path: Path) -> None:
    row = EXAMPLES["apps"].row
    for outputs in ([[42], [-2]], [42, -2]):
        given = {"fn_name": "double", "inputs": [[21], [-1]], "outputs": outputs}
        problem = problem_from_row({**row, "input_output": json.dumps(given)})
        right = "class Solution:\n    def double(self, x):\n        return 2 * x\n"
        assert problem.entry_point == "double"
        assert verdicts(problem, {"program": right}, {"program": "def double(x): return x"}, folder=tmp_path) == [
            Outcome.AC,
            Outcome.WA,
        ]
    lists = {"fn_name": "f", "inputs": [[1], [2]], "outputs": [[1], [1, 2]]}
    assert problem_from_row({**row, "input_output": lists}).tests[0].output == "[1]"


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("apps", {"input_output": ""}, "'input_output' is empty: it has no tests"),
        ("apps", {"input_output": "{}"}, "key 'inputs' is missing"),
        ("apps", {"input_output": {"inputs": ["1"], "outputs": []}}, "1 inputs and 0 outputs"),
        ("apps", {"input_output": {"inputs": [1], "outputs": ["1"]}}, "test 1: its input or its output is a int"),
        ("apps", {"input_output": {"fn_name": "f", "inputs": ["1"], "outputs": ["1"]}}, "not a list of arguments"),
        ("apps", {"input_output": {"fn_name": "f g", "inputs": [[1]], "outputs": [[1]]}}, "'f g' is not the name"),
        ("apps", {"input_output": '{"inputs": [' + "1" * 5000 + "]}"}, "more than 4300 digits"),
        ("taco", {"time_limit": "soon"}, "'time_limit' is 'soon': neither a number nor a number with its unit"),
        ("codecontests", {"input_file": "in.txt"}, "use a file ('input_file')"),
        ("codecontests", {"private_tests": {"input": ["1"], "output": []}}, "1 inputs and 0 outputs"),
        ("codeforces", {"input_mode": "file"}, "'input_mode' is 'file'"),
        ("codeforces", {"interaction_format": "Ask."}, "it is interactive"),
        ("codeforces", {"official_tests_complete": False}, "official tests are not complete"),
        ("codeforces", {"official_tests": []}, "no tests"),
        ("codeforces", {"generated_checker": "print 1"}, "'generated_checker' is not Python 3"),
        ("verifiable", {"verification_info": {"language": "rust", "test_cases": []}}, "its language is rust"),
        ("verifiable", {"verification_info": {"test_cases": [{"type": "file", "input": "", "output": ""}]}}, "'file'"),
        ("verifiable", {"verification_info": {"test_cases": []}}, "no tests"),
        ("leetcodedataset", {"entry_point": "Solution().f()"}, "is not the name of a function"),
        ("leetcodedataset", {"test": "assert True"}, "does not define check"),
        ("kodcode", {"test": "def helper(): pass"}, "has no test function or class"),
        ("kodcode", {"test": "def test_a(capsys): pass"}, "uses fixtures (capsys)"),
        ("kodcode", {"test": "async def test_a(): pass"}, "has a coroutine, test_a"),
        ("kodcode", {"test": "import pytest\n@pytest.mark.skip\ndef test_a(): pass"}, "marks test_a as skip"),
        (
            "kodcode",
            {"test": "import pytest\n@pytest.fixture(autouse=True)\ndef f(): pass\ndef test_a(): 0"},
            "fixture",
        ),
        ("kodcode", {"test": "class A(Base):\n    def test_a(self): 0\ndef test_b(): 0"}, "class A with a base"),
        ("kodcode", {"test": "def setup_module(): pass\ndef test_a(): pass"}, "defines setup_module"),
        ("deepcoder", {"tests": [{"type": "functional", "input": "1", "output": "1"}]}, "does not name it ('fn_name')"),
        ("deepcoder", {"tests": [{"input": "", "output": "", "fn_name": f} for f in "fg"]}, "do not all call one"),
        ("bigcodebench", {"libs": "json"}, "'libs' is not a list of modules"),
        ("bigcodebench", {"test": "def test(): pass"}, "does not define the class TestCases"),
        ("livecodebench", {"private_test_cases": None}, "'private_test_cases' are missing"),
        ("humaneval", {"task_id": "CPP/0"}, "its programs are in CPP, and Kıyas runs Python 3"),
        ("humaneval", {"task_id": "Rust/7", "test": "fn check() {}"}, "its programs are in Rust"),
        ("humaneval", {"language": "java"}, "its programs are in java"),
        ("humaneval", {"prompt": "def double(x) {\n"}, "its 'prompt' is not Python 3"),
        ("humaneval", {"entry_point": ["double"]}, "'entry_point' is a list, not a str"),
        ("humaneval", {"entry_point": "double-it"}, "'double-it' is not the name of a function"),
        ("humaneval", {"entry_point": "lambda"}, "'lambda' is not the name of a function"),
    ],
)
def test_rows_that_cannot_be_judged_right(name: str, change: Row, told: str) -> None:
    assert told in refusal({**EXAMPLES[name].row, **change}, name)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_column_of_tests_that_is_missing_is_named(name: str) -> None:
    row = EXAMPLES[name].row
    tests = {"tests", "test", "input_output", "public_test_cases", "official_tests", "test_list", "verification_info",
             "private_tests"}  # fmt: skip
    without = {key: value for key, value in row.items() if key not in tests}
    assert f"{name} (" in (said := refusal(without)) and "is missing" in said


def test_entry_points_as_expressions(tmp_path: Path) -> None:
    row = {"id": "a", "entry_point": "Solution().f", "tests": [{"input": "1", "output": "1"}]}
    problem = problem_from_row(row)
    assert problem.entry_point == "Solution.f"
    program = {"program": "class Solution:\n    def f(self, x):\n        return x\n"}
    assert verdicts(problem, program, folder=tmp_path) == [Outcome.AC]
    for wrong in ("a.b.c", "f()", "Solution()", "1f", "", "a b", "f\n", "()"):
        assert "is not the name of a function" in refusal({**row, "entry_point": wrong})


def test_tests_of_deepcoders_sources() -> None:
    row = EXAMPLES["deepcoder"].row
    called = [{"input": "[1]\n2", "output": "3", "testtype": "functional"}]
    lcb = problem_from_row({**row, "tests": json.dumps(called), "metadata": {"func_name": "add"}}, number=7)
    assert (lcb.id, lcb.entry_point, lcb.tests[0].input) == ("7", "add", "[1]\n2")
    prime = [{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": [3]}]
    assert problem_from_row({**row, "tests": prime}, number=0).tests[0].output == "3"
    taco = problem_from_row({**row, "tests": {"inputs": ["1"], "outputs": ["2"]}, "id": "x"}, number=0)
    assert (taco.id, taco.entry_point, taco.tests[0].output) == ("x", None, "2")
    assert "no id" in _message(lambda: problem_from_row(row))


def _message(call: Any) -> str:
    with pytest.raises(BadRowError) as caught:
        call()
    return str(caught.value)


def test_limits_of_rows() -> None:
    assert [seconds({"t": t}, "t") for t in (2, 0.5, "1.5 seconds", "2000 ms", "", None, 0)] == [
        2, 0.5, 1.5, 2, None, None, None,
    ]  # fmt: skip
    assert seconds({"t": {"seconds": 2, "nanos": 500_000_000}}, "t") == 2.5
    assert [megabytes({"m": m}, "m") for m in (256.0, "256.0 megabytes", "1 GB", "65536 KB", None)] == [
        256, 256, 1024, 64, None,
    ]  # fmt: skip
    contest = problem_from_row(EXAMPLES["codecontests"].row)
    assert (contest.time_limit_s, contest.memory_limit_mb, contest.difficulty) == (2.5, 245, "800")


ABSURD = (-1, 1e6, float("inf"), float("-inf"), float("nan"), 10**12, 10**400)


@pytest.mark.parametrize("value", ABSURD, ids=lambda value: f"{value!s:.6}")
def test_absurd_limits_are_refused_by_name(value: float) -> None:
    rows = {
        "kiyas": ("time_limit_s",),
        "taco": ("time_limit", "memory_limit"),
        "codecontests": ("time_limit",),
        "codeforces": ("time_limit", "memory_limit"),
    }
    for name, keys in rows.items():
        for key in keys:
            given = {"seconds": value, "nanos": 0} if name == "codecontests" else value
            if key == "memory_limit" and value == 1e6:  # 1 TB may be what somebody means
                continue
            said = refusal({**EXAMPLES[name].row, key: given})
            assert "limit" in said and ("makes no sense" in said or "a limit is a number" in said), (name, key, said)


def test_solutions_are_python_3() -> None:
    many = ["print 1", None, 3, "", "```python\na = 1\n```", "b = 2", "c = 3", "d = 4"]
    assert python3(many) == ("a = 1", "b = 2", "c = 3")
    assert problem_from_row(EXAMPLES["codecontests"].row).solutions == ("print(2 * int(input()))",)
    for name in EXAMPLES:
        problem = problem_from_row(EXAMPLES[name].row, name, 0)
        shown = f"{problem.question} {problem.statement}"
        assert not any(solution in shown for solution in problem.solutions)


def test_modules_of_test_code() -> None:
    assert foreign_imports("import os, numpy as np\nfrom solution import f\n'''\nimport torch\n'''\nimport pytest") == (
        "numpy",
        "pytest",
    )
    row = {**EXAMPLES["bigcodebench"].row, "libs": "['pandas', 'json']"}
    assert problem_from_row(row).modules == ("pandas",)


KODCODE = {
    "parametrize": """\
import pytest
from solution import double

@pytest.mark.parametrize("x, y", [(21, 42), (-1, -2)])
def test_a(x, y):
    assert double(x) == y
""",
    "two marks": """\
import pytest
from solution import double

@pytest.mark.parametrize("y", [1])
@pytest.mark.parametrize("x", [21, pytest.param(-1, id="less")])
def test_a(x, y):
    assert double(x) == 2 * x * y
""",
    "a method": """\
import pytest
from solution import double

class TestA:
    @pytest.mark.parametrize(["x"], [(-1,)])
    def test_a(self, x):
        assert double(x) == 2 * x
""",
    "raises": """\
import pytest
from solution import double

def test_a():
    with pytest.raises(TypeError):
        double()
    assert double(-1) == pytest.approx(-2)
""",
    "unittest": """\
import unittest
from solution import double

class Cases(unittest.TestCase):
    def test_a(self):
        self.assertEqual(double(-1), -2)
""",
    "patch": """\
from unittest.mock import patch
from solution import double

@patch("builtins.print")
def test_a(said):
    assert double(-1) == -2
""",
    "setup": """\
from solution import double

class TestA:
    @classmethod
    def setup_class(cls):
        cls.x = -1
    def setup_method(self, method):
        self.y = -2
    def test_a(self):
        assert double(self.x) == self.y
""",
}


@pytest.mark.parametrize("kind", KODCODE)
def test_tests_for_pytest_are_run(kind: str, tmp_path: Path) -> None:
    problem = problem_from_row({**EXAMPLES["kodcode"].row, "test": KODCODE[kind]})
    assert problem.modules == (("pytest",) if "import pytest" in KODCODE[kind] else ())
    programs = [{"program": EXAMPLES["kodcode"].right}, {"program": EXAMPLES["kodcode"].wrong}]
    # A test function of the program's own is not one of the tests.
    programs.append({"program": f"{EXAMPLES['kodcode'].right}\ndef test_own():\n    raise ValueError\n"})
    python = sys.executable if problem.modules else None
    found = verdicts(problem, *programs, folder=tmp_path, python=python)
    assert found == [Outcome.AC, Outcome.WA, Outcome.AC]


def test_a_check_that_is_a_coroutine_is_awaited(tmp_path: Path) -> None:
    row = {**HUMANEVAL, "test": f"async {TEST}"}
    programs = ({"program": EXAMPLES["humaneval"].right}, {"program": EXAMPLES["humaneval"].wrong})
    assert verdicts(problem_from_row(row), *programs, folder=tmp_path) == [Outcome.AC, Outcome.WA]


# -- files -------------------------------------------------------------------------------------------------------------


def test_programs_in_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"task_id": "a", "completion": "x = 1"}, {"task_id": "a", "solution": "x = 2"}]
    for name in ("a.jsonl", "b.jsonl.gz", "c.json.gz"):
        write(tmp_path / name, *rows)
    (tmp_path / "d.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "e.json").write_text(json.dumps(rows[0], indent=1))
    assert [program.source for program in read_programs(tmp_path)] == ["x = 1", "x = 2"] * 4 + ["x = 1"]


def test_files_that_are_not_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "empty.jsonl.gz").write_bytes(b"")
    for name in ("folder", "empty.jsonl", "empty.jsonl.gz", "none.jsonl", "x" * 5000, "a**b*"):
        for read in (read_problems, lambda path: list(read_programs(path)) or read_problems(path)):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            assert caught.value.hint or "cannot be read" in caught.value.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        list(read_programs(tmp_path / "closed"))


def test_a_complaint_is_one_line_whatever_is_in_the_row() -> None:
    row = {
        **EXAMPLES["verifiable"].row,
        "verification_info": {"language": "a\nb\r\x1b[2J\u2028" * 999, "test_cases": []},
    }
    said = refusal(row)
    assert said.isprintable() and len(said) < 500
    assert "makes no sense" in refusal({**EXAMPLES["kiyas"].row, "time_limit_s": 10**400})
