"""What LiveCodeBench's own checker was seen to say of programs that depend on its ways: whether each passes."""

import pytest
from judge_bench import Bench

from kiyas.judge import Limits, Mode, Outcome, Problem, Test

N = "import sys\n"
OWN = "from sys import stdin\n"
READS = [
    # (program, input, output, whether it passes)
    ("print(input()); print(repr(input())); print(input())", "a\n\nb\n", "a\n''\nb", True),
    ("try:\n    while True: print(input())\nexcept EOFError: print('end')", "a\nb", "a\nb\nend", True),
    ("print(repr(input()))", "a\r\n", r"'a\r'", True),
    (N + "r = sys.stdin.readline\nprint(repr(r()), repr(r()), repr(r()))", "a\n", r"'a\n' '' ''", True),
    (N + "while line := sys.stdin.readline(): print(line, end='')", "a\n\nb", "a\n\nb", True),
    (N + "print(sys.stdin.readline(3))", "12345\n", "123", True),
    (N + "print(sys.stdin.readlines())", "a\nb\n", "['a', 'b', '']", True),
    (N + "input()\nprint(sys.stdin.read().split())", "1\n2 3\n", "['1', '2', '3']", True),
    (N + "sys.stdin.read()\nprint(sys.stdin.read(1))", "12\n", "12", True),
    (N + "input()\nsys.stdin.seek(0)\nprint(input())", "12\n", "12", True),
    (N + "for line in sys.stdin: print(line)", "a\n", "a", False),
    (N + "print(next(sys.stdin))", "a\n", "a", False),
    (N + "with sys.stdin as f: print(f.readline())", "a\n", "a", False),
    (N + "print(sum(map(int, sys.stdin.buffer.read().split())))", "1 2\n3\n", "6", True),
    (N + "r = sys.stdin.buffer.readline\nprint(int(r()) + int(r()))", "1\n2\n", "2", True),
    (N + "print(len(sys.stdin.buffer.readlines()))", "1\n2\n", "2", False),
    (N + "for line in sys.stdin.buffer: print(int(line))", "1\n2\n", "1\n2", False),
    (N + "import io\nprint(io.TextIOWrapper(sys.stdin.buffer).read())", "1\n", "1", False),
    (OWN + "print(repr(stdin.readline()))", "21\n", "'21'", True),
    (OWN + "input = stdin.readline\nprint(int(input()) + int(input()))", "1\n2\n", "3", True),
    (OWN + "print(stdin.read().split(), stdin.readlines())", "1\n2\n", "['1', '2'] ['1', '2', '']", True),
    (OWN + "print(int(input()) + int(stdin.readline()))", "1\n2\n", "2", True),
    (OWN + "for _ in range(4): stdin.readline()\nprint(1)", "1\n2\n", "1", False),
    (OWN + "print(list(stdin), stdin.buffer.read())", "1\n2\n", "[] b''", True),
    ("print(stdin.readline())", "21\n", "21", True),
    ("print(repr(open(0).read()))", "21\n", "''", True),
    ("import builtins\nprint(sum(map(int, builtins.open('x'))))", "1\n2\n", "3", True),
    (N + "print(sys.__stdin__.read())", "", "", False),
]
WRITES = [
    (N + "print(42)\nsys.stdout.close()", False),
    (N + "with sys.stdout as f: f.write('42')", False),
    (N + "sys.stdout.buffer.write(b'42')", False),
    (N + "sys.__stdout__.write('43')\nstdout.write('43')\nprint(42)", True),
    ("import os\nos.write(1, b'43' * (10 << 20))\nprint(42)", True),
    (N + "print(42)\nsys.stdout = None\nprint(43)", True),
    ("print(42)\nexit()", True),
    ("print(42)\nquit()", False),
    (N + "print(42)\nsys.exit('bad')", True),
    ("print(42)\nraise KeyboardInterrupt", False),
    ("print(42)\nreturn\nprint(43)", True),
    ("print(42)\nyield", False),
    ("print(42 if help is quit is None else 0)", True),
    ("import faulthandler, signal\nprint(42 * (faulthandler.is_enabled() and not signal.getsignal(27)))", True),
    ("print(len(str(10**5000)) - 4959)", True),
    ("print(len(str(10**60000)) - 59959)", False),
    ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(42).x)", True),
    ("class A:\n    x: undefined\nprint(42)", False),
    ("class A: pass\ndef f(x: int): pass\nprint(42 if f.__annotations__['x'] is int else 0)", True),
    ("from __future__ import annotations\nprint(42)", False),
    ("import multiprocessing, concurrent.futures.process\nprint(42)", True),
    ("import os\nos.getcwd()\nprint(42)", False),
    ("if '__main__' == __name__:\n    print(42)", False),
    ("if (__name__ == '''__main__'''):\n    print(42)", True),
    ("class Solution: pass\nprint(42)", False),
]
AFTER = [  # the second test of two, both of which want 42
    (N + "import io\nsys.stderr = io.StringIO()", False),
    (N + "sys.stderr = None", False),
    (N + "import io\nsys.stdin = io.StringIO()", True),
    (N + "sys.stdout = None", True),
    ("import signal\nsignal.alarm(0)", True),
    (N + "sys.stdin.close()", True),
]
RESULTS = [
    # (returned, expected, equal)
    ("(1, 2)", "[1, 2]", True),
    ("[(1, 2)]", "[[1, 2]]", False),
    ("Counter('aab')", '{"a": 2, "b": 1}', True),
    ("deque([1])", "[1]", False),
    ("{1: 1}", '{"1": 1}', False),
    ("collections.UserList([1])", "[1]", True),
    ("collections.namedtuple('P', 'x y')(1, 2)", "[1, 2]", True),
    ("type('L', (list,), {'__eq__': lambda s, o: False})([1])", "[1]", False),
    ("type('L', (list,), {'__eq__': lambda s, o: 1 / 0})([1])", "[1]", False),
    ("type('L', (list,), {'__eq__': lambda s, o: exit()})([1])", "[1]", False),
    ("__import__('enum').IntEnum('E', 'A').A", "1", True),
    ("__import__('enum').Enum('E', {'A': 'x'}, type=str).A", '"x"', True),
    ("[__import__('decimal').Decimal(42)]", "[42]", True),
    ("__import__('decimal').Decimal('0.1')", "0.1", False),
    ("__import__('fractions').Fraction(1, 2)", "0.5", True),
    ("[complex(1), 42j]", "[1, 42]", False),
    ("complex(42)", "42", True),
    ("[float('nan')]", "[NaN]", False),
    ("[-inf]", "[-Infinity]", True),
    ("float(2**53 + 1)", "9007199254740993", False),
    ("itertools.count()", "[0]", False),
    ("b'a'", '"a"', False),
    ("quit", "null", True),
    ("print('x' * (20 << 20))", "null", True),
    ("sys.stdin.read()", '""', True),
    ("sys.stdout.close()", "null", True),
]


