"""The zygote: a warmed interpreter that forks once per test. Started by path, `python -s -S zygote.py CONFIG`.

    judge ──control socket──> zygote ──fork──> program

One job comes as one message with five file descriptors: stdin, stdout, stderr, report, payload; and a sixth, the tests,
where they have a process of their own (`parted.py`). The zygote itself never reads the last two, so a fork inherits
nothing of another test. It forks the *program*, which gives up its rights
and runs `runner.run`, and watches it (`watch.py`): CPU, memory and wall time over the process tree. At the end it kills
everything that is left and answers with one line. `error …`, or no answer, means that the sandbox has failed, not the
program. In the tier `strong` it is pid 1 of the namespaces of its worker, and its parent, the *keeper*, mounts
a new scratch folder for each test.
"""

# pathlib is left out for its import time.
# ruff: noqa: PTH100, PTH120, PTH123, BLE001
from __future__ import annotations

# Of these two not the modules around them, which would bring a dozen libraries into every fork.
import _signal  # type: ignore[import-not-found,unused-ignore]
import _socket  # type: ignore[import-not-found,unused-ignore]
import gc
import json
import marshal
import os
import resource
import sys

if sys.version_info < (3, 10):  # noqa: UP036  (the interpreter that was named)
    sys.exit("this is Python %d.%d; programs need 3.10 or newer" % sys.version_info[:2])  # noqa: UP031
from contextlib import suppress

import livecodebench  # type: ignore[import-not-found,unused-ignore]
import runner  # type: ignore[import-not-found,unused-ignore]
import watch  # type: ignore[import-not-found,unused-ignore]

try:
    import linux  # type: ignore[import-not-found,unused-ignore]
    import namespaces  # type: ignore[import-not-found,unused-ignore]
except (ImportError, AttributeError, OSError):
    linux = None  # type: ignore[assignment,unused-ignore]  # no ctypes, or not Linux: only the tier `weak`

TYPE_CHECKING = False  # `typing` itself would cost every fork
if TYPE_CHECKING:
    from typing import Any

DESCRIPTORS = _socket.CMSG_SPACE(6 * 4)
SIGNALS = 1024  # waiting to be delivered, and timers, which the kernel keeps
STACK = 8 << 20
MEMORY_SLACK = 1 << 30  # of private memory, between two looks of the watch
# What most programs import. Each library mapped costs every later fork some microseconds: the rest comes when it is
# first named by a program (`modules` of a job), or, as `random` and `threading`, is left to the program.
WARM = "atexit collections bisect heapq math itertools functools operator re string io contextlib site"

# What a first program would otherwise make the interpreter set up, in every fork anew: the compiler's types, caches.
REHEARSAL = """
import io, sys
from collections import defaultdict
def solve(n, items):
    counts = defaultdict(int)
    for i in range(n):
        counts[items[i]] += 1
    return sorted(items, reverse=True), [f"{key}: {value}" for key, value in counts.items() if value > 1]
class Point:
    def __init__(self, x): self.x = x
file = io.StringIO("3\\n3 1 2\\n")
n = int(file.readline().strip())
a, b = solve(n, list(map(int, file.readline().split())))
while n > 0:
    n -= 1
try:
    print(*a, sep=" ", end="", file=file)
    print(" ".join(map(str, b)), a[0] // 2, a[-1] / 1, max(a), min(a), len(a), sum(a), Point(1).x, file=file)
    a[9]
except IndexError as error:
    str(error)
"""


