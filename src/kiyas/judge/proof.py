"""Does a benchmark test anything? Asked of its problems before programs are judged by them.

Tests that never run accept every program; tests that are broken refuse every program. Both look like results. So tests
by data must expect something, test code must refuse two programs that solve nothing, and the row's own solution, where
there is one, must pass. What does not prove itself is refused by name; nothing is mended by guessing.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from .parting import imports_of, names_of
from .pool import judge
from .ready import check_ready, known_mode, lacks
from .syntax import SOLUTION, syntax_tree
from .terminal import many
from .types import MISSING, InputError, Limits, Mode, Outcome, Problem, Program, SandboxError, Verdict
from .verdicts import CHECKER_FAILED

SHOWN = 8
FOREIGN = {"np", "numpy", "pd", "pandas", "plt", "pytest", "torch", "scipy"}
"""names that tests mean a library by, where they do not define them"""
STOPPERS = {"sys.exit", "exit", "quit", "os._exit", "unittest.main", "pytest.main", "raise SystemExit"}
# AtCoder's, Codeforces' and LeetCode's ways to say that an answer is one of many, in English and Japanese.
SEVERAL = re.compile(
    r"\b(?:print|output|return|find|give|report) any\b|\bany (?:one )?of (?:them|these)\b|\bin any order\b|"
    r"\bany (?:valid|correct|possible|suitable|such) (?:answer|solution|output|one)\b|"
    r"\b(?:multiple|several|many) (?:\w+ ){0,3}(?:answers|solutions|outputs)\b|"
    r"どれを(?:出力|答え)|いずれを(?:出力|答え)|いずれか(?:1|１|一|ひと)つを",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a problem. `refused`: programs must not be judged by it; else it is a remark."""

    problem_id: str
    reason: str
    refused: bool = True


def prove(
    problems: Iterable[Problem],
    *,
    mode: str = "strict",
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    workers: int | None = None,
    isolation: str = "strong",
    python: str | None = None,
    tolerance: str = "statement",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Finding]:
    """What is wrong with these problems, in their order; [] if all of them prove themselves.

    Tests by standard input or JSON are read, not run. Test code is run with a program that is empty, and with one that
    has every name that the tests take and raises when it is called. A checker is shown an empty output. The faulty
    program of a task of repair and a row's own solutions (the first three) are judged. The other arguments are
    those of `judge`, and so are the errors. `progress` is called with the programs judged so far, and their number.
    """
    problems, chosen = list(problems), known_mode(mode)
    check_ready(problems, mode=mode, isolation=isolation, python=python)
    findings = {problem.id: found for problem in problems if (found := _read(problem, chosen)) is not None}
    trials = [trial for problem in problems if problem.id not in findings for trial in _trials(problem)]
    if not trials:  # most benchmarks by data: no sandbox is needed to read them
        return [findings[problem.id] for problem in problems if problem.id in findings]
    verdicts = judge(
        (trial.program for trial in trials),
        {trial.problem.id: trial.problem for trial in trials},
        mode=mode,
        limits=limits,
        workers=workers,
        isolation=isolation,
        python=python,
        tolerance=tolerance,
        stop_early=True,
    )
    seen: dict[str, list[tuple[_Trial, Verdict]]] = {}
    for done, (trial, verdict) in enumerate(zip(trials, verdicts, strict=True), 1):
        progress(done, len(trials))
        seen.setdefault(trial.of, []).append((trial, verdict))
    for problem in problems:
        if problem.id in seen and (found := _concluded(problem, seen[problem.id], python)) is not None:
            findings[problem.id] = found
    return [findings[problem.id] for problem in problems if problem.id in findings]


def sound(problems: Collection[Problem], findings: Iterable[Finding], source: str, listed: bool = False) -> set[str]:
    """The ids of the problems that are not refused.

    Raises InputError where most are refused, and where any is and the problems are `listed` by id.
    """
    refused = [finding for finding in findings if finding.refused]
    if refused and (listed or 2 * len(refused) > len(problems)):
        lines = [f"{len(refused)} of {len(problems)} problems cannot be judged:", *_lines(refused)]
        hint = "mend these problems, or take them out of `ids`" if listed else "mend the problems: see docs/judge.md"
        raise InputError(source, 0, "\n  ".join(lines), hint)
    return {problem.id for problem in problems} - {finding.problem_id for finding in refused}


def in_words(findings: Iterable[Finding], total: int) -> list[str]:
    """Refusals and remarks for people: one sentence each, with the first names."""
    sentences = []
    for refused, what in ((True, "are refused, for every arm and model alike"), (False, "deserve a look")):
        chosen = [finding for finding in findings if finding.refused is refused]
        if chosen:
            sentences.append(f"{len(chosen)} of {total} problems {what}: {'; '.join(_lines(chosen))}")
    return sentences


def _lines(findings: list[Finding]) -> list[str]:
    """Problems with the same reason are named together."""
    by_reason: dict[str, list[str]] = {}
    for finding in findings:
        by_reason.setdefault(finding.reason, []).append(finding.problem_id)
    lines = [f"{_some(ids)}: {reason}" for reason, ids in by_reason.items()]
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"and {many(len(lines) - SHOWN, 'more reason')}"]


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


# --- read, not run -----------------------------------------------------------------------------------------------


def _read(problem: Problem, mode: Mode) -> Finding | None:
    reason = _of_test_code(problem) if problem.test_code is not None else _of_data(problem, mode)
    return Finding(problem.id, reason) if reason else None


