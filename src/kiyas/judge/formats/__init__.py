"""Reading problems: a file for each benchmark, and the list of them, from which everything else derives.

A new benchmark is a file in this folder and a line in `_FILES`: docs/add-a-benchmark.md.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Container
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from kiyas.judge.rows import BadRowError, Row, located, rows, why
from kiyas.judge.types import InputError, Problem, unfit

from .format import Format

_FILES = (
    "kiyas",
    "livecodebench",
    "humaneval",
    "humanevalplus",
    "mbpp",
    "mbppplus",
    "bigcodebench",
    "apps",
    "taco",
    "codecontests",
    "codeforces",
    "verifiable",
    "leetcodedataset",
    "kodcode",
    "deepcoder",
)
FORMATS: dict[str, Format] = {
    format.name: format for format in (import_module(f".{file}", __name__).FORMAT for file in _FILES)
}
"""All formats, by name."""
SHOWN = 3
T = TypeVar("T")


def read_problems(
    path: str | Path,
    format: str | None = None,
    *,
    public_tests_only: bool = False,
    only: Container[str] | None = None,
) -> list[Problem]:
    """All problems of a file, in any of `FORMATS`; each row is recognised if the format is not named.

    `public_tests_only`: of LiveCodeBench's rows without their private tests; other rows are refused.
    `only`: the problems with these ids; the tests of others are not unpacked.
    Raises InputError with file, line and reason; also for an id that occurs twice.
    """

    def read(row: Row, number: int) -> Problem | None:
        if only is not None and outline(row, format, number).id not in only:
            return None
        return problem_from_row(_public(row, format) if public_tests_only else row, format, number)

    problems = _read_each(path, format, read)
    if not problems and only is None:
        raise InputError(str(path), 0, "no problems in it", "give a file with one problem on each line")
    return problems


def outlines(path: str | Path, format: str | None = None) -> list[Problem]:
    """All problems of a file, without hidden tests where the format marks them. Raises what `read_problems` raises."""
    problems = _read_each(path, format, lambda row, number: outline(row, format, number))
    if not problems:
        raise InputError(str(path), 0, "no problems in it", "give a file with one problem on each line")
    return problems


def outline(row: Row, format: str | None = None, number: int | None = None) -> Problem:
    """What a problem can be chosen by. Where the format marks hidden tests, it has no tests at all: a release of
    LiveCodeBench unpacks to more than memory holds. Elsewhere it is the whole problem. Raises BadRowError."""
    chosen = _chosen(row, format)
    if chosen.public is None:
        return problem_from_row(row, chosen.name, number)
    return replace(_named(_read(chosen, chosen.public(row), chosen.problem), number), tests=())


def _read_each(path: str | Path, format: str | None, read: Callable[[Row, int], Problem | None]) -> list[Problem]:
    """What `read` makes of each row and its number, from 0; what it leaves out is None."""
    if format is not None and format not in FORMATS:
        raise InputError(str(path), 0, f"unknown format {format!r}", "one of " + ", ".join(FORMATS))
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, (line, row) in enumerate(rows(Path(path))):
        with located(path, line):
            problem = read(row, number)
        if problem is None:
            continue
        if problem.id in seen:
            raise InputError(
                str(path), line, f"problem {problem.id!r:.80} is in line {seen[problem.id]} already", "leave one out"
            )
        seen[problem.id] = line
        problems.append(problem)
    return problems


UNCLAIMED = (
    "in Kıyas's own format a row has id, statement, and tests as a list of {input, output}; "
    "docs/judge.md lists the columns of the others"
)
"""What to do with rows of no format, or of several. `kiyas judge` can also be told the format."""


def recognise(row: Row) -> Format:
    """The one format that claims the row. Raises BadRowError where none does, or more than one.

    A format with all the columns of another, and more, goes before it.
    """
    claiming = [format for format in FORMATS.values() if format.claims(row)]
    claiming = [one for one in claiming if not any(set(one.columns) < set(other.columns) for other in claiming)]
    if len(claiming) == 1:
        return claiming[0]
    if claiming:
        names = ", ".join(format.name for format in claiming)
        raise BadRowError(f"more than one format claims this row: {names}", UNCLAIMED)
    raise BadRowError(
        f"no format claims this row; nearest: {_nearest(row)}; its columns: {', '.join(map(str, row)) or 'none'}",
        UNCLAIMED,
    )


def _nearest(row: Row) -> str:
    """The formats that share most columns with the row, each with what the row lacks of it."""
    shared = {name: len(format.columns) - len(format.absent(row)) for name, format in FORMATS.items()}
    near = sorted(FORMATS.values(), key=lambda format: (-shared[format.name], len(format.absent(row))))
    return ", ".join(f"{format.name} ({_lacks(format, row) or format.differs(row)})" for format in near[:SHOWN])


def _lacks(format: Format, row: Row) -> str:
    absent = [" or ".join(map(repr, keys.split("|"))) for keys in format.absent(row)]
    return f"{', '.join(absent)} is missing" if absent else ""


def problem_from_row(row: Row, format: str | None = None, number: int | None = None) -> Problem:
    """One row as a problem that can be judged; its format is recognised unless it is named. Raises BadRowError.

    `number`: the row's place among the rows, from 0; the id of a problem whose row has none.
    """
    chosen = _chosen(row, format)
    problem = _read(chosen, row, lambda row: _checked(_named(chosen.problem(row), number)))
    tests = f"{problem.test_code}\n{problem.checker}"
    named = [module for module in chosen.modules if re.search(rf"\b{re.escape(module)}\b", tests)]
    own = _read(chosen, row, chosen.solutions) if chosen.solutions is not None else ()
    return replace(problem, modules=tuple(dict.fromkeys([*problem.modules, *named])), solutions=own)


def _named(problem: Problem, number: int | None) -> Problem:
    if problem.id:
        return problem
    if number is None:
        raise BadRowError("the row has no id")
    return replace(problem, id=str(number))


def _read(format: Format, row: Row, part: Callable[[Row], T]) -> T:
    try:
        return part(row)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BadRowError(f"it cannot be read as {format.name}: {type(error).__name__}: {error!s:.200}") from error


def _chosen(row: Row, format: str | None) -> Format:
    if language := _other_language(row):
        raise BadRowError(
            f"its programs are in {language}, and Kıyas runs Python 3", "leave out rows in other languages"
        )
    return FORMATS[format] if format is not None else recognise(row)


LANGUAGES = (
    "bash c c# c++ clj cobol cpp cs csharp d dart elixir erl erlang fortran go go_test.go golang haskell hs java "
    "javascript jl js julia kotlin lisp lua ml objective-c ocaml perl php pl pascal powershell python2 r racket rb "
    "rkt ruby rs rust scala sh sql swift ts typescript vb"
)


def _other_language(row: Row) -> str:
    """The language that the row names, as the translations of HumanEval and MBPP do; "": none, or Python."""
    labels = [row.get(key) for key in ("language", "lang", "programming_language")]
    if "entry_point" in row or "test" in row or "declaration" in row:
        labels.append(str(row.get("task_id", "")).partition("/")[0] if "/" in str(row.get("task_id", "")) else None)
    return next((each for each in labels if isinstance(each, str) and each.lower() in LANGUAGES.split()), "")


def _public(row: Row, format: str | None) -> Row:
    chosen = _chosen(row, format)
    if chosen.public is None:
        known = ", ".join(f"{each.title} ({_lacks(each, row)})" for each in FORMATS.values() if each.public is not None)
        raise BadRowError(f"`tests: public` needs rows whose sample tests are marked, as in {known}")
    return chosen.public(row)


def _checked(problem: Problem) -> Problem:
    if problem.test_code is None and not problem.tests:
        raise BadRowError("no tests ('tests' or 'test_code' is needed)")
    for number, test in enumerate(problem.tests, 1):
        if not isinstance(test.input, str) or not isinstance(test.output, str):
            raise BadRowError(f"test {number}: its input or its output is not a string")
    for name in ("time_limit_s", "memory_limit_mb", "tolerance"):
        if wrong := unfit(name, getattr(problem, name)):
            raise BadRowError(wrong)
    if problem.entry_point is None:
        return problem
    problem = replace(problem, entry_point=_entry_point(problem.entry_point, dots=problem.test_code is not None))
    if problem.test_code is None:
        for number, test in enumerate(problem.tests, 1):
            try:
                for text in (*test.input.split("\n"), test.output):
                    json.loads(text)
            except (ValueError, RecursionError) as error:
                needs = "with 'entry_point', each input line and the output are JSON"
                raise BadRowError(f"test {number}: {needs}: {why(error)}") from None
    return problem


def _entry_point(given: str, dots: bool) -> str:
    """`name` or `Class.name`; `Class().name` is the same. Assertions may have more `dots` in it."""
    parts = given.replace("().", ".").split(".")
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts) or len(parts) > (
        9 if dots else 2
    ):
        raise BadRowError(f"its entry point {given!r:.60} is not the name of a function", "give `name` or `Class.name`")
    return ".".join(parts)
