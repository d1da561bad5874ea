"""One sandbox: a zygote process and, for each job, a fresh process tree that is watched, drained and destroyed.

Theory of operation
-------------------
Two kinds of failure exist and never mix. The *program* fails: `Execution` says how it ended. The *sandbox* fails (the
zygote died, a mount was refused, the keeper vanished): `SandboxError`, and no verdict may be drawn from it.

This process, the *judge*, knows the expected outputs and never gives them away. It starts the *zygote*
(`inside/zygote.py`), a new interpreter by exec, with an empty environment and one socket. For each job the judge makes
two pipes (stdout, stderr), a socket (the report) and two files in memory (stdin; the payload: the program's text), and
passes their descriptors over the socket. The zygote forks the *program* and watches it (`inside/watch.py`). The judge
meanwhile drains what comes, all at once, up to a cap. The zygote never reads the payload and runs no line of a program,
so that every fork of it is fresh. The first process of a program compiles it and, before its first line runs, sends the
code back; those of its other tests get that code in place of the text. Assert-style tests have a process of their own,
the program's parent, and a sixth descriptor that only it keeps (`inside/parted.py`).

What a program could still reach decides the tier. `strong`: user, pid, mount, net, ipc, uts and cgroup namespaces,
made once per worker; a root folder with only the interpreter and the system's libraries, read-only; another uid and no
capabilities; seccomp; no_new_privs; rlimits. The zygote is pid 1 of the namespace: signals from inside do not reach it,
every orphan becomes its child, and when it ends, every process ends. After each test it kills all processes
but itself and reaps until it has no child left: then none exists. A fourth process, the *keeper*, outside the pid
namespace, replaces /tmp by a new capped tmpfs for each test. The zygote cannot: it has given up the right to mount, and
seccomp and Landlock bind it as they bind its programs. Process ids start anew too, so that no counter shows
earlier tests. `standard`: Landlock and seccomp in place of the namespaces. `weak`: rlimits, process group,
subreaper; nothing keeps a hostile program from reading your files, killing the judge or dialling out. In these two
root gives programs a uid of their own (one for each sandbox), and the end of a test is one kill(-1) of that user, which
no fork escapes; else all that is found is stopped first, until nothing new appears, and then killed. `tiers.py` finds
out by running a probe in each what really holds here, `attacks.py` by attacking it.

CPU time decides, not wall time: the zygote sums it over the tree from /proc (about every 12 ms), from wait4
at the end, and from a control group where the machine allows one (`groups.py`). Wall time is a backstop, and time spent
waiting for a free core does not count. Memory is the resident memory of the tree; when the plain sum is too large,
shared pages are counted once.

What a test costs is mostly pages: each one that the zygote or the program writes to after the fork is copied first, and
each library mapped is mapped again. So there is one fork per test (two where assert-style tests are parted), the zygote
imports little, what can be prepared is prepared before the fork, and little of our own Python runs after it.

Not guaranteed: that a kernel bug cannot be exploited from inside; exact peaks of memory between two looks; without a
control group, CPU time of grandchildren whose parent ignores SIGCHLD and which live for less than one look.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .compare import encoded
from .groups import Group
from .resources import (
    INPUTS,
    NAME,
    User,
    may_read_all,
    memory_file,
    others_can_read,
    owned,
    remove_abandoned,
    remove_folder,
)
from .types import LostError, SandboxError, Tier

INSIDE = Path(__file__).parent / "inside"
QUIET_MS = 5
STDERR_KEPT = 64 * 1024
REPORT_CAP = 64 << 20
SCRATCH_MB = 64
INODES = 16384
PROCESSES = 64
DESCRIPTORS = 256
SHARED_INPUT = 1 << 20
STARTS_WITHIN_S = 20
LONGEST_PATH = 1000
# Modules that the zygote imports once for all later programs: those that a kind of job needs, and, once a program
# names one, those that cost much to import.
FOR_ALL = [
    "bisect",
    "collections",
    "copy",
    "datetime",
    "decimal",
    "fractions",
    "heapq",
    "random",
    "statistics",
    "typing",
]
MODULES = {
    "function": FOR_ALL,
    "livecodebench": [*FOR_ALL, "ast", "faulthandler"],
    "asserts": ["ast"],
}
NAMED = re.compile(r"\b(?:copy|dataclasses|datetime|decimal|fractions|typing)\b")


@dataclass(frozen=True)
class Job:
    """One run of one program. `kind`: script, function, asserts, parted, livecodebench (see inside/runner.py)."""

    kind: str
    source: str
    stdin: str = ""
    extra: bytes = b""
    """what the kind needs besides the program"""
    tests: bytes = b""
    """`parted`: what only the tests' process may read (see inside/parted.py)"""
    shared: tuple[str, ...] = ()
    """`parted`: modules that both processes import"""
    entry_point: str | None = None
    time_limit_s: float = 6.0
    """the program's limit; it is killed at `cpu_s`"""
    cpu_s: float = 6.0
    crowded_cpu_s: float = 0.0
    """as `cpu_s`, where that is less and the machine is crowded: the program had to wait for a processor"""
    wall_s: float = 20.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 16 << 20
    code: bytes = b""
    """what an earlier run of the same source compiled it to (`Execution.code`): compiling once is enough"""
    keep_code: bool = False