def passes(bench: Bench, source: str, *tests: tuple[str, str], name: str | None = None) -> bool:
    asked = Problem("p", tuple(Test(*test) for test in tests), entry_point=name)
    return bench.judge(source, asked, Mode.LIVECODEBENCH, Limits(2, 256)).verdict is Outcome.AC


@pytest.mark.parametrize(("source", "given", "expected", "right"), READS)
def test_reading(bench: Bench, source: str, given: str, expected: str, right: bool) -> None:
    assert passes(bench, source, (given, expected)) is right


@pytest.mark.parametrize(("source", "right"), WRITES)
def test_writing_ending_and_wrapping(bench: Bench, source: str, right: bool) -> None:
    assert passes(bench, source, ("", "42")) is right


@pytest.mark.parametrize(("source", "right"), AFTER)
def test_what_the_next_test_finds(bench: Bench, source: str, right: bool) -> None:
    assert passes(bench, "print(42)\n" + source, ("", "42"))
    assert passes(bench, "print(42)\n" + source, ("", "42"), ("", "42")) is right


@pytest.mark.parametrize(("result", "expected", "right"), RESULTS)
def test_results(bench: Bench, result: str, expected: str, right: bool) -> None:
    assert passes(bench, f"def f(x): return {result}", ("0", expected), name="f") is right


BUSY = "import time\ndef busy():\n    end = time.process_time() + 1\n    while time.process_time() < end: pass\n"


@pytest.mark.parametrize(
    ("source", "outcome", "uncut"),
    [
        ("busy()", "TLE", False),
        ("import threading\nt = threading.Thread(target=busy)\nt.start()\nt.join()", "TLE", False),
        ("try: busy()\nexcept Exception: pass", "WA", False),  # it also printed that the alarm went off
        ("import signal\nsignal.alarm(0)\nbusy()", "AC", True),
        ("time.sleep(0.6)", "AC", False),  # TLE there, where wall time counts
    ],
)
def test_time(bench: Bench, source: str, outcome: str, uncut: bool) -> None:
    """`uncut`: it came to use the whole second of CPU time that it wanted."""
    asked = Problem("p", (Test("", "42"),))
    verdict = bench.judge(f"{BUSY}{source}\nprint(42)", asked, Mode.LIVECODEBENCH, Limits(0.4, 128))
    assert verdict.verdict == outcome
    assert (verdict.tests[0].cpu_s >= 1) is uncut
