"""Fixtures of the judge's tests: real data where it is to be had, one sandbox of the tier `strong` for all."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiyas.judge import Limits, Mode, Problem, Program, SandboxError, Test, Tier, Verdict
from kiyas.judge.sandbox import Sandbox
from kiyas.judge.tiers import probe_tier
from kiyas.judge.verdicts import Resolved, judge_program

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = Limits(time_s=0.5, memory_mb=128)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("KIYAS_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (KIYAS_SHARED_DATA names another folder)")
    return folder


@pytest.fixture(scope="session")
def strong() -> None:
    report = probe_tier(Tier.STRONG)
    if not report.holds:
        pytest.skip(f"the tier strong does not hold here: {report.reason}")


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


@pytest.fixture(scope="session")
def bench(strong: None) -> Iterator[Bench]:
    made = Bench(Tier.STRONG)
    yield made
    made.sandbox.close()


@pytest.fixture(scope="session")
def weak_bench() -> Iterator[Bench]:
    made = Bench(Tier.WEAK)
    yield made
    made.sandbox.close()


@pytest.fixture(scope="session")
def standard_bench() -> Iterator[Bench]:
    report = probe_tier(Tier.STANDARD)
    if not report.holds:
        pytest.skip(f"the tier standard does not hold here: {report.reason}")
    made = Bench(Tier.STANDARD)
    yield made
    made.sandbox.close()


def problem(given: str = "21\n", expected: str = "42\n", **others: object) -> Problem:
    return Problem("p", (Test(given, expected),), **others)  # type: ignore[arg-type]


def function(expected: str = "5", arguments: str = "2\n3", name: str = "add") -> Problem:
    return problem(arguments, expected, entry_point=name)


Judge = Callable[..., Verdict]
