"""Formats: what is read, and that every complaint names file, line and reason."""

import base64
import contextlib
import gzip
import json
import pickle
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiyas.judge import InputError, Limits, read_problems, read_programs
from kiyas.judge.verdicts import Resolved

TESTS = [{"input": "1\n", "output": "2\n"}]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_own_problems(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "title": "T",
        "tests": TESTS,
        "tolerance": 1e-6,
        "time_limit_s": 2,
        "memory_limit_mb": 64,
        "tags": ["x"],
    }
    (problem,) = read_problems(write(tmp_path / "p.jsonl", row))
    assert (problem.id, problem.tests[0].output, problem.time_limit_s, problem.tags) == ("a", "2\n", 2, ("x",))


def test_livecodebench_problems(tmp_path: Path) -> None:
    hidden = base64.b64encode(
        zlib.compress(pickle.dumps(json.dumps([{"input": "[1]", "output": "3", "testtype": "functional"}])))
    )
    row = {
        "question_id": 7,
        "question_title": "T",
        "question_content": "S",
        "public_test_cases": json.dumps([{"input": "[2]", "output": "2", "testtype": "functional"}]),
        "private_test_cases": hidden.decode(),
        "metadata": json.dumps({"func_name": "f"}),
        "platform": "leetcode",
        "difficulty": "easy",
        "contest_date": "2024-01-01",
    }
    (problem,) = read_problems(write(tmp_path / "p.jsonl", row))
    assert problem.id == "7" and problem.entry_point == "f"
    assert [test.output for test in problem.tests] == ["2", "3"]


def test_public_tests_only(tmp_path: Path) -> None:
    hidden = json.dumps([{"input": "[1]", "output": "3", "testtype": "functional"}])
    path = write(tmp_path / "p.jsonl", {**VALID["livecodebench"], "private_test_cases": hidden})
    assert [len(read_problems(path, public_tests_only=only)[0].tests) for only in (True, False)] == [1, 2]
    for row, reason in (
        (VALID["kiyas"], "public_test_cases"),
        ({**VALID["livecodebench"], "public_test_cases": "["}, "'public_test_cases' is not JSON"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            read_problems(write(path, row), public_tests_only=True)
        assert (caught.value.file, caught.value.line) == (str(path), 1)


def test_private_tests_are_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'boom')!r}, 'w')",))

    hidden = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    row = {"question_id": "q", "public_test_cases": "[]", "private_test_cases": hidden, "question_content": ""}
    with pytest.raises(InputError):
        read_problems(write(tmp_path / "p.jsonl", row))
    assert not (tmp_path / "boom").exists()


