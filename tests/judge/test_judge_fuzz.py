"""Mutated files of problems and programs: each is read, or refused in one line with its place; never a traceback.

Every failure that was found is a case of its own in test_judge_door.py.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import io
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from format_rows import EXAMPLES

from kiyas.judge import InputError, Limits, Outcome, Problem, Program, cli, judge, problem_from_row, read_problems
from kiyas.judge.programs import for_problem, read_programs
from kiyas.judge.types import ExtractionRule
from kiyas.judge.verdicts import Resolved

ALL = sorted(EXAMPLES)
HUGE = "1" * 5000
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**70, 10**400, 1.5, float("nan"), float("inf"), 1e308, "", " ", "\n", "x", "0",
    "null", "[]", "{}", "[" * 100_000, '{"a": ' * 5000, "\ud800", "a\x00b", "\u2028", "é" * 9, "```", "def f(: ", [],
    {}, [[]], [None], [0], ["x"], [{}], {"x": 1}, {"input": "", "output": ""}, [{"input": "1", "output": "\ud800"}],
    HUGE,
]  # fmt: skip


def mutated(value: Any, dice: random.Random) -> Any:
    """A copy of JSON data with one or a few odd places; also inside texts that are JSON."""
    value = copy.deepcopy(value)
    for _ in range(dice.choice([1, 1, 2, 3])):
        value = _once(value, dice)
    return value


def _once(value: Any, dice: random.Random) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{") and dice.random() < 0.7:
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(_once(json.loads(value), dice))
    if isinstance(value, dict | list) and value and dice.random() < 0.85:
        key = dice.choice(list(value) if isinstance(value, dict) else range(len(value)))
        act = dice.random()
        if act < 0.15:
            del value[key]
        elif act < 0.2 and isinstance(value, list):
            value.append(value[key])
        else:
            value[key] = _once(value[key], dice)
        return value
    act = dice.random()
    if isinstance(value, str) and value and act < 0.45:
        at = dice.randrange(len(value))
        piece = dice.choice(["", "\ud800", "\x00", "\r", "\n", '"', "\\", "(", "    ", value[:at]])
        return value[:at] + piece + value[at + dice.choice([0, 1, len(value)]) :]
    if act < 0.55:
        for _ in range(dice.choice([1, 3, 60, 200])):
            value = [value]
        return value
    return copy.deepcopy(dice.choice(ODD))


def file_of(row: Any, dice: random.Random) -> tuple[str, bytes]:
    """(suffix, content) of a file with the row, sometimes damaged."""
    text = json.dumps(row)
    if dice.random() < 0.1:
        text = text.replace("21", HUGE, 1)
    content = (text + "\n").encode("utf-8", "surrogatepass")
    suffix = dice.choice([".jsonl", ".jsonl", ".json", ".jsonl.gz", ".json.gz"])
    if ".json" in suffix and dice.random() < 0.2:
        content = json.dumps(
            dice.choice([[row], [row, row], {"data": [row]}, row]), indent=dice.choice([None, 1])
        ).encode()
    if dice.random() < 0.2:
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 2, 8])):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        content = bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged) + 1)])])
    if suffix.endswith(".gz"):
        content = gzip.compress(content, 1)
        if dice.random() < 0.1:
            content = content[: dice.randrange(len(content))]
    return suffix, content


def program_rows(name: str, problem_id: str) -> list[dict[str, Any]]:
    example = EXAMPLES[name]
    body = str(example.row.get("canonical_solution", "    return 0\n"))
    return [
        {"problem_id": problem_id, "program": example.right, "model": "m", "tests": [{"verdict": "AC"}]},
        {"task_id": problem_id, "completion": body},
        {"task_id": problem_id, "solution": example.right},
        {"question_id": problem_id, "answer": f"Here:\n```python\n{example.right}\n```\n"},
        {"question_id": problem_id, "code_list": [example.right, example.wrong], "output_list": ["a", "b"]},
        {"question_id": problem_id, "extracted_code": example.right, "passed": True},
    ]


def refused(error: InputError, path: Path, format: str | None) -> None:
    assert error.file == str(path) and error.reason and "\n" not in error.reason and "\n" not in error.hint
    assert len(error.reason) < 1000
    args = argparse.ArgumentParser()
    cli.add_arguments(args)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        command = [str(path), "--problems", str(path), "--isolation", "best", *(["--format", format] if format else [])]
        assert cli.run(args.parse_args(command)) == 1
    assert said.getvalue().startswith("kiyas judge: ") and len(said.getvalue().splitlines()) <= 2


def problems_of(name: str, dice: random.Random, folder: Path) -> Iterator[Problem]:
    suffix, content = file_of(mutated(EXAMPLES[name].row, dice), dice)
    path = folder / f"p{suffix}"
    path.write_bytes(content)
    format = dice.choice([None, None, name])
    try:
        found = read_problems(path, format)
    except InputError as error:
        return refused(error, path, format)
    for problem in found:
        assert problem.total >= 1 and Resolved.of(Limits(), problem).time_s > 0
        assert problem_from_row(json.loads(json.dumps(problem.to_row())), "kiyas") == problem
        yield problem


def programs_of(name: str, dice: random.Random, folder: Path) -> Iterator[Program]:
    problem = problem_from_row(EXAMPLES[name].row, name, 0)
    suffix, content = file_of(mutated(dice.choice(program_rows(name, problem.id)), dice), dice)
    path = folder / f"a{suffix}"
    path.write_bytes(content)
    try:
        for program in read_programs(path):
            whole = for_problem(program, problem, ExtractionRule.KIYAS)
            assert isinstance(problem.complete(whole.source), str) and json.dumps(whole.row)
            yield whole
    except InputError as error:
        assert error.file == str(path) and error.reason and "\n" not in error.reason + error.hint


@pytest.mark.parametrize("name", ALL)
def test_a_few_mutations(name: str, tmp_path: Path) -> None:
    dice = random.Random(name)
    for _ in range(20):
        list(problems_of(name, dice, tmp_path))
        list(programs_of(name, dice, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ALL)
def test_many_mutations(name: str) -> None:
    """What could be read is judged as well: whatever the verdict, the sandbox never fails for it; a checker may."""
    dice = random.Random(f"many {name}")
    problems: dict[str, Problem] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(10_000):
            list(programs_of(name, dice, Path(folder)))
            for problem in problems_of(name, dice, Path(folder)):
                if number % 20 == 0 and not problem.modules:
                    problems.setdefault(problem.id, problem)
    programs = [Program(id, EXAMPLES[name].right) for id in problems]
    found = judge(programs, problems, isolation="best", workers=2, limits=Limits(time_s=0.5))
    failed = [(v.problem_id, v.detail) for v in found if v.verdict is Outcome.IE and "checker" not in v.detail]
    assert not failed
