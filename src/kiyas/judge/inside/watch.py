"""The watch over one process tree: CPU, memory and wall time while it runs, and its end with everything it started."""

# pathlib is left out for its import time.
# ruff: noqa: PTH110, PTH123, PTH208
from __future__ import annotations

import _signal  # type: ignore[import-not-found,unused-ignore]
import _socket  # type: ignore[import-not-found,unused-ignore]
import os
import resource
import select
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from typing import Any

TICK_S = 0.012
PAGE_KB = resource.getpagesize() // 1024
TICKS = os.sysconf("SC_CLK_TCK")
HAS_PROC = os.path.exists("/proc/self/statm")


def children_of(pid: int) -> list[int]:
    """Descendants of `pid`, by /proc."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        with suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as file:
                    new = [int(word) for word in file.read().split()]
                found += new
                queue += new
    return found


class Watch:
    """CPU seconds, memory and waiting time of the process tree, from /proc."""

    def __init__(self, strong: bool) -> None:
        self.strong = strong
        self.own_cpu: dict[int, float] = {}
        self.peak_kb = 0

    def pids(self) -> list[int]:
        if not HAS_PROC:
            return []
        if self.strong:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        return children_of(os.getpid())

    def look(self, limit_kb: int) -> tuple[float, int]:
        """(CPU seconds so far, kB in use). Shared pages are counted once as soon as the plain sum is too large."""
        total_kb, live = 0, self.pids()
        cpu = 0.0
        for pid in live:
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{pid}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                own = (int(fields[11]) + int(fields[12])) / TICKS
                self.own_cpu[pid] = max(own, self.own_cpu.get(pid, 0.0))
                cpu += own + (int(fields[13]) + int(fields[14])) / TICKS
                total_kb += int(fields[21]) * PAGE_KB
        if total_kb > limit_kb and len(live) > 1:
            total_kb = sum(map(self.proportional_kb, live))
        self.peak_kb = max(self.peak_kb, total_kb)
        return max(cpu, sum(self.own_cpu.values())), total_kb

    @staticmethod
    def proportional_kb(pid: int) -> int:
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
        return 0

    @staticmethod
    def waited_s(pid: int) -> float:
        """Seconds the process stood ready to run but was not running: an overloaded machine is not its fault."""
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
        return 0.0

    def left_behind(self) -> int:
        """Living processes beside the zygote (zombies are none)."""
        count = 0
        for pid in self.pids():
            with suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
                count += file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        return count


def end_all(program: int, strong: bool) -> list[resource.struct_rusage]:
    """Kill the whole tree and reap it. In `strong` the kernel's kill(-1) of a namespace's pid 1 misses nobody."""
    used = []
    if strong:
        assert os.getpid() == 1
        with suppress(OSError):
            os.kill(-1, _signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                used.append(os.wait4(-1, 0)[2])
        return used
    deadline = time.monotonic() + 3
    with suppress(OSError):
        os.killpg(program, _signal.SIGKILL)
    while time.monotonic() < deadline:
        for pid in children_of(os.getpid()) if HAS_PROC else [program]:
            with suppress(OSError):
                os.kill(pid, _signal.SIGKILL)
        try:
            while (reaped := os.wait4(-1, os.WNOHANG))[0]:
                used.append(reaped[2])
        except ChildProcessError:
            break
        time.sleep(0.001)
    return used


def childless() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def watch_program(job: dict[str, Any], program: int, control: _socket.socket, strong: bool, reaper: bool) -> str:
    """Wait for the program's end or for a limit, kill what is left; the answer for the judge (see sandbox.py).

    `reaper`: a process whose parent ends becomes our child. No child after the program's end: no process is left.
    """
    watch, start, waited = Watch(strong), time.monotonic(), 0.0
    limit_kb = job["memory"] // 1024
    poller = select.poll()
    poller.register(control, select.POLLIN | select.POLLHUP)
    pidfd = os.pidfd_open(program) if hasattr(os, "pidfd_open") else None
    if pidfd is not None:
        poller.register(pidfd, select.POLLIN)
    pause_ms = (TICK_S if pidfd is not None else 0.002) * 1000
    killed = ""
    while not killed:
        events = poller.poll(pause_ms)
        # WNOWAIT leaves the zombie, so that nothing else can take its pid before the tree is dead.
        if os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        if any(fd == control.fileno() for fd, _ in events):
            killed = "judge"
            break
        cpu, used_kb = watch.look(limit_kb)
        wall = time.monotonic() - start
        if cpu > job["cpu_s"]:
            killed = "cpu"
        elif used_kb > limit_kb:
            killed = "memory"
        elif wall > job["wall_s"]:
            waited = watch.waited_s(program)
            if wall - waited > job["wall_s"] or wall > 20 * job["wall_s"]:
                killed = "wall"
    wall = time.monotonic() - start
    if pidfd is not None:
        os.close(pidfd)
    left, code, used = 0, None, []
    if not killed:
        _, code, usage = os.wait4(program, 0)
        used.append(usage)
    if killed or not (reaper and childless()):
        if not killed:
            watch.look(limit_kb)
            left = watch.left_behind()
        used += end_all(program, strong)
    unit = 1 if sys.platform.startswith("linux") else 1024
    cpu_s = max(sum(each.ru_utime + each.ru_stime for each in used), sum(watch.own_cpu.values()))
    peak_kb = max([watch.peak_kb, *(each.ru_maxrss // unit for each in used)])
    return f"{program} {code} {killed or '-'} {cpu_s} {wall} {waited} {peak_kb} {left}"
