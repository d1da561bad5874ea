"""A store that loses, tears, hides and refuses what is written to it: what is taken back is one instant of the run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiyas.runfolder import store as stores
from kiyas.runfolder.files import JsonlWriter, is_confirmed, write_json
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.store import Store, StoreError, TornError
from kiyas.types import KiyasError

STEP = "train/checkpoints/deep/seed-0/step-{:06d}/adapter_model.safetensors"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A training under way, and what is not to be stored."""
    folder = RunDir(tmp_path / "runs" / "mine")
    write_json(folder.resolved, {"run_id": "r"})
    write_json(folder.manifest_path(Stage.DATA), {})
    for name in ("trackers/wandb.json", ".lock", "train/.step.12.tmp/half", "judge/judgments.jsonl.changed"):
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text("not of the run")
    save(folder, 1)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "drive").mkdir()
    return Store.of(tmp_path / "drive", "mine")


def save(folder: RunDir, step: int) -> None:
    """A checkpoint, then the state that names it, as training writes them; the log grows."""
    path = folder.root / STEP.format(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights %d" % step)
    with JsonlWriter(folder.train_state / "part-0.jsonl") as log:
        log.write({"step": step}, {"step": step, "kind": "validation"})
    write_json(folder.train_state / "part-0.safetensors", {"step": step})


def keep(store: Store, folder: RunDir) -> stores.Snapshot | None:
    return store.keep(folder, "mine", "r", "here")


def new_machine(folder: RunDir) -> RunDir:
    """The same place, with nothing there."""
    shutil.rmtree(folder.root)
    folder.root.mkdir()
    return folder


def contents(folder: RunDir) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in stores.files_of(folder).items()}


def taken(store: Store, folder: RunDir) -> int:
    """Takes back the newest whole snapshot, as a new process does; its number."""
    for each in Store(store.root).snapshots():
        try:
            store.take(each, folder)
        except TornError:
            continue
        return each.number
    return 0


def step_of(folder: RunDir) -> int:
    step = int(json.loads((folder.train_state / "part-0.safetensors").read_text())["step"])
    assert (folder.root / STEP.format(step)).read_bytes() == b"weights %d" % step, "the state names it"
    return step


def test_all_of_a_run_and_nothing_else(run: RunDir, store: Store) -> None:
    before = contents(run)
    assert not any(word in " ".join(before) for word in ("trackers", ".lock", ".tmp", ".changed", ".seal"))
    times = {name: path.stat().st_mtime_ns for name, path in stores.files_of(run).items()}
    assert keep(store, run) is not None
    assert keep(store, run) is None, "nothing changed"
    assert taken(store, new_machine(run)) == 1
    assert contents(run) == before
    assert {name: path.stat().st_mtime_ns for name, path in stores.files_of(run).items()} == times
    assert is_confirmed(run.train_state / "part-0.jsonl")
    assert stores.origin(run) not in (None, "here")
    assert not stores.unfinished(run).exists()


def test_of_a_growing_file_what_its_seal_confirms(run: RunDir, store: Store) -> None:
    log = run.train_state / "part-0.jsonl"
    whole = log.read_bytes()
    with log.open("ab") as file:
        file.write(b'{"step": 2, "ki')
    keep(store, run)
    taken(store, new_machine(run))
    assert log.read_bytes() == whole and is_confirmed(log)


def test_what_was_copied_is_not_copied_again(run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "BLOCK", 64)
    written: list[int] = []
    real = Store._write

    def noted(self: Store, path: Path, data: bytes) -> None:
        written.append(len(data))
        real(self, path, data)

    monkeypatch.setattr(Store, "_write", noted)
    with JsonlWriter(run.train_state / "part-0.jsonl") as log:
        for step in range(100):
            log.write({"step": step})
            log.sync()
    keep(store, run)
    before = contents(run)
    blocks, written[:] = len(written), []
    save(run, 2)
    keep(Store(store.root), run)
    assert blocks > 20 and len(written) <= 5, "the last block of the log, a checkpoint, the state, the list"
    after = contents(run)
    assert taken(store, new_machine(run)) == 2 and contents(run) == after != before


def other(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


TEARS: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: path.unlink(),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a folder": lambda path: other(path, Path.mkdir),
    "a pipe": lambda path: other(path, os.mkfifo),
}


@pytest.mark.parametrize("what", ["piece", "list"])
@pytest.mark.parametrize("tear", TEARS)
def test_what_is_torn_gives_way_to_the_snapshot_before(run: RunDir, store: Store, what: str, tear: str) -> None:
    keep(store, run)
    older = contents(run)
    known = set(store.root.rglob("*"))
    save(run, 2)
    keep(store, run)
    newest = [path for path in set(store.root.rglob("*")) - known if path.is_file()]
    TEARS[tear](next(path for path in newest if (path.suffix == ".json") == (what == "list")))
    assert taken(store, new_machine(run)) == 1
    assert contents(run) == older and step_of(run) == 1
    # The run goes on, to a third snapshot that is whole.
    save(run, 2)
    again = Store(store.root)
    if tear in ("a folder", "a pipe") and what == "piece":
        with pytest.raises(StoreError, match="something else is in its place"):
            keep(again, run)
        return
    keep(again, run)
    assert taken(again, new_machine(run)) >= 2 and step_of(run) == 2


