"""What the judge's tests share: a bench that judges one program after the other, here or as another user; problems.

Run as a script it is the other end of a `UserBench`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kiyas.judge import Limits, Mode, Problem, SandboxError, Tier, Verdict, verdicts
from kiyas.judge.attacks import run_case
from kiyas.judge.resources import others_can_read
from kiyas.judge.sandbox import Sandbox
from kiyas.judge.tiers import choose

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = Limits(time_s=0.5, memory_mb=128)
NOBODY = 65534


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


class Bench:
    """One sandbox; judges programs and checks after each that nothing has survived it."""

    user = False

    def __init__(self, tier: Tier) -> None:
        self.tier = choose(tier)
        verdicts.WALL_SLACK_S = 0.8  # forty programs are asleep until then
        self.sandbox = Sandbox(tier)
        self.idle = len(descendants(self.sandbox.pid))

    def judge(self, source: str, problem: Problem, mode: Mode = Mode.STRICT, limits: Limits = QUICK) -> Verdict:
        try:
            verdict = run_case(self.sandbox, source, problem, limits, mode)
        except SandboxError:
            self.sandbox.close()
            self.sandbox = Sandbox(self.tier)
            raise
        deadline = time.monotonic() + 30
        while len(descendants(self.sandbox.pid)) > self.idle:
            assert time.monotonic() < deadline, "processes survived the test"
            time.sleep(0.005)
        folder = self.sandbox.folder
        assert folder is None or not any(folder.iterdir()), "files survived the test"
        return verdict

    def close(self) -> None:
        self.sandbox.close()


class UserBench:
    """The same as an ordinary user, from a process of root's."""

    user = True

    def __init__(self, tier: Tier) -> None:
        python = readable_python()
        if python is None:
            raise SandboxError("no Python here that an ordinary user can run")
        self.tier = tier
        self.folder = Path(tempfile.mkdtemp(prefix="kiyas-bench-"))
        self.folder.chmod(0o755)
        (self.folder / "kiyas").mkdir()
        package = REPOSITORY / "src" / "kiyas"
        shutil.copy(package / "__init__.py", self.folder / "kiyas")
        shutil.copytree(package / "judge", self.folder / "kiyas" / "judge")
        shutil.copy(__file__, self.folder)
        subprocess.run(["chmod", "-R", "a+rX", self.folder], check=True)
        self.process = subprocess.Popen(
            [python, self.folder / "judge_bench.py", tier],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def judge(self, source: str, problem: Problem, mode: Mode = Mode.STRICT, limits: Limits = QUICK) -> Verdict:
        assert self.process.stdin is not None
        pickle.dump((source, problem, mode, limits), self.process.stdin)
        self.process.stdin.flush()
        verdict: Verdict = self._answer()
        return verdict

    def close(self) -> None:
        self.process.communicate()
        shutil.rmtree(self.folder)


def readable_python() -> str | None:
    """A Python, 3.11 or newer, that any user may run: ours, else the system's."""
    ours = getattr(sys, "_base_executable", sys.executable)
    if others_can_read([sys.base_prefix]):
        return ours
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        asked = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        if Path(candidate).exists() and subprocess.run(asked).returncode == 0:
            return candidate
    return None


def serve(tier: Tier) -> None:
    """The other end of `UserBench`: pickled questions on stdin, pickled answers on stdout."""
    answers, bench = os.fdopen(os.dup(1), "wb"), None
    os.dup2(2, 1)
    while True:
        try:
            answer: Any = None
            if bench is None:
                bench = Bench(tier)
            else:
                answer = bench.judge(*pickle.load(sys.stdin.buffer))
        except EOFError:
            break
        except (SandboxError, AssertionError) as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()
        if bench is None:
            return
    bench.close()


if __name__ == "__main__":
    serve(Tier(sys.argv[1]))
