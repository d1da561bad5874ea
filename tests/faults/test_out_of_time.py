"""`--max-hours`: a run that is stopped again and again at saved states ends as an undisturbed one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from faults.harness import litter, same
from faults.table import Said, call, demo
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.types import KiyasError
from kiyas.work import deadline


def stopped_after(units: int, run: Path, monkeypatch: pytest.MonkeyPatch, *, programs: bool = False) -> Said:
    """Gives the command; its time is over when so many units were done, or so many programs judged.

    With a flight that keeps its cache, every decoding step is one.
    """
    asked = 0

    def is_near(needed_s: float = 0.0) -> bool:
        nonlocal asked
        asked += not programs or needed_s == 0
        return asked >= units

    with monkeypatch.context() as patched:
        patched.setattr(deadline, "is_near", is_near)
        return call([*demo(run), "--max-hours", "2.5"], run)


def test_stopped_in_every_stage_and_gone_on(tmp_path: Path, expected: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path / "practice")
    said = stopped_after(3, run.root, monkeypatch)
    assert said.code == 0 and said.out == ""
    line = "practice: stopped by --max-hours 2.5 in train, 4 of 8 adapter-steps done; all of it is kept, and"
    assert sum(line in each for each in said.err.splitlines()) == 1, said.err
    assert not list(run.checkpoints.glob("**/step-*")), "no checkpoint is made at a step that has none"
    status = call(["status", str(run.root)], run.root).out
    assert "train     in progress" in status and "stopped by --max-hours 2.5, 4 of 8 adapter-steps" in status
    said = stopped_after(8, run.root, monkeypatch)
    assert said.code == 0 and "in generate, 0 of 26 answers done" in said.err
    said = stopped_after(4, run.root, monkeypatch, programs=True)
    assert said.code == 0 and "in judge, " in said.err
    assert call([*demo(run.root), "--until", "analyse"], run.root).code == 0
    assert same(run, expected) == "" and litter(run) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stopped_at_any_unit(tmp_path: Path, expected: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run, chance, stops = RunDir(tmp_path / "practice"), random.Random(19), 0
    while run.manifest(Stage.REPORT) is None:
        said = stopped_after(chance.choice((1, 2, 3, 6)), run.root, monkeypatch)
        assert said.code == 0
        stops += "stopped by --max-hours" in said.err
    assert stops > 5 and same(run, expected) == "" and litter(run) == []


@pytest.mark.parametrize("hours", ["0", "-1", "nan"])
def test_hours_are_positive(hours: str, tmp_path: Path) -> None:
    said = call([*demo(tmp_path / "practice"), "--max-hours", hours], tmp_path)
    assert said.code == 1 and "is not a positive number of hours" in said.err


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kiyas
    from kiyas import cli

    assert cli.main(["init", str(tmp_path / "study.yaml"), "--preset", "practice"]) == 0
    run = kiyas.run(tmp_path / "study.yaml", runs=tmp_path, max_hours=1e-9)
    assert run.folder.manifest(Stage.DATA) is not None and run.folder.manifest(Stage.TRAIN) is None
    with pytest.raises(KiyasError):
        run.findings  # noqa: B018 (there are none yet)
