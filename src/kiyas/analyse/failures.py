"""What kind of failure an answer is: the first class that fits, in the order of `Failure` (docs/statistics.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kiyas.analyse.findings import Failure
from kiyas.judge import Outcome, Problem
from kiyas.judge.syntax import parses
from kiyas.types import Judgment

LONGEST = 4096
"""Characters of an expected output that are compared: what a program printed is recorded up to half of that."""

_BY_VERDICT = {
    Outcome.RE: Failure.CRASH,
    Outcome.OLE: Failure.OUTPUT,
    Outcome.TLE: Failure.SLOW,
    Outcome.MLE: Failure.MEMORY,
}
_EXCEPTION = re.compile(r"([A-Za-z_][\w.]{0,59})(?::|$)")
_TOKEN = re.compile(r"(?<!\w)-?\d+(?:\.\d+)?|\w+")
_NUMBER = re.compile(r"(-?)0*(\d+?)(?:\.(\d*?)0*)?")


def failure(answer: Judgment, problem: Problem, *, cut: bool) -> Failure | None:
    """The class of a judged answer; None where it is right. `cut`: it ended at the length limit.

    Not for missing verdicts: those are nobody's failure.
    """
    verdict, program = answer.verdict, answer.program
    if answer.solved:
        return None
    if cut:
        return Failure.RUNAWAY
    # A program that was not recorded (None) is not one that was not written.
    if program is not None and not program.strip():
        return Failure.NO_CODE
    if verdict is Outcome.CE or (verdict is Outcome.RE and program is not None and not parses(program)):
        return Failure.SYNTAX
    if verdict in _BY_VERDICT:
        return _BY_VERDICT[verdict]
    if _only_the_format(answer, problem):
        return Failure.FORMAT
    if answer.share is None:
        return Failure.WRONG
    return Failure.SOME if answer.share > 0 else Failure.EVERYWHERE


def exception(answer: Judgment) -> str:
    """What a crashed program died of: the exception of its first crashed test, else the signal or exit code.

    Read from the end of stderr, so the program could have written it there itself. "" where nothing was recorded.
    """
    crashed = next((test for test in answer.tests if test.verdict is Outcome.RE), None)
    if crashed is None:
        return _named(answer.detail)
    if crashed.exception is not None:
        return crashed.exception.type[:60]
    by_code = f"exit code {crashed.exit_code}" if crashed.exit_code else ""
    named = _named(crashed.stderr) or _named(crashed.detail)
    return named or (crashed.signal or by_code)[:60] or _named(answer.detail)


def _named(text: str) -> str:
    """The exception in the last line of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    match = _EXCEPTION.match(lines[-1]) if lines else None
    return match[1] if match else ""


def _only_the_format(answer: Judgment, problem: Problem) -> bool:
    """Does every failing test hold the expected output, in another layout?"""
    expected = [test.output for test in problem.tests]
    failing = [i for i, test in enumerate(answer.tests) if test.verdict is not Outcome.AC]
    if not failing or len(answer.tests) > len(expected):
        return False
    return all(
        answer.tests[i].verdict is Outcome.WA and other_layout(answer.tests[i].got, expected[i], expected)
        for i in failing
    )


def other_layout(got: str, expected: str, answers: Sequence[str] = ()) -> bool:
    """The same words and numbers in the same order; case, separators, brackets and the way a number is written aside.

    Further words do not count ("Answer: 5" holds 5), except those of other `answers` to the problem: "yes no" does not
    hold no. The same characters with other white space count too.
    """
    if len(expected) > LONGEST:
        return False
    if "".join(got.split()) == "".join(expected.split()) != "":
        return True
    wanted, found = _tokens(expected), _tokens(got)
    further = {token for token in found if token.isalpha()}.difference(wanted)
    if not wanted or [token for token in found if token not in further] != wanted:
        return False
    return not further or further.isdisjoint(token for answer in answers for token in _tokens(answer[:LONGEST]))


def _tokens(text: str) -> list[str]:
    return [_plain(token) for token in _TOKEN.findall(text.casefold())]


def _plain(token: str) -> str:
    """5.0, 05 and 5 are one number."""
    number = _NUMBER.fullmatch(token)
    return f"{number[1]}{number[2]}{'.' + number[3] if number[3] else ''}" if number else token
