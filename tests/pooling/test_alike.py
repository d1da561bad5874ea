"""`kiyas compare` says only differences that could matter, what each interval covers, and why one is wider."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from kiyas.analyse.load import load
from kiyas.pooling import Pooled, alike, pool, widths
from kiyas.pooling.replication import Replication
from kiyas.report import pooled
from kiyas.report.language import Language, languages
from kiyas.runfolder.files import read_json, read_jsonl, write_json, write_jsonl, write_sealed
from kiyas.stats.inference import Interval
from synthetic import make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("alike")
    runs = [make_run(folder / f"r{i}", rng_seed=i, steps=(60,), seeds=(0, 1), base=False) for i in range(2)]
    for run in runs:
        change(run, python="3.11.7", dtype="float32")
    return runs


@pytest.fixture
def two(made: list[Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(run, tmp_path / run.name)) for run in made]


def change(run: Path, **changes: Any) -> None:
    """Edits resolved.json; two underscores are a dot."""
    resolved = read_json(run / "resolved.json")
    for key, value in changes.items():
        *path, last = key.split("__")
        at = resolved
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    write_json(run / "resolved.json", resolved)


def said(runs: list[Path]) -> dict[str, str]:
    """What is said to differ."""
    loaded = {run.name: (load(run), ("deep", "diverse")) for run in runs}
    found = alike.differences(loaded, "deep", "diverse")
    return {r.values["what"] if r.code == "differs" else r.code: r.values.get("values", "") for r in found}


HARMLESS = {
    "study__arms__deep__dataset_name": "/elsewhere/deep.jsonl",
    "study__arms__deep__newest": "2024-12",
    "study__benchmarks__primary__dataset": "/elsewhere/problems.jsonl",
    "study__benchmarks__also": [{"dataset": "humaneval"}],
    "study__dataset__prompt_column": "input",
    "study__generation__max_rows": 7,
    "study__generation__top_p": 0.5,
    "study__generation__seed": 9,
    "study__generation__batch_invariance": 0,
    "study__judge__workers": 3,
    "study__judge__after_timeout": "continue",
    "study__judge__isolation": "best",
    "study__report__language": "tr",
    "study__training__workers": 3,
    "study__training__device": "cpu",
    "study__training__max_tokens_per_pass": 512,
    "study__training__logging_steps": 3,
    "study__training__eval_steps": 3,
    "study__training__save_steps": 30,
    "study__training__dtype": "float32",
    "study__seeds": [4, 5],
    "packages": {"torch": "9.9"},
    "platform": "Windows",
    "kiyas_version": "7",
    "created": "2020-01-01T00:00:00+00:00",
    "python": "3.11.12",
    "overrides": ["training.workers=3"],
}
MATTERS: dict[str, tuple[Any, str]] = {
    "study__training__learning_rate": (1e-4, "training.learning_rate"),
    "study__training__weight_decay": (0.5, "training.weight_decay"),
    "study__training__budget": ({"steps": 7}, "training.budget.steps"),
    "study__training__load_in_4bit": (True, "training.load_in_4bit"),
    "study__training__completion_only_loss": (False, "training.completion_only_loss"),
    "study__peft__r": (3, "peft.r"),
    "study__arms__deep__training": ({"learning_rate": 1e-3}, "training.learning_rate"),
    "study__dataset__system": ("Be brief.", "dataset.system"),
    "study__generation__max_new_tokens": (9, "generation.max_new_tokens"),
    "study__generation__temperature": (0.7, "generation.temperature"),
    "study__judge__time_limit_s": (1, "judge.time_limit_s"),
    "study__judge__mode": ("livecodebench", "judge.mode"),
    "study__judge__extraction": ("livecodebench", "judge.extraction"),
    "judge__tier": ("weak", "judge.isolation"),
    "dtype": ("bfloat16", "training.dtype"),
    "python": ("3.13.1", "judge.python"),
    "base__name_or_path": ("other", "model_name_or_path"),
}


def test_what_cannot_change_a_verdict_is_not_said(two: list[Path]) -> None:
    change(two[1], **HARMLESS)
    assert said(two) == {}


@pytest.mark.parametrize("key", MATTERS)
def test_what_can_change_a_verdict_is_said(two: list[Path], key: str) -> None:
    value, named = MATTERS[key]
    change(two[1], **{key: value})
    found = said(two)
    assert named in found and len(found) <= 2
    assert "(r0)" in found[named] and "(r1)" in found[named]


def test_what_another_setting_makes_relevant_is_said(two: list[Path]) -> None:
    for run in two:
        change(run, study__compare__select="validation", study__generation__temperature=0.7)
    change(two[1], study__training__save_steps=30, study__generation__top_p=0.5)
    assert said(two).keys() == {"training.save_steps", "generation.top_p"}


def test_a_recipe_is_what_the_study_and_the_arm_make_together(two: list[Path]) -> None:
    change(two[0], study__training__learning_rate=1e-3)
    change(two[1], **{f"study__arms__{arm}__training": {"learning_rate": 1e-3} for arm in ("deep", "diverse")})
    assert said(two) == {}
    change(two[1], study__arms__deep__training={"learning_rate": 1e-4})
    assert said(two) == {"training.learning_rate": "0.001 (r0); deep 0.0001, diverse 0.001 (r1)"}


def test_a_budget_is_the_steps_that_it_came_to(two: list[Path]) -> None:
    change(two[1], study__training__budget={"steps": 240})
    for run, steps in zip(two, (240, 240), strict=True):
        manifest = {"inputs": {}, "counts": {"steps": {"deep": steps, "diverse": steps}}, "seconds": 1.0}
        write_sealed(run / "train" / "manifest.json", manifest)
    assert said(two) == {}


ROWS = [
    {"id": str(n), "prompt": f"q{n}", "completion": f"a{n}", "group": str(n), "split": "train", "draw": 0}
    for n in range(4)
]


def test_the_same_rows_at_two_paths_are_the_same(two: list[Path]) -> None:
    write_jsonl(two[0] / "data" / "deep.jsonl", ROWS)
    write_jsonl(two[1] / "data" / "deep.jsonl", [{**row, "id": f"other {row['id']}"} for row in reversed(ROWS)])
    change(two[1], study__arms__deep__dataset_name="/elsewhere/x.csv", study__training__max_length=999)
    change(two[1], study__arms__diverse__training={"max_length": 1024})
    assert said(two) == {}, "what was left out is not in the rows"
    write_jsonl(two[1] / "data" / "deep.jsonl", [*ROWS[:3], {**ROWS[3], "completion": "another"}])
    (told,) = said(two).values()
    assert "deep, 4 × [" in told and "x.csv, 4 × [" in told


def test_a_base_is_its_files(two: list[Path]) -> None:
    files = {"model.safetensors": {"bytes": 1, "mtime_ns": 1, "sha256": "ab" * 32}}
    for run, path in zip(two, ("/a/qwen", "owner/Qwen"), strict=True):
        change(run, base={"name_or_path": path, "files": files, "fingerprint": path})
    assert said(two) == {}
    change(two[1], base__files={"model.safetensors": {**files["model.safetensors"], "sha256": "cd" * 32}})
    assert said(two).keys() == {"model_name_or_path"}


def test_another_statement_under_the_same_name_is_said(two: list[Path]) -> None:
    path = two[1] / "data" / "problems.jsonl"
    problems = read_jsonl(path)
    write_jsonl(path, [{**problems[0], "statement": "Do another thing."}, *problems[1:]])
    assert said(two).keys() == {"statements_differ"}
    sentence = Language()("pooled.statements_differ", n=1, some="p000")
    assert "1 problem has the same id but different statements" in sentence


# -- what an interval covers, and why one is wider ------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_seeds(made: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Pooled:
    folder = tmp_path_factory.mktemp("seeds")
    return pool([*made, make_run(folder / "one", rng_seed=7, steps=(60,), seeds=(0,), base=False)])


@pytest.mark.parametrize("language", languages())
def test_every_interval_says_what_it_covers(of_seeds: Pooled, language: str) -> None:
    found, words = of_seeds, Language(language)
    table = pooled.rows(found, words)
    covers = [row["covers"] for row in table.shown]
    wanted = ["trainings", "trainings", "pair", "replications", "these", "these"]
    assert covers == [words(f"pooled.covers_{each}") for each in wanted]
    text = pooled.text(found, language=language)
    names = {words(f"pooled.{row}") for row in ("row_crossed", "row_within", "row_prediction_within")}
    assert [name for name in names if name not in text] == [] and max(map(len, text.splitlines())) <= 100
    more = pooled.conclusion(found, words).more
    assert words("pooled.covers") in more
    assert [words(f"pooled.{each.code}", **each.values) for each in found.widths] == list(more[-len(found.widths) :])


def test_counts_do_not_say_which_problems_they_cover(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("study,arm,solved,total\nx,a,1,9\nx,b,2,9\ny,a,1,9\ny,b,2,9\n")
    found = pool([file])
    assert [row["covers"] for row in pooled.rows(found, Language()).shown][-1] == Language()("pooled.covers_unknown")
    assert "these problems only" not in pooled.text(found)


def replication(name: str, half: float, **more: Any) -> Replication:
    interval = Interval(-half, half)
    one = Replication(name, "two-way", 3, 41, 0.3, 0.3, 0.0, interval, interval, 1.0, half / 2, samples=1)
    return dataclasses.replace(one, **more)


WIDE, NARROW = replication("wide", 0.2), replication("narrow", 0.1)


@pytest.mark.parametrize(
    ("wide", "narrow", "wanted"),
    [
        ({"seeds": 2}, {}, ["wider_seeds"]),
        ({"problems": 30}, {}, ["wider_problems"]),
        ({"samples": 1}, {"samples": 4}, ["wider_samples"]),
        ({}, {"method": "pair", "seeds": 1}, ["wider_trainings"]),
        ({}, {}, ["wider_spread"]),
        ({"seeds": 2, "problems": 30}, {}, ["wider_seeds", "wider_problems"]),
        ({"method": "unpaired", "samples": None}, {}, []),
        ({"interval": Interval(-0.12, 0.12), "seeds": 2}, {}, []),
    ],
)
def test_why_one_replication_has_the_wider_interval(wide: Any, narrow: Any, wanted: list[str]) -> None:
    each = [dataclasses.replace(NARROW, **narrow), dataclasses.replace(WIDE, **wide)]
    found = widths.remarks(each, [Interval(-0.05, 0.05)])
    assert [remark.code for remark in found] == wanted
    for remark in found:
        assert remark.values["wide"] == "wide"
        for language in languages():
            assert "{" not in Language(language)(f"pooled.{remark.code}", **remark.values)


@pytest.mark.parametrize(
    ("crossed", "within", "wanted"),
    [(0.3, 0.2, "wider_other"), (0.2, 0.3, "not_wider_other"), (0.2, 0.2, "not_wider_other")],
)
def test_why_the_average_has_the_wider_interval(crossed: float, within: float, wanted: str) -> None:
    pair = [Interval(-crossed, crossed), Interval(-within, within)]
    found = widths.remarks([NARROW, NARROW], pair)
    assert [each.code for each in found] == [wanted, "wider_average"]
    for language in languages():
        assert all("{" not in Language(language)(f"pooled.{each.code}", **each.values) for each in found)
    assert widths.remarks([NARROW, NARROW], [Interval(-0.05, 0.05)]) == []
    assert widths.remarks([NARROW], pair) == []


def test_the_numbers_of_seeds_explain_a_width_and_are_not_a_difference(two: list[Path], tmp_path: Path) -> None:
    more = make_run(tmp_path / "more", rng_seed=3, steps=(60,), seeds=(0, 1, 2, 3), base=False)
    change(more, python="3.11.7", dtype="float32")
    assert said([*two, more]) == {}
