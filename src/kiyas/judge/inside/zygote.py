"""The zygote: a warmed interpreter that forks once per test. Started by path, `python -s -S zygote.py CONFIG`.

    judge ──control socket──> zygote ──fork──> supervisor ──fork──> program

One job comes as one JSON line with six file descriptors: stdin, stdout, stderr, report, payload, status. The zygote
itself never reads the payload, so a fork inherits nothing of another test. The *supervisor* (pid 1 of a fresh pid
namespace in the tier `strong`) mounts, watches CPU, memory and wall time over the process tree, kills everything,
and writes one JSON line to `status`. If it cannot, it says `{"error": …}` or nothing: then the sandbox has failed,
not the program. The *program* gives up its rights and runs `runner.run`.
"""

# pathlib is left out for its import time.
# ruff: noqa: PTH100, PTH103, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211, PTH102, PTH106, BLE001
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

import runner  # type: ignore[import-not-found,unused-ignore]

try:
    import linux  # type: ignore[import-not-found,unused-ignore]
except (ImportError, AttributeError, OSError):
    linux = None  # type: ignore[assignment,unused-ignore]  # no ctypes, or not Linux: only the tier `weak`

INSIDE_UID = 1000
WORK = "/tmp/run"
TICK_S = 0.012
WARM = (
    "atexit collections bisect heapq math itertools functools operator re string random decimal fractions statistics "
    "typing copy io array queue threading datetime dataclasses enum contextlib traceback linecache ast site"
)


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next job and its descriptors; exits when the judge is gone."""
    message, descriptors, _, _ = socket.recv_fds(control, 65536, 6)
    if not message:
        os._exit(0)
    return json.loads(message), descriptors


# --- strong: namespaces and the view of the file system ----------------------------------------------------------


def enter_user_namespace(outside_uid: int, outside_gid: int, program_uid: int) -> None:
    """Called as root: two ids (0 for the supervisor, INSIDE_UID for programs); else only our own, as INSIDE_UID."""
    if os.geteuid() == 0:
        ids = f"0 0 1\n{INSIDE_UID} {program_uid} 1"
        ready_r, ready_w = os.pipe()
        me, helper = os.getpid(), os.fork()
        if helper == 0:
            # Only a process outside the new namespace may write a map of more than its own id.
            os.read(ready_r, 1)
            try:
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{me}/{name}", "w") as file:
                        file.write(ids)
            except OSError:
                os._exit(1)
            os._exit(0)
        try:
            linux.unshare(linux.CLONE_NEWUSER)
        finally:
            os.write(ready_w, b"x")
            os.close(ready_r)
            os.close(ready_w)
            status = os.waitpid(helper, 0)[1]
        if status:
            raise OSError("the id maps of the user namespace could not be written")
    else:
        linux.unshare(linux.CLONE_NEWUSER)
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"{INSIDE_UID} {outside_uid} 1"),
            ("gid_map", f"{INSIDE_UID} {outside_gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)


def build_root(visible: list[str]) -> None:
    """A root of its own: `visible` paths read-only, five devices, empty /tmp. Everything else does not exist."""
    sources = {}
    links = {}
    for path in visible:
        if os.path.islink(path):
            links[path] = os.readlink(path)
        elif os.path.exists(path):
            sources[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in ("null", "zero", "full", "random", "urandom")}
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("kiyas", "/tmp", "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
    root = "/tmp"
    for path, fd in sources.items():
        target = root + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        linux.mount(f"/proc/self/fd/{fd}", target, None, linux.MS_BIND | linux.MS_REC)
        linux.make_readonly(target)
        os.close(fd)
    for path, destination in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(destination, root + path)
    for folder in ("proc", "dev", "tmp", "old"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for name, fd in devices.items():
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY))
        linux.mount(f"/proc/self/fd/{fd}", f"{root}/dev/{name}", None, linux.MS_BIND)
        os.close(fd)
    for name, destination in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{destination}", f"{root}/dev/{name}")
    os.symlink("/tmp/shm", f"{root}/dev/shm")
    linux.mount("proc", f"{root}/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    os.chdir(root)
    linux.pivot_root(".", "old")
    os.chdir("/")
    linux.umount("/old")
    os.rmdir("/old")


def enter_strong(config: dict[str, Any]) -> int:
    """Namespaces per worker: user, net, ipc, uts, cgroup, mount, pid. Returns, in pid 1 of them, our own pid namespace.

    The pid and mount namespaces of a test are made anew below these (`isolate_test`).
    """
    enter_user_namespace(os.getuid(), os.getgid(), config["uid"])
    die_with_parent()  # again: the kernel forgets it when a process changes its rights
    linux.unshare(
        linux.CLONE_NEWNS
        | linux.CLONE_NEWPID
        | linux.CLONE_NEWNET
        | linux.CLONE_NEWIPC
        | linux.CLONE_NEWUTS
        | linux.CLONE_NEWCGROUP
    )
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(0 if status == 0 else 1)
    die_with_parent()
    build_root(config["visible"])
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def isolate_test(config: dict[str, Any]) -> str:
    """In the supervisor, pid 1 of its namespace: its own /proc and an empty, capped /tmp."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    size = f"size={config['scratch_mb']}m,nr_inodes={config['inodes']},mode=755"
    linux.mount("kiyas", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, size)
    for folder in (WORK, "/tmp/shm"):
        os.mkdir(folder)
        os.chown(folder, INSIDE_UID, INSIDE_UID)
    os.chown("/tmp", INSIDE_UID, INSIDE_UID)
    for fd in (1, 2):  # so that /dev/stdout can be opened
        with suppress(OSError):
            os.fchown(fd, INSIDE_UID, -1)
    return WORK


