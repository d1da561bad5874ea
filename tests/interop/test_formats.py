"""Formats of other people's results, each in its real shape, and whether what they hold is judged again as recorded."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiyas import cli
from kiyas.analyse import analyse
from kiyas.interop import import_study
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Judge
from kiyas.types import AdapterId, KiyasError

Row = dict[str, Any]
DEEP = "deep_instruction_checkpoint-step-100-epoch-1_2408-2502_atcoder"
DOUBLE, TRIPLE = "print(int(input()) * 2)", "print(int(input()) * 3)"
PROBLEMS = [{"id": p, "tests": [{"input": "21", "output": "42"}, {"input": "0", "output": "0"}]} for p in "pqr"]
JUDGE = Judge(isolation="best", workers=1, time_limit_s=5)
STEP_100 = AdapterId("deep", step=100)


def put(path: Path, *rows: Row, tail: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")
    return path


def put_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    return path


def verdicts(run: Path) -> dict[tuple[str, int], str]:
    return {(row["problem_id"], row["sample"]): row["verdict"] for row in read_jsonl(RunDir(run).judgments)}


# -- the course evaluator: naholav's livecodebench_eval.py, as its public replications keep it and its results --------


def detailed(problem: str, program: str, right: int, **more: Any) -> Row:
    counts = {"total": 2, "passed": right, "failed": 2 - right, "timeout": 0, "error": 0, "pass_rate": right / 2}
    return {
        "question_id": problem, "difficulty": "2408-2502_atcoder", "problem_title": problem, "problem_prompt": "Solve.",
        "model_output_raw": f"So:\n```python\n{program}\n```\n", "extracted_code": program, "passed": right == 2,
        "test_results": counts, "error": None, "timestamp": "2025-12-15T22:07:42.581897", **more,
    }  # fmt: skip


def generated(*programs: str) -> list[Row]:
    return [{"question_id": problem, "code_list": [code]} for problem, code in zip("pqr", programs, strict=False)]


def evaluation(passed: int, total: int, rate: float | None = None, name: str = DEEP) -> Row:
    rate = passed / total if rate is None else rate
    stats = {"total": total, "passed": passed, "failed": total - passed, "error": 0, "no_tests": 0, "pass_at_1": rate}
    return {
        "model_name": name.removesuffix("_2408-2502_atcoder"), "model_type": "deep_instruction",
        "checkpoint_path": "models/deep_instruction/checkpoints/checkpoint-step-100-epoch-1",
        "difficulty": "2408-2502_atcoder", "num_problems": 41, "timestamp": "2025-12-15T20:51:37.990746",
        "stats": stats, "pass_at_1": rate, "detailed_log": f"results\\livecodebench\\detailed\\{name}.jsonl",
    }  # fmt: skip


def test_generations_complete_what_was_interrupted(tmp_path: Path) -> None:
    put(tmp_path / "in" / "detailed" / f"{DEEP}.jsonl", detailed("p", DOUBLE, 2), tail='{"question_id": "q", "mod')
    put_json(tmp_path / "in" / "generations" / f"{DEEP}.json", generated(DOUBLE, TRIPLE, "# Generation failed: OOM"))
    put_json(tmp_path / "in" / "evaluations" / f"{DEEP}_results.json", evaluation(1, 2, rate=1.0))
    put_json(tmp_path / "in" / "summary.json", {"config": {"num_problems": 41}, "results": [evaluation(1, 1)]})
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert verdicts(tmp_path / "run") == {("p", 0): "AC", ("q", 0): "IE", ("r", 0): "IE"}
    assert summary.solved == {STEP_100: (1, 1, 2)}
    said = "\n".join(summary.notes)
    assert f"{DEEP}_results.json: the summary says 1/2 for deep/seed-0/step-000100, the rows say 1/1" in said
    assert "pass@1 of 1.000, which leaves programs out" in said and "in/summary.json" not in said
    assert "no verdict was recorded for 1 answer: missing" in said and "nothing was generated" in said
    assert analyse(tmp_path / "run").scores[0].missing == 2
    page = str(summary)
    assert "1  LiveCodeBench generations and evaluations" in page and "2  summaries (totals alone)" in page
    assert next(line for line in page.splitlines() if "deep, step 100" in line).split()[-2:] == ["1/1", "2"]


def test_generations_alone_are_owed(tmp_path: Path) -> None:
    put_json(tmp_path / "generations" / f"{DEEP}.json", generated(DOUBLE, TRIPLE))
    put_json(tmp_path / "evaluations" / f"{DEEP}_results.json", evaluation(2, 2))
    summary = import_study([tmp_path], tmp_path / "run")
    assert summary.solved == {STEP_100: (0, 0, 2)}
    assert any("totals are not turned into verdicts" in note for note in summary.notes)
    assert [row["text"] for row in read_jsonl(RunDir(tmp_path / "run").completions)] == [DOUBLE, TRIPLE]
    assert analyse(tmp_path / "run").scores[0].missing == 2


def test_totals_alone_are_no_study(tmp_path: Path) -> None:
    put_json(tmp_path / "in" / "evaluations" / f"{DEEP}_results.json", evaluation(13, 41))
    with pytest.raises(KiyasError, match="found only totals"):
        import_study([tmp_path / "in"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_problem_without_tests_is_owed(tmp_path: Path) -> None:
    rows = [
        detailed("p", DOUBLE, 0, test_results={"note": "No test cases available"}),
        detailed("q", DOUBLE, 2),
        detailed("s", DOUBLE, 2, test_results={"total": 2}),
    ]
    failed = {"model_output_raw": "# Generation failed: CUDA", "extracted_code": "# Error: CUDA", "error": "CUDA"}
    rows.append(detailed("r", "", 0, test_results=None, **failed))
    put(tmp_path / "in" / f"{DEEP}.jsonl", *rows)
    import_study([tmp_path / "in"], tmp_path / "run")
    assert verdicts(tmp_path / "run") == {("p", 0): "IE", ("q", 0): "AC", ("r", 0): "IE", ("s", 0): "IE"}


# -- LiveCodeBench: insert_output_evaluation in lcb_runner/benchmarks/code_generation.py, path_utils.py ---------------


def eval_all(problem: str, *graded: tuple[str, bool, int | None], grades: bool = True) -> Row:
    meta = [json.dumps({"error_code": code, "error_message": f"code {code}"} if code else {}) for *_, code in graded]
    row = {
        "question_title": problem, "question_content": f"Solve {problem}.", "platform": "atcoder",
        "question_id": problem, "contest_id": "abc365", "contest_date": "2024-08-03T00:00:00", "starter_code": "",
        "difficulty": "easy", "output_list": [f"```python\n{code}\n```" for code, *_ in graded],
        "code_list": [code for code, *_ in graded],
    }  # fmt: skip
    right = [good for _, good, _ in graded]
    return row | ({"graded_list": right, "pass@1": sum(right) / len(right), "metadata": meta} if grades else {})


def test_livecodebench(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "deep-checkpoint-100"
    rows = [
        eval_all("p", (DOUBLE, True, None), (TRIPLE, False, -2)),
        eval_all("q", ("while 1: pass", False, -3), ("1/0", False, -4)),
    ]
    put_json(folder / "Scenario.codegeneration_2_0.2_eval_all.json", rows)
    plain = [{key: row[key] for key in row if key not in ("graded_list", "pass@1", "metadata")} for row in rows]
    plain.append(eval_all("r", (DOUBLE, True, None), (DOUBLE, True, None), grades=False))
    put_json(folder / "Scenario.codegeneration_2_0.2.json", plain)
    put_json(folder / "Scenario.codegeneration_2_0.2_eval.json", [{"pass@1": 0.25, "detail": {}}, {"0": [[1]]}, [[]]])
    summary = import_study([tmp_path / "output"], tmp_path / "run")
    assert verdicts(tmp_path / "run") == {
        ("p", 0): "AC", ("p", 1): "WA", ("q", 0): "TLE", ("q", 1): "RE", ("r", 0): "IE", ("r", 1): "IE",
    }  # fmt: skip
    assert summary.solved == {STEP_100: (1, 4, 2)}
    problems = read_jsonl(RunDir(tmp_path / "run").problems)
    assert problems[0]["statement"] == "Solve p." and problems[0]["date"] == "2024-08-03T00:00:00"
    broken = [eval_all("p", (DOUBLE, False, -5))]
    put_json(tmp_path / "one" / "deep_step-100_codegeneration_output_eval_all.json", broken)
    assert import_study([tmp_path / "one"], tmp_path / "run1").solved == {STEP_100: (0, 0, 1)}


# -- lm-evaluation-harness: save_results_samples in lm_eval/loggers/evaluation_tracker.py, tasks/{humaneval,mbpp} -----

HUMANEVAL = {
    "task_id": "HumanEval/0", "prompt": 'from typing import List\n\n\ndef double(x: List[int]):\n    """Twice."""\n',
    "canonical_solution": "    return [2 * y for y in x]\n", "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
}  # fmt: skip
MBPP = {
    "task_id": 11, "text": "Write a function to double.", "code": "def double(x):\r\n  return 2 * x",
    "test_list": ["assert double(2) == 4", "assert double(0) == 0"], "test_setup_code": "", "challenge_test_list": [],
}  # fmt: skip


def sample(doc: Row, response: str, filtered: Any, metric: Any, key: str = "pass@1") -> Row:
    return {
        "doc_id": 0, "doc": doc, "target": "check(double)", "filter": "create_test", "metrics": [key],
        "arguments": {"gen_args_0": {"arg_0": "prompt", "arg_1": {"until": ["\nclass"], "do_sample": False}}},
        "resps": [[response]], "filtered_resps": filtered, "doc_hash": "0", "prompt_hash": "1", "target_hash": "2",
        key: metric,
    }  # fmt: skip


STAMP = "2025-12-01T10-00-00.123456.jsonl"
GOOD, BAD = HUMANEVAL["canonical_solution"], "    return x\n"


def test_lm_evaluation_harness(tmp_path: Path) -> None:
    model = tmp_path / "in" / ".__models__deep__checkpoint-100".lstrip(".")
    docs = [{**HUMANEVAL, "task_id": f"HumanEval/{i}"} for i in range(5)]
    prompt = HUMANEVAL["prompt"]
    put(
        model / f"samples_humaneval_{STAMP}",
        sample(docs[0], GOOD, [[prompt + GOOD]], 1.0),  # the filter put the prompt before it
        sample(docs[1], BAD, [[prompt + BAD]], 0.0),
        sample(docs[2], GOOD, [GOOD], 1.0),  # filter "none": the rest of the function only
        sample(docs[3], f"```python\n{prompt}{GOOD}```\n", [f"```python\n{prompt}{GOOD}```\n"], 1.0),
        sample(docs[4], GOOD, [[prompt + GOOD, prompt + BAD]], 0.5),
    )
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert summary.solved == {STEP_100: (3, 4, 2)}
    assert any("pass@1 over 2 samples does not say" in note for note in summary.notes)
    assert not any("tests are unknown" in note for note in summary.notes)
    assert all(row["test_code"] for row in read_jsonl(RunDir(tmp_path / "run").problems))
    again = import_study([tmp_path / "in"], tmp_path / "run", judge=JUDGE)
    assert again.solved == {STEP_100: (4, 6, 0)} and read_differences(tmp_path / "run") == []


def test_two_tasks_in_one_folder_are_two_benchmarks(tmp_path: Path) -> None:
    model = tmp_path / "in" / "deep__checkpoint-100"
    docs = [{**MBPP, "task_id": 11 + i} for i in range(3)]
    code = "from __future__ import annotations\ndef double(x):\n    return 2 * x"
    put(model / f"samples_humaneval_{STAMP}", sample(HUMANEVAL, GOOD, [[HUMANEVAL["prompt"] + GOOD]], 1))
    put(model / f"samples_mbpp_{STAMP}", *(sample(doc, code, [[code]], 1, key="pass_at_1") for doc in docs))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert summary.solved == {STEP_100: (3, 3, 0)} and summary.problems == 3
    said = next(note for note in summary.notes if "another set of problems" in note)
    assert "1 problem (HumanEval/0)" in said and "--only" in said and f"samples_humaneval_{STAMP}" in said
    other = import_study([tmp_path / "in"], tmp_path / "run2", only=["samples_humaneval"], judge=JUDGE)
    assert (other.solved, other.problems, other.notes) == ({STEP_100: (1, 1, 0)}, 1, ())
    mbpp = import_study([tmp_path / "in"], tmp_path / "run3", only=["*mbpp*"], judge=JUDGE)
    assert mbpp.solved == {STEP_100: (3, 3, 0)} and "3 of 3 recorded verdicts are confirmed" in mbpp.rejudged


def test_samples_of_the_plus_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their own tests are run, by an interpreter that has what they import; another one is refused."""
    human = {**HUMANEVAL, "test": f"import numpy as np\n\n{HUMANEVAL['test']}"}
    code = "def double(x):\n    return 2 * abs(x)\n"
    mbpp = {
        "task_id": 7, "code": "def double(x): return 2 * x", "prompt": "Double it.", "source_file": "x",
        "test_imports": [],
        "test_list": ["assert double(2) == 4"], "test": "import numpy as np\nassert double(-1) == -2\n",
    }  # fmt: skip
    model = tmp_path / "in" / "deep__checkpoint-100"
    put(model / f"samples_humaneval_plus_{STAMP}", sample(human, GOOD, [[HUMANEVAL["prompt"] + GOOD]], 1))
    put(model / f"samples_mbpp_plus_{STAMP}", sample(mbpp, code, [[code]], 1, key="pass_at_1"))
    command = ["import", str(tmp_path / "in"), "--rejudge", "--isolation", "best"]
    for task, solved in (("humaneval_plus", 1), ("mbpp_plus", 0)):
        run = tmp_path / task
        wanted = [*command, "--only", task, "--out", str(run)]
        assert cli.main(wanted) == 1 and not run.exists()
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("kiyas: the tests of problem") and "install numpy" in last and "--python PATH" in last
        assert cli.main([*wanted, "--python", "/no/such/python"]) == 1 and not run.exists()
        assert capsys.readouterr().err == "kiyas: --python /no/such/python: no such interpreter here\n"
        assert cli.main([*wanted, "--python", sys.executable]) == 0
        assert [row["verdict"] for row in read_jsonl(RunDir(run).judgments)] == ["AC" if solved else "WA"]
    assert cli.main(["import", str(tmp_path / "in"), "--python", sys.executable, "--out", str(tmp_path / "o")]) == 1
    assert "add --rejudge" in capsys.readouterr().err


