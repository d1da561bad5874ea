"""Copies of a run folder in a folder that outlives the machine, and the way back (`store: PATH`).

Theory of operation. Below PATH/NAME, `pieces/ab/abcdef…` are blocks of files, named by their SHA-256 and never changed.
`snapshots/00000012-….json` lists the files of the run folder at one instant and the pieces of each; its name holds its
number and its own digest. A folder of a run can be gone on from at every instant, so a snapshot can, too. Nothing in
the store is trusted: names are digests, and what does not match is not there. So writes may be lost, torn or late, and
a snapshot whose pieces are not all whole gives way to the one before.

A snapshot is taken of open files: what is replaced meanwhile stays readable, however slow the store is. Of a file that
grows, what its seal confirms is taken. Full blocks of it stay the same, so that only its end is copied again.

Not guaranteed: that a store was written to at all when the machine went; then the work since is done again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from kiyas.runfolder.files import (
    STAGE_FOLDERS,
    atomic_text,
    confirmed,
    disk_errors,
    read_json,
    refuse_not_a_file,
    seal_of,
    seal_rows,
)
from kiyas.runfolder.litter import TEMPORARY, remove
from kiyas.runfolder.paths import MANIFEST, RunDir
from kiyas.study import limits
from kiyas.types import KiyasError

BLOCK = 8 * 2**20
EVERY_S = 60.0
"""Between two snapshots, while a stage goes on."""
SETTLED_S = 600.0
"""The age from which on a snapshot is believed to have reached the drive behind a mounted folder."""
MOST_OPEN = 100
TRIES = 5
FORMAT = 1
_TOP = ("study.yaml", "resolved.json")
_NOT_STORED = (".seal", ".changed", ".flight.safetensors")
"""The last: caches of answers in flight, as large as memory; without them that wave is decoded again."""
_DIGEST = re.compile("[0-9a-f]{64}")
_SNAPSHOT = re.compile("([0-9]{8,12})-([0-9a-f]{64})\\.json")
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class StoreError(Exception):
    """The store cannot be written or read now."""


class TornError(Exception):
    """A snapshot, or what it lists, is not whole."""


class BusyError(Exception):
    """The run folder changes too fast for a snapshot right now."""


@dataclass(frozen=True)
class Kept:
    """A file of a snapshot."""

    bytes: int
    mtime_ns: int
    pieces: tuple[str, ...]
    grows: bool = False
    """it gets a seal when it is taken back"""


@dataclass(frozen=True)
class Snapshot:
    """The files of a run folder at one instant."""

    study: str
    run_id: str
    origin: str
    """of the local folder that it was taken of"""
    written: float
    """seconds since 1970"""
    files: Mapping[str, Kept]
    number: int = 0
    format: int = FORMAT

    @property
    def pieces(self) -> Iterator[tuple[str, int]]:
        """The digest and size of each."""
        for kept in self.files.values():
            for place, piece in enumerate(kept.pieces):
                yield piece, min(BLOCK, kept.bytes - place * BLOCK)

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(kept.bytes for kept in self.files.values())

    @property
    def progress(self) -> tuple[int, int, int]:
        """How far the run is: of two snapshots of one run the larger one is further."""
        return progress({name: kept.bytes for name, kept in self.files.items()})


def progress(sizes: Mapping[str, int]) -> tuple[int, int, int]:
    """Finished stages, files of checkpoints, bytes of rows; `sizes`: of a run folder's files, by name."""
    return (
        sum(PurePosixPath(name).name == MANIFEST for name in sizes),
        sum(name.startswith("train/checkpoints/") for name in sizes),
        sum(size for name, size in sizes.items() if name.endswith(".jsonl")),
    )


# -- the run folder's side --------------------------------------------------------------------------------------------


def token_of(folder: RunDir) -> Path:
    """Where a run folder keeps which copy of the run it is."""
    return folder.root / ".store"


def unfinished(folder: RunDir) -> Path:
    """A run folder with this file was being taken back, and is not whole."""
    return folder.root / ".taking"


def origin(folder: RunDir) -> str | None:
    """Which copy of the run this folder is; None where it was never stored."""
    try:
        return str(read_json(token_of(folder))["origin"])
    except (KiyasError, LookupError, TypeError):
        return None


def give_origin(folder: RunDir, root: Path | None = None) -> str:
    """Makes this folder a copy of its own. `root`: where it is being put together."""
    made = uuid.uuid4().hex
    atomic_text((root or folder.root) / token_of(folder).name, json.dumps({"origin": made}) + "\n")
    return made


