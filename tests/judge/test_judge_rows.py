"""Problems and programs row by row: every key read, every rule at its boundary, every complaint word for word."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from kiyas.judge import InputError, read_problems, read_programs
from kiyas.judge.programs import problem_of as problem_that_it_answers
from kiyas.judge.types import Problem, Program, Test

Row = dict[str, Any]
TESTS = [{"input": "1\n", "output": "2\n"}]
OWN: Row = {"id": "a", "tests": TESTS}


def written(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def problem_of(row: Row, format: str | None = None) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        (found,) = read_problems(written(Path(folder) / "p.jsonl", row), format)
    return found


KEYS = ("id", "tests", "title", "statement", "entry_point", "test_code", "preamble", "checker", "tolerance",
        "time_limit_s", "memory_limit_mb", "platform", "difficulty", "date", "tags")  # fmt: skip


def said(problem: Problem) -> Row:
    """What a row gives, less what it leaves empty."""
    return {key: value for key in KEYS if (value := getattr(problem, key))}


def refused(row: Row, format: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        problem_of(row, format)
    assert caught.value.line == 1
    return caught.value.reason


def programs_of(row: Row) -> list[Program]:
    with tempfile.TemporaryDirectory() as folder:
        return list(read_programs(written(Path(folder) / "p.jsonl", row)))


def test_every_key_of_our_own_format() -> None:
    row = {
        "id": 7, "title": "T", "statement": "S", "tests": [*TESTS, {"input": "", "output": ""}], "entry_point": "f",
        "test_code": "check(f)", "preamble": "import re", "checker": "def check(a, b, c): ...", "tolerance": 0.5,
        "time_limit_s": 1.5, "memory_limit_mb": 64, "platform": "p", "difficulty": "easy", "date": "2024-01-01",
        "tags": ["x", 2],
    }  # fmt: skip
    tests = (Test("1\n", "2\n"), Test("", ""))
    assert said(problem_of(row)) == {**row, "id": "7", "tests": tests, "tags": ("x", "2")}
    assert said(problem_of(OWN)) == {"id": "a", "tests": tests[:1]}
    assert problem_of({"id": "a", "test_code": "f()"}).total == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": None}, "key 'id' is missing"),
        ({"id": 1.5}, "'id' is a float, not a str or int"),
        ({"id": True}, "'id' is a bool"),
        ({"tolerance": True}, "'tolerance' is a bool, not a int or float"),
        ({"title": 3}, "'title' is a int, not a str"),
        ({"tests": []}, "no tests ('tests' or 'test_code' is needed)"),
        ({"tests": [*TESTS, {"input": "1"}]}, "test 2 of 'tests' is not an object with the strings"),
        ({"tests": [*TESTS, {"output": "1"}]}, "test 2 of 'tests' is not an object with the strings"),
        ({"tests": [3]}, "test 1 of 'tests' is not an object"),
        ({"time_limit_s": 0}, "a 'time_limit_s' of 0 makes no sense"),
        ({"time_limit_s": 1_000_001}, "a 'time_limit_s' of 1e+06 makes no sense: it may be 0.001 to 3600"),
        ({"memory_limit_mb": -1}, "a 'memory_limit_mb' of -1 makes no sense"),
        ({"memory_limit_mb": 10_000_001}, "a 'memory_limit_mb'"),
        ({"memory_limit_mb": 1.5}, "'memory_limit_mb' is a float, not a int"),
        ({"tolerance": 1e301}, "a 'tolerance' of 1e+301 makes no sense"),
        ({"tolerance": float("nan")}, "a 'tolerance' of nan makes no sense"),
        ({"entry_point": "f", "tests": [{"input": "1\n2", "output": "3"}, {"input": "1\nx", "output": ""}]}, "test 2"),
        ({"entry_point": "f", "tests": [{"input": "1", "output": "x"}]}, "test 1: with 'entry_point', each input line"),
    ],
)  # fmt: skip
def test_our_own_rows_that_are_refused(change: Row, told: str) -> None:
    assert told in refused({**OWN, **change}, "kiyas")


@pytest.mark.parametrize(
    "change",
    [{"time_limit_s": 3600}, {"memory_limit_mb": 1 << 20}, {"memory_limit_mb": 1}, {"tolerance": 1e300},
     {"time_limit_s": 0.5}, {"entry_point": "f", "tests": [{"input": "1\n[2]", "output": '"x"'}]},
     {"entry_point": "f", "test_code": "f()", "tests": [{"input": "no JSON", "output": "no JSON"}]}],
)  # fmt: skip
def test_limits_themselves_are_allowed(change: Row) -> None:
    problem_of({**OWN, **change})


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


LCB: Row = {"question_id": "q", "question_content": "S", "public_test_cases": TESTS, "private_test_cases": "[]"}


@pytest.mark.parametrize("form", ["list", "json", "packed"])
def test_livecodebench_rows(form: str) -> None:
    more = [{"input": "5", "output": "6", "testtype": "stdin"}]
    private = {"list": more, "json": json.dumps(more), "packed": packed(json.dumps(more))}[form]
    row = {
        **LCB, "private_test_cases": private, "question_title": "T", "platform": "leetcode", "difficulty": "hard",
        "contest_date": "2024-05-06", "metadata": '{"func_name": "f"}',
    }  # fmt: skip
    assert said(problem_of(row)) == {
        "id": "q", "tests": (Test("1\n", "2\n"), Test("5", "6")), "title": "T", "statement": "S",
        "platform": "leetcode", "difficulty": "hard", "date": "2024-05-06",
    }  # fmt: skip
    called = [{"input": "[1]", "output": "2", "testtype": "functional"}]
    functional = {**LCB, "public_test_cases": called}
    for metadata in ({"func_name": "f"}, '{"func_name": "f"}'):
        assert problem_of({**functional, "metadata": metadata}).entry_point == "f"
    for metadata in (None, "", "{}", "[1]", {"func_name": ""}):
        assert "'metadata'" in refused({**functional, "metadata": metadata})
    assert "'metadata' is not JSON" in refused({**LCB, "metadata": "{"})


def test_only_the_text_in_a_pickle_counts() -> None:
    """A name of a module before it, and a string of Python 2, which is not text."""
    text = b"V" + json.dumps(TESTS).encode() + b"\n."
    for before, good in ((b"cmodule\nname\n0", True), (b"S'[]'\n0", True), (b"S'[]'\n.", False)):
        row = {**LCB, "private_test_cases": base64.b64encode(zlib.compress(before + text * good)).decode()}
        if good:
            assert len(problem_of(row).tests) == 2
        else:
            assert "'private_test_cases'" in refused(row)


@pytest.mark.parametrize(
    "tests",
    ["AAAA", "!" + packed("[]"), packed(3), packed("["), packed(b"[]"), base64.b64encode(b"x").decode(),
     base64.b64encode(zlib.compress(b"nonsense")).decode()],
)  # fmt: skip
def test_packed_tests_that_cannot_be_read(tests: str) -> None:
    assert "'private_test_cases' can be read neither as JSON nor" in refused({**LCB, "private_test_cases": tests})


@pytest.mark.parametrize(
    "tests", [{"a": 1}, [3], [{"input": "1"}], [{"output": "1"}], [*TESTS, {"input": 1, "output": ""}], 3]
)
def test_tests_that_are_no_list_of_strings(tests: object) -> None:
    for given in (tests, json.dumps(tests), packed(json.dumps(tests))):
        wanted = "is not an object with the strings" if isinstance(tests, list) else "not a list"
        told = refused({**LCB, "public_test_cases": given})
        assert "'public_test_cases'" in told and wanted in told


HUMAN: Row = {
    "task_id": "H/1",
    "prompt": "import re\n\ndef f(x):\n    pass",
    "test": "def check(c): ...",
    "entry_point": "f",
}
MBPP: Row = {"task_id": 3, "text": "t", "test_list": ["assert f()", "assert g()"]}


def test_humaneval_rows() -> None:
    test_code = "def check(c): ...\n\ncheck(f)\n"
    assert said(problem_of(HUMAN)) == {
        "id": "H/1", "statement": HUMAN["prompt"], "entry_point": "f", "test_code": test_code,
        "preamble": "import re\n\n", "platform": "humaneval",
    }  # fmt: skip
    assert problem_of({**HUMAN, "prompt": "Write f."}).preamble == ""
    assert "'task_id' is a list, not a str or int" in refused({**HUMAN, "task_id": []})


def test_mbpp_rows() -> None:
    tests = "assert f()\nassert g()\n"
    assert said(problem_of(MBPP)) == {"id": "3", "statement": "t", "test_code": "\n" + tests, "platform": "mbpp"}
    full = {**MBPP, "text": None, "prompt": "p", "test_imports": ["import a", "import b"]}
    found = problem_of(full)
    assert (found.statement, found.test_code) == ("p", "import a\nimport b\n" + tests)
    both = problem_of({**full, "test_setup_code": "x = 1"})
    assert both.test_code == "import a\nimport b\nx = 1\n" + tests
    for change in ({"test_list": []}, {"test_list": ["a", 3]}, {"test_imports": [3]}):
        assert next(iter(change)) in refused({**MBPP, **change})
    assert "'test_list' is a str, not a list" in refused({**MBPP, "test_list": "x"})


@pytest.mark.parametrize("row", [LCB, HUMAN, MBPP, OWN])
def test_a_format_is_recognised_by_its_keys(row: Row) -> None:
    names = {"livecodebench": LCB, "humaneval": HUMAN, "mbpp": MBPP, "kiyas": OWN}
    (name,) = [name for name, each in names.items() if each is row]
    assert problem_of(row) == problem_of(row, name)
    for other in names.keys() - {name}:
        assert "missing" in refused(row, other) or "no tests" in refused(row, other)


def test_a_row_with_less_is_another_format() -> None:
    assert problem_of({"question_id": "q", "public_test_cases": TESTS, "private_test_cases": []}).id == "q"
    assert "'private_test_cases' are missing" in refused({"question_id": "q", "public_test_cases": TESTS})
    for key in ("task_id", "test", "entry_point"):
        assert "is missing" in refused({k: v for k, v in HUMAN.items() if k != key})
    for key in ("task_id", "test_list"):
        assert "is missing" in refused({k: v for k, v in MBPP.items() if k != key})


def ids(path: Path) -> list[str]:
    return [problem.id for problem in read_problems(path)]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz", ".json.gz"])
def test_rows_one_a_line_or_in_one_list(tmp_path: Path, suffix: str) -> None:
    b = {**OWN, "id": "b"}
    path = tmp_path / f"p{suffix}"
    assert ids(written(path, "", OWN, " \t", b)) == ["a", "b"]
    assert ids(written(path, "\ufeff" + json.dumps(OWN), b)) == ["a", "b"]
    assert ids(written(path, "\ufeff \t" + json.dumps([OWN, b], indent=1))) == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "line", "told"),
    [
        ((OWN, "", {**OWN, "id": "b"}, OWN), 4, "problem 'a' is in line 1 already"),
        ((OWN, "[1]"), 2, "a JSON object is wanted, not list"),
        (("", json.dumps([OWN])), 2, "a JSON object is wanted, not list"),
        (("[", "1,", "x]"), 3, "not JSON"),
        ((json.dumps([OWN, 3]),), 0, "entry 2 of the list is not a JSON object"),
        ((json.dumps([OWN, OWN]),), 2, "is in line 1 already"),
        ((json.dumps([OWN, {"id": "b", "tests": []}]),), 2, "no tests"),
        ((OWN, "[" * 100_000), 2, "not JSON"),
        (("[" * 100_000,), 0, "not JSON"),
        (("[]",), 0, "no problems in it"),
    ],
)
def test_files_of_problems_that_are_refused(tmp_path: Path, lines: tuple[object, ...], line: int, told: str) -> None:
    path = written(tmp_path / "p.jsonl", *lines)
    with pytest.raises(InputError) as caught:
        read_problems(path)
    assert told in caught.value.reason
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    whole = written(tmp_path / "p.jsonl.gz", OWN, {**OWN, "id": "b"}).read_bytes()
    for content in (whole[:-9], b"no gzip", whole[:20] + b"\0\0\0\0" + whole[24:]):
        (tmp_path / "p.jsonl.gz").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read") as caught:
            read_problems(tmp_path / "p.jsonl.gz")
        assert caught.value.line == 0
    with pytest.raises(InputError, match="No such file"):
        read_problems(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="unknown format 'x'") as caught:
        read_problems(tmp_path / "none.jsonl", "x")
    assert "kiyas" in caught.value.hint and caught.value.line == 0


def programs(row: Row) -> list[tuple[str, str, Row]]:
    return [(p.problem_id, p.source, p.row) for p in programs_of(row)]


def test_one_program_of_a_row() -> None:
    row = {"problem_id": 0, "program": "x", "extracted_code": "y", "answer": "z", "more": 1}
    assert programs(row) == [("0", "x", {**row, "problem_id": "0"})]
    assert programs({"question_id": "q", "extracted_code": "y", "program": None})[0][:2] == ("q", "y")
    assert programs({"problem_id": None, "task_id": "t", "program": ""})[0][:2] == ("t", "")
    assert programs({"problem_id": "p", "question_id": "q", "task_id": "t", "program": "x"})[0][0] == "p"
    (found,) = programs_of({"problem_id": "p", "answer": "```\nx = 1\n```"})
    assert found.source == "x = 1\n" and found.extraction is not None and found.origin.endswith("p.jsonl:1")
    assert found.row == {"problem_id": "p", "answer": "```\nx = 1\n```"}


def test_a_list_of_programs_gives_a_row_each() -> None:
    row = {"question_id": "q", "code_list": ["a", "b"], "output_list": ["c", "d"], "graded_list": [True, False], "k": 1}
    assert programs(row) == [
        ("q", code, {"question_id": "q", "k": 1, "problem_id": "q", "sample": i, "program": code})
        for i, code in enumerate("ab")
    ]
    assert all(p.origin.endswith("p.jsonl:1") for p in programs_of(row))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"program": "x"}, "none of 'problem_id', 'question_id', 'task_id' is there"),
        ({"problem_id": 1.5, "program": "x"}, "'problem_id' is a float, not a str or int"),
        ({"problem_id": "p", "code_list": ["a", None]}, "entry 2 of 'code_list' is not a string"),
        ({"problem_id": "p", "code_list": "a"}, "'code_list' is a str, not a list"),
        ({"problem_id": "p", "answer": "x", "program": 3}, "'program' is a int, not a str"),
        ({"problem_id": "p", "completion": ["x"]}, "'completion' is a list, not a str"),
        (
            {"problem_id": "p", "program": None, "text": "x"},
            "it has no program; its keys: 'problem_id', 'program', 'text'",
        ),
        ({"problem_id": "p", "completion": "x", "solution": "y"}, "both a 'completion' and a 'solution'"),
        ({"problem_id": "p", "program": "x", "more": json.loads("[" * 200 + "]" * 200)}, "100 levels deep"),
    ],
)
def test_rows_without_a_program(row: Row, told: str) -> None:
    with pytest.raises(InputError) as caught:
        programs_of(row)
    assert told in caught.value.reason


def test_which_files_hold_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("c.jsonl", "a.json", "b.jsonl.gz"):
        written(tmp_path / name, {"problem_id": name, "program": "x"})
    written(tmp_path / "a.meta.json", {"about": "a"})
    written(tmp_path / "notes.txt", {"problem_id": "n", "program": "x"})
    (tmp_path / "empty").mkdir()

    def names(place: object) -> list[str]:
        return [p.problem_id for p in read_programs(place)]  # type: ignore[arg-type]

    assert names(tmp_path) == names(str(tmp_path)) == ["a.json", "b.jsonl.gz", "c.jsonl"]
    assert names(str(tmp_path / "[ac].json*")) == ["a.json", "c.jsonl"]
    assert names([tmp_path / "notes.txt", tmp_path / "a.json"]) == ["n", "a.json"]
    monkeypatch.chdir(tmp_path)
    assert names("?.json*") == ["a.json", "b.jsonl.gz", "c.jsonl"]
    for place, told in (
        ("empty", "no .jsonl, .json or .py file"),
        ("none", "no such file"),
        ("*.none", "no such file"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            names(place)
        assert (caught.value.file, caught.value.line) == (place, 0)
    (first,) = read_programs("c.jsonl")
    assert first.origin == "c.jsonl:1"


def test_python_files_have_the_names_of_their_problems(tmp_path: Path) -> None:
    for name, text in (("b.py", "print(2)\n"), ("a.py", "\ufeffprint('ü')\r\n"), ("notes.txt", "")):
        (tmp_path / name).write_bytes(text.encode())
    one, other = read_programs(tmp_path)
    assert (one.problem_id, one.source, other.problem_id) == ("a", "print('ü')\n", "b")
    assert one.row == {"problem_id": "a", "file": str(tmp_path / "a.py"), "program": one.source}
    assert [each.problem_id for each in read_programs([tmp_path / "b.py", str(tmp_path / "*.py")])] == ["b", "a", "b"]
    with pytest.raises(
        InputError, match=r"a\.py: problem 'a' is not among .*\n.*a \.py file has the name of its problem"
    ):
        problem_that_it_answers(one, {})
    (tmp_path / "b.py").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"b\.py: cannot be read: it is not UTF-8"):
        list(read_programs(tmp_path / "b.py"))
    written(tmp_path / "rows.jsonl", {"problem_id": "c", "program": ""})
    assert [each.problem_id for each in read_programs(tmp_path)] == ["c"], "where there are rows, they are the programs"
