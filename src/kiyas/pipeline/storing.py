"""When a run is copied to its store, and when it is taken back from there (`store: PATH`; see `runfolder/store.py`).

A thread of the run's own process takes a snapshot when a stage ends, every minute, and when the run ends. Nothing that
happens in the store stops or slows the run: one line says that it cannot be reached, one that it can again.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from kiyas.data import hub
from kiyas.pipeline import identity
from kiyas.runfolder import store as stores
from kiyas.runfolder.paths import RunDir, Stage
from kiyas.runfolder.record import Record, parse, read_record
from kiyas.runfolder.store import BusyError, Snapshot, Store, StoreError, TornError
from kiyas.study.settings import Study
from kiyas.types import KiyasError
from kiyas.work.progress import tell

POLL_S = 0.5
END_S, STOPPED_S = 600.0, 60.0
"""Seconds that the last copy may take when a run ends, and when it is stopped."""
MOST_BUSY = 5
"""Tries without a copy before that is said."""
LONG = 2**28
"""Bytes from which on taking them back is said beforehand."""
FIRST_S = 5.0
"""Of those, before a line says what is waited for."""


def take_back(study: Study, folder: RunDir, redo: Stage | None) -> Store | None:
    """The study's store, from which a run that is further than this run folder was taken back; None without a store.

    Call it under the folder's lock. Raises KiyasError for a store that is not there, or that holds another run.
    """
    half = stores.unfinished(folder).exists()
    if study.store is None:
        if half:
            raise KiyasError(
                f"{folder.root} was being taken back from a store, and is not whole",
                "give the same `store` again; or remove the folder, and the run starts anew",
            )
        return None
    store, torn = Store.of(Path(study.store), study.name), 0
    begun = folder.is_begun and not half
    try:
        snapshots = store.snapshots()
        for name in store.torn:
            tell(f"store: snapshot {int(name.partition('-')[0])} in {store.root} is not whole (its list is torn)")
            torn += 1
        for snapshot in snapshots:
            if begun and snapshot.origin == stores.origin(folder):
                return store  # what is here is as new
            try:
                record = _record(store, snapshot)
                _refuse_another(study, folder if begun else None, store, snapshot, record, redo)
                if begun and stores.progress(_sizes(folder)) >= snapshot.progress:
                    return store
                if snapshot.bytes > LONG:
                    tell(f"store: taking back {snapshot.bytes / 2**30:.1f} GiB from {store.root}")
                store.take(snapshot, folder)
            except TornError as error:
                tell(f"store: snapshot {snapshot.number} in {store.root} is not whole ({error})")
                torn += 1
                continue
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(snapshot.written))
            tell(f"store: took back snapshot {snapshot.number} of {when} from {store.root}")
            return store
    except StoreError as error:
        raise KiyasError(f"store: cannot read {error}", "mount the drive again, and give the same command") from error
    if half:
        raise KiyasError(
            f"{folder.root} was being taken back from {store.root}, which has no whole snapshot any more",
            "remove the folder, and the run starts anew",
        )
    if torn:
        tell(f"store: no snapshot in {store.root} is whole; the run goes on with what is here")
    return store


def _record(store: Store, snapshot: Snapshot) -> Record:
    name = "resolved.json"
    return parse(store.root / name, json.loads(store.bytes_of(snapshot, name)))


def _sizes(folder: RunDir) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in stores.files_of(folder).items()}


def _refuse_another(
    study: Study, folder: RunDir | None, store: Store, snapshot: Snapshot, record: Record, redo: Stage | None
) -> None:
    """Raises KiyasError where the store holds another run than this folder, or another study's."""
    if folder is not None and read_record(folder).run_id != record.run_id:
        raise KiyasError(
            f"{store.root} holds another run of {study.name!r} than {folder.root}",
            "give another `store`, or remove the one of the two that is not to go on",
        )
    if record.study is None:
        raise KiyasError(f"{store.root} holds an import, not a run", "give this study another `name`, or another store")
    there = {Stage(name.partition("/")[0]) for name in snapshot.files if "/" in name}
    # Only who has a copy of this run may do stages of it again: it may be somebody else's.
    again = redo if folder is not None else None
    try:
        identity.refuse_another_study(hub.pinned(study, record.study), record, store.root, there, again)
    except KiyasError as error:
        raise KiyasError(
            str(error.args[0]), "give the study another `name` or another `store` (store=null copies nothing)"
        ) from error


@contextlib.contextmanager
def stored(study: Study, folder: RunDir, store: Store | None) -> Iterator[None]:
    """The run folder is copied to its store for as long as this lasts, and once more at the end."""
    if store is None:
        yield
        return
    copying = _Copying(store, folder, study.name, stores.origin(folder) or stores.give_origin(folder))
    tell(f"store: finished work is copied to {store.root}")
    copying.thread.start()
    limit = STOPPED_S
    try:
        yield
        limit = END_S
    finally:
        copying.end(limit)


class _Copying:
    """The thread that copies, and what it has said."""

    def __init__(self, store: Store, folder: RunDir, study: str, origin: str) -> None:
        self.store, self.folder, self.study, self.origin = store, folder, study, origin
        self.ending = threading.Event()
        self.failed, self.busy = False, 0
        self.began, self.others = time.time(), False
        self.thread = threading.Thread(target=self._follow, name="store", daemon=True)

    def end(self, limit: float) -> None:
        """Waits for the last copy, so many seconds at most."""
        self.ending.set()
        try:
            self.thread.join(FIRST_S)
            if self.thread.is_alive():
                tell(f"store: copying the rest to {self.store.root}, at most {limit:.0f} s")
                self.thread.join(limit - FIRST_S)
        finally:
            if self.thread.is_alive():
                self.store.abandoned = True
                tell(f"store: not all was copied to {self.store.root}; the run folder here is whole")

    def _follow(self) -> None:
        while not self.ending.is_set():
            self._copy()
            finished, due = self._finished(), time.monotonic() + stores.EVERY_S
            while not self.ending.wait(min(POLL_S, stores.EVERY_S)) and time.monotonic() < due:
                if self._finished() != finished:
                    break
        self._copy()

    def _finished(self) -> list[bool]:
        return [self.folder.manifest_path(stage).exists() for stage in Stage]

    def _copy(self) -> None:
        try:
            run_id = read_record(self.folder).run_id
            made = self.store.keep(self.folder, self.study, run_id, self.origin)
        except (BusyError, KiyasError) as error:  # of the run folder itself
            self.busy += 1
            if self.busy == MOST_BUSY:
                tell(f"store: no copy could be made of {self.folder.root} for some time ({error}); it is tried again")
            return
        except (StoreError, OSError) as error:
            if not self.failed:
                tell(f"store: cannot write {error}; the run goes on, and copying is tried again")
            self.failed = True
            return
        if self.failed:
            tell(f"store: {self.store.root} can be written again")
        self.failed, self.busy = False, 0
        if made is not None:
            self._say_others()

    def _say_others(self) -> None:
        """Says once that another machine runs the same study."""
        with contextlib.suppress(StoreError):
            theirs = [each for each in self.store.snapshots() if each.origin != self.origin]
            if not self.others and any(each.written > self.began for each in theirs):
                self.others = True
                tell(f"store: another machine copies this run to {self.store.root}, too")
