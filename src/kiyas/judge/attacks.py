"""Hostile and awkward programs with the verdicts they must get: the judge's own tests, and `kiyas doctor --attack`.

The programs are data, `attacks.toml`. After each of them nothing may be left of it, and the next verdict must be right.
No verdict may come from recognising a program's text.
"""

from __future__ import annotations

import functools
import re
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .sandbox import Sandbox
from .tiers import choose
from .types import AfterTimeout, Limits, Mode, Outcome, Problem, Program, Test, Tier, Verdict
from .verdicts import Resolved, judge_program

RIGHT = "print(42)\n"


def problem(given: str = "21\n", expected: str = "42\n", **others: object) -> Problem:
    return Problem("p", (Test(given, expected),), **others)  # type: ignore[arg-type]


def function(expected: str = "5", arguments: str = "2\n3", name: str = "add") -> Problem:
    return problem(arguments, expected, entry_point=name)


@dataclass(frozen=True)
class Case:
    """One program of `attacks.toml`, where the fields are explained."""

    number: int
    name: str
    source: str
    verdicts: str
    problem: Problem = field(default_factory=problem)
    flag: str = ""
    roomy: bool = False
    asleep: bool = False
    not_in: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.name}"

    @property
    def limits(self) -> Limits:
        return Limits(3, 2048) if self.roomy else Limits(0.1, 128) if self.asleep else Limits(0.5, 128)

    def unenforceable(self, tier: Tier) -> str:
        """Why this tier cannot be asked for the verdict; "" if it can."""
        return self.not_in.get(tier, "")


def refused(*lines: str) -> str:
    """A program that prints 42 only if each of these lines raises an exception; `call(name, …)` is a system call."""
    from .inside.linux import number  # needs ctypes, which the tier `weak` does not

    lines = tuple(re.sub(r"\bcall\((\w+)", lambda match: f"call({number(match[1]) or -1}", line) for line in lines)
    body = "".join(f"try:\n    {line}\n    print('done:', {line!r})\nexcept Exception:\n    pass\n" for line in lines)
    return "import os, sys, socket, ctypes, signal, resource\n" + LIBC + body + RIGHT


LIBC = """
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
"""

WALK = """
import os, sys
seen, found = set(), []
def walk(thing, depth=0):
    if type(thing) is bytes and len(thing) == 32: found.append(thing)
    if depth > 4 or id(thing) in seen: return
    seen.add(id(thing))
    if isinstance(thing, dict): thing = [*thing.keys(), *thing.values()]
    if isinstance(thing, (list, tuple)):
        for part in list(thing): walk(part, depth + 1)
def send():
    for token in found[:1]: os.write(3, token + b' %d' % os.getpid())
    os._exit(0)
"""

BEGINNINGS = {"": "", "walk": WALK}
MADE = {
    "095-parser-bomb": "x = " + "(" * 100_000,
    "095-parser-bomb-minus": "x = " + "-" * 1_000_000 + "1",
    "108-source-of-punycode": "# coding: punycode\na-" + "9999" * 30_000,
}
TESTS = "def check(f):\n    assert f(2, 3) == 5\n    assert f(1, 1) == 2\ncheck(add)\n"
PROBLEMS = {
    "add": function(),
    "asserts": Problem("p", (), entry_point="add", test_code=TESTS),
    # Tests with a class of their own share the program's process.
    "shared asserts": Problem("p", (), entry_point="add", test_code="class Own: pass\n" + TESTS),
    "three tests": Problem("p", problem().tests * 3),
    "10 MB of input": problem("x" * 10_000_000),
    "5 MB of output": problem("", "7" * 5_000_000 + "\n"),
    "in any order": problem(
        "",
        "a b\n",
        checker="def check(given, expected, output):\n    return sorted(output.split()) == expected.split()",
    ),
}


def _case(key: str, row: dict[str, Any]) -> Case:
    at, _, name = key.partition("-")
    asked = row.pop("problem", {})
    if "refused" in row:
        source = refused(*row.pop("refused"))
    else:
        source = BEGINNINGS[row.pop("begins", "")] + (MADE[key] if key in MADE else row.pop("program"))
    return Case(int(at), name, source, problem=PROBLEMS[asked] if isinstance(asked, str) else problem(**asked), **row)


@functools.cache
def cases() -> list[Case]:
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)
    for key, row in list(rows.items()):
        if row.get("problem") == "asserts" and not row.pop("parted", False):
            rows[key + "-shared"] = {**row, "problem": "shared asserts"}
    return [_case(key, row) for key, row in rows.items()]


def self_check(tier: Tier, python: str | None = None) -> Iterator[tuple[str, str]]:
    """Attack this machine's sandbox: (name of the attack, "" if it held, else what went wrong). Takes about 20 seconds.

    Slow attacks are left out, and those that this tier does not promise to stop. Where the tier holds, nothing is
    harmed. Raises SandboxError if it does not hold or breaks.
    """
    choose(tier, python)
    with Sandbox(tier, python) as sandbox, tempfile.NamedTemporaryFile("w", suffix=".kiyas") as secret:
        Path(secret.name).chmod(0o644)
        found = f"open({secret.name!r})"
        files = Case(37, "your-files", refused(found, f"open({str(Path.home())!r} + '/.profile')"), "AC")
        for case in [files, *cases()]:
            if (70 < case.number < 103) or case.roomy or case.asleep or case.unenforceable(tier):
                continue
            yield str(case)[4:], _attack(sandbox, case)


def _attack(sandbox: Sandbox, case: Case) -> str:
    verdict = run_case(sandbox, case.source, case.problem, case.limits)
    if verdict.verdict not in case.verdicts.split():
        return f"it got {verdict.verdict}, not {case.verdicts.replace(' ', ' or ')}: {verdict.detail}"
    after = run_case(sandbox, "print(int(input()) * 2)", problem(), Limits(0.5, 128))
    return "" if after.verdict is Outcome.AC else f"the program after it got {after.verdict}: {after.detail}"


def run_case(sandbox: Sandbox, source: str, asked: Problem, limits: Limits, mode: Mode = Mode.STRICT) -> Verdict:
    """One verdict from this sandbox. Raises SandboxError."""
    program, resolved = Program(asked.id, source), Resolved.of(limits, asked)
    return judge_program(sandbox, program, asked, mode, resolved, AfterTimeout.STOP, False, lambda alone: nullcontext())
