"""One sandbox: a zygote process and, for each job, a fresh process tree that is watched, drained and destroyed.

Theory of operation
-------------------
Two kinds of failure exist and never mix. The *program* fails: `Run` says how it ended. The *sandbox* fails (the zygote
died, a mount was refused, the keeper vanished): `SandboxError`, and no verdict may be drawn from it.

This process, the *judge*, knows the expected outputs and never gives them away. It starts the *zygote*
(`inside/zygote.py`), a new interpreter by exec, with an empty environment and one socket. For each job the judge makes
three pipes (stdout, stderr, report) and two files in memory (stdin; the payload: the program's text), and passes their
descriptors over the socket. The zygote forks the *program* and watches it (`inside/watch.py`). The judge meanwhile
drains the pipes, all at once, up to a cap. The zygote never reads the payload and runs no line of a program, so that
every fork of it is fresh.

What a program could still reach decides the tier. `strong`: user, pid, mount, net, ipc, uts and cgroup namespaces,
made once per worker; a root folder with only the interpreter and the system's libraries, read-only; another uid and no
capabilities; seccomp; no_new_privs; rlimits. The zygote is pid 1 of the namespace: signals from inside do not reach it,
every orphan becomes its child, and its end takes every process with it. After each test it kills all processes
but itself and reaps until it has no child left: then none exists. A fourth process, the *keeper*, outside the pid
namespace, puts a new capped tmpfs in the place of the old /tmp for each test, as the zygote has given up the right to
mount: seccomp and Landlock bind it as they bind its programs. Process ids start anew too, so that no counter tells
of earlier tests. `standard`: Landlock and seccomp in place of the namespaces. `weak`: rlimits, process group,
subreaper; nothing keeps a hostile program from reading your files, killing the judge or dialling out. `tiers.py`
finds out by running a probe in each what really holds here.

CPU time decides, not wall time: the zygote sums it over the tree from /proc (about every 12 ms) and from what wait4
says at the end. Wall time is a backstop, and time that the program spent waiting for a free core is not held
against it. Memory is the resident memory of the tree; when the plain sum is too large, shared pages are counted once.

What a test costs is mostly pages: each one that the zygote or the program writes to after the fork is copied first. So
there is one fork per test, what can be prepared is prepared before it, and little of our own Python runs after it.

Not guaranteed: that a kernel bug cannot be exploited from inside; exact peaks of memory between two looks; CPU time
of grandchildren whose parent ignores SIGCHLD and which live for less than one look.
"""

# Paths relative to a descriptor, which pathlib does not have:
from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .types import SandboxError, Tier

INSIDE = Path(__file__).parent / "inside"
QUIET_MS = 5
STDERR_KEPT = 64 * 1024
REPORT_CAP = 64 << 20
SCRATCH_MB = 64
INODES = 16384
FIRST_UID = 700_000_000


@dataclass(frozen=True)
class Job:
    """One run of one program. `kind`: script, function, asserts, livecodebench (see inside/runner.py)."""

    kind: str
    source: str
    stdin: bytes = b""
    extra: Any = None
    entry_point: str | None = None
    time_limit_s: float = 6.0
    """what the program is held to; `cpu_s` is when it is killed"""
    cpu_s: float = 6.0
    wall_s: float = 20.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 16 << 20


@dataclass(frozen=True)
class Run:
    """How a process tree ended. `killed`: "", "cpu", "wall", "memory" or "output"; `code` is a wait status."""

    code: int | None
    killed: str
    stdout: bytes
    stderr: bytes
    report: bytes
    cpu_s: float
    wall_s: float
    waited_s: float
    peak_mb: float
    left_behind: int


