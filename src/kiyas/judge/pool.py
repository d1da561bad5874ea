"""Many programs at once, verdicts in input order, bounded memory; a broken sandbox is replaced, its work done again."""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import TypeVar

from . import tiers
from .compare import check_checkers
from .programs import for_problem, problem_of
from .ready import check_ready, known_mode
from .sandbox import DESCRIPTORS, SCRATCH_MB, Sandbox
from .tolerances import with_tolerance
from .types import (
    AfterTimeout,
    ExtractionRule,
    JudgeError,
    Limits,
    Mode,
    Outcome,
    Problem,
    Program,
    SandboxError,
    Tier,
    ToleranceRule,
    Verdict,
    unfit,
)
from .verdicts import Resolved, judge_program

ATTEMPTS = 3
Rule = TypeVar("Rule", AfterTimeout, ExtractionRule, ToleranceRule)


def judge(
    programs: Iterable[Program],
    problems: Iterable[Problem] | Mapping[str, Problem],
    *,
    mode: str = "strict",
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    defaults: Limits = Limits(),  # noqa: B008
    workers: int | None = None,
    isolation: str = "strong",
    python: str | None = None,
    after_timeout: str = "stop",
    stop_early: bool = False,
    extraction: str = "kiyas",
    tolerance: str = "statement",
) -> Iterator[Verdict]:
    """Judge programs, one verdict each, in input order, as a stream.

    `programs` is read a few at a time. Limits: `limits`, else the problem's, else `defaults`, else 6 s and 1024 MB.
    `after_timeout`: stop (a program's other tests are not run) or continue; `stop_early`: stop at any failed test.
    `extraction`: how the program is found in an answer, `kiyas` or `livecodebench` (`extract`). `tolerance`: the error
    that a problem's statement allows is allowed (`statement`), or only what the problem says itself (`exact`).
    `isolation`: strong, standard, weak, or best (the best that holds here).
    At once, before anything runs, raises SandboxError if the tier asked for does not hold, and JudgeError for problems
    that cannot be judged so (`check_ready`); later InputError for a program whose problem is unknown. Work that a
    broken sandbox lost is done again; the third time it is IE.
    Closing the iterator, or Ctrl-C, ends every process that was started.
    """
    known = problems if isinstance(problems, Mapping) else {problem.id: problem for problem in problems}
    chosen, rule = known_mode(mode), _one_of(ExtractionRule, "extraction", extraction)
    after = _one_of(AfterTimeout, "after_timeout", after_timeout)
    if _one_of(ToleranceRule, "tolerance", tolerance) is ToleranceRule.STATEMENT:
        known = {id: with_tolerance(problem) for id, problem in known.items()}
    check_checkers(known.values())
    count = workers if workers is not None else usable_cores()
    if count < 1:
        raise JudgeError(f"{count} workers cannot judge anything", "--workers 1 or more")
    for each in (limits, defaults):
        for name, value in zip(("time_limit_s", "memory_limit_mb", "output_limit_mb"), astuple(each), strict=True):
            if wrong := unfit(name, value):
                raise JudgeError(wrong)
    for problem in known.values():
        if wrong := unfit("time_limit_s", problem.time_limit_s) or unfit("memory_limit_mb", problem.memory_limit_mb):
            raise JudgeError(f"problem {problem.id}: {wrong}")
    allow_limits(count)
    tier = tiers.choose(isolation, python)
    check_ready(known.values(), mode=mode, isolation=tier, python=python)
    return _Pool(known, chosen, limits, defaults, count, tier, python, after, stop_early, rule).stream(iter(programs))


def _one_of(kind: type[Rule], name: str, value: str) -> Rule:
    try:
        return kind(value)
    except ValueError:
        raise JudgeError(f"unknown {name} {value!r}", f"one of {', '.join(kind)}") from None


DESCRIPTORS_OF_A_WORKER = 24
# Limits of this process that programs inherit: what they may need, and how it is raised.
INHERITED = {
    "RLIMIT_FSIZE": (SCRATCH_MB << 20, "bytes of a file", "-f"),
    "RLIMIT_AS": (4 << 30, "bytes of address space", "-v"),
    "RLIMIT_DATA": (2 << 30, "bytes of memory", "-d"),
}