def receive(control: _socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next job and its descriptors; an empty job when the judge is gone."""
    while True:
        message, ancillary, _, _ = control.recvmsg(65536, DESCRIPTORS)
        if not message:
            return {}, []
        if job := message.lstrip(b"s"):  # a "stop" that came too late
            fds = b"".join(data for _, _, data in ancillary)
            return marshal.loads(job), [int.from_bytes(fds[i : i + 4], sys.byteorder) for i in range(0, len(fds), 4)]


# --- the program -------------------------------------------------------------------------------------------------


# Every page that a fork writes to is copied first, and every function that it calls writes to some. So whatever can be
# done before the fork is done there, and little is called after it.


def start_program(zygote: Zygote, job: dict[str, Any], folder: str, fds: list[int]) -> None:
    """In the child: limits, then no more rights, then the program. Never returns into the zygote's loop."""
    try:
        for target, source in enumerate(fds):  # stdin, stdout, stderr, report, payload, tests; none below its target
            os.dup2(source, target, target < 3)
        os.closerange(len(fds), 4096)
        os.chdir(folder)
        os.setsid()
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        for hooks in zygote.fork_hooks:
            os.register_at_fork(**hooks)
            hook = hooks.get("after_in_child")
            if hook is not None and hook.__module__ != "threading":  # it has nothing to forget: no thread was started
                hook()
        become_program(zygote, job, folder)
    except BaseException as error:
        os.write(3, f"S{type(error).__name__}: {error}".encode("utf-8", "replace"))
        os._exit(1)
    if job["kind"] == "livecodebench":
        livecodebench.run(job["entry_point"], job["sizes"], job["time_limit"])
    if job["kind"] == "parted":
        zygote.parted["run"](folder, job["sizes"], job["keep_code"], job["shared"], lambda: become_apart(zygote))
    runner.run(job["kind"], folder, job["entry_point"], job["sizes"], job["keep_code"])


def become_program(zygote: Zygote, job: dict[str, Any], folder: str) -> None:
    """Limits of this job, uid, capabilities, and what the zygote could not give up for us."""
    tier, uid = zygote.tier, zygote.program_uid
    data, seconds = min(job["memory"] + MEMORY_SLACK, zygote.most_data), int(job["crowded_cpu_s"]) + 2
    if zygote.limits_data:
        resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_NPROC, (zygote.processes, zygote.processes))
    if zygote.keeps:
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
    if uid is not None:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if linux is None:
        return
    if zygote.keeps or (tier != "weak" and not zygote.is_root):  # else they went with the uid
        linux.set_capabilities(zygote.capset)
    if tier != "strong":  # there the end of process 1 is everyone's
        linux.prctl(linux.PR_SET_PDEATHSIG, _signal.SIGKILL)
    # Another uid, or the zygote itself, made us undumpable: our own /proc/self (and with it /dev/stdin) would be closed
    # to us. Where a token or tests must stay unread, so it shall be.
    if job["kind"] not in ("asserts", "parted"):
        linux.become_dumpable()
    if tier == "standard":
        linux.restrict_files(zygote.config["visible"], [folder, *namespaces.DEVICES])
        zygote.last_filter.install()


def become_apart(zygote: Zygote) -> None:
    """In a program whose tests are in our parent: what a fork does not inherit, and our own /proc/self."""
    if linux is not None:
        if zygote.tier != "strong":
            linux.prctl(linux.PR_SET_PDEATHSIG, _signal.SIGKILL)
        linux.become_dumpable()


# --- the zygote --------------------------------------------------------------------------------------------------


