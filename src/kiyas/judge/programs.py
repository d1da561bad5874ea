"""Reading programs. Every complaint names file, line and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from .extract import extract
from .rows import MOST_OF_A_ROW, BadRowError, Row, check_depth, located, rows, take
from .stubs import continued
from .syntax import parses
from .types import MOST_PROGRAM, Extraction, ExtractionRule, InputError, Problem, Program


def read_programs(path: str | Path | Iterable[str | Path]) -> Iterator[Program]:
    """Programs in input order, one by one: a file, a folder, a glob, or several of these.

    Rows with one of `KEYS`, or LiveCodeBench's list with `code_list`; or a `.py` file that has its problem's name.
    """
    for file in program_files(path):
        if file.suffix == PYTHON:
            yield _of_file(file)
            continue
        for number, row in rows(file):
            with located(file, number):
                programs = list(programs_from_row(row, f"{file}:{number}"))
            yield from programs


def program_files(path: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files meant, sorted within a folder or glob. Raises InputError where there is none."""
    if not isinstance(path, str | Path):
        return [file for one in path for file in program_files(one)]
    try:
        found = _files(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(str(path), 0, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        what = "no .jsonl, .json or .py file in this folder" if Path(path).is_dir() else "no such file"
        raise InputError(str(path), 0, what, "check the name")
    return found


ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


PYTHON = ".py"


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        there = sorted(place.iterdir())
        rows = [f for f in there if f.name.endswith(ENDINGS) and not f.name.endswith(".meta.json")]
        return rows or [f for f in there if f.suffix == PYTHON]
    if place.exists():
        return [place]
    if any(sign in str(place) for sign in "*?["):
        return sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    return []


def _of_file(file: Path) -> Program:
    try:
        if not file.is_file():
            raise InputError(str(file), 0, "is a pipe, a device or a socket", "give a regular file")
        if file.stat().st_size > MOST_OF_A_ROW:
            raise InputError(str(file), 0, f"has more than {MOST_OF_A_ROW >> 20} MB", "leave it out")
        source = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError(str(file), 0, f"cannot be read: {reason}", "give a Python file") from None
    row = {"problem_id": file.stem, "file": str(file), "program": source}
    return Program(file.stem, source, row, origin=f"{file}:0")


def problem_of(program: Program, problems: Mapping[str, Problem]) -> Problem:
    """The problem that the program answers. Raises InputError where it is not among `problems`."""
    if program.problem_id in problems:
        return problems[program.problem_id]
    file, _, line = program.origin.rpartition(":")
    some = ", ".join(map(repr, list(problems)[:3])) + (" …" if len(problems) > 3 else "")
    reason = f"problem {program.problem_id!r:.80} is not among the problems ({some:.200})"
    hint = "a .py file has the name of its problem" if file.endswith(PYTHON) else "check --problems"
    raise InputError(file or "programs", int(line or 0), reason, hint)


def found_in(answer: str, problem: Problem | None, rule: ExtractionRule = ExtractionRule.KIYAS) -> Extraction:
    """The program in an answer to the problem. By our own rule an answer that is only the rest of a function is one."""
    found = extract(answer, problem.entry_point if problem else None, rule)
    if problem is None or found.method != "none" or rule is not ExtractionRule.KIYAS or len(answer) > MOST_PROGRAM:
        return found
    name = (problem.entry_point or "").partition(".")[0]
    if continued(problem.stub, answer, name) is None:
        return found
    return Extraction(answer, "whole", "the rest of the function that is asked for", found.livecodebench)


def for_problem(program: Program, problem: Problem, rule: ExtractionRule) -> Program:
    """The program as it is found in its answer by this rule and for this problem; once."""
    if program.answer is None:
        return program
    found = found_in(program.answer, problem, rule)
    return replace(program, source=found.program, extraction=found, answer=None)


IDS = ("problem_id", "question_id", "task_id")


def programs_from_row(row: Row, origin: str = "") -> Iterator[Program]:
    check_depth(row)
    key = next((key for key in IDS if row.get(key) is not None), None)
    if key is None:
        raise BadRowError(f"none of {', '.join(map(repr, IDS))} is there", "say which problem the program answers")
    problem_id = str(take(row, key, (str, int)))
    if row.get("code_list") is not None:
        take(row, "code_list", list)
        rest = {key: value for key, value in row.items() if key not in ("code_list", "output_list", "graded_list")}
        for sample, code in enumerate(row["code_list"]):
            if not isinstance(code, str):
                raise BadRowError(f"entry {sample + 1} of 'code_list' is not a string")
            passed_on = {**rest, "problem_id": problem_id, "sample": sample, "program": code}
            yield Program(problem_id, code, passed_on, origin=origin)
        return
    key, text = _given(row)
    found = extract(text) if key == "answer" else _fenced(text) if key in ("completion", "solution") else None
    source, answer = (text, None) if found is None else (found.program, text)
    yield Program(problem_id, source, {**row, "problem_id": problem_id}, found, answer, origin)


KEYS = ("program", "extracted_code", "answer", "completion", "solution")
"""Where a row has its program: code in all but `answer`, which is what a model wrote. The first of them counts."""


def _given(row: Row) -> tuple[str, str]:
    there = [key for key in KEYS if row.get(key) is not None]
    if not there:
        keys = ", ".join(map(repr, row)) or "none"
        raise BadRowError(f"it has no program; its keys: {keys:.300}", f"give it as one of {', '.join(KEYS)}")
    if there == ["completion", "solution"] and row["completion"] != row["solution"]:
        raise BadRowError("it has both a 'completion' and a 'solution', which differ", "leave one of them out")
    return there[0], take(row, there[0], str)


def _fenced(text: str) -> Extraction | None:
    """What is in the fence of a `completion` that a chat model wrote; None where it is code."""
    return extract(text) if "```" in text and len(text) <= MOST_PROGRAM and not parses(text) else None


def recorded(row: Row) -> str | None:
    """The program in a row of somebody's results, where it has one as a text."""
    code = next((row[key] for key in KEYS if key != "answer" and isinstance(row.get(key), str)), None)
    found = None if code is None else _fenced(code)
    return code if found is None else found.program
