"""What a sandbox borrows from the machine and gives back: files in memory, users, folders."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from .compare import encoded


def memory_file(*content: bytes) -> int:
    """A descriptor from which `content` can be read, from its start; sealed where the system can."""
    sealed = hasattr(os, "memfd_create")
    if sealed:
        fd = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        for part in content:
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        if sealed:
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Inputs:
    """Large inputs, each once in memory however many workers run a program on it just now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[int, tuple[int, int]] = {}

    @contextlib.contextmanager
    def take(self, text: str) -> Iterator[int]:
        """A descriptor of its own, with an offset of its own, which the caller closes."""
        with self._lock:
            fd, users = self._held.get(id(text)) or (memory_file(*encoded(text)), 0)
            self._held[id(text)] = fd, users + 1
        try:
            mine = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:  # a program of our own user has closed it
            mine = memory_file(*encoded(text))
        try:
            yield mine
        finally:
            with self._lock:
                fd, users = self._held.pop(id(text))
                if users > 1:
                    self._held[id(text)] = fd, users - 1
                else:
                    os.close(fd)


INPUTS = Inputs()


class Numbers:
    """The smallest number that no living sandbox of this process has: it makes uids and control groups unique."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[int] = set()

    def take(self) -> int:
        with self._lock:
            number = next(n for n in itertools.count() if n not in self._taken)
            self._taken.add(number)
            return number

    def give_back(self, number: int) -> None:
        with self._lock:
            self._taken.discard(number)


NUMBERS = Numbers()


def uid_for_programs(number: int) -> int | None:
    """A uid that nobody else has, or None where our user namespace has none to spare."""
    wanted = (
        700_000_000 + os.getpid() % 1_000_000 * 1024 + number % 1024,
        40_000 + os.getpid() % 16 * 1024 + number % 1024,
    )
    try:
        lines = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return wanted[0]
    ranges = [range(int(first), int(first) + int(length)) for first, _, length in lines]
    return next((uid for uid in wanted if any(uid in known for known in ranges)), None)


def others_can_read(folders: list[str]) -> bool:
    """Whether any uid may enter these folders (below /root, say, none but root may)."""
    paths = [Path(folder).resolve() for folder in folders]
    return all(part.stat().st_mode & 0o005 == 0o005 for path in paths for part in (path, *path.parents))


def remove_folder(folder: str) -> None:
    """However deep, however wide, however locked, in linear time and with one descriptor. Follows no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    Path(folder).chmod(0o700)

    def emptied(fd: int) -> list[str]:
        """Removes the files of a folder; the names of the folders in it."""
        folders = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=fd)
        return folders

    here, names = os.open(folder, flags), list[str]()
    try:
        waiting = [emptied(here)]
        while waiting[-1] or names:
            if waiting[-1]:
                names.append(waiting[-1].pop())
                os.chmod(names[-1], 0o700, dir_fd=here)
                following = os.open(names[-1], flags, dir_fd=here)
                waiting.append(emptied(following))
            else:
                following = os.open("..", flags, dir_fd=here)
                os.rmdir(names.pop(), dir_fd=following)
                waiting.pop()
            os.close(here)
            here = following
    finally:
        os.close(here)
    Path(folder).rmdir()
