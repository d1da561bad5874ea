"""The ready study files, end to end in small: a local Hub with the real tokenizer, rows and problems."""

from __future__ import annotations

import datetime
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny
from hub_server import Hub, around, lines, livecodebench_row, parquet, serve
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir

SMALL = ["training.budget={steps: 2}", "training.effective_batch_size=2", "training.save_steps=2", "training.workers=1"]
SMALL += ["training.eval_steps=2", "training.logging_steps=1", "generation.max_new_tokens=4", "judge.isolation=best"]


HUMAN = {"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c): assert c()"}
MBPP = {"task_id": 602, "prompt": "Do it.", "code": "", "test_imports": [], "test_list": ["assert g(1) == 2"]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Hub]:
    model = tmp_path_factory.mktemp("model")
    tiny.with_real_vocabulary(model, shared_data / "qwen2.5-coder-tokenizer")
    with serve() as running:
        running.add("models", "Qwen/Qwen2.5-Coder-1.5B-Instruct", model)
        for name, file in (
            ("Deep", "deep5k_rows_from_B0DH1i"),
            ("Diverse", "diverse5k_rows_from_B0DH1i_truncated_input"),
        ):
            rows = [
                json.loads(line) for line in (shared_data / "dataset-rows" / f"{file}.jsonl").read_text().splitlines()
            ]
            for number, row in enumerate(rows):
                row["input"] = f"{row['input']} ({name} {number})"
                row["output"] = f"<think>\nLet me see.\n</think>\n```python\n{row['solution']}\n```"
                row["split"] = ("train", "train", "valid", "test")[number % 4]
            twins = [{**row, "solution": row["solution"] + "\n# another way"} for row in rows] if name == "Deep" else []
            id = f"Naholav/CodeGen-{name}-5K"
            running.add("datasets", id, {"README.md": b"# Data", f"CodeGen-{name}-5K.jsonl": lines(rows + twins)})
        problems = [
            json.loads(line) for line in (shared_data / "atcoder-easy-41" / "problems.jsonl").read_text().splitlines()
        ]
        parts: dict[str, list[dict[str, Any]]] = {f"test{n or ''}.jsonl": [] for n in ("", 2, 3, 4, 5)}
        for number, problem in enumerate(problems):
            contest = int(problem["id"][3:6])
            day = datetime.date(2024, 8, 3) + datetime.timedelta(weeks=contest - 365)
            row = livecodebench_row(contest, day.isoformat())
            row |= {"question_id": problem["id"], "question_content": problem["statement"]}
            row["public_test_cases"] = json.dumps([{**test, "testtype": "stdin"} for test in problem["tests"]])
            parts[list(parts)[number % 5]].append(row)
        parts["test.jsonl"] += [
            livecodebench_row(300, "2023-04-29"),
            livecodebench_row(365, "2024-08-03", difficulty="hard"),
        ]
        parts["test.jsonl"][-1]["question_id"] = "abc365_f"
        parts["test2.jsonl"].append(
            {**livecodebench_row(999, "2024-09-01", platform="leetcode"), "question_id": "3261"}
        )
        running.add(
            "datasets", "livecodebench/code_generation_lite", {name: lines(rows) for name, rows in parts.items()}
        )
        for id, config, problem in (
            ("openai/openai_humaneval", "openai_humaneval", HUMAN),
            ("google-research-datasets/mbpp", "sanitized", MBPP),
        ):
            card = f"---\nconfigs:\n- config_name: {config}\n  data_files: [{{split: test, path: test-*}}]\n---\n"
            running.add("datasets", id, {"README.md": card.encode(), "test-0.parquet": parquet([problem])})
        yield running


def kiyas(hub: Hub, folder: Path, *arguments: str) -> str:
    """What the command line prints, with this Hub."""
    command, environment = [sys.executable, "-m", "kiyas", *arguments], around(hub.endpoint, folder)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "more"),
    [("deep-vs-diverse", []), ("deep-vs-diverse-reasoning", ["training.max_length=2048"])],
)
def test_the_trial_that_the_header_gives(hub: Hub, tmp_path: Path, preset: str, more: list[str]) -> None:
    """The very command, after `kiyas init`; only steps and answers are cut short for the test."""
    kiyas(hub, tmp_path, "init", "--preset", preset)
    lines = (tmp_path / "study.yaml").read_text(encoding="utf-8").splitlines()
    (command,) = [line.removeprefix("#   kiyas ") for line in lines if line.startswith("#   kiyas ")]
    kiyas(hub, tmp_path, *shlex.split(command), *SMALL, *more)
    folder = RunDir(tmp_path / "runs" / "trial")
    assert len(read_jsonl(folder.problems)) == 5, "no secondary benchmark"
    assert len(read_jsonl(folder.completions)) == 5 * (1 + 3)
    assert (folder.report / "index.html").exists()


@pytest.mark.parametrize(
    ("preset", "more", "arms"),
    [
        pytest.param("deep-vs-diverse", ["seeds=1", "arms.one-solution.draws=1"], 3, marks=pytest.mark.slow),
        pytest.param("deep-vs-diverse-as-published", ["training.patience=1"], 2, marks=pytest.mark.slow),
        pytest.param(
            "deep-vs-diverse-reasoning",
            ["seeds=1", "arms.one-solution.draws=1", "training.max_length=2048"],
            3,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_preset(hub: Hub, tmp_path: Path, shared_data: Path, preset: str, more: list[str], arms: int) -> None:
    kiyas(hub, tmp_path, "init", "study.yaml", "--preset", preset)
    kiyas(hub, tmp_path, "run", "study.yaml", *SMALL, *more)
    folder = RunDir(tmp_path / "runs" / preset)
    every = read_jsonl(folder.problems)
    problems = [problem for problem in every if "benchmark" not in problem]
    text = (shared_data / "atcoder-easy-41" / "problems.jsonl").read_text()
    assert sorted(problem["id"] for problem in problems) == [json.loads(line)["id"] for line in text.splitlines()]
    public = preset.endswith("published")
    assert sum(len(problem["tests"]) for problem in problems) == 118 + (0 if public else 3 * 41)
    completions = read_jsonl(folder.completions)
    assert [p["benchmark"] for p in every if "benchmark" in p] == ([] if public else ["humaneval", "mbpp"])
    assert len(completions) == len(every) * (1 + arms)
    assert (folder.report / "index.html").exists()
    assert set(read_json(folder.findings)["arms"]) == {"deep", "diverse", *(["one-solution"] if arms == 3 else [])}
    train = [row for row in read_jsonl(folder.arm_data("deep")) if row["split"] == "train"]
    if public:
        assert len(train) == 8  # the data's own split
    else:
        held = {row["group"] for row in read_jsonl(folder.arm_data("deep")) if row["split"] == "validation"}
        assert len(held) == 1 and held.isdisjoint(row["group"] for row in train)
        one = [row for row in read_jsonl(folder.arm_data("one-solution")) if row["split"] == "train"]
        assert len(one) == len({row["group"] for row in train}) == len(train) / 2
    assert all(("<think>" in row["completion"]) == preset.endswith("reasoning") for row in train)
