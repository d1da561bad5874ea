"""What goes wrong on the machine, not in the program: one line that says so, or the right verdict."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from judge_bench import descendants

from kiyas.judge import Limits, Outcome, Program, SandboxError, Tier, judge, resources, tiers
from kiyas.judge.attacks import problem, run_case
from kiyas.judge.inside.watch import Watch
from kiyas.judge.ready import missing_modules
from kiyas.judge.sandbox import Job, Sandbox
from kiyas.judge.types import LostError

pytestmark = pytest.mark.usefixtures("strong")
RIGHT = "print(int(input()) * 2)"
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give programs a user of their own")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    rows = {
        "programs": {"problem_id": "p", "program": RIGHT},
        "problems": {"id": "p", "tests": [{"input": "21\n", "output": "42\n"}]},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return str(tmp_path / "programs.jsonl"), "--problems", str(tmp_path / "problems.jsonl")


def kiyas(
    files: tuple[str, ...], *more: str, prepare: Callable[[], object] | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kiyas.judge", *files, *more],
        capture_output=True,
        timeout=60,
        preexec_fn=prepare,
        env={**os.environ, **env},
    )


def says(done: subprocess.CompletedProcess[bytes], code: int, *words: str) -> None:
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if not line.startswith("  hint:")]) == 1, said
    for word in words:
        assert word in said


def accepted(done: subprocess.CompletedProcess[bytes]) -> None:
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "AC", done.stdout


# -- users of programs ------------------------------------------------------------------------------------------------

TWO = range(30_000, 30_002)


@root
def test_a_container_with_few_user_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is held by one sandbox of the machine; when all are taken, that is said, and none is shared."""
    monkeypatch.setattr(resources, "_ranges", lambda path: [TWO])
    with Sandbox(Tier.STANDARD) as one, Sandbox(Tier.STANDARD) as two:
        assert {one.uid, two.uid} == set(TWO)
        with pytest.raises(SandboxError, match="all of the 2 user ids that programs may have here are in use"):
            Sandbox(Tier.STANDARD)
    with Sandbox(Tier.STANDARD) as again:
        assert again.uid in TWO


@root
def test_users_with_a_name_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_ranges", lambda path: [range(1, 20)])
    monkeypatch.setattr(resources, "_named_users", lambda: set(range(1, 18)))
    monkeypatch.setattr(resources, "_users_of_processes", lambda: {18})
    with Sandbox(Tier.STANDARD) as sandbox:
        assert sandbox.uid == 19
        with pytest.raises(SandboxError, match="are in use"):
            Sandbox(Tier.STANDARD)
    monkeypatch.setattr(resources, "_named_users", lambda: set(range(1, 20)))
    with Sandbox(Tier.STANDARD) as sandbox:
        assert sandbox.uid is None


@root
def test_no_user_id_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_ranges", lambda path: [range(1)])
    with Sandbox(Tier.STANDARD) as sandbox:
        assert sandbox.uid is None
        assert run_case(sandbox, RIGHT, problem(), Limits(2)).verdict is Outcome.AC


OTHER = """
import os, sys
from kiyas.judge import resources, Tier, Limits
resources._ranges = lambda path: [range(30_000, 30_002)]
from kiyas.judge.attacks import problem, run_case
from kiyas.judge.inside.watch import Watch
from kiyas.judge.ready import missing_modules
from kiyas.judge.sandbox import Sandbox
os.getpid = lambda: 4242  # as the other judge has it in its own container
with Sandbox(Tier.STANDARD) as sandbox:
    print(sandbox.uid, flush=True)
    for n in range(20):
        run_case(sandbox, "import os\\nos.kill(-1, 9)", problem(), Limits(1))
"""


