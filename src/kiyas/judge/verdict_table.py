"""The verdicts as a table, for people at a terminal: a line each, as they come."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import Any

from .terminal import one_line
from .types import Program

LONGEST = 40
"""characters of a name"""


def name_of(program: Program) -> str:
    """What a reader knows the program by: its file, or its problem and the number of the answer."""
    if "file" in program.row:
        return str(program.row["file"])
    return program.problem_id + (f" #{program.row['sample']}" if "sample" in program.row else "")


class VerdictTable:
    """Knows how wide its columns are before the first verdict."""

    def __init__(self, programs: Iterable[Program]) -> None:
        self._first = min(LONGEST, max((len(one_line(name_of(each))) for each in programs), default=0))
        self._width = shutil.get_terminal_size((100, 24)).columns

    def head(self) -> bytes:
        return self._line("program", "verdict", "tests", "CPU s", "")

    def line(self, program: Program, row: dict[str, Any]) -> bytes:
        """`row`: the verdict's own keys."""
        other = f"/{row['verdict_livecodebench']}" if "verdict_livecodebench" in row else ""
        tests = f"{row['passed']}/{row['total']}" if "total" in row else ""
        seconds = f"{row['cpu_s']:.2f}" if "cpu_s" in row else ""
        return self._line(name_of(program), f"{row['verdict'] or 'none'}{other}", tests, seconds, row["detail"])

    def _line(self, name: str, verdict: str, tests: str, seconds: str, detail: str) -> bytes:
        name = one_line(name)
        # The end of a path says more than its beginning.
        name = name if len(name) <= self._first else f"…{name[-self._first + 1 :]}"
        line = f"{name:<{max(7, self._first)}}  {verdict:<7}  {tests:>7}  {seconds:>6}  {one_line(detail)}".rstrip()
        shown = line if len(line) < self._width else f"{line[: self._width - 2]}…"
        return f"{shown}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace")
