"""From how a process tree ended to what the program earned. The expected output is known here and nowhere below."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from . import compare
from .parting import parting
from .sandbox import Execution, Job, Sandbox
from .types import (
    DEFAULT_MEMORY_MB,
    DEFAULT_OUTPUT_MB,
    DEFAULT_TIME_S,
    MISSING,
    MOST_PROGRAM,
    PRIORITY,
    AfterTimeout,
    ExceptionInfo,
    Limits,
    Mode,
    Outcome,
    Problem,
    Program,
    SandboxError,
    Test,
    TestResult,
    Verdict,
)

SHOWN = 2048
TOKEN_BYTES = 32  # as inside/runner.py has it
SHARED = "tests share the program's process"
"""the flag of a verdict that a program could have forged"""
# On a crowded machine a program is killed only at this multiple of its limit; between the two it is judged again alone.
CROWD = 1.25
CHECKER_S = 10
CHECKER_FAILED = "the checker failed"
WITHIN = "accepted within "
"""begins the flag of a verdict that exact comparison would refuse"""
WALL_SLACK_S = 2.0  # the backstop of wall time: 3 times the limit and this
Comparison = Callable[[Execution], "TestResult"]
Gate = Callable[[bool], AbstractContextManager[object]]


@dataclass(frozen=True)
class Resolved:
    """Limits of one problem, all known."""

    time_s: float
    memory_bytes: int
    output_mb: int

    @classmethod
    def of(cls, limits: Limits, problem: Problem, defaults: Limits = Limits()) -> Resolved:  # noqa: B008  (frozen)
        """`limits`, else the problem's own, else `defaults`, else the judge's."""
        return cls(
            limits.time_s or problem.time_limit_s or defaults.time_s or DEFAULT_TIME_S,
            (limits.memory_mb or problem.memory_limit_mb or defaults.memory_mb or DEFAULT_MEMORY_MB) << 20,
            limits.output_mb or defaults.output_mb or DEFAULT_OUTPUT_MB,
        )


def judge_program(
    sandbox: Sandbox,
    program: Program,
    problem: Problem,
    mode: Mode,
    resolved: Resolved,
    after_timeout: AfterTimeout,
    stop_early: bool,
    gate: Gate,
) -> Verdict:
    """Run the tests of one program. `gate(alone)` is held while a test runs."""
    if not program.source.strip():
        empty = TestResult(Outcome.WA, detail="there is no program")
        verdict = _verdict(sandbox, program, problem, [empty] * (1 if stop_early else problem.total))
        return replace(verdict, livecodebench=Outcome.WA) if mode is Mode.BOTH else verdict
    if len(program.source) > MOST_PROGRAM:
        long = TestResult(Outcome.CE, detail=f"the program is longer than {MOST_PROGRAM:,} characters: it was not run")
        verdict = _verdict(sandbox, program, problem, [long] * (1 if stop_early else problem.total))
        return replace(verdict, livecodebench=Outcome.CE) if mode is Mode.BOTH else verdict
    if mode is Mode.LIVECODEBENCH:
        return _verdict(sandbox, program, problem, _livecodebench_tests(sandbox, program, problem, resolved, gate))
    results: list[TestResult] = []
    code = b""
    for job, finish in _strict_jobs(program, problem, resolved, sandbox):
        keep_code = not code and len(results) + 1 < problem.total
        result, run = _attempt(sandbox, replace(job, code=code, keep_code=keep_code), resolved, finish, gate)
        results.append(result)
        code = code or run.code
        late = result.verdict is Outcome.TLE and after_timeout is AfterTimeout.STOP
        if result.verdict is Outcome.CE or late or (stop_early and result.verdict is not Outcome.AC):
            break
    if results[-1].verdict is Outcome.CE and not stop_early:
        results += [results[-1]] * (problem.total - len(results))
    verdict = _verdict(sandbox, program, problem, results)
    if mode is Mode.BOTH:
        other = _verdict(sandbox, program, problem, _livecodebench_tests(sandbox, program, problem, resolved, gate))
        verdict = replace(verdict, livecodebench=other.verdict)
    return verdict


def _verdict(sandbox: Sandbox, program: Program, problem: Problem, results: list[TestResult]) -> Verdict:
    outcome = next(kind for kind in PRIORITY if any(result.verdict is kind for result in results))
    flags = sorted({flag for result in results for flag in result.flags})
    if program.extraction is not None and program.extraction.method == "none":
        flags.append(f"no program in the answer: {program.extraction.reason}")
    decisive = next((n for n, result in enumerate(results, 1) if result.verdict is outcome), 0)
    detail = "" if outcome is Outcome.AC else f"test {decisive}: {results[decisive - 1].detail}"
    passed = sum(result.verdict is Outcome.AC for result in results)
    if results[-1].verdict is Outcome.TLE and len(results) < problem.total:
        flags.append(f"stopped at its first time-out: {problem.total - len(results)} tests not run")
    return Verdict(program, outcome, passed, problem.total, tuple(results), detail, sandbox.tier, tuple(flags))


# --- strict ------------------------------------------------------------------------------------------------------


def _strict_jobs(
    program: Program, problem: Problem, limits: Resolved, sandbox: Sandbox
) -> Iterator[tuple[Job, Comparison]]:
    """One after the other: the tests of a problem may be too large to be in memory twice."""
    common: dict[str, Any] = {
        "source": problem.complete(program.source),
        "time_limit_s": limits.time_s,
        "memory_bytes": limits.memory_bytes,
    }
    if problem.test_code is not None:
        yield _assert_job(problem, common | {"output_bytes": limits.output_mb << 20})
        return
    for test in problem.tests:
        cap = max(limits.output_mb << 20, 2 * len(test.output) + (1 << 20))
        if problem.entry_point is not None:
            arguments = json.dumps([json.loads(line) for line in test.input.split("\n")]).encode()
            job = Job("function", extra=arguments, entry_point=problem.entry_point, output_bytes=cap, **common)
            yield job, partial(_finish_function, problem=problem, test=test, sandbox=sandbox)
        else:
            job = Job("script", stdin=test.input, output_bytes=cap, **common)
            yield job, partial(_finish_script, problem=problem, test=test, sandbox=sandbox)


def _assert_job(problem: Problem, common: dict[str, Any]) -> tuple[Job, Comparison]:
    assert problem.test_code is not None
    token, apart = secrets.token_hex(TOKEN_BYTES // 2).encode(), parting(problem)
    finish = partial(_finish_asserts, token=token, test_code=problem.test_code)
    if apart is None:
        tests = token + problem.test_code.encode("utf-8", "surrogatepass")
        return Job("asserts", extra=tests, **common), finish
    given = {
        "token": token.decode(),
        "preamble": problem.preamble,
        "tests": problem.test_code,
        "asked": apart.asked,
        "own": dict(apart.own),
    }
    return Job(
        "parted", extra=apart.imports.encode(), tests=json.dumps(given).encode(), shared=apart.shared, **common
    ), finish


def _attempt(
    sandbox: Sandbox, job: Job, limits: Resolved, finish: Comparison, gate: Gate
) -> tuple[TestResult, Execution]:
    """Side by side with others first; near a limit of time once more, alone, and then it counts."""
    for alone in (False, True):
        crowded_s = limits.time_s * (1.0 if alone else CROWD)
        with gate(alone):
            run = sandbox.run(
                replace(job, cpu_s=limits.time_s, crowded_cpu_s=crowded_s, wall_s=3 * limits.time_s + WALL_SLACK_S)
            )
        finished_late = not run.killed and limits.time_s < run.cpu_s
        starved = run.killed == "wall" and run.cpu_s + run.waited_s > 0.3 * limits.time_s
        if not alone and (finished_late or starved):
            continue
        result = _classify(run, limits, job.output_bytes, finish)
        more = [SHARED] * (job.kind == "asserts") + ["judged again alone"] * alone
        return replace(result, flags=(*result.flags, *more)), run
    raise AssertionError("the second attempt always counts")


def _measures(run: Execution) -> dict[str, Any]:
    exit_code, name = None, None
    if run.status is not None:
        code = os.waitstatus_to_exitcode(run.status)
        if code >= 0:
            exit_code = code
        else:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"SIG{-code}"
    return {"cpu_s": run.cpu_s, "wall_s": run.wall_s, "peak_mb": run.peak_mb, "exit_code": exit_code, "signal": name}


def _classify(run: Execution, limits: Resolved, output_bytes: int, finish: Comparison) -> TestResult:
    """Decides every end but a normal one; `finish` compares the output of a program that ended well."""
    measures = _measures(run)
    error = parse_exception(run.stderr)
    flags = []
    if not run.killed and len(run.stdout) > 0.8 * output_bytes:
        flags.append("output near the limit")
    if run.left_behind:
        flags.append("left processes running")
    if error and error.type == "ModuleNotFoundError":
        missing = re.search(r"'([^']+)'", error.message)
        name = missing[1].partition(".")[0] if missing else "?"
        if name not in sys.stdlib_module_names:
            flags.append(f"{MISSING}{name}")

    def ended(verdict: Outcome, detail: str) -> TestResult:
        return TestResult(
            verdict,
            **measures,
            got=_text(run.stdout[:SHOWN]),
            stderr=_text(run.stderr[-SHOWN:]),
            exception=error if verdict in (Outcome.RE, Outcome.MLE) else None,
            detail=detail,
            flags=tuple(flags),
        )

    if run.killed == "judge":
        raise SandboxError("the program was stopped, but nothing asked for it")
    if not run.compiled:
        reason = _text(run.report).strip() or "it cannot be compiled within the limits"
        shown = ended(Outcome.CE, reason.splitlines()[-1])
        return replace(shown, exception=parse_exception(run.report), stderr=reason[:SHOWN])
    if run.killed == "scratch":
        return ended(Outcome.RE, "more files, or larger ones, than the scratch folder may hold")
    if run.killed == "output":
        return ended(Outcome.OLE, "more output than is allowed")
    if run.killed == "memory" or run.peak_mb > limits.memory_bytes / 2**20:
        return ended(Outcome.MLE, f"{run.peak_mb:.0f} MB, allowed are {limits.memory_bytes >> 20} MB")
    if run.killed == "cpu" or measures["signal"] == "SIGXCPU" or run.cpu_s > limits.time_s:
        most = f"{limits.time_s:g} s" if math.isfinite(limits.time_s) else "all its tests may take together"
        return ended(Outcome.TLE, f"more CPU time than {most}")
    if run.killed == "wall":
        slept = f"it mostly slept: {run.cpu_s:.2f} s of CPU time"
        return ended(Outcome.TLE, f"not finished after {run.wall_s:.1f} s ({slept})")
    if measures["signal"] == "SIGKILL" and run.peak_mb > 0.8 * limits.memory_bytes / 2**20:
        return ended(Outcome.MLE, "killed by the system near the memory limit")
    if run.out_of_memory and measures["exit_code"]:
        return ended(Outcome.MLE, "MemoryError")
    judged = finish(run)
    if judged.verdict is Outcome.RE:
        if measures["signal"]:
            return ended(Outcome.RE, f"ended by {measures['signal']}")
        if error is None:
            return ended(Outcome.RE, f"exit code {measures['exit_code']}")
        line = f" (line {error.line})" if error.line else ""
        return ended(Outcome.RE, f"{error.type}: {error.message}{line}")
    if judged.verdict is Outcome.AC:
        return replace(judged, **measures, flags=(*flags, *judged.flags))
    if judged.verdict is Outcome.IE:
        return replace(ended(Outcome.IE, judged.detail), flags=(*flags, *judged.flags))
    return replace(ended(judged.verdict, judged.detail), got=judged.got or _text(run.stdout[:SHOWN]))


def _finish_script(run: Execution, problem: Problem, test: Test, sandbox: Sandbox) -> TestResult:
    if run.status != 0:
        return TestResult(Outcome.RE)
    tolerance = compare.Tolerance.of(problem)
    if problem.checker is not None and tolerance is None:
        if problem.checker not in compare.NAMED:
            return _ask_checker(sandbox, problem.checker, test, run.stdout.decode("utf-8", "surrogateescape"))
        reason = compare.NAMED[problem.checker](run.stdout, test.output)
    else:
        reason = compare.strict(run.stdout, test.output)
        if reason is not None and tolerance is not None:
            reason = compare.strict(run.stdout, test.output, tolerance)
            if reason is None:
                return _within(tolerance)
    return TestResult(Outcome.AC) if reason is None else TestResult(Outcome.WA, detail=reason)


def _within(tolerance: compare.Tolerance) -> TestResult:
    return TestResult(Outcome.AC, flags=(f"{WITHIN}{tolerance.error:g}",))


def _finish_function(run: Execution, problem: Problem, test: Test, sandbox: Sandbox) -> TestResult:
    if run.status != 0:
        return TestResult(Outcome.RE)
    answer = _last_object(run.report, test.output)
    if "not_json" in answer:
        return TestResult(Outcome.WA, detail=f"the result is not JSON: {answer['not_json']}")
    if "result" not in answer:
        return TestResult(Outcome.WA, detail="it ended without a result")
    got = json.dumps(answer["result"], ensure_ascii=False)
    tolerance = compare.Tolerance.of(problem)
    if problem.checker is not None and tolerance is None:
        if problem.checker not in compare.NAMED:
            return _ask_checker(sandbox, problem.checker, test, got)
        reason = compare.NAMED[problem.checker](*_listed(answer["result"], json.loads(test.output)))
        return TestResult(Outcome.AC) if reason is None else TestResult(Outcome.WA, got=got[:SHOWN], detail=reason)
    expected = json.loads(test.output)
    if compare.strict_json(answer["result"], expected):
        return TestResult(Outcome.AC)
    if tolerance is not None and compare.strict_json(answer["result"], expected, tolerance):
        return _within(tolerance)
    return TestResult(Outcome.WA, got=got[:SHOWN], detail=_differ(got, test.output))


def _listed(got: Any, expected: Any) -> tuple[bytes, str]:
    """JSON results as lines, one for each element of a list."""

    def lines(value: Any) -> str:
        return "\n".join(json.dumps(each, sort_keys=True) for each in (value if isinstance(value, list) else [value]))

    return lines(got).encode(), lines(expected)


def _differ(got: str, expected: str) -> str:
    return f"{got[:80]}, expected {expected.strip()[:80]}"


def _finish_asserts(run: Execution, token: bytes, test_code: str) -> TestResult:
    if run.report == token + b" %d" % run.pid and run.status == 0:
        return TestResult(Outcome.AC)
    line = _last_object(run.report).get("failed_line")
    if isinstance(line, int):
        lines = test_code.split("\n")
        return TestResult(
            Outcome.WA,
            detail="failed: " + (lines[line - 1].strip()[:200] if 0 < line <= len(lines) else "an assertion"),
        )
    if run.status != 0:
        return TestResult(Outcome.RE)
    return TestResult(Outcome.WA, detail="it ended before the tests did")


def _last_object(report: bytes, expected: str = "") -> dict[str, Any]:
    """The last line of a report as a JSON object; {} for anything else (the program may have written there)."""
    report = report.rstrip()
    return _object(report[report.rfind(b"\n") + 1 :], expected)


MOST_PARTS = 1_000_000
"""so many more values than what is expected has are wrong, and a hundred times as large in memory as here"""


def _object(line: bytes, expected: str) -> dict[str, Any]:
    """A line of JSON; {} where it is not an object."""
    if sum(map(line.count, (b",", b"[", b"{"))) > MOST_PARTS + 2 * len(expected):
        return {"not_json": f"it has more than {MOST_PARTS:,} values too many"}
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _ask_checker(sandbox: Sandbox, checker: str, test: Test, output: str) -> TestResult:
    """`check(input, expected, output)`, as a program of its own, with a time limit of its own.

    It returns true or false, or a score (1: right), or one of these and a sentence. Bytes of the program that are not
    UTF-8 arrive as lone surrogates. A checker that fails is neither the program's failure nor the sandbox's: IE.
    """
    extra = json.dumps([test.input, test.output, output]).encode()
    job = Job(
        "function", checker, extra=extra, entry_point="check", cpu_s=CHECKER_S, wall_s=3 * CHECKER_S + WALL_SLACK_S
    )
    run = sandbox.run(job)
    result, words = _last_object(run.report).get("result"), ""
    if isinstance(result, list) and len(result) == 2 and isinstance(result[1], str):
        result, words = result
    if run.status == 0 and not run.killed and isinstance(result, bool | int | float) and not math.isnan(result):
        if result >= 1:
            return TestResult(Outcome.AC)
        score = "" if isinstance(result, bool) or result == 0 else f" (score {result:g})"
        return TestResult(Outcome.WA, detail=f"refused by the checker{score}" + (f": {words[:500]}" if words else ""))
    if run.killed == "judge":
        raise SandboxError("the checker was stopped, but nothing asked for it")
    error = parse_exception(run.stderr)
    if run.killed:
        reason = f"it took more {'memory' if run.killed == 'memory' else 'time or output'} than it may ({CHECKER_S} s)"
    elif not run.compiled:
        reason = "it does not compile"
    elif error is not None:
        reason = f"{error.type}: {error.message}"
    else:
        reason = "it returned neither true or false nor a score"
    return TestResult(Outcome.IE, detail=f"the problem's checker failed: {reason}", flags=(CHECKER_FAILED,))


# --- livecodebench -----------------------------------------------------------------------------------------------


def _livecodebench_tests(
    sandbox: Sandbox, program: Program, problem: Problem, limits: Resolved, gate: Gate
) -> list[TestResult]:
    """All tests in one process, as LiveCodeBench runs them; each answer is compared by its rule."""
    total = len(problem.tests)
    job = Job(
        "livecodebench",
        program.source,
        extra=json.dumps([test.input for test in problem.tests]).encode(),
        entry_point=problem.entry_point.rpartition(".")[2] if problem.entry_point else None,
        time_limit_s=limits.time_s,
        cpu_s=(limits.time_s + 1) * total + 5,
        wall_s=3 * (limits.time_s + 1) * total + 15,
        memory_bytes=limits.memory_bytes,
        output_bytes=limits.output_mb << 20,
    )
    with gate(False):
        run = sandbox.run(job)
    results: list[TestResult] = []
    for answer in _answers(run.report, problem):
        test = problem.tests[len(results)]
        results.append(replace(_livecodebench_result(answer, test.output, problem), peak_mb=run.peak_mb))
        if "error" in answer:
            break
    if len(results) < total:
        if results and results[-1].verdict in (Outcome.RE, Outcome.TLE):
            last = replace(results[-1], cpu_s=0.0, wall_s=0.0, detail=f"not run: test {len(results)} ended the process")
        else:
            # LiveCodeBench ignores exit codes, but there too a process without answers fails.
            last = _classify(run, replace(limits, time_s=math.inf), job.output_bytes, lambda _: TestResult(Outcome.RE))
            if last.verdict is Outcome.RE and not last.exit_code and not last.signal:
                last = replace(last, detail="the process ended before all tests had run")
        results += [last] * (total - len(results))
    return results


def _answers(report: bytes, problem: Problem) -> Iterator[dict[str, Any]]:
    """The answers in order; the first line that is not the next answer ends them."""
    start = 0
    for number, test in enumerate(problem.tests):
        end = report.find(b"\n", start) % (len(report) + 1)
        answer = _object(report[start:end], test.output)
        if not answer or answer.get("i", number) != number:
            return
        yield answer
        start = end + 1


def _seconds(value: Any) -> float:
    """A time as the program's own process reports it; 0 for anything else."""
    return float(value) if type(value) in (int, float) and 0 <= value < 1e9 else 0.0


