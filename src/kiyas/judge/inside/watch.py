"""The watch over one process tree: CPU, memory and wall time while it runs, and its end with everything it started."""

# pathlib is left out for its import time.
# ruff: noqa: PTH110, PTH116, PTH123, PTH208
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
GRAIN_S = 0.02
HUGE_BYTES = 4 << 30
FREE_DESCRIPTORS, KB_OF_A_DESCRIPTOR = 32, 208  # as much as a socket's buffer holds by default
STREAMS = 4  # standard input and output, and the report
LONGEST_LOOK_S = 0.1
LOOKS_AT_SCRATCH = 8
MAPPED_FREE = 8  # files without a name that are only mapped: nobody can say how large they are
UNSEEN_FREE_KB = 128 << 10  # a full scratch folder, and what the kernel needs for 64 processes
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


def stat_fields(path: str) -> list[bytes]:
    """The fields after the name in a `stat` of /proc; the state is the first."""
    with open(path, "rb") as file:
        return file.read().rpartition(b")")[2].split()


def resident_kb(pid: int, fields: list[bytes]) -> int:
    """Where a process's first thread has ended, its own `stat` shows nothing: another thread's does."""
    if fields[0] == b"Z" and int(fields[17]) > 1:
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError, ValueError, IndexError):
                if pages := int(stat_fields(f"/proc/{pid}/task/{task}/stat")[21]):
                    return pages * PAGE_KB
    return int(fields[21]) * PAGE_KB