def test_humaneval_and_mbpp(tmp_path: Path) -> None:
    human = {
        "task_id": "H/0",
        "prompt": "import re\n\ndef f(): ...",
        "test": "def check(c): assert c()",
        "entry_point": "f",
        "canonical_solution": "",
    }
    mbpp = {"task_id": 2, "text": "t", "code": "", "test_list": ["assert f() == 1"], "test_setup_code": "import re"}
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, (human, mbpp))).encode()))
    first, second = read_problems(path)
    assert first.test_code is not None and first.test_code.endswith("check(f)\n")
    assert first.complete("def f(): return re") == "import re\n\n\ndef f(): return re"
    assert first.complete("") == "" and second.complete("x") == "x"
    future = "from __future__ import annotations\ndef f(): ..."
    assert first.complete(future) == "from __future__ import annotations\nimport re\n\n\npass\ndef f(): ..."
    compile(first.complete('"""Text."""\nfrom __future__ import (\n    annotations,\n)\ndef f(): ...'), "f", "exec")
    assert first.complete("from __future__ import annotations; a = 1").endswith("pass; a = 1")
    said = "s = '''\nfrom __future__ import annotations\n'''\ndef f(): ..."
    assert first.complete(said) == f"import re\n\n\n{said}"
    assert second.test_code == "import re\nassert f() == 1\n"


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('{"id": "a", "tests": []}', 1, "no tests"),
        ('{"tests": [{"input": "", "output": ""}]}', 1, "'id' is missing"),
        ('{"id": "a", "tests": [{"input": 1, "output": ""}]}', 1, "test 1"),
        ('\n{"id": "a", "tests": [{"input": "", "output": ""}]}\n{"id": ', 3, "not JSON"),
        ('{"id": "a", "tests": [{"input": "", "output": ""}]}\n' * 2, 2, "already"),
        ('{"id": "a", "tests": "x"}', 1, "'tests' is a str"),
        ('{"id": "a", "tests": [{"input": "", "output": ""}], "time_limit_s": -1}', 1, "makes no sense"),
        ('{"id": "a", "entry_point": "f", "tests": [{"input": "x", "output": "1"}]}', 1, "are JSON"),
        (json.dumps({"id": "a", "entry_point": "f", "tests": [{"input": "[" * 9999, "output": "1"}]}), 1, "are JSON"),
        ('{"id": ' + "1" * 5000 + "}", 1, "not JSON"),
        ("[1]", 0, "entry 1"),
        ("7", 1, "a JSON object is wanted"),
        ("", 0, "no problems"),
    ],
)
def test_bad_problems(tmp_path: Path, content: str, line: int, reason: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_problems(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert reason in caught.value.reason


def test_programs(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        {"problem_id": "a", "program": "1", "model": "m"},
        {"problem_id": "a", "answer": "```\nprint(1)\n```"},
    )
    (tmp_path / "b.json").write_text(json.dumps([{"question_id": "b", "code_list": ["2", "3"], "x": 1}]))
    write(tmp_path / "c.jsonl", {"question_id": "c", "extracted_code": "4", "passed": True})
    programs = list(read_programs(tmp_path))
    assert [p.problem_id for p in programs] == ["a", "a", "b", "b", "c"]
    assert [p.source for p in programs] == ["1", "print(1)\n", "2", "3", "4"]
    assert programs[0].row["model"] == "m" and programs[3].row["sample"] == 1
    assert programs[1].extraction is not None and programs[1].extraction.method == "fence"
    assert [p.source for p in read_programs(str(tmp_path / "*.json"))] == ["2", "3"]
    assert len(list(read_programs([tmp_path / "a.jsonl", tmp_path / "c.jsonl"]))) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"program": "x"}', "'problem_id'"),
        ('{"problem_id": "a"}', "it has no program; its keys: 'problem_id'"),
        ('{"problem_id": "a", "code_list": [1]}', "'code_list'"),
        ("{", "not JSON"),
        ('{"problem_id": "\xff"}', "not JSON"),
    ],
)
def test_bad_programs(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        list(read_programs(path))
    assert caught.value.line == 1 and reason in caught.value.reason


def test_missing_file(tmp_path: Path) -> None:
    for reader in (read_problems, lambda path: list(read_programs(path))):
        with pytest.raises(InputError):
            reader(tmp_path / "nope.jsonl")


VALID = {
    "kiyas": {
        "id": "a",
        "title": "T",
        "statement": "S",
        "tests": TESTS,
        "entry_point": None,
        "checker": None,
        "tolerance": 1e-6,
        "time_limit_s": 2,
        "memory_limit_mb": 64,
        "platform": "p",
        "difficulty": "easy",
        "date": "2024-01-01",
        "tags": ["x"],
    },
    "livecodebench": {
        "question_id": "a",
        "question_title": "T",
        "question_content": "S",
        "public_test_cases": json.dumps([{"input": "[2]", "output": "2", "testtype": "functional"}]),
        "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(json.dumps(TESTS)))).decode(),
        "metadata": json.dumps({"func_name": "f"}),
        "platform": "leetcode",
    },
    "humaneval": {"task_id": "H/0", "prompt": "", "test": "def check(c): pass", "entry_point": "f"},
    "mbpp": {"task_id": 2, "text": "t", "test_list": ["assert f()"], "test_setup_code": "", "challenge_test_list": []},
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800" + "1" * 999)
KEYS = st.sampled_from(["input", "output", "x"])
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=4
)
PROGRAM_KEYS = st.sampled_from(["problem_id", "question_id", "task_id", "program", "answer", "code_list"])


@given(st.data())
@settings(max_examples=400)
def test_a_malformed_problem_gives_file_line_and_reason(data: st.DataObject) -> None:
    """Any key of any format with anything in it: either a problem that can be judged, or an InputError."""
    kind = data.draw(st.sampled_from(sorted(VALID)))
    row: dict[str, object] = dict(VALID[kind])
    for key in data.draw(st.lists(st.sampled_from(sorted(row)), min_size=1, max_size=3)):
        row[key] = data.draw(ANYTHING)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n" + json.dumps(row) + "\n")
        file.flush()
        try:
            (problem,) = read_problems(file.name, data.draw(st.sampled_from([None, kind])))
        except InputError as error:
            assert (error.file, error.line) == (file.name, 2) and error.reason
        else:
            assert problem.total >= 1 and all(
                isinstance(t.input, str) and isinstance(t.output, str) for t in problem.tests
            )
            assert Resolved.of(Limits(), problem).time_s > 0


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from([".jsonl", ".json", ".jsonl.gz"]))
@settings(max_examples=200)
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str) -> None:
    with tempfile.NamedTemporaryFile("wb", suffix=suffix) as file:
        file.write(content)
        file.flush()
        for read in (read_problems, lambda path: list(read_programs(path))):
            with contextlib.suppress(InputError):
                read(file.name)


@given(
    st.dictionaries(
        st.sampled_from(["problem_id", "question_id", "task_id", "program", "answer", "code_list"]), ANYTHING
    )
)
@settings(max_examples=300)
def test_a_malformed_program_gives_file_line_and_reason(row: dict[str, object]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(json.dumps(row))
        file.flush()
        try:
            programs = list(read_programs(file.name))
        except InputError as error:
            assert (error.file, error.line) == (file.name, 1) and error.reason
        else:
            assert all(isinstance(program.source, str) for program in programs)
