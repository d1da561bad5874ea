"""Benchmarks as files: every row has one reader, modules of the tests are there or asked for, the page is true."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from format_rows import EXAMPLES, Example

import kiyas
from kiyas.cli import main
from kiyas.judge import (
    FORMATS,
    InputError,
    JudgeError,
    Outcome,
    Problem,
    Program,
    check_ready,
    judge,
    problem_from_row,
    read_problems,
)
from kiyas.judge.formats.format import imported

ROOT = Path(__file__).resolve().parents[2]
ALL = sorted(EXAMPLES)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def judged(problem: Problem, *sources: str, python: str | None = None) -> list[Outcome]:
    programs = [Program(problem.id, source) for source in sources]
    return [v.verdict for v in judge(programs, [problem], workers=1, isolation="best", python=python)]


def test_every_format_has_an_example() -> None:
    assert sorted(FORMATS) == ALL


@pytest.mark.parametrize("name", ALL)
def test_a_row_has_one_reader(name: str, tmp_path: Path) -> None:
    row = EXAMPLES[name].row
    assert kiyas.judge.formats.recognise(row).name == name
    (problem,) = read_problems(write(tmp_path / "p.jsonl", row))
    assert problem == problem_from_row(row, name, 0)
    assert problem_from_row(problem.to_row()) == problem, "our own row does not hold all of it"


@pytest.mark.parametrize("name", ALL)
def test_the_tests_tell_right_from_wrong(name: str) -> None:
    example = EXAMPLES[name]
    problem = problem_from_row(example.row, number=0)
    right, wrong = judged(problem, example.right, example.wrong, python=sys.executable)
    assert right is Outcome.AC and wrong in (Outcome.WA, Outcome.RE)


@pytest.mark.parametrize("name", ALL)
def test_what_is_declared_is_whole(name: str) -> None:
    """Its own solutions are accepted, sample tests are fewer, and a hidden test is not in the question."""
    format, row = FORMATS[name], EXAMPLES[name].row
    assert len((ROOT / f"src/kiyas/judge/formats/{name}.py").read_text(encoding="utf-8").splitlines()) < 80
    if format.solutions is not None:
        own = format.solutions(row)
        assert 0 < len(own) <= 3 and problem_from_row(row, name, 0).solutions == own
        assert set(judged(problem_from_row(row, name, 0), *own, python=sys.executable)) == {Outcome.AC}
        assert not any(each in problem_from_row(row, name, 0).question for each in own)
    if format.public is not None:
        assert 0 < problem_from_row(format.public(row)).total < problem_from_row(row).total
    problem = problem_from_row(row, name, 0)
    assert isinstance(row.get("test"), str) is False or row["test"] not in problem.question
    if format.hub_id is not None:
        assert format.title and format.citation.startswith("@")


def test_the_plus_tests_are_asked_for_and_run() -> None:
    for name in ("humanevalplus", "mbppplus"):
        problem = problem_from_row(EXAMPLES[name].row)
        assert problem.modules == ("numpy",)
        assert "inputs" in (problem.test_code or "") and "inputs" not in problem.question
    assert "assert double(21) == 42" in problem_from_row(EXAMPLES["mbppplus"].row).question


def test_a_plus_row_that_imports_nothing_needs_nothing() -> None:
    row = {**EXAMPLES["humanevalplus"].row, "test": "def check(f):\n    inputs = [1]\n    assert f(1) == 2\n"}
    problem = problem_from_row(row)
    assert (problem.platform, problem.modules) == ("humanevalplus", ())
    assert judged(problem, EXAMPLES["humanevalplus"].right) == [Outcome.AC]


def test_imported() -> None:
    code = "import os as o, numpy.linalg as la\n  from scipy.stats import norm\n"
    code += "from the list of\nx = 'import torch'\nimport ("
    assert imported(code) == {"os", "numpy", "scipy"}


# -- what nothing reads ---------------------------------------------------------------------------------------------

APPS = {"problem_id": 1, "question": "q", "solutions": "[]", "difficulty": "x", "url": "u"}
DS_1000 = {"prompt": "p", "reference_code": "x", "metadata": {}, "code_context": "x"}
BIGCODEBENCH = {"task_id": "B/1", "complete_prompt": "p", "entry_point": "f", "libs": "[]"}


@pytest.mark.parametrize(
    ("row", "nearest"),
    [
        (APPS, "apps ('input_output' is missing)"),
        (DS_1000, "humaneval ('task_id', 'entry_point', 'test' is missing)"),
        (BIGCODEBENCH, "bigcodebench ('test' is missing)"),
        (
            {**EXAMPLES["humaneval"].row, "test": "import pandas\ndef check(f): ..."},
            "humaneval (its 'test' imports pandas)",
        ),
        ({**EXAMPLES["humaneval"].row, "test": "class TestCases: ..."}, "humaneval (its 'test' does not define check)"),
    ],
)
def test_a_row_that_nothing_reads_is_refused_by_name(row: dict[str, Any], nearest: str, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", EXAMPLES["kiyas"].row, row)
    with pytest.raises(InputError) as caught:
        read_problems(path)
    assert (caught.value.file, caught.value.line) == (str(path), 2)
    assert (
        nearest in caught.value.reason
        and ", ".join(row) in caught.value.reason
        and "docs/judge.md" in caught.value.hint
    )


def test_a_named_format_is_used_as_given(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", EXAMPLES["mbppplus"].row)
    assert read_problems(path, "mbpp")[0].platform == "mbpp"
    with pytest.raises(InputError, match="'id' is missing"):
        read_problems(path, "kiyas")


def test_two_formats_may_not_claim_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {**EXAMPLES["humaneval"].row, "test_list": ["assert True"]}
    with pytest.raises(InputError, match="more than one format claims this row: humaneval, mbppplus") as caught:
        read_problems(write(tmp_path / "p.jsonl", both))
    assert caught.value.line == 1
    assert "id, statement, and tests" in caught.value.hint and "--format" not in caught.value.hint  # not every command
    assert main(["judge", str(tmp_path / "p.jsonl"), "--problems", str(tmp_path / "p.jsonl")]) == 1
    assert "name the format: --format" in capsys.readouterr().err
    # One that asks for more columns goes before one that asks for fewer.
    more = dataclasses.replace(FORMATS["humaneval"], name="more", columns=(*FORMATS["humaneval"].columns, "starter"))
    monkeypatch.setitem(FORMATS, "more", more)
    assert kiyas.judge.formats.recognise({**EXAMPLES["humaneval"].row, "starter": "x"}) is more
    assert kiyas.judge.formats.recognise(EXAMPLES["humaneval"].row).name == "humaneval"


def test_a_row_that_breaks_its_reader_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = dataclasses.replace(FORMATS["kiyas"], problem=lambda row: Problem(row["name"], ()))
    monkeypatch.setitem(FORMATS, "kiyas", careless)
    with pytest.raises(InputError, match=r"p\.jsonl:1: it cannot be read as kiyas: KeyError: 'name'"):
        read_problems(write(tmp_path / "p.jsonl", EXAMPLES["kiyas"].row))


# -- modules of the tests -------------------------------------------------------------------------------------------


def test_an_interpreter_without_the_modules_is_refused_before_anything_runs(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", EXAMPLES["humanevalplus"].row)
    programs = write(tmp_path / "a.jsonl", {"problem_id": "HumanEval/0", "program": EXAMPLES["humanevalplus"].right})
    command = [sys.executable, "-m", "kiyas.judge", programs, "--problems", problems, "--isolation", "best"]
    out = tmp_path / "out.jsonl"
    refused = subprocess.run([*map(str, command), "--out", str(out)], capture_output=True, text=True)
    assert refused.returncode == 1 and not out.exists() and refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert "HumanEval/0" in line and "install numpy" in line and "--python PATH" in line
    accepted = subprocess.run([*map(str, command), "--python", sys.executable], capture_output=True, text=True)
    assert accepted.returncode == 0 and json.loads(accepted.stdout)["verdict"] == "AC"


def test_only_problems_that_are_answered_need_their_modules(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", EXAMPLES["humanevalplus"].row, EXAMPLES["kiyas"].row)
    programs = write(tmp_path / "a.jsonl", {"problem_id": "double", "program": EXAMPLES["kiyas"].right})
    command = [sys.executable, "-m", "kiyas.judge", programs, "--problems", problems, "--isolation", "best"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["verdict"] == "AC"


def test_the_interpreter_is_asked_inside_the_sandbox(strong: None, tmp_path: Path) -> None:
    """A module that leaves a mark outside when it is imported: it is found, and there is no mark."""
    venv.create(tmp_path / "env", symlinks=True)
    python, mark = tmp_path / "env" / "bin" / "python", tmp_path / "mark"
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "marker.py").write_text(f"try:\n    open({str(mark)!r}, 'w')\nexcept OSError:\n    pass\n")
    problem = problem_from_row({**EXAMPLES["kiyas"].row, "modules": ["marker"]})
    check_ready([problem], python=str(python))
    assert not mark.exists()
    with pytest.raises(JudgeError, match="marker"):
        check_ready([problem])


def test_a_module_that_cannot_be_imported_is_no_module(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "broken.py").write_text("import os\nos._exit(3)\n")
    problem = problem_from_row({**EXAMPLES["kiyas"].row, "modules": ["broken"]})
    with pytest.raises(JudgeError, match="install broken"):
        check_ready([problem], isolation="best", python=str(tmp_path / "env" / "bin" / "python"))


def test_a_mode_that_the_problems_do_not_have_is_refused_at_once() -> None:
    problem = problem_from_row(EXAMPLES["humaneval"].row)
    with pytest.raises(JudgeError, match="HumanEval/0: mode livecodebench knows no assert-style problems"):
        judge([], [problem], mode="livecodebench", isolation="best")


# -- the page -------------------------------------------------------------------------------------------------------


def test_the_page_builds_a_benchmark(tmp_path: Path) -> None:
    """A copy of the judge without MBPP+ refuses its rows; with the page's file and the page's line it judges them."""
    page = (ROOT / "docs" / "add-a-benchmark.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"## 3.*?```\n(.*?)```", page, re.DOTALL)
    own = Path(kiyas.__file__).parent
    copy = tmp_path / "kiyas"
    shutil.copytree(own / "judge", copy / "judge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(own / "__init__.py", copy)
    folder = copy / "judge" / "formats"
    listed = folder / "__init__.py"
    assert (folder / "mbppplus.py").read_text(encoding="utf-8") == code
    # HumanEval+ takes its citation from MBPP+'s file.
    for name in ("mbppplus", "humanevalplus"):
        (folder / f"{name}.py").unlink()
        listed.write_text(listed.read_text().replace(f'    "{name}",\n', ""))

    example: Example = EXAMPLES["mbppplus"]
    problems = write(tmp_path / "p.jsonl", example.row)
    programs = write(
        tmp_path / "a.jsonl", *({"problem_id": "2", "program": each} for each in (example.right, example.wrong))
    )

    def run() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kiyas.judge", programs, "--problems", problems, "--isolation", "best"]
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [*map(str, command), "--python", sys.executable], capture_output=True, text=True, env=environment
        )

    before = run()
    assert before.returncode == 1 and "mbpp (it has a 'test' too)" in before.stderr
    (folder / "mbppplus.py").write_text(code, encoding="utf-8")
    listed.write_text(listed.read_text().replace('    "mbpp",\n', f'    "mbpp",\n{line}'))
    after = run()
    assert [json.loads(row)["verdict"] for row in after.stdout.splitlines()] == ["AC", "WA"], after.stderr
