# ruff: noqa: E501  (the programs)
"""Exit code, output and error of small programs under the judge are those of `python main.py`.

What is known to differ, and is normalised here or left out: the path of main.py, addresses of objects, the number of
levels that a thread may recurse (the judge's own frames come on top), `repr(sys.setrecursionlimit)`, a limit that
is just above the present depth (it is one more), the source lines
that a traceback shows once the module is torn down, some words about a file that cannot even be read as tokens, and the
`__del__` of objects that modules other than `__main__` hold.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from judge_bench import Bench

from kiyas.judge.sandbox import Job, interpreter

INTS = st.integers(-3, 300)
HEADER = "import sys, os, atexit, threading, warnings, signal\n"
DEPTH = """\
def down(n):
    try: return down(n + 1)
    except RecursionError: return n
"""


def filled(template: str, *values: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    return st.tuples(*values).map(lambda chosen: template.format(*chosen))


EXITS = st.sampled_from(
    [
        "None",
        "0",
        "1",
        "2",
        "255",
        "256",
        "-1",
        "True",
        "False",
        "'text'",
        "2.5",
        "(1,2)",
        "[]",
        "2**40",
        "2**64",
        "-2**63",
        "'\\ud800'",
        "b'x'",
    ]
)
LIMITS = st.sampled_from(
    ["0", "-1", "1", "True", "'x'", "1.5", "None", "2**31-1", "2**31", "10**20", "500", "1000", "3000"]
)
ERRORS = st.sampled_from(
    [
        "1 / 0",
        "undefined",
        "pritn(1)",
        "{}['k']",
        "[][3]",
        "int('x')",
        "None.x",
        "''.joim",
        "raise ValueError",
        "raise ValueError('a\\nb')",
        "raise KeyError('k') from TypeError(1)",
        "raise MemoryError",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise Exception('\\ud800')",
        "assert 1 == 2, 'no'",
        "import nowhere.at.all",
        "from sys import nothing",
        "exec('x = (')",
        "eval('1 +')",
        "compile('if x', 'name', 'exec')",
        "raise type('Own', (Exception,), {'__str__': lambda self: 1 / 0})",
        "raise type('Own', (BaseException,), {})('x')",
        "raise 3",
        "def g():\n    try: 1 / 0\n    finally: [][1]\ng()",
        "(lambda: (lambda: 1 / 0)())()",
        "next(iter([]))",
        "sum(x / 0 for x in [1])",
        "exit(3)",
        "quit('bye')",
        "open('missing')",
        "input(); input(); input()",
        "b'\\xff'.decode()",
        "'\\ud800'.encode()",
        "print('\\ud800')",
        "sys.stdout.buffer.write(b'\\xff')",
        "sys.stdin.buffer.read(1)",
    ]
)
LINES = st.one_of(
    filled("print({0}, end='')", INTS),
    filled("print({0}, file=sys.stderr)", INTS),
    filled("sys.stdout.write(str({0}) * {1})", INTS, INTS),
    ERRORS,
    ERRORS.map(
        lambda error: f"try:\n    {error.replace(chr(10), chr(10) + '    ')}\nexcept BaseException as e: print(type(e))"
    ),
    filled("sys.exit({0})", EXITS),
    filled("os._exit({0})", st.integers(0, 255)),
    filled("raise SystemExit({0})", EXITS),
    st.just("def f(n): return n and 1 + f(n - 1)\nprint(f(990))"),
    filled("def f(n): return n and 1 + f(n - 1)\nf({0})", st.integers(985, 1005)),
    st.just(DEPTH + "print(down(0))"),
    filled("sys.setrecursionlimit({0})\n" + DEPTH + "print(down(0))", st.integers(60, 3000)),
    filled(
        "try: sys.setrecursionlimit({0})\nexcept Exception as e: print(type(e), e)\nprint(sys.getrecursionlimit())",
        LIMITS,
    ),
    filled("sys.setrecursionlimit({0})", LIMITS),
    filled("def f(n):\n    if n: return f(n - 1)\n    sys.setrecursionlimit({0})\nf(20)", st.sampled_from([5, 21, 30])),
    filled("atexit.register(print, {0})", INTS),
    filled(
        "@atexit.register\ndef g(): {0}",
        st.sampled_from(["1 / 0", "sys.exit(3)", "os._exit(3)", "print('end', flush=True)"]),
    ),
    filled(
        "t = threading.Thread(target=lambda: {0})\nt.start()\nt.join()",
        st.sampled_from(["print(1)", "1 / 0", "sys.exit(3)"]),
    ),
    st.just("threading.Thread(target=lambda: (threading.Event().wait(0.02), print('late'))).start()"),
    st.just("threading.Thread(target=threading.Event().wait, daemon=True).start()"),
    filled(
        "warnings.warn('w', {0})",
        st.sampled_from(["UserWarning", "DeprecationWarning", "SyntaxWarning", "ResourceWarning"]),
    ),
    st.sampled_from(["print(1 is 1)", "print('\\d')", "assert (1, 'x')", "print([1] is [1])", "x = 5 [0]"]),
    filled(
        "class A:\n    def __del__(self): {0}\na{1} = A()",
        st.sampled_from(["print('del')", "print(sys.argv)", "os._exit(4)"]),
        st.integers(0, 2),
    ),
    filled(
        "sys.excepthook = {0}",
        st.sampled_from(["lambda *a: print('hook', a[0])", "None", "lambda *a: 1 / 0", "lambda *a: sys.exit(7)"]),
    ),
    filled("os.kill(os.getpid(), signal.{0})", st.sampled_from(["SIGTERM", "SIGINT", "SIGUSR1", "SIGABRT"])),
    st.sampled_from(
        [
            "sys.stdout.close()",
            "sys.stderr.close()",
            "os.close(1)",
            "sys.stdout = None",
            "del sys.stdout",
            "print(__name__, __doc__, __spec__, sys.argv, __file__[-7:], sorted(globals())[:3])",
            "print(sys.stdin.read())",
            "for line in sys.stdin: print(repr(line))",
            "print(input())",
            "def g():\n    try: yield 1\n    finally: print('closed')\nh = g()\nnext(h)",
            "import __main__\nprint(__main__ is sys.modules['__main__'])",
            "print(sys.getrecursionlimit(), len(__import__('inspect').stack()) if 0 else '')",
            "from __future__ import annotations",
            "print(sys.getsizeof([]), sys.dont_write_bytecode or 1)",
        ]
    ),
)
SYNTAX = st.one_of(
    st.sampled_from(["x = (", "if x\n    pass", "  x = 1\n y = 2", "return 3", "'unclosed", "x = 1 +", "print 1", "f() = 1", "break", "x = '\\N{no}'", "0777", "a b"]),
    filled("x = {0}", st.tuples(st.sampled_from("([{-~"), st.integers(190, 203)).map(lambda t: t[0] * t[1] + "1" + {"(": ")", "[": "]", "{": "}"}.get(t[0], "") * t[1])),
    st.integers(960, 1003).map(lambda n: "x = " + "-" * n + "1\nprint(x)"),
    st.integers(960, 1003).map(lambda n: "x = 1" + " + 1" * n + "\nprint(x)"),
    st.integers(960, 1003).map(lambda n: "x = " + "not " * n + "1\nprint(x)"),
    st.integers(960, 1003).map(lambda n: "x = 'a'" + ".strip()" * (n // 2) + "\nprint(x)"),
    st.integers(960, 1003).map(lambda n: "x = -1\nif x == 0: pass\n" + "".join(f"elif x == {i}: pass\n" for i in range(n)) + "else: print(x)"),
    st.integers(95, 103).map(lambda n: "\n".join(" " * i + "if 1:" for i in range(n)) + "\n" + " " * n + "print(1)"),
    st.integers(15, 25).map(lambda n: "\n".join(" " * i + "for i in [1]:" for i in range(n)) + "\n" + " " * n + "print(1)"),
)  # fmt: skip
# What two threads write is in no order.
SCRIPTS = st.lists(LINES, min_size=1, max_size=4).map("\n".join).filter(lambda text: text.count("Thread(") < 2)
PROGRAMS = SCRIPTS.map(lambda text: HEADER + text) | SYNTAX
GIVEN = "21\r\nx y\n"


def normal(text: bytes) -> bytes:
    text = re.sub(rb'File "[^"]*main\.py"', b'File "main.py"', text)
    # One frame of ours remains where an atexit function that is written in C fails.
    text = re.sub(rb'(Traceback [^\n]*\n)?  File "[^"\n]*/inside/runner\.py", line [^\n]*\n', b"", text)
    text = re.sub(rb"object refcount : \d+", b"object refcount : 2", text)
    text = re.sub(rb"[^ ]*/main\.py:", b"main.py:", text)
    return re.sub(rb"0x[0-9a-f]{6,}", b"0x", text)


def bare(source: str) -> tuple[int, bytes, bytes]:
    command, _ = interpreter(None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.py").write_bytes(source.encode("utf-8", "surrogatepass"))
        done = subprocess.run(
            [command[0], "-s", "main.py"],  # with the module site, of which the judge gives `exit` and its friends
            input=GIVEN.encode(),
            capture_output=True,
            cwd=folder,
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=60,
            preexec_fn=lambda: signal_default(),
        )
    return done.returncode, normal(done.stdout), normal(done.stderr)


def signal_default() -> None:
    """Tests started in the background of a shell inherit an ignored SIGINT."""
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)


def judged(bench: Bench, source: str) -> tuple[int, bytes, bytes]:
    run = bench.sandbox.run(Job("script", source, GIVEN, cpu_s=10, wall_s=30))
    assert run.status is not None, run
    error = run.stderr if run.compiled else run.stderr + run.report
    return os.waitstatus_to_exitcode(run.status), normal(bytes(run.stdout)), normal(error)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROGRAMS)
@example("import sys\nsys.setrecursionlimit(5005)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(5000))")
@example("import sys\nprint('MemoryError: says the log', file=sys.stderr)\nsys.exit(2)")
def test_as_python(bench: Bench, source: str) -> None:
    assert judged(bench, source) == bare(source)


@pytest.mark.slow
@settings(max_examples=900, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PROGRAMS)
def test_as_python_at_length(bench: Bench, source: str) -> None:
    assert judged(bench, source) == bare(source)