@root
def test_two_judges_whose_process_ids_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program's `kill(-1)` reaches no program of the other judge."""
    monkeypatch.setattr(resources, "_ranges", lambda path: [TWO])
    with Sandbox(Tier.STANDARD) as sandbox:
        other = subprocess.Popen([sys.executable, "-c", OTHER], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert int(other.stdout.readline()) != sandbox.uid
        sleeper = "import time\ntime.sleep(0.05)\n" + RIGHT
        while other.poll() is None:
            assert run_case(sandbox, sleeper, problem(), Limits(2)).verdict is Outcome.AC
        assert other.wait() == 0


# -- processes that are killed or stopped from outside ----------------------------------------------------------------


def zygotes() -> set[int]:
    """And the programs, which are forked from them."""
    found = set()
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


class Saboteur(threading.Thread):
    """Sends a signal to whatever zygote appears from now on, as long as it is asked to."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(daemon=True)
        self.number, self.over, self.others = number, threading.Event(), zygotes()

    def run(self) -> None:
        while not self.over.wait(0.001):
            for pid in zygotes() - self.others:
                with contextlib.suppress(OSError):
                    os.kill(pid, self.number)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


@pytest.mark.parametrize("isolation", ["best", "strong", "standard"])
def test_a_zygote_that_dies_in_the_probe_is_no_reason_to_step_down(isolation: str) -> None:
    tiers.probe_tier.cache_clear()
    with Saboteur(signal.SIGKILL), pytest.raises(LostError, match=r"killed from outside|did not start"):
        tiers.choose(isolation)
    assert tiers.choose(isolation) in Tier


def test_the_command_line_says_that_the_zygote_died(files: tuple[str, ...]) -> None:
    """Not exit 0 with nothing judged."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kiyas.judge", *files], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with Saboteur(signal.SIGKILL):
        out, err = process.communicate(timeout=60)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    says(done, 2, "the sandbox failed: the zygote")
    assert not done.stdout


@pytest.mark.parametrize("tier", [Tier.STRONG, Tier.STANDARD])
@pytest.mark.parametrize("which", [0, -1])
def test_a_stopped_zygote_is_found_out(tier: Tier, which: int) -> None:
    """In `strong` either of its two: the keeper of the scratch folder, and process 1."""
    with Sandbox(tier) as sandbox:
        os.kill(sandbox._watched[which], signal.SIGSTOP)
        with pytest.raises(LostError, match="stopped from outside"):
            for _ in range(2):  # the keeper has the first scratch folder ready
                sandbox.run(Job("script", RIGHT, stdin="1"))


def test_a_zygote_that_was_killed_between_two_programs() -> None:
    with Sandbox(Tier.STANDARD) as sandbox:
        os.kill(sandbox.pid, signal.SIGKILL)
        assert sandbox._process is not None
        sandbox._process.wait()
        with pytest.raises(LostError, match="killed from outside"):
            sandbox.run(Job("script", RIGHT, stdin="1"))


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no control group")
def test_what_a_killed_zygote_leaves_is_ended() -> None:
    """In `standard` no namespace ends with it, and a program may give up the signal of its parent's death."""
    orphan = "import ctypes, os, time\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\nopen(1, 'w').write('up')\ntime.sleep(60)"
    with Sandbox(Tier.STANDARD) as sandbox:
        if sandbox.group is None:
            pytest.skip("no control group")
        groups = sandbox.group.folders
        thread = threading.Thread(target=lambda: (wait_for_program(sandbox.pid), os.kill(sandbox.pid, signal.SIGKILL)))
        thread.start()
        with pytest.raises(LostError, match="killed from outside"):
            sandbox.run(Job("script", orphan, stdin="1"))
        thread.join()
    assert not any(folder.exists() for folder in groups)


def wait_for_program(zygote: int) -> None:
    """Until it has given up the signal, or nearly."""
    while not Path(f"/proc/{zygote}/task/{zygote}/children").read_text():
        time.sleep(0.01)
    time.sleep(0.3)


def test_work_of_a_lost_sandbox_is_done_again() -> None:
    others = zygotes()
    programs = [Program("p", f"import time\ntime.sleep(0.3)\n# {n}\nprint(42)") for n in range(3)]
    verdicts = judge(programs, [problem()], workers=1)

    def harm() -> None:
        hit = set(others)
        while len(hit) < len(others) + 2:
            time.sleep(0.1)
            for tasks in Path("/proc/self/task").iterdir():
                for pid in {int(word) for word in (tasks / "children").read_text().split()} & zygotes() - hit:
                    os.kill(pid, signal.SIGSTOP if hit - others else signal.SIGKILL)
                    hit.add(pid)

    found = [next(verdicts)]
    thread = threading.Thread(target=harm)
    thread.start()
    found += verdicts
    thread.join()
    assert [each.verdict for each in found] == [Outcome.AC] * 3


