"""When a run is taken back from its store, when it is refused, and that the store neither stops nor changes the run."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from kiyas.judge.types import Mode, Tier
from kiyas.pipeline import identity, stages, storing
from kiyas.runfolder import store as stores
from kiyas.runfolder.files import write_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import JudgeFacts, Kind, Record, read_record, write_record
from kiyas.runfolder.store import Store
from kiyas.study.file import parse
from kiyas.study.settings import Study
from kiyas.types import KiyasError
from kiyas.work import progress

FILE = """
name: mine
model_name_or_path: practice
arms: {deep: {dataset_name: practice/deep}}
"""


def study(tmp_path: Path, *overrides: str) -> Study:
    return parse(FILE + "store: drive\n", "study.yaml", tmp_path, list(overrides))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose data are prepared."""
    (tmp_path / "drive").mkdir()
    folder = RunDir(tmp_path / "mine")
    judge = JudgeFacts(tier=Tier.WEAK, mode=Mode.STRICT)
    write_record(folder, Record(kind=Kind.RUN, name="mine", run_id="r", study=study(tmp_path), judge=judge))
    finish(folder, Stage.DATA)
    return folder


def finish(folder: RunDir, stage: Stage) -> None:
    write_json(folder.manifest_path(stage), {"inputs": {}, "counts": {}, "seconds": 1})


def copy(folder: RunDir, origin: str = "elsewhere") -> None:
    made = Store.of(folder.root.parent / "drive", "mine").keep(folder, "mine", read_record(folder).run_id, origin)
    assert made is not None


def take(tmp_path: Path, *overrides: str, redo: Stage | None = None) -> None:
    storing.take_back(study(tmp_path, *overrides), RunDir(tmp_path / "mine"), redo)


def finished(folder: RunDir) -> list[Stage]:
    return [stage for stage in Stage if folder.manifest_path(stage).exists()]


def emptied(folder: RunDir) -> RunDir:
    shutil.rmtree(folder.root)
    return folder


def test_an_empty_folder_and_an_older_one(run: RunDir, tmp_path: Path) -> None:
    older = shutil.copytree(run.root, tmp_path / "older")
    finish(run, Stage.TRAIN)
    copy(run)
    take(tmp_path)
    assert finished(run) == [Stage.DATA, Stage.TRAIN]
    emptied(run)
    take(tmp_path)
    assert finished(run) == [Stage.DATA, Stage.TRAIN] and read_record(run).run_id == "r"
    shutil.copytree(older, emptied(run).root)
    take(tmp_path)
    assert finished(run) == [Stage.DATA, Stage.TRAIN]


def test_newer_work_here_is_kept(run: RunDir, tmp_path: Path) -> None:
    copy(run)
    finish(run, Stage.TRAIN)
    take(tmp_path)
    assert finished(run) == [Stage.DATA, Stage.TRAIN]


def test_what_was_made_again_here_is_kept(run: RunDir, tmp_path: Path) -> None:
    """`--redo` makes less of a run, and that is newer than what this folder stored before."""
    finish(run, Stage.TRAIN)
    copy(run, stores.give_origin(run))
    run.drop(Stage.TRAIN)
    take(tmp_path)
    assert finished(run) == [Stage.DATA]


def test_another_run_of_the_name_is_refused(run: RunDir, tmp_path: Path) -> None:
    finish(run, Stage.TRAIN)
    copy(run)
    write_record(run, read_record(run).model_copy(update={"run_id": "other"}))
    run.drop(Stage.TRAIN)
    with pytest.raises(KiyasError, match=r"drive/mine holds another run of 'mine' than .*mine"):
        take(tmp_path)
    assert finished(run) == [Stage.DATA]


def test_another_study_of_the_name_is_refused(run: RunDir, tmp_path: Path) -> None:
    copy(run)
    emptied(run)
    with pytest.raises(KiyasError, match=r"drive/mine was made with another study file.*training.max_length"):
        take(tmp_path, "training.max_length=100")
    assert not run.is_begun


def test_settings_that_falsify_nothing_are_not_refused(run: RunDir, tmp_path: Path) -> None:
    copy(run)
    emptied(run)
    take(tmp_path, "training.workers=1", "compare.matters=0.1", "training.save_steps=7")
    assert finished(run) == [Stage.DATA]


def test_only_who_has_a_copy_may_do_stages_of_it_again(run: RunDir, tmp_path: Path) -> None:
    """Where the run folder is not, the copy may be of somebody else's study."""
    finish(run, Stage.TRAIN)
    copy(run)
    emptied(run)
    for redo in (None, Stage.TRAIN):
        with pytest.raises(KiyasError, match=r"save_steps\n  hint: give the study another `name` or another `store`"):
            take(tmp_path, "training.save_steps=7", redo=redo)
    take(tmp_path)
    take(tmp_path, "training.save_steps=7", redo=Stage.TRAIN)
    assert finished(run) == [Stage.DATA, Stage.TRAIN]