@dataclass(frozen=True)
class Execution:
    """How a process tree ended. `killed`: "", "cpu", "wall", "memory", "output" or "scratch"; `status` is wait's.

    `report` is what was written after `code`, by the program or by us; for one that does not compile: why.
    """

    status: int | None
    pid: int
    """as the program saw it"""
    compiled: bool
    code: bytes
    """the compiled program, if it was asked for; sent before its first line ran"""
    killed: str
    out_of_memory: bool
    """it ended by an uncaught MemoryError"""
    stdout: bytes | bytearray
    stderr: bytes
    report: bytes
    cpu_s: float
    wall_s: float
    waited_s: float
    peak_mb: float
    left_behind: int


def open_standard_streams() -> None:
    """/dev/null where one of the first three is closed: else a socket of ours would be the zygote's stdin."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def last_words(stderr: bytes) -> str:
    """The last line; "" where there is none."""
    return stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]


def interpreter(python: str | None) -> tuple[list[str], list[str]]:
    """(command, folders it needs) of the interpreter for programs: ours without site-packages, or the named one's.

    The named one is only looked at: it is a stranger's, and first runs inside the sandbox.
    """
    if python is None:
        name = f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
        candidates = [getattr(sys, "_base_executable", ""), f"{sys.base_exec_prefix}/{name}", sys.executable]
        for candidate in filter(None, candidates):
            if os.access(candidate, os.X_OK):
                return [str(Path(candidate).resolve()), "-s", "-S"], sorted({sys.base_prefix, sys.base_exec_prefix})
        raise SandboxError(f"you may not run the interpreter {candidates[0]}", "name another one: --python PATH")
    try:
        found = shutil.which(python)
        if found is None:
            raise OSError("there is no such program")
        executable = Path(found).absolute()
        real = executable.resolve(strict=True)
        with real.open("rb") as file:
            if file.read(2) == b"#!":
                raise OSError("it is a script: name the interpreter that it starts, which is its sys.executable")
        # An environment is known by its pyvenv.cfg, and names the interpreter that it was made from.
        settings = executable.parent.parent / "pyvenv.cfg"
        prefixes = {real.parent.parent}
        if settings.is_file():
            lines = [line.partition("=") for line in settings.read_text(encoding="utf-8")[:65536].splitlines()]
            homes = [Path(value.strip()) for key, _, value in lines if key.strip().lower() == "home"]
            prefixes |= {settings.parent, *(home.parent for home in homes if home.is_absolute())}
        else:
            executable = real
    except (OSError, ValueError) as error:
        raise SandboxError(f"--python {python}: not a working interpreter ({error})") from None
    return [str(executable), "-s"], sorted({*map(str, prefixes), *_packages_elsewhere(prefixes)})


def _packages_elsewhere(prefixes: set[Path]) -> set[str]:
    """A .pth file may name packages elsewhere; of other folders, such as your project's, nothing is shown."""
    named = set[str]()
    for file in (file for prefix in prefixes for file in prefix.glob("lib/python3.*/site-packages/*.pth")):
        with contextlib.suppress(OSError, ValueError):
            with file.open(encoding="utf-8") as lines:
                paths = [file.parent / line.strip() for line in lines.read(1 << 20).splitlines() if line.strip()]
            named |= {str(path) for path in paths if path.name in ("site-packages", "dist-packages") and path.is_dir()}
    return named


