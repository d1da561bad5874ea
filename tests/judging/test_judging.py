"""Completions → judgments: one run per program, a failed sandbox is owed, what stands is not judged again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiyas import judge
from kiyas.judging.stage import judge_completions, judge_redecoded
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge
from kiyas.types import AdapterId, Completion, KiyasError
from kiyas.work.progress import Bar, bar
from kiyas.work.workers import HERE

ANSWERS = ["```python\nprint(int(input()) * 2)\n```", "```python\nprint(1)\n```", "I cannot.", "print(int(input())*2)"]


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path)
    problems = [
        {"id": f"p{i}", "statement": "Double it", "tests": [{"input": f"{n}\n", "output": f"{2 * n}"} for n in (i, 7)]}
        for i in range(2)
    ]
    write_jsonl(made.problems, problems)
    completions = [
        Completion(AdapterId("x", "", 0, step), f"p{i}", 0, answer, 1, 1, "eos")
        for step, answer in enumerate([*ANSWERS, *ANSWERS])
        for i in range(2)
    ]
    write_jsonl(made.completions, [completion.to_row() for completion in completions])
    return made


def run(folder: RunDir) -> dict[str, int]:
    with bar("judge", 16, "programs") as progress:
        counts = judge_completions(folder, Judge(isolation="best", time_limit_s=2), progress, HERE.each)
    assert progress.done == 16
    return counts


def test_the_same_program_is_run_once_and_stands_in_every_row(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    real = judge.judge

    def spy(programs: Any, *arguments: Any, **named: Any) -> Iterator[judge.Verdict]:
        programs = list(programs)
        asked.extend((program.problem_id, program.source) for program in programs)
        return real(programs, *arguments, **named)

    monkeypatch.setattr(judge, "judge", spy)
    assert run(folder) == {"AC": 8, "WA": 8}
    assert len(asked) == len(set(asked)) == 8
    rows = {(r["step"], r["problem_id"]): r for r in read_jsonl(folder.judgments)}
    assert len(rows) == 16
    for (step, problem), row in rows.items():
        assert row["verdict"] == ("AC" if step % 4 in (0, 3) else "WA")
        assert row["verdict"] == rows[(step + 4) % 8, problem]["verdict"]
    assert rows[2, "p0"]["program"] == "" and rows[2, "p0"]["extraction"]["reason"]


def test_what_stands_is_not_judged_again(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder)
    before = folder.judgments.read_bytes()
    monkeypatch.setattr(judge, "judge", lambda programs, *a, **n: iter([]) if not list(programs) else 1 / 0)
    run(folder)
    assert folder.judgments.read_bytes() == before


def test_a_failed_sandbox_is_owed_and_judged_again(folder: RunDir) -> None:
    run(folder)
    rows = read_jsonl(folder.judgments)
    broken = [{**row, "verdict": "IE", "detail": "worker died"} if row["step"] == 0 else row for row in rows]
    write_jsonl(folder.judgments, broken)
    assert run(folder) == {"AC": 8, "WA": 8}
    assert len(read_jsonl(folder.judgments)) == 16


def test_a_sandbox_that_keeps_failing_stops_the_stage(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(programs: Any, *_: Any, **__: Any) -> Iterator[judge.Verdict]:
        for program in programs:
            yield judge.Verdict(program, judge.Outcome.IE, 0, 2, (), "the worker died", judge.Tier.WEAK)

    monkeypatch.setattr(judge, "judge", fails)
    with pytest.raises(KiyasError, match=r"16 of 16 programs could not be judged[^(]*\(the worker died\)"):
        run(folder)


def test_programs_that_all_fail_outside_their_own_code_stop_the_run(tmp_path: Path) -> None:
    made = RunDir(tmp_path)
    row = {"id": "p", "statement": "s", "test_code": "import statistics\nassert double(2) == missing_from_tests"}
    write_jsonl(made.problems, [row])

    def answered(*answers: str) -> None:
        made.judgments.unlink(missing_ok=True)
        completions = [
            Completion(AdapterId("x", "", 0, n), "p", 0, each, 1, 1, "eos") for n, each in enumerate(answers)
        ]
        write_jsonl(made.completions, [completion.to_row() for completion in completions])
        with bar("judge", len(answers), "programs") as progress:
            judge_completions(made, Judge(isolation="best"), progress, HERE.each)

    right = [f"def double(x):\n    return 2 * x  # {n}\n" for n in range(20)]
    with pytest.raises(KiyasError, match=r"20 of 20 programs fail in the same way.*NameError.*missing_from_tests"):
        answered(*right)
    assert len(read_jsonl(made.judgments)) == 20
    answered(*right[:19])  # too few to say so
    answered(*right[:18], *(f"def double(x):\n    return y  # {n}\n" for n in range(2)))  # their own failure


def test_a_checker_that_fails_is_named_and_not_judged_again(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_jsonl(folder.problems)
    write_jsonl(folder.problems, [{**rows[0], "checker": "def check(a, b, c):\n    return 1 / 0\n"}, rows[1]])
    with pytest.raises(KiyasError, match=r"1 problems .* problem p0: .*checker failed: ZeroDivisionError"):
        run(folder)
    before = read_jsonl(folder.judgments)
    assert len(before) == 16

    def judged_again(programs: Any, *arguments: Any, **named: Any) -> Iterator[judge.Verdict]:
        assert not list(programs)
        return iter(())

    monkeypatch.setattr(judge, "judge", judged_again)
    with pytest.raises(KiyasError, match="problem p0"):
        run(folder)
    assert read_jsonl(folder.judgments) == before


def test_of_answers_decoded_again_only_other_programs_are_judged(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder)
    texts = [ANSWERS[0] + " Done.", "print(2)", ANSWERS[3]]  # the same program, a new one, one of another answer
    again = [
        Completion(AdapterId("x", "", 0, step), "p1", 0, text, 1, 1, "eos")
        for step, text in zip((0, 1, 2), texts, strict=True)
    ]
    write_jsonl(folder.redecoded, [each.to_row() for each in again])
    asked: list[str] = []
    real = judge.judge

    def spy(programs: Any, *arguments: Any, **named: Any) -> Iterator[judge.Verdict]:
        programs = list(programs)
        asked.extend(program.source for program in programs)
        return real(programs, *arguments, **named)

    monkeypatch.setattr(judge, "judge", spy)
    before, counted = folder.judgments.read_bytes(), Bar("judge", 6, "programs")
    for _ in range(2):  # the second time there is nothing to do
        judge_redecoded(folder, Judge(isolation="best", time_limit_s=2), counted, HERE.each)
    assert asked == ["print(2)\n"] or asked == ["print(2)"]
    assert folder.judgments.read_bytes() == before and counted.done == 6
    rows = {row["step"]: row for row in read_jsonl(folder.redecoded_judgments)}
    assert {step: row["verdict"] for step, row in rows.items()} == {0: "AC", 1: "WA", 2: "AC"}
    assert [(row["arm"], row["problem_id"], row["sample"]) for row in rows.values()] == [("x", "p1", 0)] * 3


def test_a_sandbox_that_fails_on_answers_decoded_again_stops_the_stage(
    folder: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder)
    write_jsonl(folder.redecoded, [Completion(AdapterId("x", "", 0, 0), "p0", 0, "print(3)", 1, 1, "eos").to_row()])
    with monkeypatch.context() as patched, pytest.raises(KiyasError, match="1 of 1 programs could not be judged"):
        broken = lambda programs, *_, **__: (  # noqa: E731
            judge.Verdict(each, judge.Outcome.IE, 0, 2, (), "the worker died", judge.Tier.WEAK) for each in programs
        )
        patched.setattr(judge, "judge", broken)
        judge_redecoded(folder, Judge(isolation="best"), Bar("judge", 1, "programs"), HERE.each)
    judge_redecoded(folder, Judge(isolation="best"), Bar("judge", 1, "programs"), HERE.each)
    assert [row["verdict"] for row in read_jsonl(folder.redecoded_judgments)] == ["WA"]