def test_nothing_is_touched_by_a_torn_snapshot(run: RunDir, store: Store) -> None:
    snapshot = keep(store, run)
    assert snapshot is not None
    save(run, 2)
    here = contents(run)
    piece = store._path(snapshot.files["resolved.json"].pieces[0])
    piece.write_bytes(bytes(piece.stat().st_size))
    with pytest.raises(TornError, match="torn"):
        store.take(snapshot, run)
    assert contents(run) == here and not list(run.root.glob(".taken*"))


def test_a_stale_listing(run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest snapshot is not listed: work goes on from the one before, and no list is overwritten."""
    keep(store, run)
    save(run, 2)
    second = keep(store, run)
    assert second is not None
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: (each for each in real(self) if "00000002" not in each.name))
    assert taken(store, new_machine(run)) == 1
    save(run, 2)
    save(run, 3)
    other = Store(store.root)
    other.keep(run, "mine", "r", "there")
    monkeypatch.setattr(Path, "iterdir", real)
    assert sorted(each.number for each in store.snapshots()) == [1, 2, 2]
    assert taken(store, new_machine(run)) == 2 and step_of(run) == 3, "the later one"


def test_a_full_store(run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(store, run)
    save(run, 2)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            keep(store, run)
    assert [each.number for each in Store(store.root).snapshots()] == [1]
    keep(store, run)
    assert taken(store, new_machine(run)) == 2 and step_of(run) == 2


@pytest.mark.parametrize("call", ["stat", "iterdir", "open", "mkdir"])
def test_a_mount_that_is_not_connected(run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """What a mounted drive says whose own process is gone."""
    keep(store, run)
    save(run, 2)
    real = getattr(Path, call)

    def disconnected(self: Path, *args: Any, **more: Any) -> Any:
        if self.is_relative_to(store.root):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return real(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, disconnected)
        with pytest.raises(StoreError, match=r"not connected|gone"):
            keep(store, run)
    keep(store, run)
    assert taken(store, new_machine(run)) == 2 and step_of(run) == 2


def test_a_store_that_vanishes_and_comes_back_empty(run: RunDir, store: Store) -> None:
    keep(store, run)
    away = store.root.parent.rename(store.root.parent.with_name("away"))
    save(run, 2)
    with pytest.raises(StoreError):
        keep(store, run)
    assert not store.root.exists(), "no folder is made below an absent mount"
    away.with_name("drive").mkdir()
    save(run, 3)
    keep(store, run)
    assert taken(store, new_machine(run)) == 1 and step_of(run) == 3
    shutil.rmtree(store.root)
    keep(store, run)
    assert taken(store, new_machine(run)) == 1, "what it wrote before is not believed to be there"


def test_a_snapshot_is_of_one_instant(run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the store is: a later state, whose checkpoint is not in the list, is not in it."""
    real, saved = Store._put, [1]

    def slow(self: Store, data: bytes) -> str:
        saved.append(saved[-1] + 1)
        save(run, saved[-1])
        return real(self, data)

    monkeypatch.setattr(Store, "_put", slow)
    keep(store, run)
    monkeypatch.undo()
    taken(store, new_machine(run))
    assert step_of(run) == 1


def test_more_files_than_may_be_open(run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "MOST_OPEN", 4)
    for step in range(2, 9):
        save(run, step)
    for path in run.root.rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.setattr(time, "time", lambda: 4e9)  # nothing changed in this second
    keep(store, run)
    before = contents(run)
    taken(store, new_machine(run))
    assert contents(run) == before


def test_older_snapshots_go_once_a_settled_one_is_whole(
    run: RunDir, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (2, 3):
        save(run, step)
        keep(store, run)
    assert len(store.snapshots()) == 2, "the newest may not have reached the drive"
    monkeypatch.setattr(stores, "SETTLED_S", -1.0)
    save(run, 4)
    keep(store, run)
    assert [each.number for each in store.snapshots()] == [3]
    listed = {piece for each in store.snapshots() for piece, _ in each.pieces}
    assert {path.name for path in (store.root / "pieces").glob("*/*")} == listed
    save(run, 5)
    keep(store, run)
    assert taken(store, new_machine(run)) == 4 and step_of(run) == 5


def test_a_list_that_leads_out_of_the_run_folder(run: RunDir, store: Store) -> None:
    keep(store, run)
    (path,) = (store.root / "snapshots").iterdir()
    tree = json.loads(path.read_text())
    for name in ("../evil", "data/../../evil", "/etc/evil", "trackers/evil", "data/./evil"):
        text = json.dumps({**tree, "files": {name: tree["files"]["resolved.json"]}}).encode()
        path.with_name(f"00000009-{hashlib.sha256(text).hexdigest()}.json").write_bytes(text)
    assert [each.number for each in Store(store.root).snapshots()] == [1]


def test_a_list_of_a_later_version(run: RunDir, store: Store) -> None:
    """It is refused: what cannot be read is not taken for lost."""
    keep(store, run)
    (path,) = (store.root / "snapshots").iterdir()
    text = json.dumps({**json.loads(path.read_text()), "format": stores.FORMAT + 1}).encode()
    path.with_name(f"00000009-{hashlib.sha256(text).hexdigest()}.json").write_bytes(text)
    with pytest.raises(KiyasError, match="later version"):
        Store(store.root).snapshots()


def test_a_store_below_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KiyasError, match="cannot write to"):
        Store.of(tmp_path / "absent", "mine")
    assert not (tmp_path / "absent").exists()