def interpreter(python: str | None) -> tuple[list[str], list[str]]:
    """(command, folders it needs) of the interpreter for programs: ours without site-packages, or the named one's."""
    if python is None:
        executable = getattr(sys, "_base_executable", None) or sys.executable
        return [str(Path(executable).resolve()), "-s", "-S"], sorted({sys.base_prefix, sys.base_exec_prefix})
    question = "import sys; print(sys.executable, sys.prefix, sys.base_prefix, *sys.version_info[:2], sep='\\n')"
    try:
        done = subprocess.run(
            [python, "-s", "-c", question], capture_output=True, text=True, timeout=30, check=True, env={}
        )
        executable, prefix, base, major, minor = done.stdout.splitlines()
        version = int(major), int(minor)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxError(f"--python {python}: not a working interpreter ({error})") from None
    if version < (3, 10):
        raise SandboxError(f"--python {python}: is {major}.{minor}; programs need 3.10 or newer")
    return [executable, "-s"], sorted({prefix, base})


def visible_paths(prefixes: list[str]) -> list[str]:
    """What programs may read: the interpreter, shared libraries, time zones. A path below another is left out."""
    system = ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/share/zoneinfo"]
    files = ["/etc/ld.so.cache", "/etc/localtime"]
    chosen: list[str] = []
    for path in sorted({*prefixes, *system, *files}, key=len):
        if Path(path) == Path("/"):
            raise SandboxError(
                "an interpreter whose prefix is / cannot be shown to programs without showing everything"
            )
        if os.path.lexists(path) and not any(Path(path).is_relative_to(parent) for parent in chosen):
            chosen.append(path)
    return chosen


