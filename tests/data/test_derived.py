"""Derived arms: drawn as asked, the same every time, recorded row by row, trained draw by draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kiyas.judge.types import Isolation
from kiyas.pipeline import stages
from kiyas.pipeline.prepare import Prepared, prepare
from kiyas.runfolder.files import read_json, read_jsonl
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.study.settings import Study
from kiyas.types import Example, KiyasError

OWN = {"deep": {"dataset_name": "practice/deep"}, "diverse": {"dataset_name": "practice/diverse"}}


def study(seeds: int = 2, training: dict[str, Any] | None = None, **arms: dict[str, Any]) -> Study:
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": "practice",
            "arms": {**OWN, **arms},
            "seeds": seeds,
            "training": training or {"budget": {"epochs": 1}},
        }
    )


ARMS: dict[str, dict[str, Any]] = {
    "one": {"from": "deep", "solutions": 1},
    "part": {"from": "deep", "problems": 40, "solutions": 3, "fraction": 0.5},
    "mixed": {"mix": {"deep": 3, "diverse": 1}},
    "twice": {"from": "deep", "solutions": 1, "draws": 2},
}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(study(**ARMS))


def drawn(prepared: Prepared, arm: str, draw: int = 0) -> list[Example]:
    return [e for e in prepared.examples[arm] if e.split == "train" and e.draw == draw]


def test_one_solution_of_every_problem(prepared: Prepared) -> None:
    rows, source = drawn(prepared, "one"), drawn(prepared, "deep")
    assert Counter(Counter(row.group for row in rows).values()) == {1: len({row.group for row in source})}
    assert {row.id for row in rows} <= {row.id for row in source}
    validation = [e for e in prepared.examples["one"] if e.split == "validation"]
    assert validation == [e for e in prepared.examples["deep"] if e.split == "validation"]
    assert any("derived from deep" in sentence for sentence in prepared.sentences())


def test_steps_are_those_of_the_arms_with_data_of_their_own(prepared: Prepared) -> None:
    smallest = min(len(drawn(prepared, arm)) for arm in OWN)
    assert set(prepared.steps(study(**ARMS)).values()) == {-(-smallest // 16)}


def test_problems_solutions_and_share_together(prepared: Prepared) -> None:
    rows = drawn(prepared, "part")
    assert len(rows) == 60 and len({row.group for row in rows}) <= 40


def test_a_mix_takes_as_much_as_there_is(prepared: Prepared) -> None:
    of_arm = Counter(row.id.split("-")[0] for row in drawn(prepared, "mixed"))
    assert of_arm["deep"] == len(drawn(prepared, "deep"))
    assert abs(of_arm["diverse"] - of_arm["deep"] / 3) <= 1


def test_draws_differ_and_are_the_same_every_time(prepared: Prepared) -> None:
    first, second = drawn(prepared, "twice", 0), drawn(prepared, "twice", 1)
    assert len(first) == len(second) and [r.group for r in first] == [r.group for r in second]
    assert [row.id for row in first] != [row.id for row in second]
    assert prepared.counts["twice"]["train"] == len(first) and prepared.counts["twice"]["draws"] == 2
    assert drawn(prepare(study(**ARMS)), "twice", 1) == second


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ({"from": "none", "solutions": 1}, "'none' is not an arm with its own data; those are deep, diverse"),
        ({"from": "deep"}, "from needs at least one of"),
        (
            {"from": "deep", "dataset_name": "practice/deep"},
            "one of dataset_name, from, mix, checkpoints and model",
        ),
        ({"dataset_name": "practice/deep", "solutions": 1}, "solutions goes with a derived arm"),
        ({"mix": {"deep": 1}, "draws": 3}, "3 draws need at least as many seeds"),
    ],
)
def test_mistakes(arm: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        study(x=arm)


def test_more_problems_than_there_are() -> None:
    with pytest.raises(KiyasError, match="asks for 5000 problems"):
        prepare(study(x={"from": "deep", "problems": 5000}))


def test_each_seed_trains_on_its_draw(tmp_path: Path) -> None:
    """Recorded down to the rows; two seeds of a derived arm with two draws see different rows."""
    training = {
        "budget": {"steps": 2},
        "effective_batch_size": 4,
        "save_steps": 2,
        "eval_steps": 2,
        "logging_steps": 1,
        "workers": 1,
    }
    wanted = study(2, training, x={"from": "deep", "solutions": 1, "problems": 8, "draws": 2})
    wanted = wanted.model_copy(update={"judge": wanted.judge.model_copy(update={"isolation": Isolation.BEST})})
    folder = RunDir(tmp_path / "run")
    stages.run(wanted, folder, until=Stage.TRAIN)
    rows = [row for row in read_jsonl(folder.arm_data("x")) if row["split"] == "train"]
    assert [sum(row["draw"] == draw for row in rows) for draw in (0, 1)] == [8, 8]
    assert read_json(folder.resolved)["study"]["arms"]["x"]["from_"] == "deep"
    assert len(list(folder.checkpoints.glob("x/seed-*/step-*"))) == 2
    from kiyas.model.base import Base
    from kiyas.practice import base_path
    from kiyas.train.stage import load_arms

    train, _ = load_arms(folder, wanted, Base.load(base_path(), "cpu"))
    assert len(train["x"]) == 2 and len(train["deep"]) == 1
    assert {sample.ids for sample in train["x"][0]} != {sample.ids for sample in train["x"][1]}
