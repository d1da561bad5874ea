"""Reading programs. Every complaint names file, line and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from .extract import extract
from .rows import BadRowError, Row, located, rows
from .types import ExtractionRule, InputError, Problem, Program


def read_programs(path: str | Path | Iterable[str | Path]) -> Iterator[Program]:
    """Programs in input order, one by one: a file, a folder, a glob, or several of these.

    Our own rows, LiveCodeBench's list with `code_list`, or rows with `extracted_code`.
    """
    for file in program_files(path):
        for number, row in rows(file):
            with located(file, number):
                programs = list(programs_from_row(row, f"{file}:{number}"))
            yield from programs


def program_files(path: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files meant, sorted within a folder or glob. Raises InputError where there is none."""
    if not isinstance(path, str | Path):
        return [file for one in path for file in program_files(one)]
    place = Path(path)
    if place.is_dir():
        endings = (".jsonl", ".json", ".jsonl.gz")
        found = sorted(f for f in place.iterdir() if f.name.endswith(endings) and not f.name.endswith(".meta.json"))
        if not found:
            raise InputError(str(path), 0, "no .jsonl or .json file in this folder")
        return found
    if place.exists():
        return [place]
    if any(sign in str(path) for sign in "*?[") and (
        found := sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
    ):
        return found
    raise InputError(str(path), 0, "no such file")


def problem_of(program: Program, problems: Mapping[str, Problem]) -> Problem:
    """The problem that the program answers. Raises InputError where it is not among `problems`."""
    if program.problem_id in problems:
        return problems[program.problem_id]
    file, _, line = program.origin.rpartition(":")
    reason = f"problem {program.problem_id!r} is not among the problems"
    raise InputError(file or "programs", int(line or 0), reason, "check --problems")


def for_problem(program: Program, problem: Problem, rule: ExtractionRule) -> Program:
    """The program as it is found in its answer by this rule and for this problem."""
    if program.answer is None or (rule is ExtractionRule.KIYAS and problem.entry_point is None):
        return program
    found = extract(program.answer, problem.entry_point, rule)
    return replace(program, source=found.program, extraction=found)


def programs_from_row(row: Row, origin: str = "") -> Iterator[Program]:
    problem_id = next((row[key] for key in ("problem_id", "question_id", "task_id") if row.get(key) is not None), None)
    if not isinstance(problem_id, str | int):
        raise BadRowError("key 'problem_id' (or 'question_id') is missing")
    problem_id = str(problem_id)
    if isinstance(row.get("code_list"), list):
        rest = {key: value for key, value in row.items() if key not in ("code_list", "output_list", "graded_list")}
        for sample, code in enumerate(row["code_list"]):
            if not isinstance(code, str):
                raise BadRowError(f"entry {sample + 1} of 'code_list' is not a string")
            passed_on = {**rest, "problem_id": problem_id, "sample": sample, "program": code}
            yield Program(problem_id, code, passed_on, origin=origin)
        return
    for key in ("program", "extracted_code"):
        if isinstance(row.get(key), str):
            yield Program(problem_id, row[key], {**row, "problem_id": problem_id}, origin=origin)
            return
    answer = row.get("answer")
    if not isinstance(answer, str):
        raise BadRowError("neither 'program' nor 'answer' (nor 'code_list', 'extracted_code') is there as a string")
    found = extract(answer)
    yield Program(problem_id, found.program, {**row, "problem_id": problem_id}, found, answer, origin)
