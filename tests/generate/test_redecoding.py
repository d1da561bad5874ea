"""Greedy answers decoded again in another batch shape: which, how, the same after a kill, and what becomes of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kiyas.generate.decoder import Generator
from kiyas.generate.memory import Plan
from kiyas.generate.redecoding import chosen, other_shape
from kiyas.generate.stage import generate_part, part_file, plans_file
from kiyas.runfolder.files import read_jsonl, read_sealed
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Study
from kiyas.types import BASE, AdapterId
from kiyas.work.engine import Place

PROBLEMS = [f"p{i:03d}" for i in range(60)]
IDS = [BASE, *(AdapterId(arm, "", 0, step) for arm in ("x", "y") for step in (1, 2))]


def study(base: Path | str = "practice", *, compare: Any = None, seeds: int = 1, **settings: Any) -> Study:
    generation = {"max_new_tokens": 24, "max_rows": 20, **settings.pop("generation", {})}
    return Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": str(base),
            "arms": {arm: {"dataset_name": arm} for arm in ("x", "y", "z")},
            "seeds": seeds,
            "generation": generation,
            "compare": compare or {},
            **settings,
        }
    )


def answering(seeds: int = 3) -> list[AdapterId]:
    return [BASE, *(AdapterId(arm, "", seed, step) for step in (10, 20) for arm in "xyz" for seed in range(seeds))]


def test_the_sample_is_spread_evenly_over_arms_seeds_and_problems() -> None:
    keys = chosen(study(seeds=3), answering(), PROBLEMS)
    assert len(keys) == len(set(keys)) == 100 and keys == chosen(study(seeds=3), answering()[::-1], PROBLEMS)
    assert {id.arm for id, _, _ in keys} == {"x", "y"}, "what the study compares"
    assert {id.step for id, _, _ in keys} == {20}, "at the last checkpoints"
    of = Counter(id for id, _, _ in keys)
    assert len(of) == 6 and set(of.values()) == {16, 17}
    for id in of:
        at = sorted(PROBLEMS.index(problem) for who, problem, _ in keys if who == id)
        gaps = {b - a for a, b in itertools.pairwise(at)}
        assert gaps <= {3, 4} and at[0] < 4 and at[-1] >= 52
    assert max(Counter(problem for _, problem, _ in keys).values()) <= 2, "other problems for every checkpoint"


def test_all_if_fewer_and_none_where_nothing_is_to_be_seen() -> None:
    keys = chosen(study(), answering(1), PROBLEMS[:7])
    assert set(keys) == {(AdapterId(arm, "", 0, 20), p, 0) for arm in "xy" for p in PROBLEMS[:7]} and len(keys) == 14
    assert chosen(study(generation={"batch_invariance": 0}), answering(1), PROBLEMS) == []
    assert chosen(study(generation={"temperature": 0.8}), answering(1), PROBLEMS) == []
    with_base = study(compare={"primary": ["base", "z"], "contrasts": [["x", "z"]]})
    assert {id.arm for id, _, _ in chosen(with_base, answering(1), PROBLEMS)} == {"base", "x", "z"}
    assert chosen(study(compare={"primary": ["x", "y"]}), [BASE], PROBLEMS) == []


def test_the_other_shape_has_at_most_half_of_the_rows() -> None:
    plans = [Plan(13, 247, 2048), Plan(6, 120, 1024, after=100)]
    assert other_shape(plans, 2, 50) == Plan(2, 50, 1024)
    assert other_shape(plans, 20, 500) == Plan(6, 60, 1024)
    assert other_shape([Plan(4, 5, 64)], 4, 50) == Plan(2, 2, 64)
    assert other_shape([Plan(1, 1, 64)], 1, 50) is None


@pytest.fixture
def folder(made_run: Callable[..., RunDir]) -> RunDir:
    return made_run(IDS, {id: f"Print {id}" for id in PROBLEMS[:40]})


class KilledError(Exception):
    pass


def run(folder: RunDir, asked: Study, report: Callable[[int, str], None] = lambda n, t: None) -> list[Any]:
    again = [[*id.fields().values(), *what] for id, *what in chosen(asked, IDS, PROBLEMS[:40])]
    adapters = [[*id.fields().values()] for id in IDS]
    generate_part(Place(str(folder.root), "cpu"), asked.model_dump(mode="json"), adapters, None, 0, again, report)
    return again


def twice(folder: RunDir) -> list[tuple[str, str]]:
    """The texts of the answers that were given twice."""
    key = lambda row: (row["arm"], row["step"], row["problem_id"])  # noqa: E731
    first = {key(row): row["text"] for row in read_jsonl(part_file(folder, 0))}
    return [(first[key(row)], row["text"]) for row in read_jsonl(part_file(folder, 0, again=True))]


def test_a_part_decodes_its_share_again_in_another_shape(folder: RunDir, base_folder: Path) -> None:
    counted: list[int] = []
    again = run(folder, study(base_folder), lambda n, t: counted.append(n))
    assert len(again) == 80 and sum(counted) == len(IDS) * 40 + 80
    rows = read_jsonl(part_file(folder, 0, again=True))
    assert sorted([r[k] for k in ("arm", "variant", "seed", "step", "problem_id", "sample")] for r in rows) == sorted(
        again
    )
    assert [(p["adapters"], p["rows"]) for p in read_sealed(plans_file(folder, 0))] == [(5, 20)]
    assert [(p["adapters"], p["rows"]) for p in read_sealed(plans_file(folder, 0, again=True))] == [(2, 10)]
    assert sum(a == b for a, b in twice(folder)) >= 78, "in float32 next to nothing differs"


def shaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding errors larger than they are: logits depend a little on how many rows are in flight."""
    choose = Generator._choose

    def rounded(self: Generator, logits_BV: torch.Tensor, uniform_B: torch.Tensor | None) -> torch.Tensor:
        error_V = torch.sin(torch.arange(logits_BV.shape[1]) * len(logits_BV))
        return choose(self, logits_BV + 0.05 * error_V, uniform_B)

    monkeypatch.setattr(Generator, "_choose", rounded)


def test_rounding_that_depends_on_the_shape_is_seen(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky(monkeypatch)
    run(folder, study(base_folder))
    assert 8 < sum(a != b for a, b in twice(folder)) < 80


def test_killed_and_gone_on_gives_the_same_again(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaky(monkeypatch)
    asked = study(base_folder)
    run(folder, asked)
    files = [part_file(folder, 0, again=again) for again in (False, True)]
    expected = [sorted(file.read_bytes().splitlines()) for file in files]
    for stop in (203, 245):
        for file in files:
            file.unlink()
            plans_file(folder, 0, again=file is files[1]).unlink()
        seen = [0]

        def kill(n: int, text: str, seen: list[int] = seen, stop: int = stop) -> None:
            seen[0] += n
            if seen[0] >= stop:
                raise KilledError

        with pytest.raises(KilledError):
            run(folder, asked, kill)
        counted: list[int] = []
        run(folder, asked, lambda n, t, counted=counted: counted.append(n))  # type: ignore[misc]
        assert [sorted(file.read_bytes().splitlines()) for file in files] == expected
        assert sum(counted) == 280, "the bar ends where it should"


def test_one_row_at_a_time_has_no_other_shape(folder: RunDir, base_folder: Path) -> None:
    counted: list[int] = []
    run(folder, study(base_folder, generation={"max_rows": 1, "max_new_tokens": 2}), lambda n, t: counted.append(n))
    assert not part_file(folder, 0, again=True).exists() and sum(counted) == 280