def hidden_kb(pid: int, fields: list[bytes], processes: int) -> int:
    """What the kernel holds for a process besides its pages: page tables of huge mappings, buffers of many sockets.

    Its memory in swap, too. What is free is so for all `processes` of the tree together.
    """
    hidden = 0
    if int(fields[20]) > HUGE_BYTES // processes:
        with open(f"/proc/{pid}/status") as file:
            hidden = sum(int(line.split()[1]) for line in file if line.startswith(("VmPTE:", "VmSwap:")))
    with suppress(OSError):
        held = os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))  # 0: before Linux 6.2
        hidden += max(0, held - max(STREAMS, FREE_DESCRIPTORS // processes)) * KB_OF_A_DESCRIPTOR
    return hidden


def proportional_kb(pids: list[int]) -> int:
    """Shared pages by share; all of them where a process does not let us see that.

    Nor do we look for long: with 65,000 mappings in each process it would take seconds, in which no limit is watched.
    """
    used_kb, until = 0, time.process_time() + LONGEST_LOOK_S
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            fields = stat_fields(f"/proc/{pid}/stat")
            used_kb += hidden_kb(pid, fields, len(pids))
            share = None
            if time.process_time() < until:
                with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
                    share = next((int(line.split()[1]) for line in file if line.startswith("Pss:")), None)
            used_kb += resident_kb(pid, fields) if share is None else share
    return used_kb


def waited_s(pid: int) -> float:
    """Seconds the process was ready to run but was not running: an overloaded machine is not its fault."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0


def shared_memory_kb() -> int:
    """Of the whole machine."""
    with suppress(OSError), open("/proc/meminfo") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Shmem:")), 0)
    return 0


WAITING = 0.05


def is_crowded(pid: int, wall: float) -> bool:
    """Whether the process had to wait for a processor for more than a small part of its time."""
    return waited_s(pid) > WAITING * wall


class Watch:
    """CPU seconds and memory of the process tree, from /proc."""

    def __init__(self, strong: bool, group: int = -1, memory: tuple[int, int] = (-1, -1)) -> None:
        self.strong = strong
        self.group = group
        self.shared, self.kernel = memory
        self.machine_start_kb: int | None = None
        self.virtual_kb = 0
        self.kernel_start_kb = self.kernel_kb() if self.kernel >= 0 else 0
        self.group_start_s = self.group_cpu_s() if group >= 0 else 0.0
        self.own_cpu: dict[int, float] = {}
        self.peak_kb = 0

    def group_cpu_s(self) -> float:
        """CPU seconds that all of our control group but ourselves has used."""
        text = os.pread(self.group, 200, 0)
        used = int(text.split()[1]) / 1e6 if text.startswith(b"usage_usec") else int(text) / 1e9
        return used - time.process_time()

    def kernel_kb(self) -> int:
        return int(os.pread(self.kernel, 32, 0)) // 1024

    def unseen_kb(self, limit_kb: int) -> int:
        """What no process shows: shared memory that nobody maps just now, what the kernel holds for the programs.

        Without a control group: by how much the machine's shared memory grew while the programs mapped so much that it
        may be theirs.
        """
        if self.shared < 0:
            if self.virtual_kb > limit_kb + UNSEEN_FREE_KB and self.machine_start_kb is None:
                self.machine_start_kb = shared_memory_kb()
            return 0 if self.machine_start_kb is None else shared_memory_kb() - self.machine_start_kb
        lines = os.pread(self.shared, 8192, 0).split(b"\n")
        found = {key: int(value) // 1024 for key, value in (line.split() for line in lines if line.count(b" ") == 1)}
        if self.kernel >= 0:
            kernel = self.kernel_kb() - self.kernel_start_kb
        else:  # version 2; names of files that were looked for are kept until memory is short, whoever looked
            kernel = found.get(b"kernel", 0) - found.get(b"slab_reclaimable", 0)
        return found.get(b"shmem", 0) + kernel

    def cpu_s(self, seen: float) -> float:
        """`seen` by polling, or the kernel's count where that is clearly more (by over a clock tick)."""
        if self.group < 0:
            return seen
        counted = self.group_cpu_s() - self.group_start_s
        return counted if counted > seen + GRAIN_S else seen

    def pids(self) -> list[int]:
        if not HAS_PROC:
            return []
        if self.strong:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        return children_of(os.getpid())

    def look(self, limit_kb: int) -> tuple[float, int]:
        """(CPU seconds so far, kB in use). Shared pages are counted once as soon as the plain sum is too large."""
        live, used_kb = self.pids(), 0
        cpu, self.virtual_kb = 0.0, 0
        for pid in live:
            with suppress(OSError, ValueError, IndexError):
                fields = stat_fields(f"/proc/{pid}/stat")
                own = (int(fields[11]) + int(fields[12])) / TICKS
                self.own_cpu[pid] = max(own, self.own_cpu.get(pid, 0.0))
                cpu += own + (int(fields[13]) + int(fields[14])) / TICKS
                used_kb += resident_kb(pid, fields) + hidden_kb(pid, fields, len(live))
                self.virtual_kb += int(fields[20]) // 1024
        if used_kb > limit_kb and len(live) > 1:
            used_kb = proportional_kb(live)
        return self.cpu_s(max(cpu, sum(self.own_cpu.values()))), used_kb

    def look_twice(self, limit_kb: int) -> tuple[float, int]:
        """As `look`. Too much memory must be seen twice: until it execs, a child seems to use its parent's."""
        cpu, used_kb = self.look(limit_kb)
        if used_kb > limit_kb:
            time.sleep(0.003)
            cpu, again_kb = self.look(limit_kb)
            used_kb = min(used_kb, again_kb)
        if (unseen_kb := self.unseen_kb(limit_kb)) > limit_kb + UNSEEN_FREE_KB:
            used_kb = max(used_kb, unseen_kb)
        self.peak_kb = max(self.peak_kb, used_kb)
        return cpu, used_kb

    def left_behind(self) -> int:
        """Living processes besides the zygote; zombies do not count."""
        count = 0
        for pid in self.pids():
            with suppress(OSError, IndexError):
                fields = stat_fields(f"/proc/{pid}/stat")
                count += fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
        return count


def is_full(folder: str, most_kb: int, most_files: int) -> bool:
    """Whether a scratch folder without a file system of its own holds more than it may.

    Follows no link; however long the path; with one descriptor.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here, files, waiting, entered = os.open(folder, flags), 0, list[list[str]](), True
    try:
        while True:
            if entered:
                waiting.append([])
                with os.scandir(here) as entries:
                    for entry in entries:
                        files += 1
                        if entry.is_dir(follow_symlinks=False):
                            waiting[-1].append(entry.name)
                        with suppress(OSError):
                            most_kb -= entry.stat(follow_symlinks=False).st_blocks // 2
                        if most_kb < 0 or files > most_files:
                            return True
            entered = bool(waiting[-1])
            name = waiting[-1].pop() if entered else ".."
            if not entered:
                waiting.pop()
                if not waiting:
                    return False
            try:
                following = os.open(name, flags, dir_fd=here)
            except PermissionError:  # of our own user, who made it so; one that it cannot enter holds nothing
                if os.stat(name, dir_fd=here, follow_symlinks=False).st_mode & 0o300 == 0o300:
                    return True
                entered = False
            except FileNotFoundError:
                entered = False
            else:
                os.close(here)
                here = following
    except OSError:  # it changes while we look
        return False
    finally:
        os.close(here)


def hides_files(pids: list[int], folder: str, most_kb: int) -> bool:
    """Whether files of the scratch folder that have no name any more, but are open or mapped, hold more than it may."""
    seen: set[int] = set()
    mapped: set[bytes] = set()
    device, inside = os.stat(folder).st_dev, os.fsencode(folder) + b"/"
    for pid in pids:
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    file = os.stat(f"/proc/{pid}/fd/{fd}")
                    if file.st_nlink == 0 and file.st_dev == device and file.st_ino not in seen:
                        seen.add(file.st_ino)
                        most_kb -= file.st_blocks // 2
            with open(f"/proc/{pid}/maps", "rb") as maps:
                mapped |= {line.split()[4] for line in maps if line.endswith(b"(deleted)\n") and inside in line}
    return most_kb < 0 or len(mapped - {b"%d" % inode for inode in seen}) > MAPPED_FREE


def fills(pids: list[int], folder: str, most_kb: int, most_files: int) -> bool:
    with suppress(OSError):
        return is_full(folder, most_kb, most_files) or hides_files(pids, folder, most_kb)
    return False


def end_all(program: int, strong: bool, uid: int | None) -> list[resource.struct_rusage]:
    """Kill the whole tree and reap it. `uid`: the programs', if nobody else has it. OSError if some survive."""
    used = []
    with suppress(OSError):
        os.killpg(program, _signal.SIGKILL)
    killer = 0
    if strong:
        assert os.getpid() == 1
        with suppress(OSError):  # from a namespace's pid 1 this misses nobody
            os.kill(-1, _signal.SIGKILL)
    elif uid is not None:
        killer = kill_all_of(uid)
    deadline = time.monotonic() + 20
    while True:
        try:
            while (reaped := os.wait4(-1, 0 if strong else os.WNOHANG))[0]:
                if reaped[0] != killer:
                    used.append(reaped[2])
        except ChildProcessError:
            return used
        if time.monotonic() > deadline:
            raise OSError("processes of the program could not be ended")
        if uid is None:
            kill_each(program)
        time.sleep(0.001)


def kill_all_of(uid: int) -> int:
    """No fork escapes the kernel's own kill(-1). It spares only the caller: a process of that user, made for it."""
    killer = os.fork()
    if killer == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, _signal.SIGKILL)
        finally:
            os._exit(0)
    return killer


def kill_each(program: int) -> None:
    """Where the programs' user is ours too. Stopped first: what is stopped forks no more, so this comes to an end."""
    stopped: set[int] = set()
    while new := set(children_of(os.getpid()) if HAS_PROC else [program]) - stopped:
        for pid in new:
            with suppress(OSError):
                os.kill(pid, _signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        with suppress(OSError):
            os.kill(pid, _signal.SIGKILL)


def tasks_of(uid: int) -> int:
    """Threads of this user, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc") if HAS_PROC else ():
        with suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def childless() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def watch_program(
    job: dict[str, Any],
    program: int,
    control: _socket.socket,
    strong: bool,
    reaper: bool,
    uid: int | None,
    group: int,
    scratch: tuple[str, int, int] | None,
    memory: tuple[int, int] = (-1, -1),
) -> str:
    """Wait for the program's end or for a limit, kill what is left; the answer for the judge (see sandbox.py).

    `reaper`: a process whose parent ends becomes our child. No child after the program's end: no process is left.
    `group`: descriptor of what counts the CPU time of our control group, or -1.
    `scratch`: folder, kB and files in it, if we have to count ourselves.
    `memory`: descriptors of what our control group counts of it (see groups.py), or -1.
    """
    watch, start, waited = Watch(strong, group, memory), time.monotonic(), 0.0
    limit_kb = job["memory"] // 1024
    poller = select.poll()
    poller.register(control, select.POLLIN | select.POLLHUP)
    pidfd = os.pidfd_open(program) if hasattr(os, "pidfd_open") else None
    if pidfd is not None:
        poller.register(pidfd, select.POLLIN)
    pause_ms = (TICK_S if pidfd is not None else 0.002) * 1000
    killed, looks = "", 0
    while not killed:
        events = poller.poll(pause_ms)
        # WNOWAIT leaves the zombie, so that nothing else can take its pid before the tree is dead.
        if os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        if any(fd == control.fileno() for fd, _ in events):
            killed = "judge"
            break
        cpu, used_kb = watch.look_twice(limit_kb)
        wall = time.monotonic() - start
        if cpu > job["crowded_cpu_s"] or (cpu > job["cpu_s"] and not is_crowded(program, wall)):
            killed = "cpu"
        elif used_kb > limit_kb:
            killed = "memory"
        elif scratch is not None and (looks := looks + 1) % LOOKS_AT_SCRATCH == 0 and fills(watch.pids(), *scratch):
            killed = "scratch"
        elif wall > job["wall_s"]:
            waited = waited_s(program)
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
            watch.look_twice(limit_kb)
            left = watch.left_behind()
        used += end_all(program, strong, uid)
    unit = 1 if sys.platform.startswith("linux") else 1024
    cpu_s = watch.cpu_s(max(sum(each.ru_utime + each.ru_stime for each in used), sum(watch.own_cpu.values())))
    peak_kb = max([watch.peak_kb, *(each.ru_maxrss // unit for each in used)])
    return f"{program} {code} {killed or '-'} {cpu_s} {wall} {waited} {peak_kb} {left}"
