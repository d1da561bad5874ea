"""The same program for the same problem is run once, in one sitting and across two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kiyas import cli

RIGHT, WRONG = "print(2 * int(input()))", "print(1)"
PROGRAMS: list[dict[str, Any]] = [
    {"problem_id": "a", "program": RIGHT, "model": "x"},
    {"problem_id": "a", "program": WRONG},
    {"problem_id": "b", "program": RIGHT},
    {"problem_id": "a", "program": RIGHT, "model": "y", "not_run": 7, "verdict": "stale"},
    {"problem_id": "a", "answer": f"```python\n{RIGHT}\n```"},
    {"problem_id": "a", "program": WRONG},
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    tests = [{"input": "1\n", "output": "2"}, {"input": "2\n", "output": "4"}]
    rows = {"problems": [{"id": id, "tests": tests} for id in "ab"], "programs": PROGRAMS}
    for name, each in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each), encoding="utf-8")
    return tmp_path


def judge(files: Path, *more: str) -> None:
    paths = str(files / "programs.jsonl"), "--problems", str(files / "problems.jsonl")
    assert cli.main(["judge", *paths, "--isolation", "best", "--workers", "1", *more]) == 0


def check(rows: list[dict[str, Any]]) -> None:
    assert [row["verdict"] for row in rows] == ["AC", "WA", "AC", "AC", "AC", "WA"]
    assert [row.get("model") for row in rows] == ["x", None, None, "y", None, None]
    assert rows[3]["tests"] == rows[0]["tests"] and rows[5]["detail"] == rows[1]["detail"]
    assert "not_run" not in rows[3]
    # The text after the fence ends in a line break: another program, as far as anybody can know.
    assert rows[4]["program"].strip() == RIGHT and rows[4]["extraction"]["method"] == "fence"


def test_copies_have_the_verdict_of_the_first(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge(files)
    out, err = capsys.readouterr()
    check([json.loads(line) for line in out.splitlines()])
    assert "6 programs: 4 AC, 2 WA" in err
    assert "2 of these verdicts are those of the same program" in err


@pytest.mark.parametrize("there", range(1, 6))
def test_across_two_sittings(there: int, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = files / "verdicts.jsonl"
    judge(files, "--out", str(out))
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join([*lines[:there], lines[there][:20]]))
    capsys.readouterr()
    judge(files, "--out", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    check(rows)
    assert f"{there} of 6 verdicts are there already" in capsys.readouterr().err
