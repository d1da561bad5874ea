"""Control groups, where this process may make one: the kernel counts what a whole sandbox uses, and caps its processes.

Version 1 (`cpuacct`, `pids`) and version 2 (`cpu.stat`; `pids.max` where that controller is handed down). What polling
cannot see is then seen too: the CPU time of processes that live for less than one look and that nobody waits for.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "kiyas-judge"


class Group:
    """Made for one sandbox. Raises OSError with the reason where none can be made."""

    def __init__(self, name: str, processes: int) -> None:
        self.folders: list[Path] = []
        self.cpu_fd = -1
        try:
            for parent in parents():
                remove_stale(parent)
                folder = parent / f"{PREFIX}-{os.getpid()}-{name}"
                folder.mkdir()
                self.folders.append(folder)
                if (folder / "pids.max").exists():
                    (folder / "pids.max").write_text(f"{processes}\n")
                for file in (folder / "cpuacct.usage", folder / "cpu.stat"):
                    if self.cpu_fd < 0 and file.exists():
                        self.cpu_fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            if self.cpu_fd < 0:
                raise OSError("no control group counts CPU time here")
        except OSError:
            self.close()
            raise

    def add(self, pid: int) -> None:
        """This process, and all that it starts from now on."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(f"{pid}\n")

    def close(self) -> None:
        if self.cpu_fd >= 0:
            os.close(self.cpu_fd)
            self.cpu_fd = -1
        for folder in self.folders:
            for _ in range(50):  # what has just been killed takes a moment to be gone
                with contextlib.suppress(OSError):
                    folder.rmdir()
                if not folder.exists():
                    break
                time.sleep(0.01)


def parents() -> list[Path]:
    """The groups that this process is in, of the hierarchies that are of use. Raises OSError where there is none."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in ("cpuacct", "pids"):
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


def remove_stale(parent: Path) -> None:
    """Empty groups of judges that were killed."""
    for folder in parent.glob(f"{PREFIX}-*"):
        if not Path(f"/proc/{folder.name.split('-')[2]}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
