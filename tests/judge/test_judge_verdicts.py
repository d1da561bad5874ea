"""Each verdict with what stands beside it; modes; tiers; workers that die; streaming."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from judge_bench import QUICK, Bench, descendants

from kiyas.judge import (
    InputError,
    JudgeError,
    Limits,
    Mode,
    Outcome,
    Problem,
    Program,
    SandboxError,
    Test,
    Tier,
    judge,
    probe,
    tiers,
)
from kiyas.judge.attacks import function, problem
from kiyas.judge.sandbox import Job, Sandbox
from kiyas.judge.verdicts import Resolved

LCB = Mode.LIVECODEBENCH


def test_re_says_type_and_line(bench: Bench) -> None:
    (test,) = bench.judge("x = 1\ndef f():\n    raise KeyError('k')\n\nf()\n", problem()).tests
    assert test.verdict is Outcome.RE and test.exit_code == 1
    assert test.exception is not None
    assert (test.exception.type, test.exception.line, test.exception.message) == ("KeyError", 3, "'k'")
    assert test.stderr.startswith("Traceback (most recent call last):\n  File") and "runner" not in test.stderr


def test_ce_says_where(bench: Bench) -> None:
    verdict = bench.judge("x = 1\nif x\n", Problem("p", (Test("", ""), Test("", ""))))
    assert (verdict.verdict, verdict.passed, verdict.total, len(verdict.tests)) == (Outcome.CE, 0, 2, 2)
    exception = verdict.tests[0].exception
    assert exception is not None and exception.type == "SyntaxError" and exception.line == 2


def test_wa_shows_what_was_printed(bench: Bench) -> None:
    (test,) = bench.judge("print('x' * 9999)", problem()).tests
    assert test.got == "x" * 2048
    assert "line 1, token 1" in test.detail


def test_signal_is_named(bench: Bench) -> None:
    (test,) = bench.judge("import os\nos.abort()", problem()).tests
    assert (test.signal, test.exit_code) == ("SIGABRT", None)


def test_priority_and_partial_credit(bench: Bench) -> None:
    asked = Problem("p", tuple(Test(f"{i}\n", "0\n") for i in range(4)))
    verdict = bench.judge("n = int(input())\nif n == 2: raise ValueError\nprint(n)", asked)
    assert [test.verdict for test in verdict.tests] == [Outcome.AC, Outcome.WA, Outcome.RE, Outcome.WA]
    assert (verdict.verdict, verdict.passed, verdict.total) == (Outcome.RE, 1, 4)
    assert verdict.detail.startswith("test 3: ValueError")


def test_measures(bench: Bench) -> None:
    burn = "import time\nx = b'x' * (60 << 20)\nwhile time.process_time() < 0.2: pass\nprint(42)"
    (test,) = bench.judge(burn, problem()).tests
    assert test.verdict is Outcome.AC
    assert 0.2 <= test.cpu_s < 0.45
    assert 60 < test.peak_mb < 100


def test_problem_limits_and_their_order(bench: Bench) -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(42)"
    tight = problem(time_limit_s=0.1)
    assert bench.judge(burn, tight, limits=Limits()).verdict is Outcome.TLE
    assert bench.judge(burn, tight, limits=Limits(1.0)).verdict is Outcome.AC
    resolved = Resolved.of(Limits(memory_mb=64), tight, Limits(time_s=3, memory_mb=32, output_mb=2))
    assert resolved == Resolved(0.1, 64 << 20, 2)


@pytest.mark.parametrize(
    "source",
    [
        "import multiprocessing as m\ndef f(x): return 2 * x\nwith m.Pool(2) as p: print(p.map(f, [21])[0])",
        "import asyncio\nasync def f(): print(42)\nasyncio.run(f())",
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(4) as p: print(sum(p.map(int, ['40', '2'])))",
        "import subprocess as s, sys\nprint(s.run([sys.executable, '-Sc', 'print(42)'], stdout=-1).stdout.decode())",
        "import ssl, sqlite3, lzma, zoneinfo\nprint(sqlite3.connect(':memory:').execute('select 42').fetchone()[0])",
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f: print(42)",
        "import sys\nsys.exit(print(42))",
        "import atexit\natexit.register(print, 42)",
        "class A:\n    def __del__(self): print(42)\na = A()",
        "import threading\nthreading.Timer(0.05, print, [42]).start()",
        "import os\nif os.fork():\n    os.wait()\nelse:\n    print(42)",
    ],
)
def test_honest_use_of_the_system(bench: Bench, source: str) -> None:
    verdict = bench.judge(source, problem(), limits=Limits(2, 512))
    assert verdict.verdict is Outcome.AC, verdict.tests


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("def add(a, b): return a + b", Outcome.AC),
        ("class Solution:\n    def add(self, a: int, b: int) -> List[int]: return a + b", Outcome.AC),
        ("def add(a, b): return a - b", Outcome.WA),
        ("def add(a, b): return {a, b}", Outcome.WA),
        ("def add(a, b): print('noise'); return a + b", Outcome.AC),
        ("def other(a, b): return 5", Outcome.RE),
        ("def add(a): return 5", Outcome.RE),
        ("def add(a, b):", Outcome.CE),
        ("def add(a, b):\n    while True: pass", Outcome.TLE),
    ],
)
def test_function_style(bench: Bench, source: str, outcome: Outcome) -> None:
    assert bench.judge(source, function()).verdict is outcome


def test_a_name_from_the_preamble_is_no_answer(bench: Bench) -> None:
    """`operator.add` is imported for LeetCode-style problems; it must not solve one."""
    assert bench.judge("x = 1", function()).verdict is Outcome.RE


ASSERTS = Problem("p", (), test_code="assert f(1) == 2, 'one'\nassert f(2) == 4\n")


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("def f(n): return 2 * n", Outcome.AC),
        ("def f(n): return n", Outcome.WA),
        ("def f(n): assert n == 0", Outcome.RE),
        ("def f(n): return {}[n]", Outcome.RE),
        ("def g(n): return 2 * n", Outcome.RE),
        ("import sys\nsys.exit(0)", Outcome.RE),
        ("import os\nos._exit(0)", Outcome.WA),
    ],
)
def test_assert_style(bench: Bench, source: str, outcome: Outcome) -> None:
    assert bench.judge(source, ASSERTS).verdict is outcome


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("print(int(input()) * 2)", Outcome.AC),
        ("print(float(input()) * 2)", Outcome.AC),  # 42.0 is 42 as a decimal
        ("import sys\nprint(int(sys.stdin.read()) * 2)\nsys.exit(3)", Outcome.AC),  # exit codes are ignored
        ("import sys\nprint(int(sys.stdin.buffer.readline()) * 2)", Outcome.AC),  # its stdin has a buffer
        ("if __name__ == '__main__':\n    print(int(input()) * 2)", Outcome.AC),
        ("print(int(open(0).read()) * 2)", Outcome.RE),  # its preamble binds the real open(), whose stdin is empty
        ("print(1", Outcome.CE),
        ("raise ValueError", Outcome.RE),
        ("print(41)", Outcome.WA),
        ("while True: pass", Outcome.TLE),
        ("import os\nos._exit(0)", Outcome.RE),
        ("x = []\nwhile True: x.append(bytearray(10**6))", Outcome.MLE),
    ],
)
def test_livecodebench_stdin(bench: Bench, source: str, outcome: Outcome) -> None:
    assert bench.judge(source, problem(), LCB).verdict is outcome


def test_livecodebench_shares_state_between_tests(bench: Bench) -> None:
    """All tests in one process, one Solution(): state survives there, and does not in the strict mode."""
    source = "class Solution:\n    n = 0\n    def f(self, x):\n        self.n += 1\n        return self.n"
    asked = Problem("p", (Test("0", "1"), Test("0", "2")), entry_point="f")
    assert bench.judge(source, asked, LCB).verdict is Outcome.AC
    assert bench.judge(source, asked).passed == 1
    both = bench.judge(source, asked, Mode.BOTH)
    assert (both.verdict, both.livecodebench) == (Outcome.WA, Outcome.AC)


@pytest.mark.parametrize(
    ("result", "expected", "outcome"),
    [("(1, 2)", "[1, 2]", "AC"), ("[(1, 2)]", "[[1, 2]]", "WA"), ("True", "1", "AC"), ("{1}", "[1]", "WA")],
)
def test_livecodebench_results(bench: Bench, result: str, expected: str, outcome: str) -> None:
    asked = Problem("p", (Test("0", expected),), entry_point="f")
    assert bench.judge(f"def f(x): return {result}", asked, LCB).verdict == outcome


def test_livecodebench_has_no_assert_style() -> None:
    with pytest.raises(JudgeError, match="assert-style"):
        list(judge([Program("p", "")], [ASSERTS], mode="livecodebench", isolation="best"))


# --- tiers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("print(int(input()) * 2)", Outcome.AC),
        ("print(1)", Outcome.WA),
        ("while True: pass", Outcome.TLE),
        ("x = []\nwhile True: x.append(bytearray(10**6))", Outcome.MLE),
        ("while True: print('x' * 1000)", Outcome.OLE),
        ("1 / 0", Outcome.RE),
        ("(", Outcome.CE),
        ("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nelse: print(42)", Outcome.AC),
        (
            "import os\nfor _ in range(300):\n    os.mkdir('d')\n    os.chdir('d')\nos.mkdir('x', 0)\nprint(42)",
            Outcome.AC,
        ),
    ],
)
@pytest.mark.parametrize("tier", ["weak_bench", "standard_bench"])
def test_lower_tiers(tier: str, source: str, outcome: Outcome, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(tier)
    assert bench.judge(source, problem(), limits=Limits(0.5, 128)).verdict is outcome


def test_standard_closes_files_and_network(standard_bench: Bench) -> None:
    source = (
        "import os, socket\nfor act in (lambda: open('/etc/passwd'), lambda: os.listdir('/'), socket.socket):\n"
        "    try:\n        act()\n        print('done')\n    except PermissionError: print('refused')"
    )
    assert standard_bench.judge(source, problem("", "refused\n" * 3)).verdict is Outcome.AC


def test_a_tier_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tiers.probe_tier
    broken = tiers.TierReport(Tier.STRONG, False, "unshare: Operation not permitted")
    monkeypatch.setattr(
        tiers, "probe_tier", lambda tier, python=None: broken if tier is Tier.STRONG else real(tier, python)
    )
    with pytest.raises(SandboxError, match="Operation not permitted") as caught:
        judge([], [problem()])
    assert "--isolation" in caught.value.hint
    assert tiers.choose("best") is not Tier.STRONG


def test_probe_reports_every_tier() -> None:
    reports = probe()
    assert [report.tier for report in reports] == list(Tier)
    assert all(report.holds or report.reason for report in reports)


def test_scratch_folders_are_removed(weak_bench: Bench) -> None:
    run = weak_bench.sandbox.run(Job("script", "import os\nopen('x', 'w').close()\nprint(os.getcwd())"))
    assert not os.path.exists(run.stdout.decode().strip())  # noqa: PTH110


# --- the pool ----------------------------------------------------------------------------------------------------


def test_order_and_bounded_reading(strong: None) -> None:
    taken = 0

    def programs() -> Iterator[Program]:
        nonlocal taken
        for i in itertools.count():
            taken += 1
            pause = "import time\ntime.sleep(0.05)\n" if i % 3 == 0 else ""
            yield Program("p", f"{pause}print({i})")

    stream = judge(programs(), [problem()], workers=2)
    first = list(itertools.islice(stream, 10))
    assert [v.program.source.split("(")[-1] for v in first] == [f"{i})" for i in range(10)]
    assert taken <= 10 + 8
    before = len(descendants(os.getpid()))
    stream.close()  # type: ignore[attr-defined]
    assert before > 0
    time.sleep(0.05)
    assert not [t for t in threading.enumerate() if t.name.startswith("judge-")]


def test_102_a_killed_worker_is_judged_again(strong: None) -> None:
    """Zygotes are killed while they work: no verdict changes, none is lost."""
    programs = [Program("p", "import time\ntime.sleep(0.1)\nprint(42)")] * 12
    ours = set(descendants(os.getpid()))
    stop = threading.Event()

    def kill_some() -> None:
        for _ in range(3):
            if stop.wait(0.25):
                return
            for pid in sorted(set(descendants(os.getpid())) - ours)[:1]:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_some)
    killer.start()
    verdicts = list(judge(programs, [problem()], workers=2))
    stop.set()
    killer.join()
    assert [v.verdict for v in verdicts] == [Outcome.AC] * 12


def test_a_broken_sandbox_is_ie_and_never_wa(strong: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Sandbox, job: Job) -> None:
        raise SandboxError("the disk is full")

    tiers.choose("strong")
    monkeypatch.setattr(Sandbox, "run", broken)
    (verdict,) = judge([Program("p", "print(42)")], [problem()], workers=1)
    assert verdict.verdict is Outcome.IE and "the disk is full" in verdict.detail
    assert verdict.to_row()["tests"] == []


def test_a_broken_checker_is_ie(strong: None) -> None:
    asked = problem(checker="def check(given, expected, output): return 1 / 0")
    (verdict,) = judge([Program("p", "print(42)")], [asked], workers=1, limits=QUICK)
    assert verdict.verdict is Outcome.IE and "checker" in verdict.detail


def test_unknown_problem_and_bad_arguments(strong: None) -> None:
    with pytest.raises(InputError, match="nope"):
        list(judge([Program("nope", "")], [problem()]))
    for arguments in ({"mode": "x"}, {"workers": 0}, {"isolation": "x"}, {"limits": Limits(-1)}):
        with pytest.raises(JudgeError):
            judge([], [problem()], **arguments)  # type: ignore[arg-type]
