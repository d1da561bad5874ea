"""Problems with tests, in the judge's format. How a problem becomes a prompt is the training's own way (chat.py)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kiyas import judge, practice
from kiyas.study import PRACTICE, Benchmark
from kiyas.types import KiyasError


def read(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The benchmark's rows, in order. Raises KiyasError for a broken or empty file, a twin or an empty statement."""
    if benchmark.dataset == PRACTICE:
        return practice.benchmark(benchmark.problems or 41)
    path = Path(benchmark.dataset)
    try:
        rows = [_row(problem) for problem in judge.read_problems(path)]
    except judge.InputError as error:
        raise KiyasError(str(error)) from error
    rows = rows[: benchmark.problems]
    if not rows:
        raise KiyasError(f"{path} holds no problems")
    for row in rows:
        if not str(row.get("statement", "")).strip():
            raise KiyasError(f"{path}: problem {row['id']} has no statement, so a model cannot be asked it")
    return rows


def _row(problem: judge.Problem) -> dict[str, Any]:
    """The judge's own format, without what is not said."""
    return {key: value for key, value in asdict(problem).items() if value not in (None, "", ())}
