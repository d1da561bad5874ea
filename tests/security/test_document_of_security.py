"""docs/security.md: every sentence names a test that is there, and what is not guaranteed is as it says."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from pathlib import Path

import pytest

from kiyas import cli
from kiyas.data import template_bounds
from kiyas.interop.kept import Kept
from kiyas.judge import judge, problem_from_row
from kiyas.judge.types import Program
from kiyas.runfolder import peft
from kiyas.runfolder.files import read_jsonl, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.file import load
from kiyas.study.settings import Judge

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
SECTIONS = DOCUMENT.partition("\n## ")[2].splitlines()[1:]
LINES = [line for line in SECTIONS if line.strip() and not line.startswith("## ")]
TAGGED = re.compile(r"- .*[.)] <!-- (?P<file>tests/\S+\.py)::(?P<test>test_\w+)(?:\[(?P<case>[^\]]+)\])? -->")


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_sentence_has_a_test(number: int) -> None:
    match = TAGGED.fullmatch(LINES[number])
    assert match is not None, LINES[number]
    source = (ROOT / match["file"]).read_text(encoding="utf-8")
    assert re.search(rf"^def {match['test']}\(", source, re.MULTILINE), match["test"]
    if match["case"]:
        attacks = tomllib.loads((ROOT / "src" / "kiyas" / "judge" / "attacks.toml").read_text(encoding="utf-8"))
        assert match["case"] in attacks
    sentence = LINES[number].partition(" <!--")[0]
    assert len(re.findall(r"[.?!](?= [A-Z])", sentence)) == 0, "one sentence a line"


def test_it_is_found() -> None:
    for name in ("README.md", "docs/judge.md"):
        assert "security.md" in (ROOT / name).read_text(encoding="utf-8"), name


def test_a_study_names_what_it_likes(tmp_path: Path) -> None:
    secret = tmp_path / "mine" / "secret.jsonl"
    secret.parent.mkdir()
    secret.write_text("{}\n")
    study = tmp_path / "theirs" / "study.yaml"
    study.parent.mkdir()
    study.write_text("name: s\nmodel_name_or_path: practice\narms:\n  a: {dataset_name: ../mine/secret.jsonl}\n")
    assert load(study).arms["a"].dataset_name == str(secret)


def test_the_bounds_of_templates() -> None:
    stated = f"{template_bounds.STEPS:,} steps, {template_bounds.SECONDS:.0f} seconds and "
    assert f"{stated}{template_bounds.BYTES // 2**30} GiB" in DOCUMENT


def test_patterns_in_another_thread() -> None:
    went: list[bool] = []

    def work() -> None:
        with peft._in_time("told"):
            went.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert went == [True]


def test_the_library_does_not_ask(tmp_path: Path) -> None:
    import sys

    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    problem = problem_from_row({"id": "p", "tests": [{"input": "", "output": "1\n"}]}, "kiyas")
    (found,) = judge([Program("p", "print(1)")], [problem], isolation="best", workers=1, python=str(python))
    assert found.verdict == "AC"


def test_prepared_verdicts_are_taken(tmp_path: Path) -> None:
    row = {"id": "p", "tests": [{"input": "", "output": "1\n"}]}
    answer = {"question_id": "p", "passed": False, "extracted_code": "print(2)"}
    write_jsonl(tmp_path / "problems.jsonl", [row])
    write_jsonl(tmp_path / "deep_checkpoint-100.jsonl", [answer])
    folder, settings = RunDir(tmp_path / "run"), Judge(isolation="best")  # type: ignore[arg-type]
    problem = problem_from_row(row, "kiyas")
    with folder.lock(), Kept(folder, settings) as kept:
        kept.add(problem, "print(2)", {"verdict": "AC", "passed": 1, "total": 1, "detail": "", "tier": "strong"})
    words = ["import", "deep_checkpoint-100.jsonl", "--problems", "problems.jsonl", "--out", "run"]
    given = [str(tmp_path / word) if "." in word or word == "run" else word for word in words]
    assert cli.main([*given, "--rejudge", "--isolation", "best"]) == 0
    assert [json.dumps(row["verdict"]) for row in read_jsonl(folder.judgments)] == ['"AC"']