class Zygote:
    """What lasts from test to test: the line to the judge, and in `strong` the line to the keeper."""

    def __init__(self, config: dict[str, Any], control: _socket.socket) -> None:
        self.config, self.control, self.tier = config, control, config["tier"]
        self.strong = self.tier == "strong"
        self.program_uid = namespaces.INSIDE_UID if self.strong else config["uid"]
        self.fork_hooks: list[dict[str, Any]] = []
        self.loaded: set[str] = set()
        self.parted: dict[str, Any] = {"__name__": "parted"}
        with open(runner.INSIDE + "parted.py", "rb") as file:  # out of sight later, and not everyone's fork shall pay
            self.parted_source = file.read()
        self.is_root = config["uid"] is not None
        # An interpreter that only root may read: programs get another uid all the same, and may read (and only read)
        # files of others, within what Landlock leaves them.
        self.keeps = linux.CAP_DAC_READ_SEARCH if config["closed"] and linux is not None else None
        self.capset = linux.capset_of(self.keeps) if linux is not None else ()
        self.last_pid = -1
        self.landlock = linux.landlock_abi() if linux is not None and "inherited" not in config else 0
        if self.tier != "weak" and linux is None:
            raise OSError("ctypes is missing")
        if "inherited" in config:
            self.inherit(config["inherited"])
        else:
            self.enter()
        if linux is not None:
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            if self.tier != "weak":
                self.last_filter = linux.Filter(linux.last_seccomp_program())
        self.limit()
        if "inherited" not in config:
            if config["uid"] is not None:
                os.setgroups([])
            if linux is not None:
                self.restrict()
            if config["interpreter"]:
                self.hand_over()

    def enter(self) -> None:
        if not self.strong:
            return
        namespaces.die_with_parent()
        self.keeper = namespaces.enter_strong(self.config, self.control)
        with suppress(OSError):
            self.last_pid = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
        self.keeper.sendall(b"x")

    def hand_over(self) -> None:
        """Become the interpreter that was named, which never runs outside of the sandbox."""
        inherited = {
            "keeper": self.keeper.fileno() if self.strong else -1,
            "last_pid": self.last_pid,
            "landlock": self.landlock,
        }
        config = {**self.config, "control": self.control.fileno(), "inherited": inherited}
        for fd in (config["control"], config["cpu"], *config["memory"], inherited["keeper"], self.last_pid):
            if fd >= 0:
                os.set_inheritable(fd, True)
        executable, *options = self.config["interpreter"]
        try:
            os.execve(executable, [executable, *options, os.path.abspath(__file__), json.dumps(config)], os.environ)
        except OSError as error:
            raise OSError(error.errno, f"{executable} cannot be started in the sandbox: {error.strerror}") from None

    def inherit(self, inherited: dict[str, Any]) -> None:
        if linux is not None:
            linux.keep_no_capabilities_over_exec()
        self.landlock, self.last_pid = inherited["landlock"], inherited["last_pid"]
        if self.strong:
            namespaces.die_with_parent()
            self.keeper = _socket.socket(fileno=inherited["keeper"])
        for fd in (self.last_pid, inherited["keeper"]):
            if fd >= 0:
                os.set_inheritable(fd, False)

    def limit(self) -> None:
        def least(which: int, value: int) -> int:
            hard = resource.getrlimit(which)[1]
            return value if hard == resource.RLIM_INFINITY else min(value, hard)

        for which, value in (
            (resource.RLIMIT_CORE, 1),  # 0 would still start a program that core_pattern names
            (resource.RLIMIT_NOFILE, self.config["files"]),
            (resource.RLIMIT_FSIZE, self.config["scratch_mb"] << 20),
            *(((resource.RLIMIT_SIGPENDING, SIGNALS),) if hasattr(resource, "RLIMIT_SIGPENDING") else ()),
        ):
            wanted = (least(which, value), least(which, value))
            if resource.getrlimit(which) != wanted:  # an inherited one, which can no longer be set
                resource.setrlimit(which, wanted)
        # As deep for everybody; programs may raise it, as on any machine.
        stack = resource.RLIMIT_STACK
        resource.setrlimit(stack, (least(stack, STACK), resource.getrlimit(stack)[1]))
        # Where the programs' user is also ours, all of that user's count, and so do the programs of other workers.
        most = self.config["processes"]
        if self.program_uid is None:
            most = 3 * most + watch.tasks_of(os.getuid())
        self.processes = least(resource.RLIMIT_NPROC, most)
        self.most_data = least(resource.RLIMIT_DATA, 1 << 60)
        self.limits_data = sys.platform.startswith("linux")

    def restrict(self) -> None:
        """What holds for every program can hold for us too, as from here on we do little but fork."""
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        if self.tier == "weak":
            return
        if self.config["interpreter"]:
            linux.keep_capabilities_over_exec()
        linux.drop_bounding_set()
        if self.strong and self.landlock:
            writable = [os.path.dirname(namespaces.SCRATCH), *namespaces.DEVICES]
            linux.restrict_files([*self.config["visible"], "/proc"], writable)
        elif self.config["interpreter"]:  # else only programs are restricted, who do not see /proc
            linux.restrict_files([*self.config["visible"], "/proc"], [self.config["folder"], *namespaces.DEVICES])
        spare_files = not self.strong and self.program_uid is None
        linux.Filter(linux.seccomp_program(spare_files, final=self.strong)).install()

    def load(self, names: list[str]) -> None:
        """Import these modules once for all later forks, which run the fork hooks themselves (see start_program)."""
        register, os.register_at_fork = os.register_at_fork, lambda **hooks: self.fork_hooks.append(hooks)
        for name in names:
            __import__(name)
        os.register_at_fork = register
        self.loaded.update(names)
        gc.collect()
        gc.freeze()

    def load_parted(self) -> None:
        sys.modules["runner"] = runner
        exec(compile(self.parted_source, runner.INSIDE + "parted.py", "exec"), self.parted)
        del sys.modules["runner"]

    def warm(self) -> None:
        """Import what programs import most, prepare what each of them has: streams, environment, `exit`."""
        self.load(WARM.split())
        exec(compile(REHEARSAL, "rehearsal", "exec"), {})
        # Streams depend on what they are made on: here something to be sought (/dev/null, as stdin), and two pipes.
        kept, pipe = [os.dup(fd) for fd in (1, 2)], os.pipe()
        for target in (1, 2):
            os.dup2(pipe[1], target)
        runner.fresh_streams()
        runner.fresh_builtins()
        for target, fd in enumerate(kept, 1):
            os.dup2(fd, target)
        for fd in (*pipe, *kept):
            os.close(fd)
        home = namespaces.WORK if self.strong else "/"
        os.environ.clear()
        os.environ.update({"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home})
        os.environ["OMP_NUM_THREADS"] = "1"  # else numerical libraries start a thread for each core
        os.environ["PATH"] = os.path.dirname(sys.executable) + ":/usr/bin:/bin"
        for name in ("linux", "namespaces", "runner", "livecodebench", "watch"):
            sys.modules.pop(name, None)

    def fresh_folder(self, job: dict[str, Any]) -> str:
        if not self.strong:
            folder = str(self.config["folder"]) + "/run"
            os.environ["HOME"] = os.environ["TMPDIR"] = folder
            if self.config["uid"] is not None:
                os.chown(folder, self.config["uid"], self.config["uid"])
            return folder
        if (answer := self.keeper.recv(1000)) != b"ok":
            raise OSError(f"no scratch folder: {answer.decode()}")
        # Process ids must not show earlier tests either: each program is process 2.
        if self.last_pid >= 0:
            os.pwrite(self.last_pid, b"1", 0)
        return str(namespaces.WORK)

    def serve(self) -> None:
        while True:
            job, fds = receive(self.control)
            if not job:
                self.leave()
            answer = run_job(self, job, fds)
            if self.strong:
                self.keeper.sendall(b"x")
            try:
                self.control.sendall(answer.encode())
            except OSError:
                self.leave()

    def leave(self) -> None:
        """The judge is gone and will not tidy up."""
        if not self.strong:
            import shutil

            shutil.rmtree(self.config["folder"], ignore_errors=True)
        os._exit(0)


def run_job(zygote: Zygote, job: dict[str, Any], fds: list[int]) -> str:
    """Fork the program, watch it to its end; the answer for the judge. Returns only in the zygote."""
    try:
        if not zygote.loaded.issuperset(job["modules"]):
            zygote.load(job["modules"])
            if job["kind"] == "function":
                runner.preamble()
        if job["kind"] == "parted" and "run" not in zygote.parted:
            zygote.load_parted()
        folder = zygote.fresh_folder(job)
        gc.freeze()  # the program's collector need not look at what is ours
        program = os.fork()
        if program == 0:
            try:
                start_program(zygote, job, folder, fds)
            finally:
                os._exit(1)
        for fd in fds:
            os.close(fd)
        fds.clear()
        answer: str = watch.watch_program(
            job,
            program,
            zygote.control,
            zygote.strong,
            linux is not None,
            zygote.program_uid,
            zygote.config["cpu"],
            None if zygote.strong else (folder, zygote.config["scratch_mb"] << 10, zygote.config["inodes"]),
            zygote.config["memory"],
        )
        return answer
    except Exception as error:
        return f"error {type(error).__name__}: {error}"


def low(fd: int) -> int:
    if fd < 3:
        return fd
    moved = os.dup(fd)
    os.close(fd)
    return moved


def main() -> None:
    config = json.loads(sys.argv[1])
    # Low numbers, below what a program's descriptors are closed up to, however many the judge has open.
    config["cpu"], *config["memory"] = (low(fd) for fd in (config["cpu"], *config["memory"]))
    control = _socket.socket(fileno=low(config["control"]))
    runner.MARK = bytes.fromhex(config["mark"])
    sys.argv = ["main.py"]
    inside = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != inside]
    # Even as process 1, which signals do not reach, we would hear those that have a handler.
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    os.umask(0o022)  # yours, whatever it is, is not the programs'
    try:
        if "inherited" not in config:
            control.recv(1)  # we are in our control group now, if there is one
        zygote = Zygote(config, control)
    except (OSError, ValueError) as error:
        control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    zygote.warm()
    control.sendall(json.dumps({"landlock": zygote.landlock}).encode())
    zygote.serve()


if __name__ == "__main__":
    main()
