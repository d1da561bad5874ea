"""Control groups, where this process may make one: the kernel counts what a whole sandbox uses, and caps its processes.

Version 1 (`cpuacct`, `pids`, `memory`) and version 2 (`cpu.stat`; `pids.max` and `memory.stat` where those controllers
are handed down). What polling cannot see is then seen too: the CPU time of processes that live for less than one look
and that nobody waits for; memory that no process shows, because it is shared and nobody maps it, or the kernel's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from functools import partial
from pathlib import Path

from .resources import NAME, owned, remove_abandoned

ROOT = Path("/sys/fs/cgroup")


class Group:
    """Made for one sandbox. Raises OSError with the reason where none can be made."""

    def __init__(self, processes: int) -> None:
        self.folders: list[Path] = []
        self.cpu_fd = self.shared_fd = self.kernel_fd = -1
        """CPU time; statistics of memory, for what is shared; memory that the kernel holds for the group"""
        self._locks: list[int] = []
        refused = OSError("no control group counts CPU time here")
        try:
            for parent in parents():
                try:
                    remove_abandoned(parent, end)
                    folder, lock = owned(partial(made, parent))
                except OSError as error:
                    refused = error
                    continue
                self.folders.append(folder)
                self._locks.append(lock)
                if (folder / "pids.max").exists():
                    (folder / "pids.max").write_text(f"{processes}\n")
                for name, file in (
                    ("cpu_fd", "cpuacct.usage"),
                    ("cpu_fd", "cpu.stat"),
                    ("shared_fd", "memory.stat"),
                    ("kernel_fd", "memory.kmem.usage_in_bytes"),
                ):
                    if getattr(self, name) < 0 and (folder / file).exists():
                        setattr(self, name, os.open(folder / file, os.O_RDONLY | os.O_CLOEXEC))
            if self.cpu_fd < 0:
                raise refused
        except OSError:
            self.close()
            raise

    @property
    def fds(self) -> list[int]:
        return [fd for fd in (self.cpu_fd, self.shared_fd, self.kernel_fd) if fd >= 0]

    def add(self, pid: int) -> None:
        """This process, and all that it starts from now on."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(f"{pid}\n")

    def close(self) -> None:
        for fd in (*self.fds, *(lock for lock in self._locks if lock >= 0)):
            os.close(fd)
        self.cpu_fd = self.shared_fd = self.kernel_fd = -1
        self._locks = []
        for folder in self.folders:
            for _ in range(50):  # what has just been killed takes a moment to be gone
                with contextlib.suppress(OSError):
                    end(folder)
                if not folder.exists():
                    break
                time.sleep(0.01)


def made(parent: Path) -> Path:
    folder = parent / (NAME + secrets.token_hex(8))
    folder.mkdir()
    return folder


def end(folder: Path) -> None:
    """Of a group whose judge or zygote was killed: what still runs in it, and the group."""
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            if int(pid):  # 0: it is in another pid namespace
                os.kill(int(pid), signal.SIGKILL)
    folder.rmdir()


def parents() -> list[Path]:
    """The groups that this process is in, of the hierarchies that are of use. Raises OSError where there is none."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in ("cpuacct", "pids", "memory"):
                found[controller] = ROOT / controllers / path.lstrip("/")
        if not controllers:
            version_2 = ROOT if (ROOT / "cgroup.procs").exists() else ROOT / "unified"
            found["version 2"] = version_2 / path.lstrip("/")
    if "cpuacct" in found:
        found.pop("version 2", None)
    there = list(dict.fromkeys(folder for folder in found.values() if (folder / "cgroup.procs").exists()))
    if not there:
        raise OSError("no control groups are mounted")
    return there
