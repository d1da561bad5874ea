"""A run folder on two machines: what a part needs of it is laid out there, and what it writes there is written here.

Theory of operation. Files come to a machine once, by digest, onto a *shelf*. A part has a folder of its own, into which
links to what it reads and copies of what it goes on from are laid. Whenever it says how far it is, its folder is
compared with what it was, and the differences are yielded as changes in the order that a local part writes in: what
comes first never relies on what follows. So this side is, at any time, what a killed local run could have left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from kiyas.runfolder.files import disk_errors, seal_of
from kiyas.runfolder.litter import GROWING, TEMPORARY
from kiyas.types import KiyasError

BLOCK = 2**20
"""bytes of a file that are sent at once"""


@dataclass(frozen=True)
class Change:
    """Some bytes of a file, or its end."""

    name: str
    """in the run folder"""
    kind: str
    """append: to a file of `start` bytes; replace: bytes of a new file, in its place with the last; remove"""
    start: int = 0
    data: bytes = b""
    last: bool = True


def blocks(path: Path, start: int = 0) -> Iterator[tuple[int, bytes, bool]]:
    """A file's bytes from `start` on: (where, bytes, whether they are the last). An empty file is one empty block."""
    with path.open("rb") as file:
        file.seek(start)
        block = file.read(BLOCK)
        while True:
            following = file.read(BLOCK)
            yield start, block, not following
            if not following:
                return
            start, block = start + len(block), following


@dataclass(frozen=True)
class Shelf:
    """Files of another machine, by digest."""

    folder: Path

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def missing(self, digests: Iterable[str]) -> list[str]:
        return [each for each in dict.fromkeys(digests) if not self.path(each).is_file()]

    def take(self, digest: str, start: int, data: bytes, last: bool) -> None:
        """Some bytes of a file, in order."""
        unfinished = self.path(f"{digest}.part")
        self.folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("ab" if start else "wb") as file:
            file.write(data)
        if last:
            unfinished.rename(self.path(digest))

    def lay(self, root: Path, files: Mapping[str, str], *, own: bool) -> None:
        """Puts files (names in a folder, digests) there: as copies if they will be written, else as links."""
        for name, digest in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if own:
                shutil.copyfile(self.path(digest), path)
            elif not path.exists():
                os.link(self.path(digest), path)


@dataclass
class Watched:
    """A part's folder, and what it was when it was last compared; only files that `own`, patterns, name."""

    root: Path
    own: tuple[str, ...]
    _known: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _held: dict[str, IO[bytes]] = field(default_factory=dict)
    """files that grow, open: while they are, no new file gets their number"""

    def look(self) -> dict[str, tuple[int, int, int]]:
        """Which file, how long, written when."""
        found = {}
        for place, _, names in os.walk(self.root):
            for name in names:
                path = Path(place, name)
                inside = path.relative_to(self.root)
                ours = any(fnmatch(inside.as_posix(), pattern) for pattern in self.own)
                if ours and not any(TEMPORARY.fullmatch(each) for each in inside.parts):
                    stat = path.stat()
                    found[inside.as_posix()] = stat.st_ino, stat.st_size, stat.st_mtime_ns
        return found

    def begin(self) -> None:
        self._remember(self.look())

    def changes(self) -> Iterator[Change]:
        """What is different since the last call."""
        now = self.look()
        for name in sorted(now, key=lambda name: _rank(name, name not in self._known)):
            before = self._known.get(name)
            if before == now[name]:
                continue
            grown = before is not None and before[0] == now[name][0] and before[1] <= now[name][1]
            if before is not None and grown and name.endswith(GROWING):
                for start, data, _ in blocks(self.root / name, before[1]):
                    yield Change(name, "append", start, data)
            else:
                yield from self._confirmed(name, now)
                for start, data, last in blocks(self.root / name):
                    yield Change(name, "replace", start, data, last)
        for name in self._known.keys() - now.keys():
            yield Change(name, "remove")
        self._remember(now)

    def _confirmed(self, name: str, now: dict[str, tuple[int, int, int]]) -> Iterator[Change]:
        """Rows written anew are confirmed before they come, beside the old ones; then the seal is replaced, too."""
        seal = seal_of(Path(name)).as_posix()
        if name.endswith(".jsonl") and name in self._known and seal in self._known and seal in now:
            size = self._known.pop(seal)[1]
            for start, data, _ in blocks(self.root / seal):
                yield Change(seal, "append", size + start, data)

    def _remember(self, now: dict[str, tuple[int, int, int]]) -> None:
        for name, (number, *_) in now.items():
            if name.endswith(GROWING) and (name not in self._known or self._known[name][0] != number):
                if name in self._held:
                    self._held.pop(name).close()
                self._held[name] = (self.root / name).open("rb")
        self._known = now


def _rank(name: str, new: bool) -> tuple[int, str]:
    """What relies on nothing first: new layouts, checkpoints, rows, the seals that confirm rows, layouts that changed
    after so many rows, the state of all."""
    last = PurePosixPath(name).name
    kinds = ["layout" in last and new, "adapter_model" in last, "adapter_config" in last]
    kinds += [*(last.endswith(each) for each in GROWING), "layout" in last]
    return kinds.index(True) if True in kinds else len(kinds), name


def write(root: Path, change: Change) -> None:
    """Makes a change in the run folder. Raises KiyasError where a file is not what it was changed from."""
    path = root / change.name
    # By its name: a stage's folder may be a link to another disk.
    if ".." in path.parts[len(root.parts) :] or not path.is_relative_to(root):
        raise KiyasError(f"{path} is not in the run folder", "nothing was written there")
    with disk_errors(path):
        if change.kind == "remove":
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # a checkpoint that was taken back
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if change.kind == "append":
            with path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) != change.start:
                    raise KiyasError(
                        f"{path} was changed while a worker was adding to it",
                        "run the same command again: what is missing is made again",
                    )
                file.write(change.data)
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with unfinished.open("rb+" if change.start else "wb") as file:
            file.seek(change.start)
            file.write(change.data)
            if change.last:
                _sync_rows(path)
                file.flush()
                os.fsync(file.fileno())
        if change.last:
            unfinished.rename(path)


def _sync_rows(path: Path) -> None:
    """What a state relies on outlives a power cut, if the state does: the rows of its part."""
    rows = path.with_name(f"{path.name.partition('.')[0]}.jsonl")
    for each in (rows, seal_of(rows)):
        if path.name[0] != "." and path != each and each.exists():
            with each.open("rb") as file:
                os.fsync(file.fileno())
