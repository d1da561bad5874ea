"""Data sets and benchmarks: their shapes, that they never meet, and that they never change unnoticed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from kiyas.practice import DATASETS, benchmark, dataset, worlds
from kiyas.practice.grammar import FAMILY_TAGS
from kiyas.types import KiyasError

# A change of these changes every result obtained with the practice world, and the base has to be made again.
DIGESTS = {
    "deep": "6c19668a593516e9",
    "diverse": "373df2ec5670f4bb",
    "wrong": "cdc6e8c1e50d5dca",
    "benchmark": "3cc2ada85ecc3259",
    "base": "d869adc1a4bc5f4e",
}


def digest(rows: Any) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def key(group: str) -> str:
    """The key inside a group's name, which has the three constants behind it."""
    return "/".join(group.split("/")[:5])


@pytest.fixture(scope="module")
def arms() -> dict[str, list[dict[str, Any]]]:
    return {name: dataset(name) for name in DATASETS}


def split(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["split"] == name]


@pytest.mark.parametrize(("name", "groups", "solutions"), [("deep", 200, 5), ("diverse", 1000, 1), ("wrong", 1000, 1)])
def test_shapes(arms: dict[str, list[dict[str, Any]]], name: str, groups: int, solutions: int) -> None:
    train = split(arms[name], "train")
    assert len(train) == 1000
    assert set(Counter(row["group"] for row in train).values()) == {solutions}
    assert len({row["group"] for row in train}) == groups
    assert len({(row["prompt"], row["completion"]) for row in train}) >= 999 - 400 * (name == "wrong")
    validation = split(arms[name], "validation")
    assert 60 <= len(validation) <= 68
    for row in arms[name]:
        assert set(row) == {"id", "prompt", "completion", "group", "split"}
        assert "<|im_end|>" not in row["completion"]
    assert len({row["id"] for row in arms[name]}) == len(arms[name])


def test_nothing_changes_unnoticed(arms: dict[str, list[dict[str, Any]]]) -> None:
    made: dict[str, Any] = dict(arms)
    made["benchmark"] = benchmark(200)
    made["base"] = [(prompt, answer) for _, prompt, answer in worlds.base_examples(3000)]
    assert {name: digest(rows) for name, rows in made.items()} == DIGESTS


def test_nothing_depends_on_the_hash_seed() -> None:
    code = "import json; from kiyas.practice import *; print(json.dumps([dataset('wrong'), benchmark(30)]))"
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]


def test_another_seed_is_another_world() -> None:
    for name in DATASETS:
        mine = {row["group"] for row in dataset(name, 1)}
        assert len(mine & {row["group"] for row in dataset(name, 0)}) < len(mine) / 2
    assert benchmark(41, 1) != benchmark(41, 0)


def test_benchmark_validation_and_training_never_share_a_key(arms: dict[str, list[dict[str, Any]]]) -> None:
    """For several seeds and a large benchmark: the parts are kept apart by construction, not by luck."""
    trained = {spec.key for spec, _, _ in worlds.base_examples(6000)}
    validated = set()
    for name in DATASETS:
        for rows in (arms[name], dataset(name, 5)):
            trained |= {key(row["group"]) for row in split(rows, "train")}
            validated |= {key(row["group"]) for row in split(rows, "validation")}
    judged = {
        problem.spec.key
        for seed in (0, 3)
        for problem in worlds._problems(worlds.Random(f"kiyas.practice/benchmark/{seed}"), "benchmark", 400)
    }
    assert len(judged) > 350
    assert not judged & trained and not judged & validated and not trained & validated


def test_no_statement_of_the_benchmark_is_trained_on(arms: dict[str, list[dict[str, Any]]]) -> None:
    statements = {row["statement"].split("\n")[0] for row in benchmark(300)}
    for rows in arms.values():
        assert not statements & {row["prompt"].split("\n")[0] for row in rows}


def test_the_base_has_seen_the_narrow_world_and_a_grain_of_the_full_one() -> None:
    specs = [spec for spec, _, _ in worlds.base_examples(4000)]
    full = [
        spec
        for spec in specs
        if (spec.steps == 3 and spec.family != "pair")
        or any(op is not None and not op.narrow for op in (spec.filter_op, spec.map_op, spec.reduce_op))
    ]
    assert 0.005 < len(full) / len(specs) < 0.02


def test_benchmark_rows_are_in_the_judges_format() -> None:
    rows = benchmark(41)
    assert len(rows) == 41 and len({row["id"] for row in rows}) == 41
    for row in rows:
        assert set(row) == {"id", "title", "statement", "tests", "difficulty", "tags", "platform", "group"}
        assert row["platform"] == "practice" and row["difficulty"] in ("easy", "medium", "hard")
        assert row["tags"][0] in FAMILY_TAGS.values() and len(row["tags"]) == len(set(row["tags"])) >= 2
        assert 8 <= len(row["tests"]) <= 9
        for test in row["tests"]:
            assert set(test) == {"input", "output"} and test["input"].endswith("\n")
    assert json.loads(json.dumps(rows)) == rows


def test_benchmarks_grow_from_the_front_and_grow_large() -> None:
    many = benchmark(1000)
    assert many[:41] == benchmark(41)
    assert len({row["statement"] for row in many}) == 1000
    assert {row["difficulty"] for row in many} == {"easy", "medium", "hard"}
    assert {row["tags"][0] for row in many} == set(FAMILY_TAGS.values())


def test_the_wrong_set_is_diverse_with_two_fifths_wrong(arms: dict[str, list[dict[str, Any]]]) -> None:
    pairs = list(zip(arms["diverse"], arms["wrong"], strict=True))
    assert all(a["prompt"] == b["prompt"] and a["group"] == b["group"] for a, b in pairs)
    changed = [b for a, b in pairs if a["completion"] != b["completion"]]
    assert len(changed) == 400 and {row["split"] for row in changed} == {"train"}


def test_mistakes_are_told() -> None:
    with pytest.raises(KiyasError, match="no practice data set 'depe'") as caught:
        dataset("depe")
    assert "practice/deep" in caught.value.hint
    with pytest.raises(KiyasError, match="benchmark of 0 problems"):
        benchmark(0)


def test_no_torch_for_data() -> None:
    code = "import sys, kiyas.practice as p; p.dataset('deep'); p.benchmark(5); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
