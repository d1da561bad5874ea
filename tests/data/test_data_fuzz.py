"""Whatever a data file or a study file holds: rows, or one line that names it. Never an error of our own."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest

from kiyas.data.arms import examples
from kiyas.data.row_files import read_rows
from kiyas.study.file import parse
from kiyas.study.settings import Dataset
from kiyas.types import KiyasError

KEYS = (
    *("prompt", "completion", "messages", "conversations", "conversation", "instruction", "input", "output", "system"),
    *(
        "system_prompt",
        "history",
        "tools",
        "split",
        "group",
        "id",
        "role",
        "from",
        "content",
        "value",
        "text",
        "weight",
    ),
    *("type", "tool_calls", "x", "", "\ud800"),
)
WORDS = (
    *(
        "user",
        "assistant",
        "system",
        "human",
        "gpt",
        "tool",
        "text",
        "train",
        "validation",
        "Q",
        "A",
        "",
        " ",
        "\ud800",
    ),
    *("[]", '[{"role": "user", "content": "Q"}]', "[{'role': 'user'}]", "[" * 500, "{" * 500, "\0", "NaN", "<s>"),
)


def value(noise: random.Random, depth: int = 0) -> Any:
    kind = noise.randrange(11 if depth < 4 else 8)
    if kind < 4:
        return noise.choice(WORDS)
    if kind == 4:
        return noise.choice([0, 1, -1, 10**30, 1.5, float("nan"), float("inf"), -0.0])
    if kind in (5, 6):
        return noise.choice([None, True, False])
    if kind == 7:
        return "".join(noise.choices(string.printable, k=noise.randrange(9)))
    if kind == 8:
        return [value(noise, depth + 1) for _ in range(noise.randrange(4))]
    if kind == 9:
        keys = noise.sample(KEYS, noise.randrange(5))
        return {key: value(noise, depth + 1) for key in keys}
    return [
        {"role": value(noise, 9), "content": value(noise, depth + 1), "from": noise.choice(WORDS)}
        for _ in range(noise.randrange(1, 4))
    ]


def attempt(noise: random.Random, folder: Path) -> None:
    shared = noise.sample(KEYS, noise.randrange(1, 8))
    rows = [{key: value(noise) for key in shared if noise.random() < 0.9} for _ in range(noise.randrange(1, 5))]
    settings = Dataset(system=noise.choice([None, "s"]), split_column=noise.choice([None, "none"]))
    for given in (rows, [{**row, "prompt": "Q", "completion": "A"} for row in rows]):
        try:
            found = examples(given, settings, "arm", "file")
        except KiyasError as error:
            assert str(error).strip()
        else:
            assert len(found.examples) + sum(found.dropped.values()) == len(given), "every row is used or counted"
    text = json.dumps(rows) if noise.random() < 0.5 else "\n".join(map(json.dumps, rows))
    data = bytearray(text.encode())
    for _ in range(noise.randrange(3)):
        data[noise.randrange(len(data))] = noise.randrange(256)
    name = folder / noise.choice(["d.json", "d.jsonl", "d.csv", "d.tsv", "d.gz", "d.parquet", "d"])
    name.write_bytes(noise.choice([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PAR1", b"BZh"]) + bytes(data))
    try:
        assert all(isinstance(row, dict) for row in read_rows(str(name)))
    except KiyasError as error:
        assert str(error).strip()


def test_any_rows(tmp_path: Path) -> None:
    for seed in range(300):
        attempt(random.Random(seed), tmp_path)


@pytest.mark.slow
def test_many_rows(tmp_path: Path) -> None:
    for seed in range(1000, 30_000):
        attempt(random.Random(seed), tmp_path)


STUDY = """\
name: x
model_name_or_path: practice
arms: {a: {dataset_name: practice/deep}, b: {dataset_name: practice/diverse}}
"""
SECTIONS = (
    *("seeds", "arms", "dataset", "peft", "training", "benchmarks", "generation", "judge", "compare", "report", "name"),
    *("model_name_or_path", "1", "null", "[1]"),
)
FIELDS = (
    *("system", "r", "learning_rate", "budget", "steps", "mix", "from", "dataset_name", "primary", "also", "matters"),
    *("python", "newest", "expect", "problems", "draws", "checkpoints", "time_limit_s", "group_by", "1", "null"),
)
VALUES = (
    *(
        "1",
        "-1",
        "0",
        ".inf",
        ".nan",
        "1e400",
        "200000000",
        "1" * 5000,
        "true",
        "null",
        "''",
        '"\\ud800"',
        '"\\0"',
        "x",
    ),
    *(
        "[]",
        "[1]",
        "{}",
        "{a: 1}",
        "2024-01-01",
        "2024-13-45",
        "~nobody/x",
        "/",
        "y" * 5000,
        "[" * 300,
        "&a [*a]",
        "*b",
    ),
    *("practice", "practice/deep", "{a: .inf, b: 1}", "[1e-4, 1e-4]", "!!binary aGk=", "!!set {a}", "0x10", "1_000"),
)


def wild_study(noise: random.Random) -> str:
    def one() -> str:
        kind = noise.random()
        if kind < 0.5:
            return noise.choice(VALUES)
        return "{" + ", ".join(f"{noise.choice(FIELDS)}: {noise.choice(VALUES)}" for _ in range(2)) + "}"

    return STUDY + "".join(f"{noise.choice(SECTIONS)}: {one()}\n" for _ in range(noise.randrange(1, 4)))


def attempt_study(noise: random.Random, folder: Path) -> None:
    text = wild_study(noise)
    override = f"{noise.choice(SECTIONS)}.{noise.choice(FIELDS)}={noise.choice(VALUES)}"
    for overrides in ([], [override]):
        try:
            made = parse(text, "s.yaml", folder, overrides)
        except KiyasError as error:
            assert str(error).startswith(("s.yaml", "override", "'"))
        else:
            assert len(made.seed_list) <= 10_000


def test_any_study_file(tmp_path: Path) -> None:
    for seed in range(200):
        attempt_study(random.Random(seed), tmp_path)


@pytest.mark.slow
def test_many_study_files(tmp_path: Path) -> None:
    for seed in range(1000, 8000):
        attempt_study(random.Random(seed), tmp_path)


@pytest.mark.parametrize("text", ["dataset: " + "[" * 100_000, "dataset: " + "{a: " * 100_000, "- " * 50_000])
def test_a_study_file_nested_deep(tmp_path: Path, text: str) -> None:
    with pytest.raises(KiyasError, match=r"s\.yaml"):
        parse(text, "s.yaml", tmp_path)