def _livecodebench_result(answer: dict[str, Any], expected: str, problem: Problem) -> TestResult:
    times: dict[str, Any] = {key: _seconds(answer.get(key)) for key in ("cpu_s", "wall_s")}
    if "error" in answer:
        text = str(answer["error"])
        verdict = Outcome.TLE if answer.get("timeout") else Outcome.RE
        return TestResult(
            verdict, **times, exception=parse_exception(text.encode("utf-8", "replace")), detail=text.strip()[-200:]
        )
    if problem.entry_point is not None:
        got = json.dumps(answer.get("result"))
        right = "result" in answer and compare.livecodebench_json(answer["result"], expected)
        reason = None if right else str(answer.get("not_json") or _differ(got, expected))
    else:
        got = str(answer.get("out", ""))
        reason = str(answer["not_json"]) if "not_json" in answer else compare.livecodebench(got, expected)
    if reason is None:
        return TestResult(Outcome.AC, **times)
    return TestResult(Outcome.WA, **times, got=got[:SHOWN], detail=reason)


# --- text --------------------------------------------------------------------------------------------------------

# Bounded in every part: this reads what a program wrote.
_LOCATION = re.compile(r'^[ \t]{0,8}File "[^"\n]{0,4096}main\.py", line ([0-9]{1,9})\b', re.MULTILINE)
_LAST = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$")


def parse_exception(stderr: bytes) -> ExceptionInfo | None:
    """The exception that ends the last traceback (or bare `Type: message`) on stderr."""
    text = _text(stderr).rstrip()
    trace = text.rpartition("Traceback (most recent call last):")
    block = trace[2] if trace[1] else text[-4000:]
    for line in reversed(block.splitlines()[-50:]):
        match = _LAST.match(line)
        if match and (
            match[1].endswith(("Error", "Exception", "Interrupt", "Warning", "Exit", "Iteration")) or trace[1]
        ):
            lines = [int(number) for number in _LOCATION.findall(block)]
            return ExceptionInfo(match[1], lines[-1] if lines else None, (match[2] or "")[:500])
    return None


def _text(output: bytes | bytearray) -> str:
    return output.decode("utf-8", "replace")