def files_of(folder: RunDir) -> dict[str, Path]:
    """What a snapshot holds, by name: all but locks, seals, temporary files and what trackers wrote."""
    found = {name: folder.root / name for name in _TOP if (folder.root / name).is_file()}
    for stage in STAGE_FOLDERS:
        for place, folders, files in os.walk(folder.root / stage, followlinks=True):
            folders[:] = [name for name in folders if not TEMPORARY.fullmatch(name)]
            for name in files:
                path = Path(place, name)
                if not TEMPORARY.fullmatch(name) and not name.endswith(_NOT_STORED):
                    found[path.relative_to(folder.root).as_posix()] = path
    return dict(sorted(found.items()))


_Key = tuple[int, ...]


def _key(found: os.stat_result, grows: bool) -> _Key:
    """What tells a file from another one of its name; one that grows is the same all the while: two numbers."""
    one = (found.st_dev, found.st_ino)
    return one if grows else (*one, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _listing(folder: RunDir) -> dict[str, tuple[Path, _Key]]:
    return {name: (path, _key(path.stat(), seal_of(path).exists())) for name, path in files_of(folder).items()}


# -- the store's side -------------------------------------------------------------------------------------------------


@dataclass
class Store:
    """The folder of one study in a store."""

    root: Path
    whole: set[str] = field(default_factory=set)
    """pieces that were read back"""
    abandoned: bool = False
    """nobody waits for it any more: no snapshot is added"""
    _known: dict[_Key, Kept] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    """names of lists that were not whole at the last look"""
    _read: dict[str, Snapshot] = field(default_factory=dict)
    _last: tuple[Path, Mapping[str, Kept]] | None = None
    """the snapshot that was added last, and what it lists"""

    @classmethod
    def of(cls, path: Path, study: str) -> Store:
        """Raises KiyasError where there is no such folder to write to: a mounted drive may be missing."""
        store = cls(path / study)
        try:
            store._make_folders()
        except OSError as error:
            raise KiyasError(
                f"store: cannot write to {path} ({error.strerror})",
                "mount the drive, or make the folder; store=null copies nothing",
            ) from error
        return store

    def _make_folders(self) -> None:
        # Not the store itself: below an absent mount it would be made on this machine's own disk.
        for each in (self.root, self.root / "snapshots", self.root / "pieces"):
            each.mkdir(exist_ok=True)

    def snapshots(self) -> list[Snapshot]:
        """Those whose own text is whole, the newest first.

        Raises StoreError, and KiyasError for one of a later version.
        """
        with _reached(self.root):
            names = [path.name for path in (self.root / "snapshots").iterdir()]
        found = {name: self._read.get(name) or self._snapshot(name) for name in names if _SNAPSHOT.fullmatch(name)}
        self._read = {name: each for name, each in found.items() if each is not None}
        self.torn = sorted(found.keys() - self._read.keys())
        return sorted(self._read.values(), key=lambda each: (each.number, each.written), reverse=True)

    def _snapshot(self, name: str) -> Snapshot | None:
        path, match = self.root / "snapshots" / name, _SNAPSHOT.fullmatch(name)
        assert match is not None
        try:
            refuse_not_a_file(path)
            limits.DOCUMENT.refuse_above(path.stat().st_size, path)
            text = path.read_bytes()
            value = json.loads(text) if _named(text, match[2]) else {"format": 0}
            later = value["format"] > FORMAT
            if not later:
                return _parsed(value, int(match[1]))
        except (OSError, KiyasError, ValueError, LookupError, TypeError, RecursionError):
            return None  # lost or torn
        raise KiyasError(f"{path} was written by a later version of Kıyas", "pip install --upgrade kiyas")

    def bytes_of(self, snapshot: Snapshot, name: str) -> bytes:
        """What a small file of a snapshot holds. Raises TornError."""
        if name not in snapshot.files:
            raise TornError(f"it has no {name}")
        return b"".join(map(self._piece, snapshot.files[name].pieces))

    def _path(self, piece: str) -> Path:
        return self.root / "pieces" / piece[:2] / piece

    def _piece(self, piece: str) -> bytes:
        path = self._path(piece)
        try:
            refuse_not_a_file(path)
            with path.open("rb") as file:
                data = file.read(BLOCK + 1)
        except (OSError, KiyasError) as error:
            raise TornError(f"{path} cannot be read") from error
        if not _named(data, piece):
            raise TornError(f"{path} is torn")
        self.whole.add(piece)
        return data

    def _looks_whole(self, snapshot: Snapshot) -> bool:
        """Are all pieces there, with their sizes?"""
        try:
            return all(self._path(piece).stat().st_size == size for piece, size in dict(snapshot.pieces).items())
        except OSError:
            return False

    # -- taking back ----------------------------------------------------------------------------------------------

    def take(self, snapshot: Snapshot, folder: RunDir) -> None:
        """Puts a snapshot in the place of what is in the run folder, under its lock. Every piece is checked before.

        Raises TornError, and then nothing was touched.
        """
        if not self._looks_whole(snapshot):
            raise TornError("pieces of it are missing or cut")
        made = folder.root / f".taken.{os.getpid()}.tmp"
        with disk_errors(made):
            remove(made)
            try:
                for name, kept in snapshot.files.items():
                    self._take_file(made / name, kept)
                give_origin(folder, made)
                atomic_text(unfinished(folder), "`kiyas run` is putting this folder together from its store\n")
                for name in (*_TOP, *STAGE_FOLDERS, token_of(folder).name):
                    remove(folder.root / name)
                    if (made / name).exists():
                        (made / name).rename(folder.root / name)
                unfinished(folder).unlink()
            finally:
                remove(made)

    def _take_file(self, path: Path, kept: Kept) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in kept.pieces:
                file.write(self._piece(piece))
            file.flush()
            os.fsync(file.fileno())
        if path.stat().st_size != kept.bytes:
            raise TornError(f"{path.name} is not as long as the snapshot says")
        if kept.grows:
            seal_rows(path)
        os.utime(path, ns=(kept.mtime_ns, kept.mtime_ns))

    # -- copying --------------------------------------------------------------------------------------------------

    def keep(self, folder: RunDir, study: str, run_id: str, origin: str) -> Snapshot | None:
        """Copies what is new in the run folder, and adds a snapshot; None where nothing changed since the last one.

        Raises StoreError, and BusyError where the run folder is never the same for an instant.
        """
        try:
            with _reached(self.root):
                if self._last is not None and not self._last[0].exists():
                    self._forget()
            return self._keep(folder, study, run_id, origin)
        except StoreError:
            self._forget()
            raise

    def _forget(self) -> None:
        """What was there may be gone."""
        self.whole.clear()
        self._known.clear()
        self._last = None

    def _keep(self, folder: RunDir, study: str, run_id: str, origin: str) -> Snapshot | None:
        with contextlib.ExitStack() as while_read:
            try:
                files = {name: each() for name, each in self._held(folder, while_read).items()}
            except (OSError, EOFError) as error:
                raise BusyError(str(error)) from error
        if self.abandoned or (self._last is not None and self._last[1] == files):
            return None
        before = self.snapshots()
        number = 1 + max((each.number for each in before), default=0)
        snapshot = Snapshot(study, run_id, origin, time.time(), files, number)
        if not self._looks_whole(snapshot):
            raise StoreError(f"{self.root}: pieces that were written are gone")
        text = json.dumps(asdict(snapshot), separators=(",", ":")).encode()
        path = self.root / "snapshots" / f"{number:08d}-{hashlib.sha256(text).hexdigest()}.json"
        self._write(path, text)
        self._last = path, files
        self._prune()
        return snapshot

    def _held(self, folder: RunDir, while_read: contextlib.ExitStack) -> dict[str, Callable[[], Kept]]:
        """The files at one instant, each as what stores it. What was not stored before is open, and so stays as is."""
        for _ in range(TRIES):
            try:
                self._store_some(folder)
                before = _listing(folder)
                new = [name for name, (_, key) in before.items() if key not in self._known]
                if len(new) <= MOST_OPEN:
                    opened = {name: self._opened(*before[name], while_read) for name in new}
                    if _listing(folder) == before:
                        known = {name: partial(self._known.__getitem__, key) for name, (_, key) in before.items()}
                        return {name: opened[name] if name in opened else known[name] for name in before}
            except (OSError, EOFError):
                pass  # of the run folder: something was replaced or removed meanwhile
            while_read.close()
            time.sleep(0.05)
        raise BusyError(f"{folder.root} changes all the time")

    def _store_some(self, folder: RunDir) -> None:
        """Where more is new than can be open at once, it is stored beforehand, file by file."""
        new = [(path, key) for path, key in _listing(folder).values() if key not in self._known and len(key) > 2]
        for path, key in new[MOST_OPEN // 2 :]:
            with contextlib.ExitStack() as while_read:
                self._opened(path, key, while_read)()

    def _opened(self, path: Path, key: _Key, while_read: contextlib.ExitStack) -> Callable[[], Kept]:
        file = while_read.enter_context(path.open("rb"))
        seal = while_read.enter_context(seal_of(path).open("rb")) if len(key) == 2 else None
        return partial(self._kept, path, key, file, seal)

    def _kept(self, path: Path, key: _Key, file: IO[bytes], seal: IO[bytes] | None) -> Kept:
        """Stores the pieces of a file, of one that grows what its seal confirms. Raises EOFError where it was cut."""
        now = os.fstat(file.fileno())
        left = size = now.st_size if seal is None else confirmed(file, seal)[0]
        pieces = []
        file.seek(0)
        while left:
            data = file.read(min(BLOCK, left))
            if len(data) < min(BLOCK, left):
                raise EOFError(f"{path} was cut")
            pieces.append(self._put(data))
            left -= len(data)
        kept = Kept(size, now.st_mtime_ns, tuple(pieces), seal is not None)
        # Clocks of file systems are coarse: a change in the same tick looks like none.
        if seal is None and key == _key(now, False) and time.time() - now.st_ctime > 1:
            self._known[key] = kept
        return kept

    def _put(self, data: bytes) -> str:
        """Stores a piece, and reads it back."""
        piece = hashlib.sha256(data).hexdigest()
        if piece in self.whole:
            return piece
        path = self._path(piece)
        with contextlib.suppress(TornError):
            self._piece(piece)
            return piece
        self._write(path, data)
        try:
            self._piece(piece)
        except TornError as error:
            raise StoreError(f"{path} is not what was just written") from error
        return piece

    def _write(self, path: Path, data: bytes) -> None:
        """Not by a temporary name: a torn file is known by its digest, and renaming may tear, too."""
        with _reached(path):
            self._make_folders()
            path.parent.mkdir(exist_ok=True)
            if path.exists() and not path.is_file():
                raise OSError(errno.EEXIST, "something else is in its place")
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno not in _NO_FSYNC:
                        raise

    def _prune(self) -> None:
        """Removes snapshots before the newest that is settled and whole, and then pieces that no snapshot has."""
        found = self.snapshots()
        enough = next(
            (each for each in found if time.time() - each.written >= SETTLED_S and self._looks_whole(each)), None
        )
        if enough is None:
            return
        with _reached(self.root):
            listed = list((self.root / "snapshots").iterdir())
            older = [path for path in listed if (m := _SNAPSHOT.fullmatch(path.name)) and int(m[1]) < enough.number]
            for path in older:
                path.unlink(missing_ok=True)
            if not older:
                return
            wanted = {piece for each in self.snapshots() for piece, _ in each.pieces}
            for path in (self.root / "pieces").glob("??/*"):
                # Another machine may be writing a snapshot of which we do not see the list yet.
                if path.name not in wanted and time.time() - path.stat().st_mtime >= SETTLED_S:
                    self.whole.discard(path.name)
                    path.unlink(missing_ok=True)
            self._known = {k: kept for k, kept in self._known.items() if wanted.issuperset(kept.pieces)}


@contextlib.contextmanager
def _reached(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


def _named(data: bytes, digest: str) -> bool:
    return hashlib.sha256(data).hexdigest() == digest


def _parsed(value: Any, number: int) -> Snapshot:
    """Raises ValueError, LookupError or TypeError for what is not a snapshot of this version."""
    if value["format"] != FORMAT:
        raise ValueError("of another version")
    files = {name: Kept(**{**each, "pieces": tuple(each["pieces"])}) for name, each in value["files"].items()}
    for name, kept in files.items():
        parts = PurePosixPath(name).parts
        inside = name in _TOP or (len(parts) > 1 and parts[0] in STAGE_FOLDERS)
        if not inside or ".." in parts or PurePosixPath(*parts).as_posix() != name:
            raise ValueError(f"{name} is not of a run folder")
        if not all(_DIGEST.fullmatch(piece) for piece in kept.pieces) or kept.bytes > len(kept.pieces) * BLOCK:
            raise ValueError(f"{name} is not listed whole")
    return Snapshot(**{**value, "files": files, "number": number})
