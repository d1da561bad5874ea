"""After a program's first time-out its other tests are not run: cheaper, and as right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiyas.judge import JudgeError, Limits, Outcome, Problem, Program, Test, Verdict, judge
from kiyas.judge.inside.watch import is_crowded

SHORT = Limits(time_s=0.15)
# Does to each test what its input says.
ACTOR = """\
word = input()
if word == "TLE":
    while True:
        pass
if word == "RE":
    raise ValueError
print("right" if word == "AC" else "wrong")
"""


def judged(words: list[str], **how: str) -> Verdict:
    problem = Problem("p", tuple(Test(word, "right") for word in words))
    (verdict,) = judge([Program("p", ACTOR)], [problem], limits=SHORT, workers=1, isolation="best", **how)  # type: ignore[arg-type]
    return verdict


@given(st.lists(st.sampled_from(["AC", "AC", "WA", "RE", "TLE"]), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_pass_or_fail_is_that_of_running_everything(words: list[str]) -> None:
    stopped, whole = judged(words), judged(words, after_timeout="continue")
    assert stopped.accepted == whole.accepted == (set(words) == {"AC"})
    assert [test.verdict for test in whole.tests] == words and whole.not_run == 0
    first = words.index("TLE") + 1 if "TLE" in words else len(words)
    assert [test.verdict for test in stopped.tests] == words[:first]
    assert stopped.passed <= whole.passed <= stopped.passed + stopped.not_run


def test_a_stopped_program_says_so() -> None:
    verdict = judged(["AC", *["TLE"] * 20, "RE"])
    assert (verdict.verdict, verdict.passed, verdict.total) == (Outcome.TLE, 1, 22)
    assert len(verdict.tests) == 2 and verdict.to_row()["not_run"] == 20
    assert "stopped at its first time-out: 20 tests not run" in verdict.flags
    assert "not_run" not in judged(["AC", "TLE"]).to_row()


def test_a_word_that_is_not_known() -> None:
    with pytest.raises(JudgeError, match="one of stop, continue"):
        judged(["AC"], after_timeout="never")


def test_a_machine_is_crowded_where_programs_wait_for_a_processor() -> None:
    assert not is_crowded(os.getpid(), 1e9)
    assert not is_crowded(2**22 - 1, 1e-9)  # no such process: nothing is known of it
    waited = int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    assert is_crowded(os.getpid(), waited)
