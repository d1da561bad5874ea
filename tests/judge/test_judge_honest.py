# ruff: noqa: E501  (the programs)
"""Unusual but honest programs earn what `python program.py < input` earns them: each is really run, and compared."""

import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import Place
from kiyas.judge import Limits, Outcome
from kiyas.judge.attacks import problem
from kiyas.judge.sandbox import interpreter

FAST_IO = """
import os, sys
from io import BytesIO, IOBase
class FastIO(IOBase):
    newlines = 0
    def __init__(self, file):
        self._fd = file.fileno()
        self.buffer = BytesIO()
        self.writable = 'x' in file.mode or 'r' not in file.mode
        self.write = self.buffer.write if self.writable else None
    def readline(self):
        while self.newlines == 0:
            b = os.read(self._fd, max(os.fstat(self._fd).st_size, 8192))
            self.newlines = b.count(b'\\n') + (not b)
            ptr = self.buffer.tell()
            self.buffer.seek(0, 2), self.buffer.write(b), self.buffer.seek(ptr)
        self.newlines -= 1
        return self.buffer.readline()
    def flush(self):
        if self.writable:
            os.write(self._fd, self.buffer.getvalue())
            self.buffer.truncate(0), self.buffer.seek(0)
class IOWrapper(IOBase):
    def __init__(self, file):
        self.buffer = FastIO(file)
        self.flush = self.buffer.flush
        self.writable = self.buffer.writable
        self.write = lambda s: self.buffer.write(s.encode('ascii'))
        self.readline = lambda: self.buffer.readline().decode('ascii')
sys.stdin, sys.stdout = IOWrapper(sys.stdin), IOWrapper(sys.stdout)
input = lambda: sys.stdin.readline().rstrip('\\r\\n')
print(int(input()) * 2)
"""
WRAPPER = """
import sys
class W:
    def __init__(s, o): s.o = o
    def write(s, t): s.o.write(t)
    def flush(s): s.o.flush()
sys.stdout = W(sys.stdout)
print(42)
"""
PROGRAMS = {
    "fast-io": FAST_IO,
    "stream-without-closed": WRAPPER,
    "no-stdout": "import sys\nprint(42)\ndel sys.stdout",
    "stdout-is-none": "import sys\nprint(42)\nsys.stdout = None\nprint(43)",
    "globals-in-del": "import math\nclass A:\n    def __del__(s): print(42 if math.pi else 0)\na = A()",
    "del-in-a-cycle": "class A:\n    def __del__(s): print(42)\na = A()\na.a = a",
    "del-of-a-local": "class A:\n    def __init__(s, n): s.n = n\n    def __del__(s): print(s.n)\ndef f(): return A(1), [A(2)]\nx = f()",
    "generator-left-open": "def g():\n    try: yield 1\n    finally: print(42)\nx = g()\nnext(x)",
    "weakref-at-the-end": "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 42)",
    "thread-exits": "import threading, time, os\ndef f(): time.sleep(.1); os._exit(0)\nthreading.Thread(target=f).start()\nprint(42)",
    "atexit-order": "import atexit\natexit.register(print, 1)\natexit.register(print, 2)\nprint(0)",
    "first-stdout": "import sys, io\nreal = sys.stdout\nsys.stdout = io.StringIO()\nprint(41)\nsys.__stdout__.write('42\\n')",
    "excepthook-exits": "import sys\nsys.excepthook = lambda *a: sys.exit(0)\nprint(42)\n1 / 0",
    "excepthook-is-broken": "import sys\nsys.excepthook = None\nprint(42)\n1 / 0",
    "exit-2-to-64": "import sys\nprint(42)\nsys.exit(2 ** 64)",
    "exit-256": "import sys\nprint(42)\nsys.exit(256)",
    "exit-true": "import sys\nprint(42)\nsys.exit(True)",
    "exit-text": "import sys\nprint(42)\nsys.exit('bad')",
    "annotations": "x: int = 42\nprint(__annotations__['x'] is int, __cached__, __doc__, __name__, __spec__)",
    "recursion-990": "def f(n): return n and 1 + f(n - 1)\nprint(f(990))",
    "recursion-1001": "def f(n): return n and 1 + f(n - 1)\nprint(f(1001))",
    "deep-recursion": "import sys, threading\nsys.setrecursionlimit(10 ** 6)\nthreading.stack_size(2 ** 28)\ndef f(n): return n and 1 + f(n - 1)\n"
    "t = threading.Thread(target=lambda: print(f(20000)))\nt.start()\nt.join()",
    "carriage-returns": "a = input()\nprint(repr(a))",
    "stdin-lines": "import sys\nprint([line for line in sys.stdin])",
    "stdin-reopened": "import sys, io\nprint(io.TextIOWrapper(sys.stdin.buffer, encoding='latin-1').read().split())",
    "input-at-the-end": "while True:\n    try: print(input())\n    except EOFError: break",
    "fork-and-wait": "import os\nif os.fork() == 0:\n    print(41)\n    os._exit(0)\nos.wait()\nprint(42, flush=True)",
    "fork-without-flush": "import os\nprint(41)\nif os.fork():\n    os.wait()\n",
    "shadowing": "import sys\nlist = dict = str = None\nsys.modules['gc'] = sys.modules['atexit'] = None\nprint(42)",
    "main-deleted": "import sys\ndel sys.modules['__main__']\nprint(42)",
    "vars-and-dir": "print(sorted(n for n in dir() if not n.startswith('__')), __file__.endswith('main.py'))",
    "traceback-text": "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: print(traceback.format_exc().splitlines()[-1])",
    "frames": "import sys\ndef f(): return sys._getframe(1).f_code.co_name\nprint(f())",
    "gc-objects": "import gc\nprint(gc.isenabled(), gc.get_threshold())",
    "signal": "import signal, os\nsignal.signal(signal.SIGUSR1, lambda *a: print(42))\nos.kill(os.getpid(), signal.SIGUSR1)",
    "interrupt": "import signal, os\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    while True: pass\nexcept KeyboardInterrupt: print(42)",
    "warnings": "import warnings\nwarnings.warn('x')\nprint(42, 1 is 1)",
    "stderr-broken": "import sys\nsys.stderr = None\nprint(42)\nraise ValueError",
    "bytes-and-text": "import sys\nprint(4, end='')\nsys.stdout.flush()\nsys.stdout.buffer.write(b'2\\n')",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    print(42)\nasyncio.run(f())",
    "decimal-context": "from decimal import *\ngetcontext().prec = 50\nprint(Decimal(2).sqrt())",
    "copied-file": "import shutil\nopen('a', 'w').write('42')\nshutil.copyfile('a', 'b')\nprint(open('b').read())",
}
GIVEN = "21\r\nx y\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_a_script(name: str, place: Place) -> None:
    command, _ = interpreter(None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.py").write_text(PROGRAMS[name])
        real = subprocess.run(
            [*command, "main.py"],
            input=GIVEN.encode(),
            capture_output=True,
            cwd=folder,
            env={},
            timeout=60,
            # Tests started in the background of a shell inherit an ignored SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    verdict = place.judge(PROGRAMS[name], problem(GIVEN, real.stdout.decode()), limits=Limits(3, 256))
    wanted = Outcome.AC if real.returncode == 0 else Outcome.RE
    (test,) = verdict.tests
    assert test.verdict is wanted, (real, test)
    if real.returncode > 0:
        assert test.exit_code == real.returncode and test.got == real.stdout.decode(), (real, test)
