"""What would stop a judgement of these problems, found out before anything is spent on them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from . import tiers
from .sandbox import Job, Sandbox, last_words
from .syntax import foreign_imports
from .types import JudgeError, Mode, Problem

# Run in the sandbox, as the tests that import these modules will be.
ASK = """\
import importlib, json
absent = {}
for name in json.loads(input()):
    try:
        importlib.import_module(name)
    except BaseException as error:
        absent[name] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(absent))
"""
IMPORT_S = 60.0
"""CPU seconds that all imports together may take"""


def check_ready(
    problems: Iterable[Problem], *, mode: str = "strict", isolation: str = "strong", python: str | None = None
) -> None:
    """Raises JudgeError if a problem does not support the mode, or if the interpreter lacks modules of its tests.

    The interpreter is checked inside the sandbox, and only if tests import more than the standard library.
    """
    chosen, needed = known_mode(mode), dict[str, str]()
    for problem in problems:
        check_mode(problem, chosen)
        for module in (*problem.modules, *foreign_imports(problem.test_code or "", tried=False)):
            needed.setdefault(module, problem.id)
    if needed and (absent := missing_modules(needed, isolation, python)):
        first = next(iter(absent))
        raise lacks(f"the tests of problem {needed[first]} import", list(absent), python, absent[first])


def lacks(who: str, modules: list[str], python: str | None, reason: str = "") -> JudgeError:
    """What to say where the interpreter for programs has not what `who` needs."""
    names = ", ".join(modules)
    return JudgeError(
        f"{who} {names}, and the interpreter for programs ({python or 'the standard library only'}) cannot"
        f"{f' ({reason})' if reason else ''}: install {names} in an environment "
        "and name its interpreter, --python PATH (in a study file: judge.python)"
    )


def known_mode(mode: str) -> Mode:
    try:
        return Mode(mode)
    except ValueError:
        raise JudgeError(f"unknown mode {mode!r}", f"one of {', '.join(Mode)}") from None


def check_mode(problem: Problem, mode: Mode) -> None:
    """LiveCodeBench has no assert-style problems, so there is nothing to agree with."""
    if mode is not Mode.STRICT and problem.test_code is not None:
        raise JudgeError(
            f"problem {problem.id}: mode {mode} knows no assert-style problems (LiveCodeBench has none)",
            "use --mode strict (in a study file: judge.mode)",
        )


def missing_modules(modules: Iterable[str], isolation: str, python: str | None = None) -> dict[str, str]:
    """Modules that programs cannot import, each with the reason. Raises SandboxError where the tier does not hold."""
    names = list(modules)
    with Sandbox(tiers.choose(isolation, python), python) as sandbox:
        run = sandbox.run(Job("script", ASK, stdin=json.dumps(names), cpu_s=IMPORT_S, wall_s=3 * IMPORT_S))
    try:
        absent = dict(json.loads(run.stdout.splitlines()[-1]))
    except (ValueError, TypeError, IndexError, RecursionError):
        reason = last_words(run.stderr) or f"it ended while importing: {run.killed or run.status}"
        return dict.fromkeys(names, reason)
    return {name: str(absent[name]) for name in names if name in absent}  # what was imported may print anything
