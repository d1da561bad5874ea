"""Recorded evaluations: 287 real programs, HumanEval's 164 canonical solutions."""

import gzip
import json
from pathlib import Path

import pytest

from kiyas.judge import Limits, Outcome, Program, extract, judge, read_problems, read_programs

pytestmark = pytest.mark.usefixtures("strong")


def test_recorded_verdicts_are_found_again(shared_data: Path) -> None:
    """Passed or not, tests passed, tests in all: as recorded, but where a package is missing here."""
    problems = read_problems(shared_data / "atcoder-easy-41" / "problems.jsonl")
    programs = list(read_programs(shared_data / "study-a" / "outcomes"))
    assert (len(programs), len(problems)) == (287, 41)
    for program, verdict in zip(programs, judge(programs, problems, limits=Limits(0.7)), strict=True):
        assert verdict.program is program
        row = program.row
        assert verdict.accepted == row["passed"], (program.origin, verdict.detail)
        assert verdict.total == row["test_results"]["total"]
        if not any(flag.startswith("missing module") for flag in verdict.flags):
            assert verdict.passed == row["test_results"]["passed"], (program.origin, verdict.detail)


def test_recorded_programs_are_extracted(shared_data: Path) -> None:
    """As the recorded evaluator found them, but in two answers with several blocks, where it took an earlier one."""
    programs = list(read_programs(shared_data / "study-a" / "outcomes"))
    differing = [p for p in programs if extract(p.row["model_output_raw"]).program.strip() != p.source.strip()]
    assert len(differing) == 2
    assert all(p.row["model_output_raw"].count("```") > 2 for p in differing)


def test_humaneval_canonical_solutions(shared_data: Path) -> None:
    """Where the prompt gives imports or helpers, the program is the asked-for function alone."""
    file = shared_data / "humaneval" / "HumanEval.jsonl.gz"
    problems = read_problems(file)
    with gzip.open(file, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    wholes = {row["task_id"]: row["prompt"] + row["canonical_solution"] for row in rows}
    given = {problem.id: problem.preamble for problem in problems}
    assert sum(map(bool, given.values())) > 20
    programs = [Program(id, whole.removeprefix(given[id])) for id, whole in wholes.items()]
    verdicts = list(judge(programs, problems))
    assert len(verdicts) == 164
    assert [(v.problem_id, v.detail) for v in verdicts if v.verdict is not Outcome.AC] == []


@pytest.mark.parametrize("body", ["return object()", "import os; os._exit(0)", "raise SystemExit"])
def test_humaneval_stubs_fail(shared_data: Path, body: str) -> None:
    problems = read_problems(shared_data / "humaneval" / "HumanEval.jsonl.gz")
    programs = [Program(p.id, f"{p.statement}\ndef {p.entry_point}(*a, **k):\n    {body}\n") for p in problems]
    verdicts = list(judge(programs, problems))
    assert len(verdicts) == 164 and not any(v.verdict is Outcome.AC for v in verdicts)