def test_the_given_problems_decide(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a" / f"{DEEP}.jsonl", *(detailed(problem, DOUBLE, 2) for problem in ("x", "y", "z")))
    put(tmp_path / "in" / "b" / f"{DEEP}.jsonl", detailed("p", DOUBLE, 2), detailed("q", TRIPLE, 1))
    problems = put(tmp_path / "problems.jsonl", *PROBLEMS)
    assert import_study([tmp_path / "in"], tmp_path / "r1").solved == {STEP_100: (3, 3, 0)}
    found = import_study([tmp_path / "in"], tmp_path / "r2", problems=problems)
    assert found.solved == {STEP_100: (1, 2, 0)}
    assert any("3 problems (x, y, z)" in note for note in found.notes)


# -- judged again -----------------------------------------------------------------------------------------------------


def read_differences(run: Path) -> list[dict[str, str]]:
    with RunDir(run).differences.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_falsified_verdict_is_found(tmp_path: Path) -> None:
    wrong = {"total": 2, "passed": 0, "failed": 2, "timeout": 0, "error": 0}
    put(
        tmp_path / "in" / f"{DEEP}.jsonl",
        detailed("p", TRIPLE, 2),  # says 2 of 2, is 1 of 2
        detailed("q", DOUBLE, 0, test_results=wrong),
        detailed("r", TRIPLE, 1, extracted_code=DOUBLE),  # another program was recorded than was written
        detailed("unknown", DOUBLE, 2),
    )
    problems = put(tmp_path / "problems.jsonl", *PROBLEMS)
    summary = import_study([tmp_path / "in"], tmp_path / "run", problems=problems, judge=JUDGE)
    rows = {row["problem_id"]: row for row in read_jsonl(RunDir(tmp_path / "run").judgments)}
    assert {p: (row["verdict"], row["passed"], row["recorded"]) for p, row in rows.items()} == {
        "p": ("WA", 1, False), "q": ("AC", 2, False), "r": ("WA", 1, False), "unknown": ("AC", 2, True),
    }  # fmt: skip
    assert (rows["p"]["recorded_verdict"], rows["q"]["recorded_verdict"]) == ("AC", "WA")
    found = read_differences(tmp_path / "run")
    assert [(row["problem_id"], row["recorded"], row["ours"], row["passed_then"]) for row in found] == [
        ("p", "AC", "WA", "2"), ("q", "WA", "AC", "0"),
    ]  # fmt: skip
    for part in (
        "1 of 3 recorded",
        "1 stay as recorded",
        "1 contain a program that, by our extraction, differs",
        "differences.csv",
    ):
        assert part in summary.rejudged, part
    assert any("1 of 3 recorded verdicts" in note for note in read_json(RunDir(tmp_path / "run").resolved)["notes"])
    assert analyse(tmp_path / "run").scores[0].solved == 2


def test_recorded_code_is_run_as_it_is(tmp_path: Path) -> None:
    """A program in no chat answer is not searched for one: fences in a string, or no Python at all."""
    codes = [DOUBLE + " # '''\ns = '''\n```python\nprint(7)\n```\n'''", "this is no Python"]
    put_json(tmp_path / "in" / f"{DEEP}.json", generated(*codes))
    problems = put(tmp_path / "problems.jsonl", *PROBLEMS)
    import_study([tmp_path / "in"], tmp_path / "run", problems=problems, judge=JUDGE)
    assert verdicts(tmp_path / "run") == {("p", 0): "AC", ("q", 0): "CE"}


@pytest.mark.parametrize("key", ["completion", "solution", "program", "answer"])
def test_human_evals_samples(key: str, tmp_path: Path) -> None:
    """Bodies and whole functions, several a problem in no numbered order, with verdicts that are not all true."""
    whole = key == "solution"
    codes = [(HUMANEVAL["prompt"] if whole else "") + body for body in (GOOD, BAD, GOOD)]
    said = (False, True, True)
    rows = [{"task_id": "HumanEval/0", key: code, "passed": passed} for code, passed in zip(codes, said, strict=True)]
    if key not in ("completion", "solution"):
        rows = [{**row, "sample": n} for n, row in enumerate(rows)]
    path = tmp_path / "in" / "base" / "samples.jsonl_results.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    problems = put(tmp_path / "problems.jsonl", HUMANEVAL)
    import_study([tmp_path / "in"], tmp_path / "read", problems=problems)
    assert [*verdicts(tmp_path / "read").values()] == ["WA", "AC", "AC"]
    import_study([tmp_path / "in"], tmp_path / "run", problems=problems, judge=JUDGE)
    assert verdicts(tmp_path / "run") == {("HumanEval/0", n): v for n, v in enumerate(["AC", "WA", "AC"])}


def test_samples_without_verdicts(tmp_path: Path) -> None:
    rows = [
        {"task_id": "HumanEval/0", "completion": f"```python\n{HUMANEVAL['prompt']}{body}```"} for body in (GOOD, BAD)
    ]
    put(tmp_path / "in" / "base" / "samples.jsonl", *rows)
    problems = put(tmp_path / "problems.jsonl", HUMANEVAL)
    import_study([tmp_path / "in"], tmp_path / "run", problems=problems, judge=JUDGE)
    assert [*verdicts(tmp_path / "run").values()] == ["AC", "WA"]


def test_nothing_to_judge_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "in" / f"{DEEP}.jsonl", detailed("p", DOUBLE, 2))
    command = ["import", str(tmp_path / "in"), "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--rejudge"]) == 1
    assert cli.main([*command, "--time-limit", "3"]) == 1
    said = capsys.readouterr().err
    assert "no problem has tests" in said and "--problems FILE" in said and "add --rejudge" in said
    assert not (tmp_path / "run").exists()


