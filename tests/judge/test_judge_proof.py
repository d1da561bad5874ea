"""A benchmark proves itself before it is used: what accepts or refuses every program is named, and nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from format_rows import EXAMPLES

from kiyas import cli
from kiyas.judge import (
    InputError,
    JudgeError,
    Limits,
    Problem,
    Test,
    in_words,
    problem_from_row,
    prove,
    read_problems,
    sound,
    verdict_file,
)
from kiyas.judge.proof import SEVERAL, Finding, taken

DOUBLE = "def double(x):\n    return 2 * x\n"
CHECK = "def check(candidate):\n    assert candidate(2) == 4\n"


def asserts(test_code: str, **more: Any) -> Problem:
    return Problem("p", (), test_code=test_code, **more)


def data(*outputs: str, **more: Any) -> Problem:
    return Problem("p", tuple(Test(f"{n}", output) for n, output in enumerate(outputs)), **more)


def found(problem: Problem, **how: Any) -> list[Finding]:
    return prove([problem], isolation="best", workers=1, **how)


REFUSED = {
    "pytest functions": (
        asserts(f"from solution import double\n\ndef test_it():\n    {CHECK[-30:].strip()}\n"),
        "nothing",
    ),
    "a check that nobody calls": (asserts(CHECK), "accept a program that does nothing"),
    "a main guard": (
        asserts(
            "import unittest\n\nclass T(unittest.TestCase):\n    def test_it(self):\n"
            "        self.assertEqual(double(2), 4)\n\nif __name__ == '__main__':\n    unittest.main()\n"
        ),
        "accept a program that does nothing",
    ),
    "errors swallowed": (asserts("try:\n    assert double(2) == 4\nexcept:\n    pass\n"), "does nothing"),
    "a comparison that is no assertion": (asserts("double(2) == 4 if 'double' in dir() else 1\n"), "does nothing"),
    "only a comment": (asserts("# assert double(2) == 4\n"), "is empty"),
    "nothing": (asserts(" \n"), "is empty"),
    "no Python": (asserts("assert double(2) == [4\n"), "is not Python in line 1"),
    "exit": (asserts("import sys\nassert double(2) == 4\nsys.exit(0)\n"), r"ends the interpreter .*sys\.exit"),
    "unittest.main": (
        asserts(
            "import unittest\n\nclass T(unittest.TestCase):\n    def test_it(self):\n"
            "        self.assertEqual(double(2), 4)\n\nunittest.main()\n"
        ),
        r"ends the interpreter .*unittest\.main",
    ),
    "SystemExit": (asserts("assert double(2) == 4\nraise SystemExit\n"), "ends the interpreter"),
    "lost imports": (asserts("assert math.isclose(double(2), 4)\n"), "uses math without importing it"),
    "its own solution is wrong": (asserts("assert double(2) == 5\n", solutions=(DOUBLE,)), "own solution is WA"),
    "its own solution raises": (asserts("assert double(2, 3) == 4\n", solutions=(DOUBLE,)), "own solution is RE"),
    "its own solution does not compile": (data("4", solutions=("print 4",)), "own solution is CE"),
    "own solution and exit": (
        asserts("import sys\nassert double(2) == 4\nsys.exit(0)\n", solutions=(DOUBLE,)),
        "own solution is",
    ),
    "white space expected": (data("", " \n"), "no test expects anything"),
    "null expected": (data("null", "null", entry_point="f"), "no test expects anything"),
    "a checker that accepts silence": (
        data("4", checker="def check(given, expected, output):\n    return True\n"),
        "checker accepts an empty output",
    ),
    "a function's checker that accepts None": (
        data("4", entry_point="f", checker="def check(given, expected, output):\n    return True\n"),
        "checker accepts an empty output",
    ),
    "nothing to repair": (asserts("assert double(2) == 4\n", given=DOUBLE), "asks for a repair, .* passes already"),
    "a checker that fails": (
        data("4", checker="def check(given, expected, output):\n    return int(output) == 4\n"),
        r"checker fails on an empty output \(.*ValueError",
    ),
    "several right answers": (
        data("1 2", statement="If there are multiple solutions, print any of them."),
        "accepts several answers",
    ),
    "in Japanese": (
        data("1 2", statement="複数ある場合はどれを出力してもよい。"),
        "several answers",
    ),
}


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    """Of all of these problems and of those below, by name: one proof, one sandbox."""
    problems = {name: problem for name, (problem, _) in REFUSED.items()} | FINE
    found = prove([replace(problem, id=name) for name, problem in problems.items()], isolation="best")
    return {finding.problem_id: finding for finding in found}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_tell_programs_apart_is_refused(name: str, findings: dict[str, Finding]) -> None:
    problem, reason = REFUSED[name]
    finding = findings[name]
    assert finding.refused
    with pytest.raises(InputError, match=reason):
        sound([problem], [finding], "problems.jsonl")


FINE = {
    "check": asserts(f"{CHECK}\ncheck(double)\n", entry_point="double"),
    "assertions": asserts("assert double(2) == 4\nassert double(x=3) == 6\n"),
    "an import of the solution": asserts("import solution\nassert solution.double(2) == 4\n"),
    "a name from the solution": asserts("from solution import double as twice\nassert twice(2) == 4\n"),
    "unittest that runs": asserts(
        "import unittest\n\nclass T(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(double(2), 4)\n\n"
        "result = unittest.TestResult()\nunittest.defaultTestLoader.loadTestsFromTestCase(T).run(result)\n"
        "assert result.testsRun and result.wasSuccessful()\n"
    ),
    "a program that the tests only call": asserts("double(2)\n"),
    "a function named like a module": asserts(
        "assert copy(2) == 2\nassert copy.__name__ == 'copy'\n", entry_point="copy"
    ),
    "a module of the program, as its own solution has it": asserts(
        "assert math.isclose(double(2), 4)\n", solutions=(f"import math\n{DOUBLE}",)
    ),
    "a repair": asserts("assert double(2) == 4\n", given="def double(x):\n    return x\n", solutions=(DOUBLE,)),
    "data": data("4", ""),
    "any number": data("4", statement="Print the number. Any integer may be given."),
    "a checker": data("4", checker="def check(given, expected, output):\n    return output.strip() == '4'\n"),
    "several right answers with a checker": data(
        "4", statement="Print any.", checker="def check(given, expected, output):\n    return output.strip() == '4'\n"
    ),
    "its third solution": data("4", solutions=("print(1)", "print 2", "print(4)")),
}


@pytest.mark.parametrize("name", FINE)
def test_what_tells_programs_apart_is_accepted(name: str, findings: dict[str, Finding]) -> None:
    assert name not in findings


def test_a_slow_own_solution_is_a_remark() -> None:
    slow = data("4", solutions=("while True: pass",))
    (finding,) = found(slow, limits=Limits(time_s=0.3))
    assert not finding.refused and "its own solution is TLE" in finding.reason
    assert sound([slow], [finding], "f") == {"p"}
    assert in_words([finding], 1) == [f"1 of 1 problems deserve a look: p: {finding.reason}"]


def test_what_the_interpreter_lacks_is_said_of_the_interpreter() -> None:
    for problem in (
        asserts("import no_such\nassert double(2) == 4\n"),
        data("4", solutions=("import no_such\nprint(4)",)),
    ):
        with pytest.raises(JudgeError, match=r"problem p import.* no_such, and the interpreter .*--python PATH"):
            found(problem)
    assert found(asserts("try:\n    import no_such\nexcept ImportError:\n    pass\nassert double(2) == 4\n")) == []


def test_it_says_how_far_it_is() -> None:
    steps: list[tuple[int, int]] = []
    problem = asserts("assert double(2) == 4\n", solutions=(DOUBLE,))
    assert prove([problem], isolation="best", progress=lambda done, total: steps.append((done, total))) == []
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_livecodebench_compares_with_one_answer() -> None:
    assert found(REFUSED["several right answers"][0], mode="livecodebench") == []


def test_names_that_tests_take() -> None:
    code = (
        "import math\nfrom solution import a\nfor i in range(3):\n    assert a(i) == b(i, key=lambda c: c) + math.pi\n"
    )
    assert taken(code) == {"a", "b"}
    assert taken("import solution\nassert solution.f(1) == g(2)\n") == {"f", "g"}
    assert taken("def check(candidate):\n    try:\n        candidate()\n    except E as e:\n        e\n") == {"E"}


@pytest.mark.parametrize(
    ("statement", "several"),
    [
        ("If there are several answers, you may print any of them.", True),
        ("You can return the answer in any order.", True),
        ("Output any valid solution.", True),
        ("いずれか1つを出力せよ。", True),
        ("Return True if any of the numbers is even.", False),
        ("It is guaranteed that the answer is unique. Several test cases follow.", False),
        ("Find the number of solutions. There may be many.", False),
    ],
)
def test_statements_with_several_answers(statement: str, several: bool) -> None:
    assert bool(SEVERAL.search(statement)) is several


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_row_of_every_format_proves_itself(name: str) -> None:
    problem = problem_from_row(EXAMPLES[name].row, None, 0)
    if set(problem.modules) - {"numpy"}:
        pytest.skip(f"its tests need {problem.modules}")
    assert prove([problem], isolation="best", workers=1, python=sys.executable if problem.modules else None) == []


@pytest.mark.parametrize("file", ["humaneval/HumanEval.jsonl.gz", "atcoder-easy-41/problems.jsonl"])
def test_real_benchmarks_prove_themselves(file: str, shared_data: Path) -> None:
    problems = read_problems(shared_data / file)
    assert prove(problems, isolation="best") == []
    if "humaneval" in file:  # the proof is one: without the call of check, each of them is refused
        broken = [replace(p, test_code=(p.test_code or "").rpartition("check(")[0], solutions=()) for p in problems]
        assert {each.problem_id for each in prove(broken, isolation="best")} == {p.id for p in problems}


# --- the command -------------------------------------------------------------------------------------------------


def judge(tmp_path: Path, problems: list[dict[str, Any]], programs: list[dict[str, Any]], *more: str) -> int:
    for name, rows in (("problems", problems), ("programs", programs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return cli.main(
        [
            "judge",
            str(tmp_path / "programs.jsonl"),
            "--problems",
            str(tmp_path / "problems.jsonl"),
            "--isolation",
            "best",
            *more,
        ]
    )


GOOD = [{"id": f"good{n}", "test_code": "assert double(2) == 4"} for n in range(2)]
BAD = {"id": "bad", "test_code": CHECK}
PROGRAMS = [{"problem_id": name, "program": DOUBLE} for name in ("good0", "bad", "good1", "bad")]


def test_programs_of_a_refused_problem_have_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(tmp_path, [*GOOD, BAD], PROGRAMS) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["verdict"] for row in rows] == ["AC", None, "AC", None]
    assert "the problem is refused: its tests accept" in rows[1]["detail"] and rows[1]["problem_id"] == "bad"
    assert "1 of 3 problems are refused, for every arm and model alike: bad: its tests accept" in err
    assert "2 programs: 2 AC (100.0 % accepted)" in err and "2 programs without a verdict" in err


def test_a_file_most_of_whose_problems_are_refused_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, programs = tmp_path / "v.jsonl", [*PROGRAMS[:2], {**PROGRAMS[0], "problem_id": "bad2"}]
    assert judge(tmp_path, [BAD, {**BAD, "id": "bad2"}, GOOD[0]], programs, "--out", str(out)) == 1
    assert "problems.jsonl: 2 of 3 problems cannot be judged:\n  bad, bad2: its tests" in capsys.readouterr().err
    assert not out.exists() and not Path(f"{out}.meta.json").exists()


def test_only_problems_that_are_used_must_prove_themselves(tmp_path: Path) -> None:
    assert judge(tmp_path, [BAD, {**BAD, "id": "bad2"}, GOOD[0]], PROGRAMS[:1]) == 0


def test_the_proof_is_kept_beside_the_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, meta = tmp_path / "v.jsonl", tmp_path / "v.jsonl.meta.json"
    assert judge(tmp_path, [*GOOD, BAD], PROGRAMS, "--out", str(out)) == 0
    rows = out.read_bytes().splitlines(keepends=True)
    kept = json.loads(meta.read_text())
    (finding,) = kept["problems_found_wrong"]
    assert finding["problem_id"] == "bad" and finding["refused"]
    finding["reason"] = "what was found the first time"
    del kept["sealed"]
    meta.write_text(json.dumps({**kept, "sealed": verdict_file._seal(kept)}))
    out.write_bytes(b"".join(rows[:1]))
    assert judge(tmp_path, [*GOOD, BAD], PROGRAMS, "--out", str(out)) == 0
    assert "bad: what was found the first time" in capsys.readouterr().err
    assert [json.loads(line)["verdict"] for line in out.read_text().splitlines()] == ["AC", None, "AC", None]
