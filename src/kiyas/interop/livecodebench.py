"""LiveCodeBench's own files: `*_eval_all.json`, and generations with no verdict in them.

A list of objects with `question_id`, `code_list`, perhaps `output_list`, `graded_list` and `metadata`, one entry a
sample (`insert_output_evaluation` in lcb_runner/benchmarks/code_generation.py). The course evaluator's
`generations/*.json` are the same with `question_id` and `code_list` alone, as `custom_evaluator` reads them.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from kiyas.interop.answers import Answer, problem_of, text_of
from kiyas.interop.course import NOT_GENERATED
from kiyas.interop.files import Row
from kiyas.judge import Outcome
from kiyas.types import KiyasError

NAME = "LiveCodeBench generations and evaluations"
VERDICTS = {-1: Outcome.CE, -2: Outcome.WA, -3: Outcome.TLE, -4: Outcome.RE, -5: Outcome.IE}
"""`error_code` of a failed sample (lcb_runner/evaluation/testing_util.py); -5: the test runner itself failed"""


def recognises(row: Row) -> bool:
    return row.get("question_id") not in (None, "") and isinstance(row.get("code_list"), list)


def answers(row: Row, where: str, odd: Counter[str]) -> Iterator[Answer]:
    codes, outputs, grades = (_samples(row, key, where) for key in ("code_list", "output_list", "graded_list"))
    metadata = row["metadata"] if isinstance(row.get("metadata"), list) else []
    more = {"platform": row.get("platform"), "difficulty": row.get("difficulty"), "date": row.get("contest_date")}
    more["group"] = row.get("contest_id")
    problem = problem_of(row["question_id"], row.get("question_title"), row.get("question_content"), **more)
    if not codes:
        odd["no sample in the row"] += 1
    for sample, code in enumerate(codes):
        text, program = (text_of(outputs[sample]) if outputs else None), text_of(code)
        if program is not None and program.startswith(NOT_GENERATED):
            odd["nothing was generated; no verdict"] += 1
            yield Answer(problem, Outcome.IE, sample, detail=program)
            continue
        about = metadata[sample] if sample < len(metadata) else None
        verdict, detail = _verdict(grades[sample] if grades else None, about)
        yield Answer(problem, verdict, sample, text or program, program, chat=bool(text), detail=detail)


def _samples(row: Row, key: str, where: str) -> list[Any]:
    """One entry a sample, or none at all."""
    value = row.get(key)
    value = [] if value is None else value
    if not isinstance(value, list) or (value and len(value) != len(row["code_list"])):
        raise KiyasError(f"{where}: {key} is not a list with one entry for each of `code_list`")
    return value


def _verdict(grade: Any, about: Any) -> tuple[Outcome | None, str]:
    """(verdict, detail); why a sample failed is in its metadata, mostly as JSON text."""
    if not isinstance(grade, bool):
        return None, ""
    if grade:
        return Outcome.AC, ""
    with contextlib.suppress(ValueError, RecursionError):
        about = json.loads(about) if isinstance(about, str) else about
    said = about if isinstance(about, dict) else {}
    code, message = said.get("error_code"), str(said.get("error_message") or said.get("error") or "")
    return VERDICTS.get(code, Outcome.WA) if isinstance(code, int) else Outcome.WA, message
