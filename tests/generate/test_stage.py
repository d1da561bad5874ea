"""One part of the generate stage: memory that runs out halves the plan, and every course of events gives every answer
exactly once, the same after a kill as without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kiyas.generate import memory, stage
from kiyas.generate.decoder import Flight, Generator
from kiyas.generate.stage import generate_part, part_file, plans_file
from kiyas.runfolder.files import read_jsonl, read_sealed, write_json, write_jsonl
from kiyas.runfolder.paths import RunDir
from kiyas.study.settings import Study
from kiyas.types import BASE, AdapterId, KiyasError
from kiyas.work.engine import Place

IDS = [BASE, *(AdapterId("x", "", 0, step) for step in (1, 2, 3))]
PROBLEMS = 24


@pytest.fixture
def folder(made_run: Callable[..., RunDir]) -> RunDir:
    return made_run(IDS, {f"p{i}": f"Print {i}" for i in range(PROBLEMS)})


class KilledError(Exception):
    pass


def run(folder: RunDir, base: Path, rows: int | None = 8, report: Callable[[int, str], None] | None = None) -> None:
    study = Study.model_validate(
        {
            "name": "t",
            "model_name_or_path": str(base),
            "arms": {"x": {"dataset_name": "x"}},
            "generation": {"max_new_tokens": 12, "temperature": 0.7, "max_rows": rows},
        }
    )
    adapters = [[*id.fields().values()] for id in IDS]
    generate_part(
        Place(str(folder.root), "cpu"),
        study.model_dump(mode="json"),
        adapters,
        None,
        0,
        [],
        report or (lambda n, t: None),
    )


def texts(folder: RunDir) -> dict[Any, str]:
    rows = read_jsonl(part_file(folder, 0))
    made = {(row["arm"], row["step"], row["problem_id"]): row["text"] for row in rows}
    assert len(made) == len(rows) == len(IDS) * PROBLEMS, "every answer exactly once"
    return made


def course(folder: RunDir) -> list[tuple[int, int, int]]:
    return [(plan["adapters"], plan["rows"], plan["after"]) for plan in read_sealed(plans_file(folder, 0))]


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, rows: int, from_wave: int) -> list[int]:
    """From the given wave on, more rows than these do not fit. Returns the rows of every wave begun."""
    begun: list[int] = []
    step = Flight.step

    def tight(self: Flight) -> Iterator[Any]:
        if self.length.max() > 30 and len(self.jobs) > rows and len(begun) >= from_wave:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        yield from step(self)

    answer = Generator.answer

    def counted(self: Generator, wave: Any, rows: int, *more: Any) -> Iterator[Any]:
        begun.append(rows)
        yield from answer(self, wave, rows, *more)

    monkeypatch.setattr(Flight, "step", tight)
    monkeypatch.setattr(Generator, "answer", counted)
    return begun


def test_memory_that_runs_out_halves_the_plan(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, base_folder)
    expected = texts(folder)
    assert course(folder) == [(4, 8, 0)]
    part_file(folder, 0).unlink()
    plans_file(folder, 0).unlink()
    counted: list[int] = []
    begun = out_of_memory_above(monkeypatch, 1, from_wave=2)
    run(folder, base_folder, report=lambda n, text: counted.append(n))
    assert course(folder) == [(4, 8, 0), (4, 4, 32), (2, 2, 32), (1, 1, 32)]
    assert begun[:5] == [8, 8, 4, 2, 1]
    assert texts(folder) == expected
    assert sum(counted) == len(expected), "what was taken back is not counted"
    assert "going on with 4 answers of 4 adapters at once instead of 8 of 4" in capsys.readouterr().err


def test_a_kill_after_a_halving_takes_the_same_course(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = out_of_memory_above(monkeypatch, 4, from_wave=2)
    run(folder, base_folder)
    expected, undisturbed = texts(folder), course(folder)
    waves = len(begun)
    assert len(undisturbed) == 2 and waves > 3
    for stop in (20, 33, 50, 90):
        part_file(folder, 0).unlink()
        plans_file(folder, 0).unlink()
        seen = [0]

        def kill(n: int, text: str, seen: list[int] = seen, stop: int = stop) -> None:
            seen[0] += n
            if n == 1 and seen[0] >= stop:
                raise KilledError

        begun.clear()
        with pytest.raises(KilledError):
            run(folder, base_folder, report=kill)
        begun[:] = [0, 0] if stop > 32 else []  # memory becomes short in the second wave, and stays so
        run(folder, base_folder)
        assert course(folder) == undisturbed
        assert texts(folder) == expected


def test_when_nothing_is_left_to_halve_it_says_so(
    folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_above(monkeypatch, 0, from_wave=0)
    with pytest.raises(KiyasError, match="out of memory with one answer at a time: CUDA out of memory"):
        run(folder, base_folder)


def test_the_trial_may_run_out_too(folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(base: Any, model: Any, settings: Any, plan: memory.Plan, prompt: int, rank: int) -> None:
        assert rank == 4 and prompt > 5
        if plan.rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(stage, "try_widest", trial)
    run(folder, base_folder)
    assert course(folder) == [(4, 8, 0), (4, 4, 0)] and texts(folder)


def test_a_lower_max_rows_holds_from_then_on_and_a_higher_one_never(folder: RunDir, base_folder: Path) -> None:
    def kill(n: int, text: str) -> None:
        if n == 1 and len(read_jsonl(part_file(folder, 0))) >= 32:
            raise KilledError

    with pytest.raises(KilledError):
        run(folder, base_folder, report=kill)
    run(folder, base_folder, rows=6)
    assert course(folder) == [(4, 8, 0), (4, 6, 32)] and texts(folder)
    run(folder, base_folder, rows=8)
    assert course(folder) == [(4, 8, 0), (4, 6, 32)] and texts(folder)


def test_rows_are_chosen_once_and_by_memory(folder: RunDir, base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder, base_folder, rows=None)
    assert course(folder) == [(4, 96, 0)], "as many as there are answers"
    monkeypatch.setattr(stage, "available_bytes", lambda device: 1000)
    run(folder, base_folder, rows=None)
    plans_file(folder, 0).unlink()
    part_file(folder, 0).unlink()
    with pytest.raises(KiyasError, match=r"does not fit into memory: .*\n.*lower generation.max_new_tokens"):
        run(folder, base_folder, rows=None)


def test_a_part_that_version_0_1_0_began_goes_on(folder: RunDir, base_folder: Path) -> None:
    run(folder, base_folder)
    expected, made = read_jsonl(part_file(folder, 0)), texts(folder)
    plans_file(folder, 0).unlink()
    write_jsonl(part_file(folder, 0), expected[:37])
    write_json(part_file(folder, 0).with_suffix(".rows.json"), {"rows": 8})
    run(folder, base_folder, rows=None)
    assert texts(folder) == made
    assert course(folder) == [(4, 8, 0)]
