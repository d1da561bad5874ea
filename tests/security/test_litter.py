"""What killed processes left in a run folder goes at the next start; what odd things lie there is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import oddity

from kiyas import cli
from kiyas.runfolder.litter import sweep
from kiyas.runfolder.paths import RunDir
from kiyas.types import KiyasError
from synthetic import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", seeds=(0,), steps=(20, 40), problems=6)


def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_temporaries_of_the_dead_go_and_others_stay(run: Path) -> None:
    dead, mine, alive = dead_pid(), os.getpid(), os.getppid()
    gone = [
        run / f".resolved.json.{dead}.tmp",
        run / "report" / "figures" / f".pass.svg.{dead}.tmp",
        run / "train" / "checkpoints" / "deep" / f".step-000020.{dead}.tmp" / "adapter_model.safetensors",
        run / "judge" / f".judgments.jsonl.{mine}.tmp",
        run / "judge" / f".judgments.jsonl.{10**9}9.tmp",
    ]
    kept = [
        run / f".resolved.json.{alive}.tmp",
        run / f"resolved.json.{dead}.tmp",
        run / f".notes.{dead}.tmp.txt",
        run / ".mine.tmp",
    ]
    for path in (*gone, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (run / f".link.{dead}.tmp").symlink_to(run / "data")
    with RunDir(run).lock():
        assert not any(path.exists() for path in gone) and all(path.exists() for path in kept)
    assert not os.path.lexists(run / f".link.{dead}.tmp") and (run / "data" / "problems.jsonl").exists()
    assert not gone[2].parent.exists()


def test_links_are_not_followed(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / f".x.{dead_pid()}.tmp"
    other.parent.mkdir()
    other.write_text("x")
    (run / "train" / "more").symlink_to(other.parent)
    sweep(run)
    assert other.exists()


OTHERS = ("device", "socket")


@pytest.mark.parametrize("command", [["status"], ["report"], ["report", "--text"], ["compare"]])
@pytest.mark.parametrize("kind", ["pipe", *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)])
@pytest.mark.parametrize("name", ["judge/judgments.jsonl", "resolved.json", "train/log.jsonl", ".lock", "data/x"])
def test_odd_files_are_refused(
    name: str, kind: str, command: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oddity(kind, run / name)
    read = {"train/log.jsonl": command != ["status"], ".lock": command == ["report"], "data/x": False}
    refused = read.get(name, True)
    assert cli.main([command[0], str(run), *command[1:]]) == int(refused), "never a wait for what does not end"
    said = capsys.readouterr().err
    if refused:
        assert name in said and (f"it is a {kind}" in said or "is a link out of" in said)
        assert len(said.splitlines()) == 2


def test_a_lock_that_is_a_link(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (run / ".lock").symlink_to(precious)
    assert cli.main(["report", str(run)]) == 1 and "cannot write" in capsys.readouterr().err
    assert precious.read_text() == "mine"


def test_a_report_that_would_lead_elsewhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "precious"
    (precious / "figures").mkdir(parents=True)
    (precious / "figures" / "mine.png").touch()
    (run / "report").symlink_to(precious)
    assert cli.main(["report", str(run)]) == 1
    said = capsys.readouterr().err
    assert "is a link out of the run folder" in said and len(said.splitlines()) == 2
    assert [path.name for path in precious.rglob("*")] == ["figures", "mine.png"]


def test_a_lock_is_held_by_one(run: Path) -> None:
    with RunDir(run).lock(), pytest.raises(KiyasError, match="another process"), RunDir(run).lock():
        pass
