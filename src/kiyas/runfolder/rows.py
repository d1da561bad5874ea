"""The JSONL files of a run folder as typed rows. A file that is absent holds no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from kiyas.judge import Problem, Test
from kiyas.runfolder.files import each_row
from kiyas.runfolder.paths import RunDir
from kiyas.types import Completion, Example, Judgment, KiyasError, LogRow, listed

T = TypeVar("T")


def judgments(folder: RunDir) -> list[Judgment]:
    """judge/judgments.jsonl. Raises KiyasError with file and row for one that is not a judgment."""
    return _rows(folder.judgments, Judgment.of)


def examples(folder: RunDir, arm: str) -> Iterator[Example]:
    """data/ARM.jsonl: what an arm is trained and validated on, all draws; nothing where it was trained elsewhere.

    One at a time: an arm may have more rows than fit into memory.
    """
    return _each(folder.arm_data(arm), lambda row: Example(**row))


def completions(folder: RunDir) -> list[Completion]:
    """generate/completions.jsonl."""
    return _rows(folder.completions, Completion.of)


def redecoded(folder: RunDir) -> list[Completion]:
    """generate/redecoded.jsonl: answers decoded again in another batch shape."""
    return _rows(folder.redecoded, Completion.of)


def redecoded_judgments(folder: RunDir) -> list[Judgment]:
    """judge/redecoded.jsonl."""
    return _rows(folder.redecoded_judgments, Judgment.of)


def log(folder: RunDir) -> list[LogRow]:
    """train/log.jsonl."""
    return _rows(folder.train_log, LogRow.of)


def problems(folder: RunDir) -> dict[str, tuple[Problem, str]]:
    """data/problems.jsonl: each problem by id, with the label of its secondary benchmark ("": the primary one)."""
    return {problem.id: (problem, label) for problem, label in _rows(folder.problems, _problem)}


def _rows(path: Path, read: Callable[[dict[str, Any]], T]) -> list[T]:
    return list(_each(path, read))


def _each(path: Path, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    for number, row in enumerate(each_row(path) if path.exists() else (), 1):
        try:
            yield read(row)
        except (KeyError, TypeError, ValueError) as error:
            raise KiyasError(f"{path}, row {number}: {error!r} is missing or wrong") from error


def _problem(row: dict[str, Any]) -> tuple[Problem, str]:
    """An import may know no more than the id; that the judge can run the tests is not asked here."""

    def text(key: str) -> str:
        return str(row.get(key) or "")

    problem = Problem(
        id=str(row["id"]),
        tests=tuple(Test(str(test["input"]), str(test["output"])) for test in listed(row.get("tests"))),
        title=text("title") or str(row["id"]),
        statement=text("statement"),
        test_code=row.get("test_code"),
        difficulty=text("difficulty"),
        date=text("date"),
        group=text("group"),
        tags=tuple(str(tag) for tag in listed(row.get("tags")) if tag),
    )
    return problem, text("benchmark")
