"""What a sandbox borrows from the machine and gives back: files in memory, users, folders."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .compare import encoded
from .types import SandboxError


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


NAME = "kiyas-sandbox-"
"""begins the name of everything that a sandbox makes on this machine"""


def owned(make: Callable[[], Path]) -> tuple[Path, int]:
    """A new folder, and the descriptor whose lock says that its judge lives; -1 where folders cannot be locked."""
    while True:
        path = make()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another judge, which started just now, took it for abandoned
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                return path, fd
        except BlockingIOError:
            pass  # as above
        except OSError:
            os.close(fd)
            return path, -1
        os.close(fd)


def remove_abandoned(parent: Path, remove: Callable[[Path], None]) -> None:
    """Removes folders below `parent` whose judge was killed. Touches none that is locked or another user's."""
    for path in parent.glob(NAME + "*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.geteuid():
                continue
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
            finally:
                os.close(fd)


MANY = range(700_000_000, 1_700_000_000)
"""user ids that no system gives to anybody"""
FEW = range(20_000, 65_534)
FOR_USERS = 0b1100_0001
"""what root needs to give programs a user: CAP_CHOWN, CAP_SETGID, CAP_SETUID"""


class User:
    """A user for the programs of one sandbox, which no other process of this machine has: `kill(-1)` ends all of it.

    What holds the id is the name of an abstract socket: that needs no writable place, whoever asks first has it, and
    the kernel gives it back when the judge ends in whatever way.
    """

    def __init__(self, uid: int, holder: socket.socket) -> None:
        self.uid, self._holder = uid, holder

    def close(self) -> None:
        self._holder.close()

    @classmethod
    def take(cls) -> User | None:
        """None where we are not root, or have no id to spare in our user namespace. SandboxError if all are taken."""
        if os.geteuid() != 0:
            return None
        mapped = [_ranges(f"/proc/self/{name}") for name in ("uid_map", "gid_map")]
        for pool in (MANY, FEW, range(1, 65_534)):
            ids = pool
            for ranges in mapped:  # the largest range that lies in both maps
                ids = max((_overlap(ids, each) for each in ranges), key=len, default=range(0))
            named = _named_users() if pool is not MANY else set()
            if not set(ids[: len(named) + 1]) - named:
                continue
            if not _may_give_users():
                raise SandboxError(
                    "you are root without the right to give programs a user (CAP_SETUID, CAP_SETGID, CAP_CHOWN)",
                    "run as an ordinary user, or give the container these capabilities",
                )
            busy = _users_of_processes() if pool is not MANY else set()
            start = secrets.randbelow(len(ids))
            for at in range(min(len(ids), 1 << 16)):
                uid = ids[(start + at) % len(ids)]
                if uid not in named and uid not in busy and (holder := _held(uid)) is not None:
                    return cls(uid, holder)
            raise SandboxError(
                f"all of the {len(ids)} user ids that programs may have here are in use",
                "give fewer --workers, or wait until the other judge has ended",
            )
        return None


def _held(uid: int) -> socket.socket | None:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0{NAME}uid-{uid}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            holder.close()
            return None
    return holder


def _ranges(path: str) -> list[range]:
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines()]
    except OSError:
        return [MANY]
    return [range(int(first), int(first) + int(length)) for first, _, length in lines]


def _overlap(one: range, other: range) -> range:
    return range(max(one.start, other.start), max(one.start, other.start, min(one.stop, other.stop)))


def _may_give_users() -> bool:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return True
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), FOR_USERS)
    return held & FOR_USERS == FOR_USERS


def _named_users() -> set[int]:
    import pwd

    return {entry.pw_uid for entry in pwd.getpwall()}


def _users_of_processes() -> set[int]:
    found = set[int]()
    with contextlib.suppress(OSError):
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                found |= {process.stat().st_uid} if process.name.isdigit() else set()
    return found


def others_can_read(folders: list[str]) -> bool:
    """Whether any uid may enter these folders (below /root, say, none but root may)."""
    paths = [Path(folder).resolve() for folder in folders]
    return all(part.stat().st_mode & 0o005 == 0o005 for path in paths for part in (path, *path.parents))


def may_read_all() -> bool:
    """Whether this process may read every file (CAP_DAC_READ_SEARCH), which containers often take from root."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return any(int(line[7:], 16) >> 2 & 1 for line in status.splitlines() if line.startswith("CapPrm:"))


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
