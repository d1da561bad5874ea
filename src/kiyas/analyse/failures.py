"""What kind of failure an answer is: the first class that fits, in the order of `Failure` (docs/statistics.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kiyas.analyse.findings import Failure
from kiyas.analyse.load import SOLVED, Row
from kiyas.judge.extract import parses

LONGEST = 4096
"""Characters of an expected output that are compared: what a program printed is recorded up to half of that."""

_BY_VERDICT = {"CE": Failure.SYNTAX, "RE": Failure.CRASH, "OLE": Failure.OUTPUT, "TLE": Failure.SLOW,
               "MLE": Failure.MEMORY}  # fmt: skip
_EXCEPTION = re.compile(r"([A-Za-z_][\w.]{0,59})(?::|$)")
_TOKEN = re.compile(r"(?<!\w)-?\d+(?:\.\d+)?|\w+")
_NUMBER = re.compile(r"(-?)0*(\d+?)(?:\.(\d*?)0*)?")


def failure(row: Row, problem: Mapping[str, Any], *, cut: bool) -> Failure | None:
    """The class of a judged answer; None where it is right. `cut`: it ended at the length limit.

    Not for owed rows: those are nobody's failure.
    """
    verdict, program = row["verdict"], row.get("program")
    if verdict == SOLVED:
        return None
    if cut:
        return Failure.RUNAWAY
    # A program that was not recorded (None) is not one that was not written.
    if isinstance(program, str) and not program.strip():
        return Failure.NO_CODE
    if verdict == "CE" or (verdict == "RE" and isinstance(program, str) and not parses(program)):
        return Failure.SYNTAX
    if verdict in _BY_VERDICT:
        return _BY_VERDICT[verdict]
    if _only_the_format(row, problem):
        return Failure.FORMAT
    if row.get("passed") is None or not row.get("total"):
        return Failure.WRONG
    return Failure.SOME if row["passed"] > 0 else Failure.EVERYWHERE


def tests_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Tests of a problem, or of a judgment; empty where none, or none that can be read, were recorded."""
    tests = row.get("tests")
    return tests if isinstance(tests, list) and all(isinstance(test, dict) for test in tests) else []


def exception(row: Row) -> str:
    """What a crashed program died of: the exception of its first crashed test, else the signal or exit code.

    Read from the end of stderr, so the program could have written it there itself. "" where nothing was recorded.
    """
    crashed = [test for test in tests_of(row) if test.get("verdict") == "RE"]
    for test in [*crashed[:1], row]:
        known = test.get("exception")
        if isinstance(known, dict) and isinstance(known.get("type"), str):
            return str(known["type"])[:60]
        for key in ("stderr", "error", "detail"):
            lines = [line for line in str(test.get(key) or "").splitlines() if line.strip()]
            if lines and (match := _EXCEPTION.match(lines[-1].strip())):
                return match[1]
        if test.get("signal"):
            return str(test["signal"])[:60]
        if test.get("exit_code"):
            return f"exit code {test['exit_code']}"[:60]
    return ""


def _only_the_format(row: Row, problem: Mapping[str, Any]) -> bool:
    """Does every failing test hold the expected output, in another layout?"""
    expected = [str(test.get("output") or "") for test in tests_of(problem)]
    got = tests_of(row)
    failing = [i for i, test in enumerate(got) if test.get("verdict") != SOLVED]
    if not failing or len(got) > len(expected):
        return False
    return all(
        got[i].get("verdict") == "WA" and other_layout(str(got[i].get("got") or ""), expected[i], expected)
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