def test_real_verdicts_are_found_again(shared_data: Path, tmp_path: Path) -> None:
    """The base's 41: all as recorded, but for a package that is missing here and an answer with several programs."""
    problems = shared_data / "atcoder-easy-41" / "problems.jsonl"
    source = shared_data / "study-a" / "outcomes"
    quick = Judge(isolation="best", time_limit_s=0.7)
    summary = import_study([source], tmp_path / "run", problems=problems, only=["base_model"], judge=quick)
    assert summary.solved == {AdapterId("base"): (11, 41, 0)}
    assert {row["problem_id"]: row["recorded"] for row in read_differences(tmp_path / "run")} == {
        "abc367_a": "WA", "abc371_a": "RE",
    }  # fmt: skip


@pytest.mark.slow
def test_a_real_study_is_judged_again(shared_data: Path, tmp_path: Path) -> None:
    problems = shared_data / "atcoder-easy-41" / "problems.jsonl"
    quick = Judge(isolation="best", time_limit_s=0.7)
    summary = import_study([shared_data / "study-a"], tmp_path / "run", problems=problems, judge=quick)
    assert sum(solved for solved, _, _ in summary.solved.values()) == 79
    assert all(row["recorded"] != "AC" != row["ours"] for row in read_differences(tmp_path / "run"))
    assert len(read_differences(tmp_path / "run")) == 2