def test_lists_that_are_torn_are_said(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(run, Stage.TRAIN)
    copy(run)
    emptied(run)
    for path in (tmp_path / "drive" / "mine" / "snapshots").iterdir():
        path.write_bytes(path.read_bytes()[:20])
    take(tmp_path)
    said = capsys.readouterr().err
    assert "store: snapshot 1 in" in said and "is not whole (its list is torn)" in said
    assert "store: no snapshot in" in said and finished(run) == []


def test_a_folder_that_was_being_taken_back(run: RunDir, tmp_path: Path) -> None:
    finish(run, Stage.TRAIN)
    copy(run)
    stores.unfinished(run).touch()
    run.drop(Stage.DATA)
    with pytest.raises(KiyasError, match="was being taken back from a store"):
        take(tmp_path, "store=null")
    take(tmp_path)
    assert finished(run) == [Stage.DATA, Stage.TRAIN] and not stores.unfinished(run).exists()
    stores.unfinished(run).touch()
    shutil.rmtree(tmp_path / "drive" / "mine" / "pieces")
    with pytest.raises(KiyasError, match="no whole snapshot any more"):
        take(tmp_path)


def test_a_store_that_is_not_there_is_refused_when_the_run_starts(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match=r"store: cannot write to .*absent"):
        stages.run(study(tmp_path, "store=absent"), RunDir(tmp_path / "new"))


def test_a_store_changes_nothing_in_a_run(run: RunDir, tmp_path: Path) -> None:
    before = read_record(run).study
    assert before is not None
    moved = study(tmp_path, "store=other")
    assert moved.store == str(tmp_path / "other") and before.store == str(tmp_path / "drive")
    assert identity._reported_as_before(moved, read_record(run)) == before


class Lines:
    """What a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def said(self, line: str) -> None:
        self.lines.append(line)

    def began(self, bar: Any) -> None: ...


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stores, "EVERY_S", 0.01)
    lines = Lines()
    with progress.shown_by(lines):
        yield lines.lines


def wait_for(what: Any) -> None:
    """Many minutes would not help either."""
    for _ in range(2000):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_a_store_that_fails_for_a_while(
    run: RunDir, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, one line says it, one line says that it is over, and then all is there."""
    tries = []

    def full(_: int) -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store.of(tmp_path / "drive", "mine")
    stores.give_origin(run)
    with monkeypatch.context() as patched, storing.stored(study(tmp_path), run, store):
        patched.setattr(os, "fsync", full)
        wait_for(lambda: len(tries) > 3)
        patched.undo()
        patched.setattr(stores, "EVERY_S", 0.01)
        wait_for(lambda: store.snapshots())
    assert [line.partition(": ")[2].partition("/")[0] for line in said] == [
        "finished work is copied to ", "cannot write ", "",
    ], said  # fmt: skip
    assert "No space left" in said[1] and "the run goes on" in said[1] and "can be written again" in said[2]
    emptied(run)
    take(tmp_path)
    assert finished(run) == [Stage.DATA]


def test_a_run_folder_that_cannot_be_copied(
    run: RunDir, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, not every minute, and not never."""
    (run.root / "data" / "deep.jsonl").symlink_to("nothing")
    monkeypatch.setattr(stores, "TRIES", 1)
    with storing.stored(study(tmp_path), run, Store.of(tmp_path / "drive", "mine")):
        wait_for(lambda: len(said) > 1)
    assert len(said) == 2 and "no copy could be made" in said[1], said


def test_the_last_copy_is_made_when_a_run_ends_or_is_stopped(run: RunDir, tmp_path: Path, said: list[str]) -> None:
    store = Store.of(tmp_path / "drive", "mine")
    with pytest.raises(KeyboardInterrupt), storing.stored(study(tmp_path), run, store):
        finish(run, Stage.TRAIN)
        raise KeyboardInterrupt
    emptied(run)
    take(tmp_path)
    assert finished(run) == [Stage.DATA, Stage.TRAIN]


def test_two_machines_are_noticed_once(run: RunDir, tmp_path: Path, said: list[str]) -> None:
    store, other = Store.of(tmp_path / "drive", "mine"), Store.of(tmp_path / "drive", "mine")
    with storing.stored(study(tmp_path), run, store):
        wait_for(store.snapshots)
        for stage in (Stage.TRAIN, Stage.GENERATE, Stage.JUDGE):
            other.keep(run, "mine", "r", "elsewhere")
            finish(run, stage)
            wait_for(lambda stage=stage: any(f"{stage}/manifest.json" in each.files for each in store.snapshots()))
    assert [line for line in said if "another machine" in line] == [
        f"store: another machine copies this run to {store.root}, too"
    ]


def test_what_is_written_into_a_store(run: RunDir, tmp_path: Path, said: list[str]) -> None:
    drive = tmp_path / "drive"
    (drive / "mine.txt").write_text("of somebody else")
    with storing.stored(study(tmp_path), run, Store.of(drive, "mine")):
        pass
    assert said == [f"store: finished work is copied to {drive / 'mine'}"]
    names = {path.relative_to(drive).as_posix() for path in drive.rglob("*") if path.is_file()} - {"mine.txt"}
    assert names
    for name in names:
        assert re.fullmatch(r"mine/(pieces/../[0-9a-f]{64}|snapshots/[0-9]{8}-[0-9a-f]{64}\.json)", name), name
    assert (drive / "mine.txt").read_text() == "of somebody else"


def test_a_store_that_hangs_is_not_waited_for(
    run: RunDir, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "END_S", 0.02)
    monkeypatch.setattr(storing, "FIRST_S", 0.01)
    store, free, real = Store.of(tmp_path / "drive", "mine"), threading.Event(), Store._put
    monkeypatch.setattr(Store, "_put", lambda self, data: (free.wait(), real(self, data))[1])
    with storing.stored(study(tmp_path), run, store):
        pass
    assert "not all was copied" in said[-1]
    free.set()
    (thread,) = [each for each in threading.enumerate() if each.name == "store"]
    thread.join()
    assert not store.snapshots(), "a copy that nobody waits for is not taken for the newest"