def allow_limits(workers: int) -> None:
    """As many open files as the workers need, and as a program may have. Raises SandboxError where a limit of this
    process is so low that it would decide verdicts."""
    wanted = max(64 + DESCRIPTORS_OF_A_WORKER * workers, DESCRIPTORS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise SandboxError(
                f"{workers} workers need {wanted} open files, and this process may have {hard}",
                f"ulimit -n {wanted}, or fewer --workers" if wanted > DESCRIPTORS else f"ulimit -n {wanted}",
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    for name, (least, what, option) in INHERITED.items():
        if sys.platform.startswith("linux") and -1 < (most := min_limit(getattr(resource, name))) < least:
            raise SandboxError(
                f"programs may need {least} {what}, and this process may have {most}", f"ulimit {option} unlimited"
            )


def min_limit(which: int) -> int:
    """The lower one of the two; -1: there is none."""
    return min((limit for limit in resource.getrlimit(which) if limit != resource.RLIM_INFINITY), default=-1)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Gate:
    """Tests of all workers run side by side, or one runs alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running = 0
        self._alone = False
        self._waiting = 0

    @contextlib.contextmanager
    def __call__(self, alone: bool) -> Iterator[None]:
        with self._condition:
            if alone:
                self._waiting += 1
                self._condition.wait_for(lambda: not self._running and not self._alone)
                self._waiting -= 1
                self._alone = True
            else:
                self._condition.wait_for(lambda: not self._alone and not self._waiting)
                self._running += 1
        try:
            yield
        finally:
            with self._condition:
                if alone:
                    self._alone = False
                else:
                    self._running -= 1
                self._condition.notify_all()


@dataclass
class _Pool:
    """A thread per sandbox (its zygote dies with that thread). The threads only wait: programs run elsewhere."""

    problems: Mapping[str, Problem]
    mode: Mode
    limits: Limits
    defaults: Limits
    workers: int
    tier: Tier
    python: str | None
    after_timeout: AfterTimeout
    stop_early: bool
    rule: ExtractionRule
    gate: Gate = field(default_factory=Gate)
    todo: queue.Queue[tuple[int, Program, Problem] | None] = field(default_factory=queue.Queue)
    done: queue.Queue[tuple[int, Verdict | BaseException]] = field(default_factory=queue.Queue)
    sandboxes: dict[int, Sandbox] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def stream(self, programs: Iterator[Program]) -> Iterator[Verdict]:
        threads = [
            threading.Thread(target=self._work, args=(number,), name=f"judge-{number}", daemon=True)
            for number in range(self.workers)
        ]
        ready: dict[int, Verdict] = {}
        given = yielded = 0
        exhausted = False
        try:
            for thread in threads:
                thread.start()
            while True:
                while not exhausted and given - yielded < 4 * self.workers:
                    program = next(programs, None)
                    if program is None:
                        exhausted = True
                        break
                    problem = problem_of(program, self.problems)
                    self.todo.put((given, for_problem(program, problem, self.rule), problem))
                    given += 1
                if exhausted and yielded == given:
                    return
                while yielded not in ready:
                    number, verdict = self.done.get()
                    if isinstance(verdict, BaseException):
                        raise verdict
                    ready[number] = verdict
                yielded += 1
                yield ready.pop(yielded - 1)
        finally:
            self.stop.set()
            for sandbox in list(self.sandboxes.values()):
                sandbox.cancelled = True
            for _ in threads:
                self.todo.put(None)
            for thread in threads:
                if thread.ident is not None:
                    thread.join(15)

    def _work(self, number: int) -> None:
        sandbox: Sandbox | None = None
        try:
            while not self.stop.is_set():
                task = self.todo.get()
                if task is None or self.stop.is_set():
                    return
                index, program, problem = task
                limits = Resolved.of(self.limits, problem, self.defaults)
                reason = ""
                for _ in range(ATTEMPTS):
                    try:
                        if sandbox is None:
                            sandbox = self.sandboxes[number] = Sandbox(self.tier, self.python)
                        verdict = judge_program(
                            sandbox,
                            program,
                            problem,
                            self.mode,
                            limits,
                            self.after_timeout,
                            self.stop_early,
                            self.gate,
                        )
                        break
                    except Exception as error:  # noqa: BLE001  (ours, not the program's: judged again)
                        reason = str(error) if isinstance(error, SandboxError) else f"a fault in the judge: {error!r}"
                        if sandbox is not None:
                            sandbox.close()
                            sandbox = None
                        if self.stop.is_set():
                            return
                else:
                    verdict = Verdict(program, Outcome.IE, 0, problem.total, (), reason, self.tier)
                self.done.put((index, verdict))
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            self.done.put((-1, error))
        finally:
            if sandbox is not None:
                sandbox.close()
