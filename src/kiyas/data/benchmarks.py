"""Problems with tests, in the judge's format. How a problem becomes a prompt is the training's own way (chat.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

from kiyas import judge, practice
from kiyas.data import hub
from kiyas.judge.rows import Row
from kiyas.judge.rows import rows as rows_of
from kiyas.runfolder.files import refuse_not_a_file
from kiyas.study.settings import PRACTICE, Benchmark, Benchmarks, day_of
from kiyas.types import KiyasError


def read_all(benchmarks: Benchmarks) -> list[dict[str, Any]]:
    """The rows of all benchmarks of a study; those of secondary benchmarks say their `benchmark`.

    Raises KiyasError as `read`, and for a problem that is in two benchmarks.
    """
    rows: list[dict[str, Any]] = []
    home: dict[str, str] = {}
    for label, benchmark in benchmarks.named.items():
        for row in read(benchmark):
            if row["id"] in home:
                raise KiyasError(f"the problem {row['id']!r} is in two benchmarks: {home[row['id']]} and {label}")
            home[row["id"]] = label
            rows.append(row if benchmark is benchmarks.primary else {**row, "benchmark": label})
    return rows


def read(benchmark: Benchmark) -> list[dict[str, Any]]:
    """The benchmark's rows, in order, filtered.

    Raises KiyasError for a broken or empty file, a twin, an empty statement, a filter that cannot be applied or leaves
    nothing, and for other problems than `ids` says.
    """
    if benchmark.dataset == PRACTICE:
        rows = practice.benchmark(benchmark.problems or 41)
    else:
        try:
            rows = [problem.to_row() for problem in _outlines(benchmark)]
        except judge.JudgeError as error:
            raise KiyasError(str(error)) from error
    source = benchmark.dataset
    twins = [id for id, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twins:
        raise KiyasError(f"{source}: the problem {twins[0]!r} occurs twice")
    rows = _filtered(rows, benchmark)[: benchmark.problems]
    if not rows:
        raise KiyasError(f"{source} holds no problems")
    for row in rows:
        if not str(row.get("statement", "")).strip():
            raise KiyasError(f"{source}: problem {row['id']} has no statement, so a model cannot be asked to solve it")
    found = {row["id"] for row in rows}
    wanted = found if benchmark.ids is None else set(benchmark.ids)
    if found != wanted:
        raise KiyasError(
            f"{source}: the problems differ from `ids`: {_some(wanted - found)} missing, "
            f"{_some(found - wanted)} too many",
            "check release, platform, difficulty, from and to",
        )
    try:
        return _with_tests(rows, benchmark)
    except judge.JudgeError as error:
        raise KiyasError(str(error)) from error


def question(row: dict[str, Any]) -> str:
    """What a chat model is asked: the benchmark's own wording where it has one (judge/formats/), else the statement."""
    return str(row.get("question") or row["statement"])


def solutions(benchmark: Benchmark) -> dict[str, str]:
    """What the benchmark's own solution of each problem adds to its statement, by id, where it has one; else none."""
    known = benchmark.known
    if benchmark.dataset == PRACTICE or (known is not None and known.solutions is None):
        return {}
    found = {}
    if known is None:
        refuse_not_a_file(Path(benchmark.dataset))
    rows = _hub_rows(benchmark, known) if known is not None else (row for _, row in rows_of(Path(benchmark.dataset)))
    for number, row in enumerate(rows):
        format = known or judge.formats.recognise(row)
        if format.solutions is None:
            break  # a large file of another format is not read to its end
        if own := format.solutions(row):
            problem = judge.problem_from_row(row, format.name, number)
            found[problem.id] = own[0].removeprefix(problem.preamble + problem.stub).removeprefix(problem.statement)
    return found


def _outlines(benchmark: Benchmark) -> list[judge.Problem]:
    """All problems, to choose from; those with hidden tests have none yet, unless only sample tests are wanted."""
    known = benchmark.known
    if known is not None and known.release_files is None:
        return [
            judge.problem_from_row(row, known.name)
            for row in _hub_rows(benchmark, known)
            if row.get("split", "test") == "test"
        ]
    files, format = _files(benchmark)
    if benchmark.tests == "public":
        return [each for path in files for each in judge.read_problems(path, format, public_tests_only=True)]
    return [each for path in files for each in judge.outlines(path, format)]


def _with_tests(rows: list[dict[str, Any]], benchmark: Benchmark) -> list[dict[str, Any]]:
    """The chosen problems with the tests that they lack: only theirs are unpacked."""
    lacking = {row["id"] for row in rows if not {"tests", "test_code"} & row.keys()}
    if not lacking:
        return rows
    files, format = _files(benchmark)
    whole = {each.id: each.to_row() for path in files for each in judge.read_problems(path, format, only=lacking)}
    return [whole[row["id"]] if row["id"] in lacking else row for row in rows]


def _files(benchmark: Benchmark) -> tuple[list[Path], str | None]:
    """The files of a benchmark, and their format if it is known."""
    known = benchmark.known
    if known is None:
        refuse_not_a_file(Path(benchmark.dataset))
        return [Path(benchmark.dataset)], None
    assert known.hub_id is not None and known.release_files is not None and benchmark.release is not None
    names = known.release_files(benchmark.release)
    return [hub.dataset_file(known.hub_id, name, benchmark.revision) for name in names], known.name


def _hub_rows(benchmark: Benchmark, known: judge.Format) -> Iterable[Row]:
    assert known.hub_id is not None
    return hub.dataset_rows(known.hub_id, benchmark.revision, known.hub_config)


# -- filters ----------------------------------------------------------------------------------------------------


def _filtered(rows: list[dict[str, Any]], benchmark: Benchmark) -> list[dict[str, Any]]:
    """Each filter is checked to be one: every row must say what it asks for, and something must be left."""
    for key in ("platform", "difficulty"):
        wanted = getattr(benchmark, key)
        if wanted is not None:
            values = {wanted.lower()} if isinstance(wanted, str) else {value.lower() for value in wanted}
            rows = _kept(rows, benchmark, key, key, lambda value, v=values: value.lower() in v)  # type: ignore[misc]
    first, last = day_of(benchmark.from_, False), day_of(benchmark.to, True)
    if first is not None or last is not None:

        def inside(value: str) -> bool:
            day = date.fromisoformat(value[:10])
            return (first is None or first <= day) and (last is None or day <= last)

        rows = _kept(rows, benchmark, "date", "from/to", inside)
    return rows


def _kept(
    rows: list[dict[str, Any]], benchmark: Benchmark, key: str, name: str, good: Callable[[str], bool]
) -> list[dict[str, Any]]:
    silent = [row["id"] for row in rows if not isinstance(row.get(key), str) or not row[key].strip()]
    if silent:
        raise KiyasError(
            f"{benchmark.dataset}: the filter {name} cannot be applied: {len(silent)} of {len(rows)} problems have no "
            f"{key} ({_some(set(silent))})",
            "leave the filter out, or give the problems what it asks for",
        )
    try:
        kept = [row for row in rows if good(row[key])]
    except ValueError as error:
        raise KiyasError(f"{benchmark.dataset}: a problem's {key} cannot be read: {error}") from error
    if not kept:
        seen = Counter(row[key][:7] if key == "date" else row[key] for row in rows)
        there = ", ".join(f"{value}: {count}" for value, count in sorted(seen.items())[:12])
        raise KiyasError(f"{benchmark.dataset}: the filter {name} leaves no problem; there are {there}")
    return kept


def _some(ids: set[str]) -> str:
    shown = sorted(ids)[:5]
    return (", ".join(shown) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")) or "none"