def die_with_parent() -> None:
    """Only in `strong`, where our end takes everything below along.

    Elsewhere the closed sockets tell us to clean up.
    """
    if linux is not None:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)


# --- the program -------------------------------------------------------------------------------------------------


def become_program(config: dict[str, Any], job: dict[str, Any], folder: str, seccomp: bytes) -> None:
    """Limits, then no more rights: uid, capabilities, no_new_privs, Landlock, seccomp, each as the tier has it."""
    os.setsid()
    tier = config["tier"]

    def limit(which: int, value: int) -> None:
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))

    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, job["files"])
    limit(resource.RLIMIT_FSIZE, job["file_size"])
    with suppress(OSError, ValueError):
        limit(resource.RLIMIT_DATA, job["memory"] + job["memory_slack"])
    seconds = int(job["cpu_s"]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if tier == "strong" or config["uid"] is not None:
        limit(resource.RLIMIT_NPROC, job["processes"])
    if linux is None:
        return
    if tier != "weak":
        linux.drop_bounding_set()
    if tier == "strong":
        if os.geteuid() == 0:
            os.setgroups([])
        os.setresgid(INSIDE_UID, INSIDE_UID, INSIDE_UID)
        os.setresuid(INSIDE_UID, INSIDE_UID, INSIDE_UID)
    elif config["uid"] is not None:
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    if tier != "weak":
        linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Another uid made us undumpable: our own /proc/self (and with it /dev/stdin) would be closed to us.
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    if tier != "weak" and config["landlock"]:
        devices = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")]
        writable = ["/tmp"] if tier == "strong" else [folder]
        proc = ["/proc"] if tier == "strong" else []
        linux.restrict_files([*config["visible"], *proc], [*writable, *devices])
    if tier != "weak":
        linux.install_seccomp(seccomp)


def start_program(config: dict[str, Any], job: dict[str, Any], folder: str, fds: list[int], seccomp: bytes) -> None:
    """In the child: never returns into the zygote's loop."""
    stdin, stdout, stderr, report, payload, _ = fds
    try:
        for source, target in ((stdin, 0), (stdout, 1), (stderr, 2), (report, 3), (payload, 4)):
            os.dup2(source, target, inheritable=True)
        os.closerange(5, 4096)
        for fd in (3, 4):
            os.set_inheritable(fd, False)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update({"PYTHONHASHSEED": "0", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"})
        os.environ["PATH"] = os.path.dirname(sys.executable) + ":/usr/bin:/bin"
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        become_program(config, job, folder, seccomp)
    except BaseException as error:
        os.write(3, f"S{type(error).__name__}: {error}".encode("utf-8", "replace"))
        os._exit(1)
    for name in ("linux", "runner", "zygote"):
        sys.modules.pop(name, None)
    runner.run(job["kind"], folder, job.get("entry_point"), job.get("time_limit", 6.0))


# --- the supervisor ----------------------------------------------------------------------------------------------


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
        self.page_kb = resource.getpagesize() // 1024
        self.tick = os.sysconf("SC_CLK_TCK")
        self.own_cpu: dict[int, float] = {}
        self.peak_kb = 0
        self.has_proc = os.path.exists("/proc/self/statm")

    def pids(self) -> list[int]:
        if not self.has_proc:
            return []
        if self.strong:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        return children_of(os.getpid())

    def look(self, limit_kb: int) -> tuple[float, int]:
        """(CPU seconds so far, kB in use). Shared pages are counted once as soon as the plain sum is too large."""
        total_kb, live = 0, self.pids()
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = reaped.ru_utime + reaped.ru_stime
        for pid in live:
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{pid}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                own = (int(fields[11]) + int(fields[12])) / self.tick
                self.own_cpu[pid] = max(own, self.own_cpu.get(pid, 0.0))
                cpu += own + (int(fields[13]) + int(fields[14])) / self.tick
                total_kb += int(fields[21]) * self.page_kb
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
        """Living processes beside the supervisor (zombies are none)."""
        count = 0
        for pid in self.pids():
            with suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
                count += file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        return count


def kill_all(program: int, strong: bool) -> None:
    """Kill the whole tree and reap it. In `strong` the kernel's kill(-1) of a namespace's pid 1 misses nobody."""
    if strong:
        assert os.getpid() == 1
        with suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        return
    deadline = time.monotonic() + 3
    with suppress(OSError):
        os.killpg(program, signal.SIGKILL)
    while time.monotonic() < deadline:
        for pid in children_of(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def watch_program(job: dict[str, Any], program: int, status: socket.socket, strong: bool) -> dict[str, Any]:
    """Wait for the program's end or for a limit, kill what is left; the answer for the judge."""
    watch, start, waited = Watch(strong), time.monotonic(), 0.0
    limit_kb = job["memory"] // 1024
    poller = select.poll()
    poller.register(status, select.POLLIN | select.POLLHUP)
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
        if any(fd == status.fileno() for fd, _ in events):
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
    left = 0
    code = None
    if not killed:
        cpu, _ = watch.look(limit_kb)
        _, code = os.waitpid(program, 0)
        left = watch.left_behind() if watch.has_proc else 0
    kill_all(program, strong)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform.startswith("linux") else 1024
    return {
        "code": code,
        "killed": killed,
        "cpu_s": max(usage.ru_utime + usage.ru_stime, sum(watch.own_cpu.values())),
        "wall_s": wall,
        "waited_s": waited,
        "peak_kb": max(watch.peak_kb, usage.ru_maxrss // unit),
        "left_behind": left,
    }


def supervise(config: dict[str, Any], job: dict[str, Any], fds: list[int], seccomp: bytes) -> None:
    """In the fork of the zygote. Never returns, neither here nor in the program's process."""
    strong = config["tier"] == "strong"
    status = socket.socket(fileno=fds[5])
    program: int | None = None
    folder = ""
    try:
        if strong:
            for source, target in ((fds[1], 1), (fds[2], 2)):
                os.dup2(source, target)
            folder = isolate_test(config)
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.close(null)
        else:
            folder = job["folder"]
            if config["uid"] is not None:
                os.chown(folder, config["uid"], config["uid"])
            if linux is not None:
                linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        if linux is not None:
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
        program = os.fork()
        if program:
            for fd in fds[:5]:
                os.close(fd)
            answer = watch_program(job, program, status, strong)
    except BaseException as error:
        if program == 0:
            raise
        answer = {"error": f"{type(error).__name__}: {error}"}
    if program == 0:
        start_program(config, job, folder, fds, seccomp)
    try:
        status.sendall(json.dumps(answer).encode())
    except OSError:
        # The judge is gone and will not tidy up.
        if not strong:
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def main() -> None:
    config = json.loads(sys.argv[1])
    control = socket.socket(fileno=config["control"])
    sys.argv = ["main.py"]
    inside = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != inside]
    for name in WARM.split():
        __import__(name)
    strong = config["tier"] == "strong"
    own_pid_namespace = -1
    seccomp = b""
    try:
        if config["tier"] != "weak" and linux is None:
            raise OSError("ctypes is missing")
        if strong:
            die_with_parent()
            own_pid_namespace = enter_strong(config)
        if config["tier"] != "weak":
            seccomp = linux.seccomp_program()
    except (OSError, ValueError) as error:
        control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    gc.collect()
    gc.freeze()
    control.sendall(json.dumps({"ready": True, "landlock": linux.landlock_abi() if linux else 0}).encode())
    while True:
        job, fds = receive(control)
        if strong:
            linux.unshare(linux.CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            control.close()
            if strong:
                die_with_parent()
            supervise(config, job, fds, seccomp)
        if strong:
            linux.setns(own_pid_namespace, linux.CLONE_NEWPID)
        for fd in fds:
            os.close(fd)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