def visible_paths(prefixes: list[str]) -> list[str]:
    """What programs may read: the interpreter, shared libraries, time zones. A path below another is left out."""
    system = ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/share/zoneinfo"]
    files = ["/etc/ld.so.cache", "/etc/localtime"]
    chosen: list[str] = []
    for path in sorted({*prefixes, *system, *files}, key=len):
        if Path(path) == Path("/"):
            raise SandboxError(
                "the interpreter's prefix is /: programs would see every file of this machine",
                "name one in a folder of its own: --python PATH",
            )
        if os.path.lexists(path) and not any(Path(path).is_relative_to(parent) for parent in chosen):
            chosen.append(path)
    return chosen


class Sandbox:
    """A zygote and what is needed to run jobs in it, one after the other. Not for use by two threads at once.

    Linux kills the zygote when the *thread* that started it ends: start and use a sandbox in the same thread.
    """

    def __init__(self, tier: Tier, python: str | None = None) -> None:
        self.tier = tier
        self.uid: int | None = None
        self.folder: Path | None = None
        self.group: Group | None = None
        self.cancelled = False
        """set by another thread: the job in progress ends with SandboxError"""
        self._process: subprocess.Popen[bytes] | None = None
        self._user: User | None = None
        self._lock = -1
        self._watched: list[int] = []
        """processes of ours that the judge waits for"""
        self._mark = secrets.token_bytes(16)
        try:
            open_standard_streams()
            self._socket, theirs = socket.socketpair()
        except OSError as error:
            raise SandboxError(f"the sandbox cannot be made: {error}") from error
        try:
            self._start(tier, python, theirs)
        except OSError as error:
            self.close()
            raise SandboxError(f"the sandbox cannot be made: {error}") from error
        except BaseException:
            self.close()
            raise

    def _start(self, tier: Tier, python: str | None, theirs: socket.socket) -> None:
        with theirs:
            command, prefixes = interpreter(python)
            inside = None
            if python is not None:  # our own builds the sandbox, and then becomes the other one
                inside, command = command, interpreter(None)[0]
                prefixes = [*prefixes, str(INSIDE)]
            self._user = User.take()
            self.uid = self._user.uid if self._user is not None else None
            self.closed = self.uid is not None and tier is not Tier.STRONG and not others_can_read(prefixes)
            """only root may read the interpreter: programs keep the right to read it"""
            if self.closed and not may_read_all():
                raise SandboxError(
                    f"only root may read the interpreter in {prefixes[0]}, and root may not hand that right on here "
                    "(no CAP_DAC_READ_SEARCH)",
                    "put Python and its environment where every user may read, such as /opt",
                )
            if tier is not Tier.STRONG:
                self._make_folder()
            try:
                self.group = Group(PROCESSES + 8)
                self.group_note = "CPU time and processes counted by a control group"
            except OSError as error:
                self.group_note = f"no control group ({error.strerror or error}): CPU time by polling"
            group = self.group
            config = {
                "tier": tier.value,
                "cpu": group.cpu_fd if group is not None else -1,
                "memory": (group.shared_fd, group.kernel_fd) if group is not None else (-1, -1),
                "uid": self.uid,
                "closed": self.closed,
                "mark": self._mark.hex(),
                "visible": visible_paths(prefixes),
                "interpreter": inside,
                "control": theirs.fileno(),
                "folder": str(self.folder) if self.folder else None,
                "scratch_mb": SCRATCH_MB,
                "inodes": INODES,
                "files": DESCRIPTORS,
                "processes": PROCESSES,
            }
            try:
                self._process = subprocess.Popen(
                    [*command, str(INSIDE / "zygote.py"), json.dumps(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "LD_BIND_NOW": "1"},
                    cwd="/",
                    pass_fds=[theirs.fileno(), *(group.fds if group is not None else [])],
                    start_new_session=True,
                )
            except OSError as error:
                raise SandboxError(f"the interpreter for programs cannot be started: {error}") from None
        self._watched = [self._process.pid]
        if self.group is not None:
            self.group.add(self._process.pid)
        with contextlib.suppress(BrokenPipeError):  # it is dead, and `_landlock_abi` finds out why
            self._socket.sendall(b"g")  # it waits for this, so that nothing of it is outside of its group
        self.landlock = self._landlock_abi()
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            self._watched += map(int, children.split())

    def _make_folder(self) -> None:
        """The scratch folder: it is nobody's business but ours, and the programs' user may go through it."""
        parent = Path(tempfile.gettempdir())
        if not str(parent).isprintable() or '"' in str(parent) or len(str(parent)) > LONGEST_PATH:
            raise SandboxError(
                f"the folder for temporary files has a name that tracebacks cannot show: {str(parent)[:200]!r}",
                f"set TMPDIR to a path of at most {LONGEST_PATH} plain characters",
            )
        remove_abandoned(parent, lambda path: remove_folder(str(path)))
        self.folder, self._lock = owned(lambda: Path(tempfile.mkdtemp(prefix=NAME)))
        self.folder.chmod(0o711)
        self._refuse_full()

    def _refuse_full(self) -> None:
        """A disk that is full fails programs which are right."""
        assert self.folder is not None
        disk = os.statvfs(self.folder)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < SCRATCH_MB << 20:
            raise SandboxError(
                f"{self.folder.parent}: less than {SCRATCH_MB} MB are free, which a program may use",
                "make room there, or set TMPDIR to another folder",
            )

    def _landlock_abi(self) -> int:
        """What the zygote says once it is ready."""
        self._socket.settimeout(1)
        message = b""
        for waited in range(STARTS_WITHIN_S + 1):
            try:
                message = self._socket.recv(65536)
                break
            except TimeoutError:
                if self._is_stopped():
                    raise LostError("the zygote did not start: it was stopped from outside") from None
                if waited == STARTS_WITHIN_S:
                    raise LostError(f"the zygote did not start: no word of it for {STARTS_WITHIN_S} s") from None
            except OSError:
                break
        if not message:
            assert self._process is not None and self._process.stderr is not None
            reason = last_words(self._process.stderr.read(4000))
            if not reason and self._was_killed():
                raise LostError("the zygote was killed from outside while it started")
            raise SandboxError(f"the zygote did not start: {reason or 'no reason given'}")
        try:
            hello = json.loads(message)
            if "error" in hello:
                raise SandboxError(str(hello["error"]))
            self._socket.settimeout(None)
            return int(hello["landlock"])
        except (ValueError, TypeError, KeyError):
            raise SandboxError(f"the zygote did not start: it said {message[:80]!r}") from None

    def _was_killed(self) -> bool:
        """By SIGKILL, which nothing of ours sends to the zygote while it works."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(2) == -signal.SIGKILL
        return False

    def _is_stopped(self) -> bool:
        """No line of a program can stop it; the user can."""
        for pid in self._watched:
            with contextlib.suppress(OSError, IndexError):
                if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t"):
                    return True
        return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """End the zygote and everything below it."""
        self._socket.close()
        if self._process is not None:
            if self.tier is not Tier.STRONG:
                # No namespace holds the tree together: the zygote needs time to kill it.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.05 if self._is_stopped() else 5)
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            if self._process.stderr is not None:
                self._process.stderr.close()
        if self.folder is not None:
            with contextlib.suppress(OSError):
                remove_folder(str(self.folder))
        if self.group is not None:
            self.group.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._user is not None:
            self._user.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: Job) -> Execution:
        """Run one job to its end. Raises SandboxError where the sandbox, not the program, is to blame."""
        try:
            if self.folder is not None:
                self._refuse_full()
                (self.folder / "run").mkdir()
                (self.folder / "run").chmod(0o700)  # whatever your umask
            if len(job.stdin) < SHARED_INPUT or not Path("/proc/self/fd").exists():
                return self._send(job, memory_file(*encoded(job.stdin)))
            with INPUTS.take(job.stdin) as fd:
                return self._send(job, fd)
        except (OSError, ValueError) as error:
            if isinstance(error, BrokenPipeError) and self._was_killed():
                raise LostError("the zygote was killed from outside") from None
            raise SandboxError(f"{type(error).__name__}: {error}") from error
        finally:
            if self.folder is not None:
                try:
                    remove_folder(str(self.folder / "run"))
                except FileNotFoundError:
                    pass
                except OSError as error:
                    raise SandboxError(f"the scratch folder cannot be removed: {error}") from error

    def _send(self, job: Job, stdin: int) -> Execution:
        source = job.source.encode("utf-8", "surrogatepass")
        header = {
            "kind": job.kind,
            "entry_point": job.entry_point,
            "time_limit": job.time_limit_s,
            "cpu_s": job.cpu_s,
            "crowded_cpu_s": max(job.cpu_s, job.crowded_cpu_s),
            "wall_s": job.wall_s,
            "memory": job.memory_bytes,
            "sizes": (len(source), len(job.code), len(job.extra)),
            "keep_code": job.keep_code,
            "shared": list(job.shared),
            "modules": [*MODULES.get(job.kind, ()), *sorted(set(NAMED.findall(job.source)))],
        }
        outside: list[int] = []
        given = [stdin]
        try:
            for _ in range(2):
                reader, writer = os.pipe()
                outside.append(reader)
                given.append(writer)
                if self.uid is not None:  # so that /dev/stdout can be opened
                    os.fchown(writer, self.uid, -1)
            # The report is a socket, not a pipe: nobody can read it back through /proc/self/fd.
            for end, ends in zip(socket.socketpair(), (outside, given), strict=True):
                ends.append(end.detach())
            given.append(memory_file(source, job.code, job.extra))
            if job.tests:
                given.append(memory_file(job.tests))
            socket.send_fds(self._socket, [marshal.dumps(header, 2)], given)
            while given:
                os.close(given.pop())
            return self._attend(job, outside)
        finally:
            for fd in (*outside, *given):
                os.close(fd)

    def _attend(self, job: Job, pipes: list[int]) -> Execution:
        """Drain the pipes until the zygote has reported; tell it to stop when a cap is passed."""
        caps = [job.output_bytes] * 2 + [REPORT_CAP if job.kind == "livecodebench" else job.output_bytes + (1 << 20)]
        kept = [bytearray(), bytearray(), bytearray()]
        sizes = [0, 0, 0]
        too_much = finished = False
        answer = b""
        # The zygote keeps time; this is for the case that it cannot.
        deadline = time.monotonic() + 25 * job.wall_s + 30
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        # Most tests are over before the pipes could fill: not woken by every line, we drain those at their end.
        ready = poller.poll(QUIET_MS)
        for fd in pipes:
            os.set_blocking(fd, False)
            poller.register(fd, select.POLLIN)
        while not finished:
            if not ready:
                if time.monotonic() > deadline:
                    raise SandboxError("the zygote did not report in time")
                if self.cancelled:
                    raise SandboxError("interrupted")
                ready = poller.poll(200)
                if not ready and self._is_stopped():
                    raise LostError("the zygote was stopped from outside")
            finished = any(fd == self._socket.fileno() for fd, _ in ready)
            ready = []
            if finished:
                answer = self._socket.recv(65536)
            for which, fd in enumerate(pipes):
                while True:
                    try:
                        chunk = os.read(fd, 1 << 18)
                    except BlockingIOError:
                        break
                    if not chunk:
                        with contextlib.suppress(KeyError):
                            poller.unregister(fd)
                        break
                    sizes[which] += len(chunk)
                    if sizes[which] <= caps[which]:
                        kept[which] += chunk
                        if which == 1 and len(kept[1]) > 4 * STDERR_KEPT:
                            del kept[1][:-STDERR_KEPT]
                    elif not too_much:
                        too_much = True
                        with contextlib.suppress(OSError):
                            self._socket.sendall(b"s")
                    if too_much and not finished:
                        break
        if not answer:
            if self._was_killed():
                raise LostError("the zygote was killed from outside")
            raise SandboxError("the zygote died")
        if answer.startswith(b"error "):
            raise SandboxError(answer.decode().partition(" ")[2])
        pid, status, killed, cpu_s, wall_s, waited_s, peak_kb, left_behind = answer.decode().split(" ")
        report = bytes(kept[2])
        if report[:1] == b"S":
            raise SandboxError(f"the program's process could not be set up: {report[1:].decode('utf-8', 'replace')}")
        compiled = report[:1] == b"C"
        start = 5 + int.from_bytes(report[1:5], "big") if compiled else 1
        return Execution(
            status=None if status == "None" else int(status),
            pid=int(pid),
            compiled=compiled,
            code=report[5:start] if len(report) >= start else b"",
            killed="output" if too_much else killed.strip("-"),
            out_of_memory=self._mark in kept[1],
            stdout=kept[0],
            stderr=bytes(kept[1].replace(self._mark, b"")[-STDERR_KEPT:]),
            report=report[start:],
            cpu_s=float(cpu_s),
            wall_s=float(wall_s),
            waited_s=float(waited_s),
            peak_mb=int(peak_kb) / 1024,
            left_behind=int(left_behind),
        )