@pytest.mark.parametrize("version", [1, 2])
def test_hidden_memory_is_read_of_either_version_of_control_groups(version: int, tmp_path: Path) -> None:
    stat, kernel = tmp_path / "memory.stat", tmp_path / "memory.kmem.usage_in_bytes"
    kernel.write_text(f"{10 << 20}\n")
    fds = [os.open(path, os.O_RDONLY | os.O_CREAT) for path in (stat, kernel)]
    try:
        watch = Watch(True, memory=(fds[0], fds[1] if version == 1 else -1))
        kernel.write_text(f"{17 << 20}\n")  # version 1: more by 7 MB than at the start
        stat.write_text(f"anon 5\nshmem {3 << 20}\nkernel {9 << 20}\nslab_reclaimable {2 << 20}\n")
        assert watch.unseen_kb(1) == 10 << 10
    finally:
        for fd in fds:
            os.close(fd)


# -- folders, streams and limits of the judge's own process -----------------------------------------------------------


@pytest.mark.parametrize("name", ["with spaces", "ünï 日本", "-rf", "$(id)", "a;b&c"])
def test_an_odd_folder_for_temporary_files(name: str, files: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        with contextlib.suppress(OSError):
            folder.chmod(folder.stat().st_mode | 0o055)
    accepted(kiyas(files, "--isolation", "standard", TMPDIR=str(tmp_path / name)))
    assert not list((tmp_path / name).iterdir())


@pytest.mark.parametrize("name", ["new\nline", os.fsdecode(b"latin-\xe9"), 'quo"ted', "/".join(["x" * 100] * 11)])
def test_a_folder_for_temporary_files_that_tracebacks_cannot_show(
    name: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / name).mkdir(parents=True)
    says(kiyas(files, "--isolation", "standard", TMPDIR=str(tmp_path / name)), 2, "TMPDIR", "tracebacks")


@root
def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        with pytest.raises(SandboxError, match="less than 64 MB are free"):
            Sandbox(Tier.STANDARD)
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("isolation", ["strong", "standard"])
@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_any_umask(mask: int, isolation: str, files: tuple[str, ...]) -> None:
    accepted(kiyas(files, "--isolation", isolation, prepare=lambda: os.umask(mask)))


@pytest.mark.parametrize("isolation", ["strong", "standard"])
@pytest.mark.parametrize("closed", [(0,), (0, 2), (2,)])
def test_closed_streams(closed: tuple[int, ...], isolation: str, files: tuple[str, ...]) -> None:
    accepted(kiyas(files, "--isolation", isolation, prepare=lambda: [os.close(fd) for fd in closed]))


def test_a_closed_stdout_is_refused(files: tuple[str, ...], tmp_path: Path) -> None:
    says(kiyas(files, prepare=lambda: os.close(1)), 1, "standard output is closed", "--out")
    done = kiyas(files, "--out", str(tmp_path / "out"), prepare=lambda: [os.close(fd) for fd in range(3)])
    assert done.returncode == 0 and json.loads((tmp_path / "out").read_text())["verdict"] == "AC"


@pytest.mark.parametrize("most", [12, 100, 255])
def test_too_few_open_files(most: int, files: tuple[str, ...]) -> None:
    done = kiyas(files, prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
    says(done, 2, "open files", "ulimit -n")


@pytest.mark.parametrize("name", ["RLIMIT_FSIZE", "RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_that_would_decide_verdicts(name: str, files: tuple[str, ...]) -> None:
    least = 1 << 20 if name == "RLIMIT_FSIZE" else 1 << 30
    done = kiyas(files, prepare=lambda: resource.setrlimit(getattr(resource, name), (least, least)))
    says(done, 2, f"and this process may have {least}", "ulimit -")


@pytest.mark.parametrize("stack", [256 << 10, resource.RLIM_INFINITY])
def test_the_stack_is_as_deep_for_everybody(stack: int, files: tuple[str, ...]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    source = "import resource\nprint(42 if resource.getrlimit(resource.RLIMIT_STACK)[0] == 8 << 20 else 0)"
    Path(files[0]).write_text(json.dumps({"problem_id": "p", "program": source}) + "\n")
    accepted(kiyas(files, prepare=lambda: resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))))


def test_few_open_files_that_may_be_more(files: tuple[str, ...]) -> None:
    accepted(kiyas(files, prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 4096))))


# -- no litter --------------------------------------------------------------------------------------------------------

KILLED = """
import os, sys
from kiyas.judge import Tier
from kiyas.judge.sandbox import Sandbox
box = Sandbox(Tier.STANDARD)
print(box.pid, box.folder, *(box.group.folders if box.group else []), flush=True)
sys.stdin.read()
"""


def test_the_next_start_removes_what_a_killed_judge_left() -> None:
    """And nothing of one that lives."""
    with Sandbox(Tier.STANDARD) as living:
        dead = subprocess.Popen(
            [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert dead.stdout is not None
        pid, *left = dead.stdout.readline().split()
        os.kill(int(pid), signal.SIGKILL)  # or it would tidy up
        dead.kill()
        dead.wait()
        assert Path(left[0]).exists()
        with Sandbox(Tier.STANDARD):
            # Another judge that starts just now may be at it.
            until = time.monotonic() + 20
            while any(Path(folder).exists() for folder in left) and time.monotonic() < until:
                time.sleep(0.05)
            assert not any(Path(folder).exists() for folder in left)
        assert living.folder is not None and living.folder.exists()
        assert run_case(living, RIGHT, problem(), Limits(2)).verdict is Outcome.AC


def test_the_judge_itself_runs_out_of_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot be written down has not failed to compile."""
    with Sandbox(Tier.STANDARD) as sandbox:
        monkeypatch.setattr(sandbox, "_refuse_full", lambda: None)
        with pytest.raises(SandboxError, match="File too large"):
            sandbox.run(Job("script", "#" * (65 << 20)))


# -- the interpreter for programs, which a stranger may have named ----------------------------------------------------

AT_START = """\
for place in {places}:
    try: open(place, "a").close()
    except OSError: pass
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv"


@pytest.mark.parametrize("tier", [Tier.STRONG, Tier.STANDARD])
def test_another_interpreter_runs_only_inside_the_sandbox(tier: Tier, environment: Path, tmp_path: Path) -> None:
    """Not even to ask for its version or its modules: what it does when it starts can write nowhere."""
    packages = next(environment.glob("lib/python3.*/site-packages"))
    marks = [tmp_path / "mark", Path("/tmp/kiyas-mark"), Path.home() / "kiyas-mark", packages / "mark"]
    at_start = AT_START.format(places=[str(mark) for mark in marks])
    (packages / "start.pth").write_text(f"import sys; exec({at_start!r})\n")
    python = str(environment / "bin" / "python")
    with Sandbox(tier, python) as sandbox:
        assert run_case(sandbox, RIGHT, problem(), Limits(2)).verdict is Outcome.AC
    assert tiers.probe_tier(tier, python).holds
    assert missing_modules(["no_such_module_7"], tier, python).keys() == {"no_such_module_7"}
    assert not [mark for mark in marks if mark.exists()]
    with Sandbox(Tier.WEAK, python):
        assert marks[0].exists()  # the attack itself works
    for mark in marks:
        mark.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("what", "words"),
    [("script", "it is a script"), ("text", "not a working interpreter"), ("gone", "there is no such program")],
)
def test_what_is_not_an_interpreter_is_refused_and_not_run(what: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "python"
    if what != "gone":
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n" if what == "script" else "text")
        path.chmod(0o755 if what == "script" else 0o644)
    with pytest.raises(SandboxError, match=words):
        Sandbox(Tier.STRONG, str(path))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("tier", [Tier.STRONG, Tier.STANDARD])
def test_another_program_in_place_of_an_interpreter(tier: Tier) -> None:
    with pytest.raises(SandboxError, match="did not start"):
        Sandbox(tier, "/bin/cat")


def test_descriptors_of_a_judge_with_many_open_files() -> None:
    """None of them reaches a program, whatever its number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6000:
        pytest.skip("too few descriptors may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (6000, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(5000)]
    source = "import os\nfor n in range(3, 9000):\n    try: print(n, os.fstat(n))\n    except OSError: pass\nprint(42)"
    try:
        with Sandbox(Tier.STRONG) as sandbox:
            assert run_case(sandbox, source, problem(), Limits(2)).verdict is Outcome.AC
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
