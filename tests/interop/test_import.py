"""Other people's files: read whole, marked as read, nothing invented, bad ones refused with file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kiyas.analyse import analyse
from kiyas.interop import import_study, names
from kiyas.judge import Program
from kiyas.judge.verdict_file import line_of
from kiyas.runfolder.files import read_json, read_jsonl, write_json
from kiyas.runfolder.paths import RunDir
from kiyas.types import AdapterId, KiyasError
from synthetic import make_run

Row = dict[str, Any]
DEEP = "deep_instruction_checkpoint-step-100-epoch-1_2408-2502_atcoder.jsonl"


def outcome(problem: str, right: int, total: int = 2, **more: Any) -> Row:
    """A row of the course evaluator: `right` of `total` tests passed."""
    failed = total - right
    return {
        "question_id": problem,
        "problem_title": problem.upper(),
        "problem_prompt": f"Solve {problem}.",
        "model_output_raw": "```python\nprint(1)\n```",
        "extracted_code": "print(1)",
        "passed": right == total,
        "test_results": {"total": total, "passed": right, "failed": failed, "timeout": 0, "error": 0},
        "error": None,
        **more,
    }


def put(path: Path, *rows: Row, tail: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")
    return path


def test_the_real_study(shared_data: Path, tmp_path: Path) -> None:
    problems = shared_data / "atcoder-easy-41" / "problems.jsonl"
    summary = import_study([shared_data / "study-a"], tmp_path / "run", problems=problems, name="study a")
    steps = [AdapterId(arm, "", 0, step) for arm in ("deep", "diverse") for step in (100, 200, 300)]
    assert summary.checkpoints == (AdapterId("base"), *steps)
    assert (summary.problems, summary.judgments) == (41, 287)
    findings = analyse(tmp_path / "run")
    solved = {(s.adapter.arm, s.adapter.step): s.solved for s in findings.scores}
    assert solved == {
        ("base", 0): 11, ("deep", 100): 13, ("deep", 200): 14, ("deep", 300): 10,
        ("diverse", 100): 9, ("diverse", 200): 12, ("diverse", 300): 10,
    }  # fmt: skip
    codes = {remark.code for remark in findings.remarks}
    assert {"sample_tests_only", "one_seed", "recorded_verdicts", "selection_not_declared"} <= codes
    assert findings.tests == 118
    deep = next(curve for curve in findings.curves if curve.training.arm == "deep")
    assert deep.train[0].loss == 0.4587 and deep.train[0].step == 20 and "test" in deep.others
    assert "41 problems" in str(summary)


def test_without_problems_they_are_rebuilt(shared_data: Path, tmp_path: Path) -> None:
    summary = import_study([shared_data / "study-a" / "outcomes"], tmp_path / "run")
    rows = read_jsonl(tmp_path / "run" / "data" / "problems.jsonl")
    assert len(rows) == 41 and all(row["statement"] and row["tests"] == [] for row in rows)
    assert any("rebuilt from the rows" in note for note in summary.notes)
    assert "tests_unknown" in {remark.code for remark in analyse(tmp_path / "run").remarks}


def test_trainer_state_and_jsonl_logs(shared_data: Path, tmp_path: Path) -> None:
    import_study([shared_data / "study-seed"], tmp_path / "seed")
    curves = {curve.training.arm: curve for curve in analyse(tmp_path / "seed").curves}
    assert set(curves) == {"deep", "diverse"}
    lowest = curves["deep"].reading
    assert lowest is not None and lowest.lowest_step == 500
    assert lowest.lowest == pytest.approx(0.9360201358795166)
    import_study([shared_data / "foreign-logs"], tmp_path / "foreign")
    curves = {curve.training.arm: curve for curve in analyse(tmp_path / "foreign").curves}
    assert set(curves) == {"deep", "diverse"}
    assert curves["diverse"].validation[-1].step == 700
    resolved = read_json(tmp_path / "foreign" / "resolved.json")
    assert resolved["kind"] == "import" and any("summary row" in note for note in resolved["notes"])


@pytest.mark.parametrize(
    ("name", "arm", "step", "seed"),
    [
        (DEEP, "deep", 100, 0),
        ("base_model_2408-2502_atcoder.jsonl", "base", 0, 0),
        ("diverse_think_checkpoint-step-400-epoch-2_easy.jsonl", "diverse-think", 400, 0),
        ("diverse_seed-2_checkpoint-800.jsonl", "diverse", 800, 2),
        ("checkpoint-step-40.jsonl", "mixed", 40, 0),
        ("deep_best.jsonl", "deep-best", None, 0),
        ("Qwen2.5-Coder-1.5B-Instruct_deep_ckpt-300.jsonl", "deep", 300, 0),
        ("diverse_epoch-2.jsonl", "diverse", 2, 0),
    ],
)
def test_outcome_names(name: str, arm: str, step: int | None, seed: int) -> None:
    found = names.of_outcomes(Path("mixed") / name, {})
    assert (found.arm, found.step, found.seed) == (arm, step, seed)


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("deep/trainer_state.json", "deep"),
        ("diverse/checkpoint-500/trainer_state.json", "diverse"),
        ("who__what__training_logs_deep_deep_20251215_152158_training_log.jsonl", "deep"),
        ("loss_diverse_v4.csv", "diverse"),
    ],
)
def test_log_names(name: str, arm: str) -> None:
    assert names.of_log(Path(name), {}, []).arm == arm
    assert names.of_log(Path(name), {name.rsplit("/", 1)[-1]: "other"}, []).arm == "other"
    assert names.of_log(Path("x") / name, {}, [arm.upper()]).arm == arm.upper()


def test_arm_of_renames(tmp_path: Path) -> None:
    put(tmp_path / DEEP, outcome("abc365_a", 2))
    assert (
        import_study([tmp_path], tmp_path / "r1", arm_of={"deep": "five solutions"}).checkpoints[0].arm
        == "five solutions"
    )
    assert import_study([tmp_path / DEEP], tmp_path / "r2", arm_of={"deep_*": "x"}).checkpoints[0].arm == "x"


def test_oddities_become_owed_and_noted(tmp_path: Path) -> None:
    nothing = {"total": 0, "passed": 0, "failed": 0, "timeout": 0, "error": 0}
    put(
        tmp_path / "in" / DEEP,
        outcome("abc365_a", 2),
        outcome("abc365_a", 0, test_results=nothing, passed=False),
        outcome("abc366_a", 0, test_results=nothing, passed=False, error="CUDA out of memory"),
        outcome("abc367_a", 0, test_results=nothing, passed=False, extracted_code=""),
        outcome("abc368_a", 1, passed=True),
        outcome("abc369_a", 0, test_results={"total": 2, "passed": 0, "failed": 0, "timeout": 2, "error": 0}),
        outcome("abc370_a", 1, test_results={"total": 2, "passed": 1, "failed": 0, "timeout": 0, "error": 1}),
        outcome("abc301_a", 2),
        tail='{"question_id": "abc37',
    )
    put(tmp_path / "in" / DEEP.replace("100", "200"), outcome("abc365_a", 2))
    (tmp_path / "in" / "summary.json").write_text('{"best": 1}')
    (tmp_path / "in" / "readme.txt").write_text("hello")
    (tmp_path / "in" / "empty.jsonl").write_text("")
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    verdicts = {
        row["problem_id"]: row["verdict"]
        for row in read_jsonl(tmp_path / "run" / "judge" / "judgments.jsonl")
        if row["step"] == 100
    }
    assert verdicts == {
        "abc365_a": "AC", "abc366_a": "IE", "abc367_a": "WA", "abc368_a": "WA", "abc369_a": "TLE", "abc370_a": "RE",
        "abc301_a": "AC",
    }  # fmt: skip
    said = "\n".join(summary.notes)
    for part in (
        "cut off",
        "evaluation itself failed",
        "no program",
        "contradicts",
        "2408",
        "summary.json",
        "earlier verdict",
    ):
        assert part in said, part
    assert "of another time" in said and "2023" in said
    assert "step-000200: no verdict for 6 problems" in said
    assert all(row["recorded"] for row in read_jsonl(tmp_path / "run" / "judge" / "judgments.jsonl"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (DEEP, '{"question_id": "a", "passed": true}\n{broken\n{"x": 1}\n', "line 2: not valid JSON"),
        (DEEP, '{"question_id": "a", "passed": true}\n[1]\n', "line 2: expected a JSON object"),
        (DEEP, '{"question_id": "a", "passed": true}\n{"passed": true}\n', "line 2: no question_id"),
        (DEEP, '{"question_id": "a", "passed": true, "test_results": {"total": 1, "passed": 3}}\n', "line 1: 3 tests"),
        (DEEP, '{"question_id": "a", "passed": true, "test_results": {"total": "x"}}\n', "test_results.total"),
        ("deep.csv", "Step,Train_Loss\n20,abc\n", "line 2: Train_Loss is 'abc'"),
        ("deep.csv", "Step,Train_Loss\n20,1,2,3\n", "line 2: more fields"),
        ("trainer_state.json", "{", "not valid JSON"),
        ("notes.json", "{}", "neither results nor a training log"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(KiyasError, match=message) as caught:
        import_study([path], tmp_path / "run")
    assert name in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_nothing_usable_and_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(KiyasError, match="neither results nor training logs"):
        import_study([tmp_path / "in"], tmp_path / "run")
    with pytest.raises(KiyasError, match="no such file"):
        import_study([tmp_path / "absent"], tmp_path / "run")
    put(tmp_path / "in" / DEEP, outcome("p", 1))
    write_json(tmp_path / "run" / "resolved.json", {"kind": "run", "name": "mine"})
    with pytest.raises(KiyasError, match="made here"):
        import_study([tmp_path / "in"], tmp_path / "run")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("stage", ["data", "train", "report"])
def test_a_folder_that_is_no_import_is_never_emptied(tmp_path: Path, stage: str) -> None:
    source = put(tmp_path / "in" / DEEP, outcome("p", 1))
    put(tmp_path / "mine" / stage / "precious.jsonl", {"x": 1})
    before = tree(tmp_path)
    with pytest.raises(KiyasError, match=f"holds {stage}"):
        import_study([source], tmp_path / "mine")
    assert tree(tmp_path) == before


def test_sources_are_never_written_over(tmp_path: Path) -> None:
    put(tmp_path / "a" / "data" / DEEP, outcome("p", 1))
    put(tmp_path / "b" / DEEP, outcome("p", 1))
    put(tmp_path / "problems.jsonl", {"id": "p", "tests": [{"input": "1", "output": "2"}]})
    before = tree(tmp_path)
    for sources, out, message in (
        ([tmp_path / "a" / "data"], "a", "holds data"),
        ([tmp_path / "b" / DEEP], "b", "is in the folder"),
        ([tmp_path / "b"], "b", "is in the folder"),
        ([tmp_path], "b", "is in the folder"),
        ([tmp_path / "b"], "problems.jsonl", "is not a folder"),
        ([tmp_path / "b"], "b/run/../..", "is in the folder"),
    ):
        with pytest.raises(KiyasError, match=message):
            import_study(sources, tmp_path / out)
    with pytest.raises(KiyasError, match="is in the folder"):
        import_study([tmp_path / "b"], tmp_path, problems=tmp_path / "problems.jsonl")
    assert tree(tmp_path) == before
    import_study([tmp_path / "b"], tmp_path / "run")
    with pytest.raises(KiyasError, match="is in the folder"):
        import_study([tmp_path / "run" / "judge" / "judgments.jsonl"], tmp_path / "run")
    assert import_study([tmp_path / "b"], tmp_path / "b" / "run").judgments == 1
    # Found again by searching, the first import is no source of the second.
    assert import_study([tmp_path / "b"], tmp_path / "b" / "run").files == (str(tmp_path / "b" / DEEP),)


def test_a_run_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "in" / DEEP, outcome("p", 1))
    import_study([tmp_path / "in"], tmp_path / "run")
    before = tree(tmp_path / "run" / "judge")
    put(tmp_path / "in" / DEEP, outcome("p", 2))
    with RunDir(tmp_path / "run").lock(), pytest.raises(KiyasError, match="another process"):
        import_study([tmp_path / "in"], tmp_path / "run")
    assert tree(tmp_path / "run" / "judge") == before


def test_import_again_replaces(tmp_path: Path) -> None:
    put(tmp_path / "in" / DEEP, outcome("p", 1), outcome("q", 2))
    import_study([tmp_path / "in"], tmp_path / "run")
    put(tmp_path / "in" / DEEP, outcome("p", 2))
    import_study([tmp_path / "in"], tmp_path / "run")
    rows = read_jsonl(tmp_path / "run" / "judge" / "judgments.jsonl")
    assert [(row["problem_id"], row["verdict"]) for row in rows] == [("p", "AC")]
    for stage in ("data", "generate", "judge"):
        assert read_json(tmp_path / "run" / stage / "manifest.json")["stage"] == stage


def test_given_problems_and_strangers(tmp_path: Path) -> None:
    tests = [{"input": "1", "output": "2"}]
    put(tmp_path / "problems.jsonl", {"id": "p", "tests": tests}, {"id": "unused", "tests": tests})
    put(tmp_path / "in" / DEEP, outcome("p", 2), outcome("stranger", 2))
    summary = import_study([tmp_path / "in"], tmp_path / "run", problems=tmp_path / "problems.jsonl")
    rows = read_jsonl(tmp_path / "run" / "data" / "problems.jsonl")
    assert [(row["id"], len(row["tests"])) for row in rows] == [("p", 1), ("stranger", 0)]
    assert any("unused" in note for note in summary.notes) and any("stranger" in note for note in summary.notes)


def test_other_shapes_of_results(tmp_path: Path) -> None:
    tests = [{"passed": True}, {"passed": False, "actual": "3"}]
    rows = [
        {"question_id": "a", "passed": True, "extracted_code": "x"},
        {"question_id": "b", "passed": False, "extracted_code": "x"},
        {"question_id": "c", "passed": False, "test_results": tests},
        {"question_id": "d", "passed": True, "total_tests": 3, "passed_tests": 3},
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "deep_step-100.json").write_text(json.dumps({"model": "deep", "results": rows}))
    summary = import_study([tmp_path / "in"], tmp_path / "run")
    read = read_jsonl(tmp_path / "run" / "judge" / "judgments.jsonl")
    assert [(row["verdict"], row["passed"], row["total"]) for row in read] == [
        ("AC", None, None),
        ("WA", None, None),
        ("WA", 1, 2),
        ("AC", 3, 3),
    ]
    assert any("without test counts (2 rows)" in note for note in summary.notes)
    analyse(tmp_path / "run")


def verdict(problem: str, **more: Any) -> Row:
    """A verdict row as `kiyas judge` writes it."""
    return {"problem_id": problem, "sample": 0, "program": f"print({more})", "verdict": "AC", "passed": 2, "total": 2,
            "tests": [], "detail": "", "flags": [], "tier": "strong", **more}  # fmt: skip


def test_a_run_of_ours_comes_back_as_it_was(tmp_path: Path) -> None:
    made = make_run(tmp_path / "made", seeds=(0, 1), steps=(20, 40), problems=9)
    import_study([made / "judge" / "judgments.jsonl"], tmp_path / "run")
    before, after = analyse(made), analyse(tmp_path / "run")
    assert after.columns == before.columns and len(after.columns) == 9
    assert {s.adapter: s.solved for s in after.scores} == {s.adapter: s.solved for s in before.scores}


def test_rows_name_their_arms(tmp_path: Path) -> None:
    own = [verdict("p", arm=arm, step=step, variant="lr") for arm in ("deep", "base") for step in (100, 200)][:3]
    put(tmp_path / "in" / "all_seed-3.jsonl", *own)
    models = [verdict(p, model=model) for model in ("one", "two") for p in "pq"]
    put(tmp_path / "in" / "models_step-7.jsonl", *models)
    put(tmp_path / "in" / DEEP.replace("deep", "solo"), *(verdict(p, model="Qwen/Qwen2.5", step=9) for p in "pq"))
    found = import_study([tmp_path / "in"], tmp_path / "run", arm_of={"one": "1"}).checkpoints
    assert set(found) == {
        AdapterId("base"), AdapterId("deep", "lr", 3, 100), AdapterId("deep", "lr", 3, 200), AdapterId("1", step=7),
        AdapterId("two", step=7), AdapterId("solo", step=100),
    }  # fmt: skip
    for odd in (
        {"arm": 5},
        {"arm": " "},
        {"arm": "a", "step": -1},
        {"arm": "a", "seed": "0"},
        {"arm": "a", "step": 1e9},
    ):
        path = put(tmp_path / "odd.jsonl", verdict("p", arm="a"), verdict("q", **odd))
        with pytest.raises(KiyasError, match=r"odd.jsonl, line 2: (arm|seed|step) is"):
            import_study([path], tmp_path / "none")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"passed": "5"}, "passed is '5'"),
        ({"passed": None}, "passed is None"),
        ({"passed": True}, "passed is True"),
        ({"passed": 3}, "3 tests passed of 2"),
        ({"total": 2.5}, "total is 2.5"),
        ({"total": None}, "total is None"),
        ({"passed": -1}, "passed is -1"),
        ({"sample": True}, "sample is True"),
    ],
)
def test_counts_beside_a_verdict_are_checked(tmp_path: Path, row: Row, message: str) -> None:
    path = put(tmp_path / "deep_step-1.jsonl", verdict("p"), verdict("q", **{"verdict": "WA", **row}))
    with pytest.raises(KiyasError, match=f"line 2: {message}"):
        import_study([path], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_verdict_without_counts(tmp_path: Path) -> None:
    plain = [{"problem_id": p, "verdict": v, "program": "x"} for p, v in zip("pqr", ("AC", "WA", "TLE"), strict=True)]
    put(tmp_path / "deep_step-1.jsonl", *plain, {**plain[0], "problem_id": "s", "passed": True})
    put(tmp_path / "odd_step-1.jsonl", {**plain[0], "verdict": ["AC"], "passed": True})
    import_study([tmp_path / "deep_step-1.jsonl", tmp_path / "odd_step-1.jsonl"], tmp_path / "run")
    assert [score.solved for score in analyse(tmp_path / "run").scores] == [2, 1]


@pytest.mark.parametrize("tests", [[5], "abc", [{"input": 1, "output": "2"}], []])
def test_bad_problems_are_named(tmp_path: Path, tests: Any) -> None:
    put(tmp_path / DEEP, outcome("p", 2))
    good = {"id": "a", "tests": [{"input": "1", "output": "2"}]}
    problems = put(tmp_path / "problems.jsonl", good, {"id": "p", "tests": tests})
    with pytest.raises(KiyasError, match=r"problems.jsonl:2: .*test"):
        import_study([tmp_path / DEEP], tmp_path / "run", problems=problems)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", ["1e300", "1" + "0" * 400, "-5"])
def test_impossible_steps_in_a_log(tmp_path: Path, step: str) -> None:
    log = tmp_path / "deep.jsonl"
    log.write_text('{"step": 20, "loss": 1.0}\n{"step": ' + step + ', "loss": 0.5}\n')
    if len(step) > 100:
        with pytest.raises(KiyasError, match="line 2: step is"):
            import_study([log], tmp_path / "run")
        return
    summary = import_study([log], tmp_path / "run")
    assert summary.log_rows == 1 and any("impossible step" in note for note in summary.notes)


def test_rows_that_mostly_collide_stop_the_import(tmp_path: Path) -> None:
    programs = [verdict("p", program=f"print({i})") for i in range(3)]
    path = put(tmp_path / "judgments.jsonl", *programs)
    with pytest.raises(KiyasError, match=r"judgments.jsonl: 2 of 3 rows answer"):
        import_study([path], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    put(path, *programs, *(verdict(p) for p in "abcd"))
    assert any("later row was kept (2 rows)" in note for note in import_study([path], tmp_path / "run").notes)
    same = import_study([put(path, *[verdict("p")] * 5)], tmp_path / "run")
    assert same.judgments == 1 and any("same row twice" in note for note in same.notes)


def test_odd_logs(tmp_path: Path) -> None:
    (tmp_path / "deep.csv").write_text("step,train_loss,val_loss\n20,1.0,\n40,nan,0.9\n20,0.8,\n")
    summary = import_study([tmp_path / "deep.csv"], tmp_path / "run")
    rows = read_jsonl(tmp_path / "run" / "train" / "log.jsonl")
    assert [(row["kind"], row["step"], row["loss"]) for row in rows] == [("train", 20, 0.8), ("validation", 40, 0.9)]
    said = " ".join(summary.notes)
    assert "steps go backwards" in said and "not a finite number" in said and "two different losses" in said


def test_verdicts_that_were_changed_after_they_were_written_are_noted(tmp_path: Path) -> None:
    program = Program("a", "print(1)", {"problem_id": "a", "program": "print(1)"})
    verdict = {"verdict": "WA", "passed": 0, "total": 1, "tests": [], "detail": "", "flags": []}
    path = tmp_path / "deep.jsonl"
    path.write_bytes(line_of(program, verdict, b"\x01" * 8))
    said = "not as `kiyas judge` wrote them"
    assert said not in str(import_study([path], tmp_path / "whole"))
    path.write_bytes(path.read_bytes().replace(b'"WA"', b'"AC"'))
    summary = import_study([path], tmp_path / "edited")
    assert said in str(summary) and any(said in note for note in read_json(tmp_path / "edited/resolved.json")["notes"])


def test_an_import_that_lost_its_verdicts_is_no_smaller_import(tmp_path: Path) -> None:
    put(tmp_path / "o" / DEEP, outcome("a", 2))
    put(tmp_path / "o" / "log.jsonl", {"step": 1, "loss": 1.0})
    import_study([tmp_path / "o"], tmp_path / "run")
    for stage in ("generate", "judge"):
        shutil.rmtree(tmp_path / "run" / stage)
    with pytest.raises(KiyasError, match="the import is not whole"):
        analyse(tmp_path / "run")
