"""What the judge's tests share: a bench that judges one program after the other, and two problems."""

import contextlib
import time
from pathlib import Path

from kiyas.judge import Limits, Mode, Problem, Program, SandboxError, Test, Tier, Verdict
from kiyas.judge.sandbox import Sandbox
from kiyas.judge.verdicts import Resolved, judge_program

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = Limits(time_s=0.5, memory_mb=128)


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


class Bench:
    """One sandbox; judges programs and checks after each that nothing has survived it."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.sandbox = Sandbox(tier)
        self.idle = len(descendants(self.sandbox.pid))

    def judge(self, source: str, problem: Problem, mode: Mode = Mode.STRICT, limits: Limits = QUICK) -> Verdict:
        try:
            verdict = judge_program(
                self.sandbox,
                Program(problem.id, source),
                problem,
                mode,
                Resolved.of(limits, problem),
                False,
                lambda alone: contextlib.nullcontext(),
            )
        except SandboxError:
            self.sandbox.close()
            self.sandbox = Sandbox(self.tier)
            raise
        deadline = time.monotonic() + 2
        while len(descendants(self.sandbox.pid)) > self.idle:
            assert time.monotonic() < deadline, "processes survived the test"
            time.sleep(0.005)
        return verdict


def problem(given: str = "21\n", expected: str = "42\n", **others: object) -> Problem:
    return Problem("p", (Test(given, expected),), **others)  # type: ignore[arg-type]


def function(expected: str = "5", arguments: str = "2\n3", name: str = "add") -> Problem:
    return problem(arguments, expected, entry_point=name)