def _of_data(problem: Problem, mode: Mode) -> str:
    if problem.checker is not None:
        return ""  # it is asked about an empty output
    if all(_blank(test.output, problem.entry_point is not None) for test in problem.tests):
        return "no test expects anything, so a program that does nothing would pass"
    if mode is not Mode.LIVECODEBENCH and SEVERAL.search(problem.statement):
        return "its statement accepts several answers, and it has no checker: right programs would fail"
    return ""


def _blank(expected: str, is_json: bool) -> bool:
    return json.loads(expected) is None if is_json else not expected.strip()


def _of_test_code(problem: Problem) -> str:
    code = problem.test_code or ""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return f"its test code is not Python{where}: {getattr(error, 'msg', '') or error}"
    if not body:
        return "its test code is empty, so every program would pass"
    if (stopper := _stopper(body)) and not problem.solutions:
        return f"its test code ends the interpreter by itself ({stopper}), so every program would fail"
    lost = sorted(_lost(code, problem))
    if lost and not problem.solutions:
        return f"its test code uses {', '.join(lost)} without importing it"
    return ""


def _stopper(body: list[ast.stmt]) -> str:
    """What ends the interpreter where the tests' own lines run, outside of functions and main guards."""
    todo: list[ast.AST] = [*body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.dump(node.exc):
            return "raise SystemExit"
        if isinstance(node, ast.Call):
            name, exits = ast.unparse(node.func), {each.arg: each.value for each in node.keywords}.get("exit")
            if name in STOPPERS and not (isinstance(exits, ast.Constant) and exits.value is False):
                return name
        todo += ast.iter_child_nodes(node)
    return ""


def taken(code: str) -> set[str]:
    """Names that test code takes from the program: what it imports from it, or uses and does not define."""
    tree = syntax_tree(code)
    if tree is None:
        return set()
    imported = {name for module, name, _ in imports_of(tree) if module == SOLUTION and name not in ("", "*")}
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == SOLUTION
    }
    free, _ = names_of(code)
    return (free - set(dir(builtins)) - {"__name__", "__file__"}) | imported | asked


def _lost(code: str, problem: Problem) -> set[str]:
    """Modules that the tests use by name and nobody imports: the program is not what should give them."""
    tree = ast.parse(code)
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    based = {
        node.value.id for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    given = names_of(problem.preamble)[1] if syntax_tree(problem.preamble) else set()
    modules = based & taken(code) & (sys.stdlib_module_names | FOREIGN)
    return modules - given - called - {SOLUTION, problem.entry_point or ""}


# --- run ---------------------------------------------------------------------------------------------------------

UNTESTED = "its tests accept a program that does nothing: they never run, or check nothing"
UNCHECKED = "its checker accepts an empty output"
REPAIRED = "it asks for a repair, and the program that it gives passes already"
NOTHING = "pass\n"
CALLED = """\
class _Called(BaseException):
    pass


def {name}(*_, **__):
    raise _Called

"""


@dataclass(frozen=True)
class _Trial:
    """A program that must fail, for this reason; or, without one, the row's own, which must pass."""

    of: str
    problem: Problem
    program: Program
    fault: str


def _trials(problem: Problem) -> Iterator[_Trial]:
    sources: list[tuple[str, str]] = [(problem.given, REPAIRED)] if problem.given else []
    few = replace(problem, solutions=())
    if problem.test_code is not None:
        names = sorted(taken(problem.test_code) | ({problem.entry_point} if problem.entry_point else set()))
        stub = "".join(CALLED.format(name=name) for name in names if name.isidentifier())
        sources += [(source, UNTESTED) for source in (NOTHING, stub) if source]
    elif problem.checker is not None:
        few = replace(few, tests=problem.tests[:1])
        silent = CALLED.format(name=problem.entry_point).replace("raise _Called", "return None")
        sources += [(NOTHING if problem.entry_point is None else silent, UNCHECKED)]
    sources += [(solution, "") for solution in problem.solutions]
    for number, (source, fault) in enumerate(sources):
        asked = replace(few if fault in (UNTESTED, UNCHECKED) else problem, id=f"{problem.id}\n{number}", solutions=())
        yield _Trial(problem.id, asked, Program(asked.id, source), fault)


def _concluded(problem: Problem, seen: list[tuple[_Trial, Verdict]], python: str | None) -> Finding | None:
    for trial, verdict in seen:
        if CHECKER_FAILED in verdict.flags:
            on = " on an empty output" if trial.fault else ""
            return Finding(problem.id, f"its checker fails{on} ({verdict.detail})")
        if verdict.verdict is Outcome.IE:
            raise SandboxError(f"problem {problem.id} cannot be proven: {verdict.detail}")
    for trial, verdict in seen:
        if trial.fault and verdict.accepted:
            return Finding(problem.id, trial.fault)
    own = [verdict for trial, verdict in seen if not trial.fault]
    if not own or any(verdict.accepted for verdict in own):
        return None
    for flag in (flag for verdict in own for flag in verdict.flags):
        if flag.startswith(MISSING):
            raise lacks(f"the own solution of problem {problem.id} imports", [flag.removeprefix(MISSING)], python)
    late = [verdict for verdict in own if verdict.verdict in (Outcome.TLE, Outcome.MLE)]
    said = f"its own solution is {(late or own)[0].verdict} ({(late or own)[0].detail})"
    return Finding(problem.id, said, refused=not late)
