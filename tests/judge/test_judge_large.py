"""Answers, programs and packed rows that are far too large: bounded in memory, named."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from kiyas.judge import InputError, Outcome, Program, extract, judge, problem_from_row, programs_from_row, read_problems
from kiyas.judge import rows as judge_rows
from kiyas.judge.attacks import problem
from kiyas.judge.formats import format as formats
from kiyas.judge.rows import BadRowError
from kiyas.judge.types import MOST_PROGRAM

LINE = "x = f(1, [2, 3]) + y[4]\n"
KINDS = {"code": LINE, "fences": f"```python\n{LINE}```\n", "brackets": "[1, ", "thoughts": "<think>\n", "blank": "\n"}
PEAK = """
import sys
from kiyas.judge import Limits, judge, programs_from_row
from kiyas.judge.attacks import problem
unit, size, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
text = unit * (size // len(unit))
programs = list(programs_from_row({"problem_id": "p", key: text}))
verdicts = list(judge(programs, [problem()], isolation="weak", workers=1))
print(verdicts[0].verdict, verdicts[0].flags, verdicts[0].detail, file=sys.stderr)
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) // 1024)
"""


@pytest.mark.parametrize("key", ["answer", "program", "completion"])
@pytest.mark.parametrize("kind", ["code", pytest.param("fences", marks=pytest.mark.slow)])
def test_fifty_megabytes_take_a_few_times_their_size(kind: str, key: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, KINDS[kind], str(50_000_000), key], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40 + 4 * 50
    assert "longer than 1,000,000 characters" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_too_long_has_no_program(kind: str) -> None:
    text = KINDS[kind] * (MOST_PROGRAM // len(KINDS[kind]) + 1)
    found = extract(text)
    assert (found.program, found.method) == ("", "none") and "longer than 1,000,000 characters" in found.reason


def test_the_limit_itself_is_allowed() -> None:
    words = "word " * (MOST_PROGRAM // 5 - 10)
    assert extract(f"{words}\n```python\nprint(1)\n```").program == "print(1)\n"
    source = "print(42) #" + "x" * (MOST_PROGRAM - 11)
    verdicts = list(judge([Program("p", source), Program("p", source + "x")], [problem()], isolation="weak", workers=1))
    assert [each.verdict for each in verdicts] == [Outcome.AC, Outcome.CE]
    assert "longer than 1,000,000 characters: it was not run" in verdicts[1].detail


def test_a_long_answer_is_a_wrong_answer_with_its_reason() -> None:
    (program,) = programs_from_row({"problem_id": "p", "answer": "x" * (MOST_PROGRAM + 1)})
    (verdict,) = judge([program], [problem()], isolation="weak", workers=1)
    assert verdict.verdict is Outcome.WA
    assert verdict.flags == ("no program in the answer: the answer is longer than 1,000,000 characters",)


# -- bombs ------------------------------------------------------------------------------------------------------------


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


ROW = {"question_id": "a", "question_title": "", "question_content": "", "public_test_cases": "[]"}


def refusal(private: str) -> str:
    with pytest.raises(BadRowError) as refused:
        problem_from_row({**ROW, "private_test_cases": private}, "livecodebench")
    return str(refused.value)


def test_packed_tests_that_unpack_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MOST_OF_A_ROW", 1 << 20)
    tests = json.dumps([{"input": "1", "output": "x" * (1 << 19), "testtype": "stdin"}])
    assert len(problem_from_row({**ROW, "private_test_cases": packed(pickle.dumps(tests))}).tests) == 1
    assert "unpacks to more than 1 MB" in refusal(packed(bytes(2 << 20)))
    assert "it is cut off" in refusal(base64.b64encode(zlib.compress(pickle.dumps(tests))[:-20]).decode())


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "unpickled"),)

    refusal(packed(pickle.dumps([Evil(), "[]"])))
    assert not (tmp_path / "unpickled").exists()


def test_a_packed_file_whose_line_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_rows, "MOST_OF_A_ROW", 1 << 20)
    monkeypatch.setattr(judge_rows, "MOST_OF_A_LIST", 1 << 20)
    path = tmp_path / "problems.jsonl.gz"
    good = {"id": "a", "tests": [{"input": "", "output": "1"}]}
    path.write_bytes(gzip.compress(json.dumps(good).encode() + b"\n" + b" " * (2 << 20)))
    with pytest.raises(InputError, match=r"problems\.jsonl\.gz:2: this line has more than 1 MB"):
        read_problems(path)
    path.write_bytes(gzip.compress(b"[\n" + b" " * (2 << 20) + b"]"))
    with pytest.raises(InputError, match="more than 1 MB that are not JSON lines"):
        read_problems(path)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "problems.jsonl")
    with pytest.raises(InputError, match="is a pipe"):
        read_problems(tmp_path / "problems.jsonl")