def test_humaneval_samples_of_the_real_problems(shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "humaneval" / "HumanEval.jsonl.gz", "rt") as lines:
        docs = [json.loads(line) for line in lines][:12]
    rows = [sample(doc, doc["canonical_solution"], [[doc["canonical_solution"]]], 1) for doc in docs]
    put(tmp_path / "in" / "base" / f"samples_humaneval_{STAMP}", *rows)
    found = import_study([tmp_path / "in"], tmp_path / "run", judge=JUDGE)
    assert found.solved == {AdapterId("base"): (12, 12, 0)} and read_differences(tmp_path / "run") == []


# -- odd folders ------------------------------------------------------------------------------------------------------


def test_names_from_windows_and_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "my results"
    put(folder / f"results\\seed-2\\{DEEP}.jsonl", detailed("p", DOUBLE, 2))
    put(folder / "diverse instruction checkpoint step 200 (1).jsonl", detailed("p", DOUBLE, 2))
    text = json.dumps(detailed("p", DOUBLE, 2))
    (folder / "base model.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    found = import_study([folder], tmp_path / "run").checkpoints
    assert found == (AdapterId("base"), AdapterId("deep", "", 2, 100), AdapterId("diverse", "", 0, 200))


def test_broken_files_of_a_folder_are_left_out_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(folder / f"{DEEP}.jsonl", detailed("p", DOUBLE, 2), detailed("q", DOUBLE, 2, test_results={"total": "x"}))
    with (folder / f"{DEEP}.jsonl").open("a") as file:
        file.write('{"question_id": "ab{"question_id": "r"}\n' + json.dumps(detailed("r", TRIPLE, 1)) + "\n")
    put_json(folder / "generations" / "deep.json", generated(DOUBLE))
    torn = folder / "generations" / "deep.json"
    torn.write_text(torn.read_text()[:-9])
    (folder / "zeros.jsonl").write_bytes(b"\0" * 64)
    (folder / "deep.csv").write_bytes("Step,Loss\n1,2\n".encode("utf-16"))
    (folder / "adapter_model.safetensors").write_bytes(b"\0")
    summary = import_study([folder], tmp_path / "run")
    assert verdicts(tmp_path / "run") == {("p", 0): "AC", ("r", 0): "WA"}
    said = "\n".join(summary.notes)
    for part in (
        "generations/deep.json: left out: not valid JSON", "not valid JSON in line 3; missing (1 row)",
        "test_results.total is 'x'", "in/zeros.jsonl", "in/deep.csv: left out: not UTF-8", ".safetensors 1",
    ):  # fmt: skip
        assert part in said, part
    for named in (torn, folder / f"{DEEP}.jsonl", folder / "deep.csv"):
        with pytest.raises(KiyasError, match=named.name):
            import_study([named], tmp_path / "none")


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    put(tmp_path / "in" / f"{DEEP}.jsonl", detailed("p", 'print("\ud83d")', 2))
    import_study([tmp_path / "in"], tmp_path / "run")
    assert read_jsonl(RunDir(tmp_path / "run").judgments)[0]["program"] == 'print("\ud83d")'


def test_one_checkpoint_evaluated_twice(tmp_path: Path) -> None:
    put(tmp_path / "in" / "first" / f"{DEEP}.jsonl", detailed("p", DOUBLE, 2), detailed("q", TRIPLE, 1))
    put(tmp_path / "in" / "second" / f"{DEEP}.jsonl", detailed("p", TRIPLE, 1), detailed("q", DOUBLE, 2))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert verdicts(tmp_path / "run") == {("p", 0): "AC", ("q", 0): "WA"}
    assert any("second" in note and "--only" in note for note in summary.notes)
    files = [tmp_path / "in" / folder / f"{DEEP}.jsonl" for folder in ("first", "second")]
    with pytest.raises(KiyasError, match="answered otherwise"):
        import_study(files, tmp_path / "none")


def test_the_same_note_of_many_files_is_told_once(tmp_path: Path) -> None:
    for step in (100, 200, 300, 400):
        name = DEEP.replace("100", str(step))
        put(tmp_path / "in" / f"{name}.jsonl", detailed("p", DOUBLE, 2), detailed("p", DOUBLE, 2))
    notes = [note for note in import_study([tmp_path / "in"], tmp_path / "run").notes if "the same row twice" in note]
    assert len(notes) == 1 and "4 rows in 4 files" in notes[0]


def state(*losses: tuple[int, Any]) -> Row:
    """`trainer_state.json` of transformers' Trainer."""
    history = [{"step": step, "loss": loss, "grad_norm": float("nan"), "epoch": step / 50} for step, loss in losses]
    return {"best_metric": None, "global_step": losses[-1][0], "log_history": history}


def log_of(run: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_jsonl(RunDir(run).train_log)]


def test_histories_of_checkpoints_are_one_log(tmp_path: Path) -> None:
    whole = [(20, 1.0), (40, 0.9), (60, "nan"), (80, float("nan")), (1000, 0.7)]
    for count in (2, 4, 5):
        folder = tmp_path / "in" / "deep" / f"checkpoint-{whole[count - 1][0]}"
        put_json(folder / "trainer_state.json", state(*whole[:count]))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert log_of(tmp_path / "run") == [(20, 1.0), (40, 0.9), (1000, 0.7)]
    assert len(summary.notes) == 1 and "first at step 60 (4 rows in 2 files" in summary.notes[0]
    assert not any("NaN" in line for line in RunDir(tmp_path / "run").train_log.read_text().splitlines())


def test_restarts_and_other_trainings(tmp_path: Path) -> None:
    for folder, losses in (
        ("output", ((20, 1.0), (40, 0.9), (60, 0.8))),
        ("checkpoint-80", ((60, 0.85), (80, 0.7))),
        ("runs", ((20, 2.0), (40, 1.9))),
    ):
        put_json(tmp_path / "in" / "deep" / folder / "trainer_state.json", state(*losses))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert log_of(tmp_path / "run") == [(20, 1.0), (40, 0.9), (60, 0.85), (80, 0.7)]
    said = "\n".join(summary.notes)
    assert "checkpoint-80/trainer_state.json: 1 losses differ" in said and "a restart?" in said
    assert "runs/trainer_state.json: 2 losses differ" in said and "another training of arm deep" in said
    assert "6 of 8 rows were used" in summary.rows or "5 of 7 rows were used" in summary.rows


def test_everything_shared_is_read(shared_data: Path, tmp_path: Path) -> None:
    everything = import_study(
        [shared_data / name for name in ("study-a", "study-seed", "foreign-logs")], tmp_path / "r"
    )
    assert len(everything.files) == 13 and everything.judgments == 287


SEEDS: list[Callable[[], bytes]] = [
    lambda: "".join(json.dumps(detailed(p, DOUBLE, 2)) + "\n" for p in "pq").encode(),
    lambda: json.dumps(generated(DOUBLE, TRIPLE)).encode(),
    lambda: json.dumps([eval_all("p", (DOUBLE, True, None), (TRIPLE, False, -2))]).encode(),
    lambda: (json.dumps(sample(HUMANEVAL, GOOD, [[GOOD]], 1.0)) + "\n").encode(),
    lambda: json.dumps({"results": [evaluation(1, 2)]}).encode(),
    lambda: json.dumps(state((20, 1.0), (40, "nan"))).encode(),
    lambda: b"Step,Train_Loss,Valid_Loss\n20,0.4,\n20,,0.5\n40,nan,\n",
]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(SEEDS),
    suffix=st.sampled_from([".json", ".jsonl", ".csv"]),
    cut=st.integers(0, 1500),
    junk=st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"null", b"-1", b"[]", b"{}", b'"x"', b"1e999", b"\n", b"NaN", b"true"]),
    ),
    keep=st.booleans(),
)
def test_no_file_makes_a_traceback(
    tmp_path: Path, seed: Callable[[], bytes], suffix: str, cut: int, junk: bytes, keep: bool
) -> None:
    """Torn, or with something else put in: told as a KiyasError, or a run folder that can be analysed."""
    data = seed()
    cut = min(cut, len(data))
    path = tmp_path / "in" / f"deep_step-100{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data[:cut] + junk + (data[cut + len(junk) :] if keep else b""))
    for source in (path, path.parent):
        try:
            summary = import_study([source], tmp_path / "run")
        except KiyasError as error:
            assert str(error)
        else:
            assert str(summary) and json.loads(RunDir(tmp_path / "run").resolved.read_text())
            if summary.judgments or summary.log_rows:
                analyse(tmp_path / "run")
