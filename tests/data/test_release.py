"""Problems are chosen from a release of LiveCodeBench before private tests are unpacked: memory holds those, once."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_server import Hub, around, lines, livecodebench_row, serve
from kiyas.data import benchmarks
from kiyas.judge import JudgeError, outlines, read_problems
from kiyas.judge.rows import BadRowError
from kiyas.runfolder.files import read_jsonl
from kiyas.study.settings import Benchmark
from kiyas.types import KiyasError

MEGABYTES, ROWS = 24, 60


def packed(tests: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)), 1)).decode()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Sixty rows in two files, each of which unpacks to 24 MB; three are easy, of AtCoder and recent."""
    half = "7 " * (MEGABYTES * 2**17)
    private = packed([{"input": half, "output": half, "testtype": "stdin"}] * 2)
    rows = [
        {
            **livecodebench_row(
                300 + number,
                "2024-09-07" if number % 3 else "2023-05-01",
                "atcoder" if number % 4 else "leetcode",
                "easy" if number in (7, 22, 31, 48) else "hard",
            ),
            "private_test_cases": private,
        }
        for number in range(ROWS)
    ]
    with serve() as running:
        files = {"test.jsonl": lines(rows[:30]), "test2.jsonl": lines(rows[30:])}
        running.add("datasets", "livecodebench/code_generation_lite", files)
        yield running


READ = """
import resource, sys
from pathlib import Path
from kiyas.data import benchmarks
from kiyas.judge import problem_from_row
from kiyas.runfolder.files import write_jsonl
from kiyas.study.settings import Benchmark
import datasets, huggingface_hub, httpx2
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
chosen = Benchmark.model_validate({"dataset": "livecodebench", "release": "release_v2", "platform": "atcoder",
    "difficulty": "easy", "from": "2024", "tests": sys.argv[2]})
rows = benchmarks.read(chosen)
problems = [problem_from_row(row, "kiyas") for row in rows]
write_jsonl(Path(sys.argv[1]), rows)
print(peak() - before)
"""


@pytest.mark.parametrize(("tests", "most_mb", "count"), [("all", 400, 3), ("public", 60, 1)])
def test_memory_holds_what_is_chosen(hub: Hub, tmp_path: Path, tests: str, most_mb: int, count: int) -> None:
    command = [sys.executable, "-c", READ, str(tmp_path / "problems.jsonl"), tests]
    done = subprocess.run(command, env=around(hub.endpoint, tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = read_jsonl(tmp_path / "problems.jsonl")
    assert [row["id"] for row in found] == ["abc307_a", "abc322_a", "abc331_a"]
    assert [len(row["tests"]) for row in found] == [count] * 3
    assert int(done.stdout) < most_mb, f"{done.stdout.strip()} MB, of {ROWS * MEGABYTES} MB unpacked"


def put(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_bytes(lines(list(rows)))
    return path


def test_what_is_chosen_is_what_was_always_chosen(tmp_path: Path) -> None:
    rows = [livecodebench_row(300 + n, f"2024-0{1 + n}-07", difficulty=("easy", "hard")[n % 2]) for n in range(6)]
    file = put(tmp_path / "lcb.jsonl", *rows)
    whole = {problem.id: problem.to_row() for problem in read_problems(file)}
    assert [row["id"] for row in benchmarks.read(Benchmark(dataset=str(file)))] == list(whole)
    for settings in ({"difficulty": "easy"}, {"problems": 2}, {"from": "2024-03", "to": "2024-05"}):
        chosen = benchmarks.read(Benchmark.model_validate({"dataset": str(file), **settings}))
        assert 0 < len(chosen) < 6 and chosen == [whole[row["id"]] for row in chosen]


def test_an_outline_can_never_be_judged_by_mistake(tmp_path: Path) -> None:
    file = put(tmp_path / "lcb.jsonl", livecodebench_row(300, "2024-01-01"))
    (problem,) = outlines(file)
    assert problem.id == "abc300_a" and problem.difficulty == "easy" and problem.tests == ()
    mine = {"id": "m", "statement": "s", "tests": [{"input": "1", "output": "2"}]}
    assert outlines(put(tmp_path / "own.jsonl", mine)) == read_problems(tmp_path / "own.jsonl")


def test_a_chosen_row_that_cannot_be_unpacked_is_refused_and_another_is_not_looked_at(tmp_path: Path) -> None:
    broken = {**livecodebench_row(301, "2024-01-01", difficulty="hard"), "private_test_cases": "???"}
    file = put(tmp_path / "lcb.jsonl", livecodebench_row(300, "2024-01-01"), broken)
    (row,) = benchmarks.read(Benchmark.model_validate({"dataset": str(file), "difficulty": "easy"}))
    assert len(row["tests"]) == 4
    with pytest.raises(KiyasError, match=r"lcb\.jsonl:2: 'private_test_cases' can be read neither"):
        benchmarks.read(Benchmark(dataset=str(file)))


def test_twins_and_empty_files_are_refused_as_before(tmp_path: Path) -> None:
    row = livecodebench_row(300, "2024-01-01")
    for read in (read_problems, outlines):
        with pytest.raises(JudgeError, match=r"lcb\.jsonl:2: problem 'abc300_a' is in line 1 already"):
            read(put(tmp_path / "lcb.jsonl", row, row))
        with pytest.raises(JudgeError, match="no problems in it"):
            read(put(tmp_path / "empty.jsonl"))
        with pytest.raises((JudgeError, BadRowError), match="no format claims this row"):
            read(put(tmp_path / "odd.jsonl", {"a": 1}))
