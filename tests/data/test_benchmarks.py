"""Benchmarks by name: read from the Hub, asked, and refused where the study's judge could not judge them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kiyas import cli
from kiyas.check import check
from kiyas.check.page import WORDS
from kiyas.check.remarks import problem_remarks
from kiyas.data import benchmarks, hub
from kiyas.judge import JudgeError
from kiyas.pipeline import stages, status
from kiyas.pipeline.prepare import prepare
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import read_record
from kiyas.study.file import parse
from kiyas.study.settings import HUB_BENCHMARKS, Benchmark, Study
from kiyas.types import KiyasError

CHECK = "def check(candidate):\n    assert candidate(2) == 4\n"
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice."""\n',
    "canonical_solution": "    return 2 * x\n",
    "entry_point": "double",
    "test": CHECK,
}
PLUS = {**HUMANEVAL, "test": f"import numpy as np\n\n{CHECK}"}
MBPP_PLUS = {
    "task_id": 7,
    "code": "def double(x):\n    return 2 * x\n",
    "prompt": "Write a function to double a number.",
    "source_file": "x",
    "test_imports": ["import math"],
    "test_list": ["assert double(2) == 4"],
    "test": "import numpy as np\ninputs = [[-1]]\nfor each in inputs:\n    assert double(*each) == -2\n",
}


def study(dataset: Any, **judge: Any) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}},
            "training": {"budget": {"steps": 2}, "max_length": 256},
            "benchmarks": {"primary": {"dataset": str(dataset)}},
            "judge": {"isolation": "best", **judge},
        }
    )


def problems(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "hub_id", "row", "asked"),
    [
        ("humanevalplus", "evalplus/humanevalplus", PLUS, "Complete the following Python function."),
        ("mbppplus", "evalplus/mbppplus", MBPP_PLUS, "pass these tests:\n\nimport math\nassert double(2) == 4"),
    ],
)
def test_a_benchmark_known_by_name(
    name: str, hub_id: str, row: dict[str, Any], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def rows(*arguments: Any) -> list[dict[str, Any]]:
        fetched.append(arguments)
        return [row]

    monkeypatch.setattr(hub, "dataset_rows", rows)
    benchmark = Benchmark(dataset=name)
    (problem,) = benchmarks.read(benchmark)
    assert asked in benchmarks.question(problem) and "inputs" not in benchmarks.question(problem)
    assert problem["modules"] == ["numpy"] and problem["platform"] == name
    assert benchmarks.solutions(benchmark) == {problem["id"]: row.get("canonical_solution") or row["code"]}
    assert {arguments[0] for arguments in fetched} == {hub_id} == {benchmark.hub_id}


def test_a_hub_id_is_the_name(tmp_path: Path) -> None:
    text = "name: t\nmodel_name_or_path: practice\narms: {deep: {dataset_name: practice/deep}}\nseeds: 1\n"
    text += "training: {budget: {steps: 2}}\n"
    text += "benchmarks: {primary: {dataset: DATASET}, also: [google-research-datasets/mbpp]}\n"
    settings = parse(text.replace("DATASET", "evalplus/humanevalplus"), "s.yaml", tmp_path)
    assert list(settings.benchmarks.named) == ["humanevalplus", "mbpp"]
    with pytest.raises(
        KiyasError, match=r"no problems file 'humaneval-plus'.*known by name: .*humanevalplus, .*mbppplus"
    ):
        parse(text.replace("DATASET", "humaneval-plus"), "s.yaml", tmp_path)


def test_releases_and_sample_tests_go_with_their_benchmark() -> None:
    livecodebench = HUB_BENCHMARKS["livecodebench"]
    assert livecodebench.release_files is not None
    assert livecodebench.release_files("release_v3") == ["test.jsonl", "test2.jsonl", "test3.jsonl"]
    for settings in ({"dataset": "livecodebench"}, {"dataset": "mbppplus", "release": "release_v1"}):
        with pytest.raises(ValueError, match="`release` goes with `dataset: livecodebench`"):
            Benchmark.model_validate(settings)


@pytest.mark.parametrize("act", [check, prepare])
def test_what_the_judge_could_not_judge_is_refused(act: Any, tmp_path: Path) -> None:
    path = problems(tmp_path / "plus.jsonl", PLUS)
    with pytest.raises(KiyasError, match=r"HumanEval/0 import numpy.*install numpy.*judge\.python"):
        act(study(path))
    with pytest.raises(KiyasError, match="mode livecodebench knows no assert-style problems"):
        act(study(problems(tmp_path / "he.jsonl", HUMANEVAL), mode="livecodebench"))


BROKEN = {**HUMANEVAL, "task_id": "HumanEval/1", "canonical_solution": "    return x\n"}


def test_a_problem_that_does_not_prove_itself_is_left_out_for_all(tmp_path: Path) -> None:
    path = problems(tmp_path / "he.jsonl", HUMANEVAL, BROKEN)
    folder = RunDir(tmp_path / "run")
    stages.run(study(path), folder, until=Stage.DATA)
    (kept,) = read_jsonl(folder.problems)
    assert kept["id"] == "HumanEval/0" and "solutions" not in kept
    manifest = folder.manifest(Stage.DATA)
    assert manifest is not None and manifest["counts"]["problems"] == 1
    (wrong,) = manifest["counts"]["problems_found_wrong"]
    assert (wrong["benchmark"], wrong["problem_id"], wrong["refused"]) == ("he", "HumanEval/1", True)
    (note,) = read_record(folder).notes
    assert "1 of 2 problems are refused" in note and "HumanEval/1: its own solution is WA" in note
    assert prepare(study(path)).doubts(study(path)) == [note]
    (remark,) = problem_remarks([note])
    assert note in WORDS[remark.code][0].format(**remark.values)


def test_a_benchmark_that_does_not_prove_itself_is_refused(tmp_path: Path) -> None:
    listed = study(problems(tmp_path / "he.jsonl", HUMANEVAL, BROKEN))
    primary = listed.benchmarks.primary.model_copy(update={"ids": ["HumanEval/0", "HumanEval/1"]})
    listed = listed.model_copy(update={"benchmarks": listed.benchmarks.model_copy(update={"primary": primary})})
    most = study(problems(tmp_path / "most.jsonl", HUMANEVAL, BROKEN, {**BROKEN, "task_id": "HumanEval/2"}))
    for settings, count in ((listed, "1 of 2"), (most, "2 of 3")):
        with pytest.raises(KiyasError, match=rf"{count} problems cannot be judged:\n  HumanEval/1.*own solution is WA"):
            prepare(settings)


def test_an_interpreter_that_has_them_is_accepted(tmp_path: Path) -> None:
    assert len(prepare(study(problems(tmp_path / "plus.jsonl", PLUS), python=sys.executable)).problems) == 1


def test_a_run_refuses_before_training_what_was_changed_since_the_data(tmp_path: Path) -> None:
    path, folder = problems(tmp_path / "he.jsonl", HUMANEVAL), RunDir(tmp_path / "run")
    with pytest.raises(KiyasError, match="assert-style"):
        stages.run(study(path, mode="livecodebench"), folder, until=Stage.TRAIN)
    assert folder.manifest(Stage.DATA) is None
    stages.run(study(path), folder, until=Stage.DATA)
    with pytest.raises(KiyasError, match="assert-style"):
        stages.run(study(path, mode="livecodebench"), folder, until=Stage.TRAIN)
    assert folder.manifest(Stage.TRAIN) is None


def test_an_error_of_the_judge_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str:
        raise JudgeError("no such thing")

    monkeypatch.setattr(status, "doctor", broken)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "kiyas: no such thing\n"
