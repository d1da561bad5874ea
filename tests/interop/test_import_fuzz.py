"""Mutated files of other people's results, logs: each is read, or refused in one line; never a traceback.

Short in the normal run; `-m slow` tries many more.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from kiyas.analyse import analyse
from kiyas.interop import import_study
from kiyas.runfolder.files import read_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.types import KiyasError

HUGE = "1" * 5000
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**70,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    1e308,
    "",
    " ",
    "\n",
    "x",
    "0",
    "No log",
    "null",
    "[]",
    "{}",
    "\ud800",
    "a\x00b",
    "é" * 9,
    "```",
    "../x",
    "/",
    "base",
    [],
    {},
    [[]],
    [None],
    [0],
    ["x"],
    [{}],
    {"x": 1},
    {"base_status": "pass"},
    [[0, {"completion_id": 0}]],
    HUGE,
]
ROW = {"task_id": "t/0", "completion": "    return 1", "passed": True, "result": "passed", "completion_id": 0}
ENTRY = {"task_id": "t/0", "solution": "x = 1", "base_status": "pass", "plus_status": "fail"}
DOC = {
    "task_id": "t/0",
    "prompt": "def f():\n",
    "entry_point": "f",
    "test": "def check(f): pass",
    "canonical_solution": "    pass\n",
}
SEEDS: dict[str, tuple[str, Any]] = {
    "human-eval": ("rows", [ROW, {**ROW, "passed": False}]),
    "EvalPlus": ("document", {"date": "x", "hash": "y", "eval": {"t/0": [ENTRY, ENTRY], "t/1": [ENTRY]}}),
    "EvalPlus 0.1": (
        "document",
        {"eval": {"t/0": {"nfiles": 1, "base": [["pass", [True]]], "plus": [["fail", [False]]]}}},
    ),
    "code_eval": ("document", {"t/0": [[0, {"task_id": 0, "passed": True, "completion_id": 0}]]}),
    "lm-eval": ("rows", [{"doc": DOC, "resps": [["x"]], "filtered_resps": [["x"]], "pass@1": 1.0, "filter": "none"}]),
    "olmo-eval": (
        "rows",
        [
            {
                "native_id": "t/0",
                "doc_id": 0,
                "instance_metrics": {"pass_at_1": {"exec": 1.0}},
                "model_output": [{"text": "x", "sample_metrics": {"exec": {"exec": 1.0}}}],
            }
        ],
    ),
    "LiveCodeBench": (
        "document",
        [{"question_id": "p", "code_list": ["x"], "graded_list": [True], "metadata": ["{}"]}],
    ),
    "course": (
        "rows",
        [
            {
                "question_id": "p",
                "passed": True,
                "extracted_code": "x",
                "model_output_raw": "x",
                "error": None,
                "test_results": {"total": 2, "passed": 2, "failed": 0, "timeout": 0, "error": 0},
            }
        ],
    ),
    "totals": (
        "document",
        {"results": [{"stats": {"passed": 1, "total": 2}, "pass_at_1": 0.5, "detailed_log": "a\\b.jsonl"}]},
    ),
    "trainer_state": (
        "document",
        {
            "global_step": 40,
            "log_history": [
                {"step": 20, "loss": 1.0, "aux_loss": 0.1, "epoch": 1.0},
                {"step": 20, "eval_loss": 1.0, "eval_x_loss": 2.0},
            ],
        },
    ),
    "tracker": (
        "rows",
        [{"Step": 20, "deep - train/loss": 1.0, "many - train/loss": 2.0, "deep - train/loss__MIN": 0}],
    ),
    "csv": ("table", "Epoch,Step,Training Loss,Validation Loss\n1,100,No log,0.8904\n2,200,0.8011,0.8123\n"),
    "csv;": ("table", "Step;Train Loss;x - eval/loss\n100;0,5;0,8904\n"),
    "inspect": ("document", {"version": 2, "status": "success", "eval": {"task": "x", "model": "y"}, "samples": []}),
}
NAMES = [
    "deep_checkpoint-100",
    "deep/checkpoint-100/x",
    "a__b__c",
    "v1/x",
    "şeker-\udce9",
    "base",
    "seed-" + "9" * 30,
    "checkpoint-" + "9" * 40,
    "2025-01-01T10-00-00-00-00_x_cnwfg3Y88Urfpzv5YoEyW6",
    "(1)",
    ".hidden",
    "a" * 200,
]


def mutated(value: Any, dice: random.Random) -> Any:
    value = copy.deepcopy(value)
    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        value = _once(value, dice)
    return value


def _once(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict | list) and value and dice.random() < 0.85:
        key = dice.choice(list(value) if isinstance(value, dict) else range(len(value)))
        act = dice.random()
        if act < 0.15:
            del value[key]
        elif act < 0.25 and isinstance(value, list):
            value.append(value[key])
        elif act < 0.3 and isinstance(value, dict):
            value[str(dice.choice(ODD))] = value.pop(key)
        else:
            value[key] = _once(value[key], dice)
        return value
    if dice.random() < 0.1:
        for _ in range(dice.choice([1, 60, 250])):
            value = [value] if dice.random() < 0.5 else {"x": value}
        return value
    return copy.deepcopy(dice.choice(ODD))


def content(kind: str, value: Any, dice: random.Random) -> tuple[str, bytes]:
    """(suffix, content) of a file, sometimes damaged."""
    if kind == "table":
        cells = [line.split(",") for line in value.splitlines()]
        for _ in range(dice.choice([0, 1, 2])):
            line = dice.choice(cells)
            line[dice.randrange(len(line))] = str(dice.choice(ODD)).encode("utf-8", "replace").decode()
        suffix, data = dice.choice([".csv", ".tsv"]), "\n".join(map(",".join, cells)).encode("utf-8", "surrogatepass")
    elif kind == "rows":
        suffix, data = ".jsonl", "".join(json.dumps(mutated(row, dice)) + "\n" for row in value * 2).encode()
    else:
        suffix, data = ".json", json.dumps(mutated(value, dice)).encode()
    if dice.random() < 0.1:
        data = data.replace(b"1", HUGE.encode(), 1)
    if dice.random() < 0.05:
        data = b'{"a":' * 100_000
    if dice.random() < 0.15:
        damaged = bytearray(data or b"x")
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        data = bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged) + 1)])])
    if dice.random() < 0.1:
        return suffix + ".gz", gzip.compress(data, 1)[: dice.choice([None, 20])]
    return dice.choice([suffix, suffix, suffix, ".jsonl", ".json", ".csv", ".eval"]), data


def attempt(seed: int, folder: Path) -> None:
    dice = random.Random(seed)
    for _ in range(dice.choice([1, 1, 2])):
        kind, value = SEEDS[dice.choice(list(SEEDS))]
        suffix, data = content(kind, value, dice)
        name = dice.choice(NAMES)
        path = folder / "in" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if dice.random() < 0.03 and not path.exists():
            path.mkdir()
        elif not path.is_dir():
            path.write_bytes(data)
    for n, source in enumerate((folder / "in", path)):
        run = folder / f"run{n}"
        try:
            summary = import_study([source], run)
        except KiyasError as error:
            assert error.args[0] and len(error.args[0].split("\n  ")[0]) < 2000, seed
            assert "\n" not in error.hint and not (run / "resolved.json").exists(), seed
            continue
        assert "rows were used" in str(summary), seed
        str(summary).encode("utf-8", "backslashreplace")
        if summary.judgments or summary.log_rows:
            analyse(run)
            samples = [
                (row["arm"], row["step"], row["seed"], row["problem_id"], row["sample"])
                for row in (read_jsonl(RunDir(run).judgments) if summary.judgments else [])
            ]
            assert len(samples) == len(set(samples)), seed


@pytest.mark.parametrize("block", range(8))
def test_a_few_mutations(block: int, tmp_path: Path) -> None:
    for seed in range(block * 15, block * 15 + 15):
        attempt(seed, tmp_path / str(seed))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_mutations(tmp_path: Path) -> None:
    for seed in range(1000, 6000):
        attempt(seed, tmp_path / str(seed))