class Sandbox:
    """A zygote and what is needed to run jobs in it, one after the other. Not for use by two threads at once.

    Linux kills the zygote when the *thread* that started it ends: start and use a sandbox in the same thread.
    """

    def __init__(self, tier: Tier, python: str | None = None, number: int = 0) -> None:
        command, prefixes = interpreter(python)
        self.tier = tier
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        uid = FIRST_UID + (os.getpid() % 100_000) * 64 + number % 64 if os.geteuid() == 0 else None
        self._visible = visible_paths(prefixes)
        if tier is not Tier.STRONG and (uid is None or not others_can_read(prefixes)):
            uid = None
        self.uid = uid
        config = {
            "tier": tier.value,
            "uid": uid,
            "visible": self._visible,
            "control": theirs.fileno(),
            "scratch_mb": SCRATCH_MB,
            "inodes": INODES,
            "files": 256,
            "processes": 64,
        }
        self._socket = ours
        self.cancelled = False
        """set by another thread: the job in progress ends with SandboxError"""
        try:
            self._process = subprocess.Popen(
                [*command, str(INSIDE / "zygote.py"), json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "LD_BIND_NOW": "1"},
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise SandboxError(f"the interpreter for programs cannot be started: {error}") from None
        finally:
            theirs.close()
        try:
            hello = self._hello()
            self.landlock = int(hello["landlock"])
        except BaseException:
            self.close()
            raise

    def _hello(self) -> dict[str, Any]:
        self._socket.settimeout(20)
        try:
            message = self._socket.recv(65536)
        except OSError as error:
            raise SandboxError(f"the zygote did not start: {error}") from None
        if not message:
            assert self._process.stderr is not None
            said = self._process.stderr.read(4000).decode("utf-8", "replace").strip().splitlines()
            raise SandboxError(f"the zygote did not start: {said[-1] if said else 'no reason given'}")
        hello: dict[str, Any] = json.loads(message)
        if "error" in hello:
            raise SandboxError(hello["error"])
        self._socket.settimeout(None)
        return hello

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the zygote and everything below it."""
        self._socket.close()
        if self.tier is not Tier.STRONG:
            # The zygote must be left the time to kill a tree that no namespace holds together.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: Job) -> Run:
        """Run one job to its end. Raises SandboxError where the sandbox, not the program, is to blame."""
        folder = None
        if self.tier is not Tier.STRONG:
            folder = tempfile.mkdtemp(prefix="kiyas-judge-")
        try:
            return self._run(job, folder)
        except (OSError, json.JSONDecodeError, KeyError) as error:
            raise SandboxError(f"{type(error).__name__}: {error}") from error
        finally:
            if folder is not None:
                with contextlib.suppress(OSError):
                    remove_folder(folder)

    def _run(self, job: Job, folder: str | None) -> Run:
        header = {
            "kind": job.kind,
            "entry_point": job.entry_point,
            "time_limit": job.time_limit_s,
            "cpu_s": job.cpu_s,
            "wall_s": job.wall_s,
            "memory": job.memory_bytes,
            "memory_slack": 256 << 20,
            "folder": folder,
        }
        source = job.source.encode("utf-8", "surrogatepass")
        extra = json.dumps(job.extra).encode() if job.extra is not None else b""
        outside: list[int] = []
        given: list[int] = []
        try:
            given.append(memory_file(job.stdin))
            for _ in range(3):
                reader, writer = os.pipe()
                outside.append(reader)
                given.append(writer)
                if self.uid is not None:  # so that /dev/stdout can be opened
                    os.fchown(writer, self.uid, -1)
            given.append(memory_file(len(source).to_bytes(8, "big") + source + extra))
            socket.send_fds(self._socket, [json.dumps(header).encode()], given)
            while given:
                os.close(given.pop())
            return self._attend(job, outside)
        finally:
            for fd in (*outside, *given):
                os.close(fd)

    def _attend(self, job: Job, pipes: list[int]) -> Run:
        """Drain the pipes until the zygote has reported; tell it to stop when a cap is passed."""
        caps = [job.output_bytes, job.output_bytes, REPORT_CAP]
        kept: list[list[bytes]] = [[], [], []]
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
                        kept[which].append(chunk)
                        if which == 1 and len(kept[1]) > 64:
                            kept[1] = [b"".join(kept[1])[-STDERR_KEPT:]]
                    elif not too_much:
                        too_much = True
                        with contextlib.suppress(OSError):
                            self._socket.sendall(b"s")
                    if too_much and not finished:
                        break
        if not answer:
            raise SandboxError("the zygote died")
        said = json.loads(answer)
        if "error" in said:
            raise SandboxError(said["error"])
        report = b"".join(kept[2])
        if report[:1] == b"S":
            raise SandboxError(f"the program's process could not be set up: {report[1:].decode('utf-8', 'replace')}")
        return Run(
            code=said["code"],
            killed="output" if too_much else said["killed"],
            stdout=b"".join(kept[0]),
            stderr=b"".join(kept[1])[-STDERR_KEPT:],
            report=report,
            cpu_s=said["cpu_s"],
            wall_s=said["wall_s"],
            waited_s=said["waited_s"],
            peak_mb=said["peak_kb"] / 1024,
            left_behind=said["left_behind"],
        )


def memory_file(content: bytes) -> int:
    """A descriptor from which `content` can be read, from its start; sealed where the system can."""
    if hasattr(os, "memfd_create"):
        import fcntl

        fd = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        if hasattr(os, "memfd_create"):
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd


def others_can_read(folders: list[str]) -> bool:
    """Whether any uid may enter these folders (below /root, say, none but root may)."""
    for folder in folders:
        path = Path(folder).resolve()
        for part in (path, *path.parents):
            if part.stat().st_mode & 0o005 != 0o005:
                return False
    return True


def remove_folder(folder: str) -> None:
    """However deep, however locked, in linear time and with one descriptor. Follows no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here, names = os.open(folder, flags), list[str]()
    try:
        while True:
            inner = None
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner = entry.name
                        break
                    os.unlink(entry.name, dir_fd=here)
            if inner is not None:
                os.chmod(inner, 0o700, dir_fd=here)
                following = os.open(inner, flags, dir_fd=here)
                names.append(inner)
            elif names:
                following = os.open("..", flags, dir_fd=here)
                os.rmdir(names.pop(), dir_fd=following)
            else:
                break
            os.close(here)
            here = following
    finally:
        os.close(here)
    Path(folder).rmdir()
