# ruff: noqa: E501  (the programs)
"""Hostile and awkward programs with the verdicts they must get: the judge's own tests, and `kiyas doctor --attack`.

After each of them nothing may be left of it, and the next verdict must be right. No verdict may come from recognising
a program's text.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from .inside.linux import number
from .sandbox import Sandbox
from .tiers import choose
from .types import Limits, Mode, Outcome, Problem, Program, Test, Tier, Verdict
from .verdicts import Resolved, judge_program

RIGHT = "print(42)\n"


def problem(given: str = "21\n", expected: str = "42\n", **others: object) -> Problem:
    return Problem("p", (Test(given, expected),), **others)  # type: ignore[arg-type]


def function(expected: str = "5", arguments: str = "2\n3", name: str = "add") -> Problem:
    return problem(arguments, expected, entry_point=name)


@dataclass(frozen=True)
class Case:
    number: int
    name: str
    source: str
    verdicts: str
    problem: Problem = field(default_factory=problem)
    flag: str = ""
    roomy: bool = False
    """judged with 3 s and 2 GB: slow or large before it gets to its point"""
    asleep: bool = False
    """judged with 0.1 s, so that the backstop of wall time comes sooner"""

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.name}"

    @property
    def limits(self) -> Limits:
        return Limits(3, 2048) if self.roomy else Limits(0.1, 128) if self.asleep else Limits(0.5, 128)

    def unenforceable(self, tier: Tier) -> str:
        """Why this tier cannot be asked for the verdict; "" if it can."""
        if tier is Tier.STANDARD and self.number in (38, 39):
            return "/proc is closed to programs: this one ends before it could see anything"
        return ""


def refused(*lines: str) -> str:
    """A program that prints 42 only if each of these lines raises an exception. In them `call(name, …)` is a system call."""
    lines = tuple(re.sub(r"\bcall\((\w+)", lambda match: f"call({number(match[1]) or -1}", line) for line in lines)
    body = "".join(f"try:\n    {line}\n    print('done:', {line!r})\nexcept Exception:\n    pass\n" for line in lines)
    return "import os, sys, socket, ctypes, signal, resource\n" + LIBC + body + RIGHT


LIBC = """
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
"""

ASSERTS = Problem(
    "p",
    (),
    entry_point="add",
    test_code="def check(f):\n    assert f(2, 3) == 5\n    assert f(1, 1) == 2\ncheck(add)\n",
)
BIG = "7" * 5_000_000

WALK = """
import os, sys
seen, found = set(), []
def walk(thing, depth=0):
    if type(thing) is bytes and len(thing) == 32: found.append(thing)
    if depth > 4 or id(thing) in seen: return
    seen.add(id(thing))
    if isinstance(thing, dict): thing = [*thing.keys(), *thing.values()]
    if isinstance(thing, (list, tuple)):
        for part in list(thing): walk(part, depth + 1)
def send():
    for token in found[:1]: os.write(3, token + b' %d' % os.getpid())
    os._exit(0)
"""

CASES = [
    # Resources
    Case(1, "fork-loop", "import os\nwhile True: os.fork()", "RE"),
    Case(2, "fork-loop-swallowing", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "TLE"),
    Case(
        3,
        "daemons",
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
        "            time.sleep(60)\n        os._exit(0)\n" + RIGHT,
        "AC",
        flag="left processes running",
    ),
    Case(
        4,
        "posix-spawn",
        "import os, sys\nos.fork = None\nos.posix_spawn(sys.executable, [sys.executable, '-S', '-c', "
        "'import time; time.sleep(60)'], {})\n" + RIGHT,
        "AC",
        flag="left processes running",
    ),
    Case(
        5,
        "threads",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
        "RE TLE",
        asleep=True,
    ),
    Case(6, "memory-bomb", "x = []\nwhile True: x.append(bytearray(10**7))", "MLE"),
    Case(7, "slow-leak", "import time\nx = []\nwhile True:\n    x.append(b'x' * 10**6 + bytes(len(x)))", "MLE"),
    Case(
        8,
        "many-children",
        "import os, time\nfor _ in range(10):\n    if os.fork() == 0:\n        x = b'x' * (40 << 20)\n        time.sleep(60)\n"
        "time.sleep(60)",
        "MLE",
    ),
    Case(9, "shm", "x = b'x' * (1 << 20)\nwith open('/dev/shm/a', 'wb') as f:\n    while True: f.write(x)", "MLE RE"),
    Case(9, "memfd", "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, b'x' * (1 << 20))", "MLE RE"),
    Case(10, "sparse-shared", "import mmap\nm = mmap.mmap(-1, 10 << 30)\nm[5 << 30] = 1\n" + RIGHT, "AC"),
    Case(11, "caught-memory-error", "try:\n    x = bytearray(1 << 40)\nexcept MemoryError: pass\n" + RIGHT, "AC"),
    Case(11, "uncaught-memory-error", "x = bytearray(1 << 40)", "MLE"),
    Case(12, "endless-stdout", "while True: print('x' * 1000)", "OLE"),
    Case(13, "endless-stderr", "import sys\nwhile True: sys.stderr.write('x' * 100000)", "OLE"),
    Case(14, "5-mb-right", "print('7' * 5_000_000)", "AC", problem("", BIG + "\n")),
    Case(15, "100-mb-line", "print('7' * 100_000_000)", "OLE", roomy=True),
    Case(16, "disk-full", "i = 0\nwhile True:\n    i += 1\n    open(f'f{i}', 'wb').write(b'x' * 10**7)", "RE"),
    Case(17, "inodes", "i = 0\nwhile True:\n    i += 1\n    open(f'{i}', 'wb').close()", "RE TLE"),
    Case(18, "descriptors", "import os\nx = []\nwhile True: x.append(open('/dev/null'))", "RE"),
    Case(19, "truncate", "import os\nf = open('x', 'wb')\nos.truncate('x', 1 << 40)", "RE"),
    Case(20, "cpu-loop", "while True: pass", "TLE"),
    Case(21, "sleep", "import time\ntime.sleep(10**6)", "TLE", asleep=True),
    Case(22, "right-then-sleep", "import time, sys\nprint(42, flush=True)\ntime.sleep(10**6)", "TLE", asleep=True),
    Case(23, "atexit-loop", "import atexit\nprint(42)\n@atexit.register\ndef f():\n    while True: pass", "TLE"),
    Case(23, "del-loop", "class A:\n    def __del__(self):\n        while True: pass\na = A()\nprint(42)", "TLE"),
    Case(
        23,
        "thread-loop",
        "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()\nprint(42)",
        "TLE",
    ),
    Case(24, "several-burning", "import os\nfor _ in range(3): os.fork()\nwhile True: pass", "TLE"),
    Case(25, "bare-except", "while True:\n    try:\n        while True: pass\n    except: pass", "TLE"),
    Case(26, "alarm", "import signal\nsignal.alarm(0)\nwhile True: pass", "TLE"),
    Case(
        27,
        "signals-ignored",
        "import signal\nfor s in (signal.SIGTERM, signal.SIGXCPU): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "TLE",
    ),
    Case(28, "self-stop", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "TLE", asleep=True),
    Case(28, "group-stop", "import os, signal\nos.kill(0, signal.SIGSTOP)", "TLE", asleep=True),
    Case(29, "c-call", "x = 3 ** (10 ** 8)\nprint(x % 10)", "TLE"),
    Case(31, "stdin-unread", RIGHT, "AC", problem("x" * 10_000_000, "42\n")),
    Case(
        32, "child-keeps-stdout", "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nelse:\n    print(42)", "AC"
    ),
    # Integrity and leaks
    Case(
        33,
        "frame-walk",
        "import sys\nf = sys._getframe()\nwhile f:\n    for v in list(f.f_locals.values()):\n"
        "        if '424' + '2424' in repr(v)[:10**6]: print(4242424)\n    f = f.f_back\nprint(0)",
        "WA",
        problem("1\n", "4242424\n"),
    ),
    Case(
        34,
        "heap-scan",
        "import gc\nneedle = '424' + '2424'\nfor o in gc.get_objects():\n    try:\n"
        "        if isinstance(o, dict) and any(needle in str(v)[:1000] for v in o.values() if type(v) is str and len(v) < 20): print(4242424)\n"
        "    except Exception: pass\nprint(0)",
        "WA",
        problem("1\n", "4242424\n"),
    ),
    Case(
        35,
        "parent-memory",
        refused("open(f'/proc/{os.getppid()}/mem', 'rb').read(1)", "open('/proc/1/maps').read()"),
        "AC",
    ),
    Case(36, "ptrace", refused("call(ptrace, 16, 1, 0, 0)", "call(process_vm_readv, 1, 0, 0, 0, 0, 0)"), "AC"),
    Case(
        37,
        "reading-files",
        refused(
            "open('/etc/passwd')",
            "os.listdir('/root/.cache')",
            "os.listdir('/home')",
            "os.listdir('/var')",
            "os.listdir('/work')",
        ),
        "AC",
    ),
    Case(
        38,
        "environment",
        "import os\nraw = open('/proc/self/environ').read()\nprint(42 if 'kiyas' not in raw.lower() and len(os.environ) < 8 else raw)",
        "AC",
    ),
    Case(
        39,
        "siblings",
        "import os\nprint(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))",
        "AC",
        problem("", "[1, 2]\n"),
    ),
    Case(
        40,
        "descriptors-open",
        "import os\nfor fd in range(3, 1024):\n    try:\n        os.write(fd, b'C')\n        print('open', fd)\n    except OSError: pass\n"
        + RIGHT,
        "AC",
    ),
    Case(
        41,
        "forged-result",
        'import os\nfor fd in range(3, 20):\n    try: os.write(fd, b\'{"result": 6}\\n{"token": "x"}\\n\')\n    except OSError: pass\n'
        "os._exit(0)",
        "WA",
        function(),
    ),
    Case(41, "forged-token", 'import os\nos.write(3, b\'{"token": "00"}\\n\')\nos._exit(0)', "WA", ASSERTS),
    Case(42, "printing-verdicts", "print('PASS')\nprint('{\"verdict\": \"AC\"}')", "WA"),
    Case(
        43,
        "monkeypatching",
        "import builtins, json\nbuiltins.len = lambda x: 0\nbuiltins.all = lambda x: True\njson.dumps = lambda *a, **k: '5'\n"
        "json.JSONEncoder.encode = lambda *a: '{\"result\": 6}'\ndef add(a, b): return 6",
        "WA",
        function(),
    ),
    Case(
        44,
        "always-equal",
        "class A:\n    def __eq__(self, o): return True\ndef add(a, b): return A()",
        "WA",
        function(),
    ),
    Case(
        44,
        "always-equal-int",
        "class A(int):\n    def __eq__(self, o): return True\ndef add(a, b): return A(1)",
        "WA",
        function(),
    ),
    Case(
        45,
        "hostile-repr",
        "class A(Exception):\n    def __repr__(self): raise self\n    __str__ = __repr__\nraise A()",
        "RE",
    ),
    Case(46, "exit-before-answer", "import os\nos._exit(0)", "WA"),
    Case(46, "exit-in-function", "import os\ndef add(a, b): os._exit(0)", "WA", function()),
    Case(46, "exit-in-asserts", "import os\ndef add(a, b): os._exit(0)", "WA", ASSERTS),
    Case(47, "sys-exit-in-function", "import sys\ndef add(a, b): sys.exit(0)", "RE", function()),
    Case(47, "sys-exit-in-asserts", "import sys\ndef add(a, b): sys.exit(0)", "RE", ASSERTS),
    Case(
        48,
        "atexit-forgery",
        "import atexit, os\natexit.register(lambda: os.write(3, b'{\"result\": 5}\\n'))\ndef add(a, b): return 6",
        "WA",
        function(),
    ),
    Case(
        51,
        "call-count-file",
        "try:\n    open('count').read()\n    print('seen')\nexcept OSError:\n    open('count', 'w').write('1')\n    print(42)",
        "AC",
        Problem("p", tuple([problem().tests[0]] * 3)),
    ),
    Case(52, "shadowing", "def add(a, b): return a + b\nadd = lambda *a: 0", "WA", function()),
    Case(53, "own-source", "print(open(__file__).read().count('asse' + 'rt'))", "AC", problem("", "0\n")),
    Case(54, "kill-parent", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n" + RIGHT, "AC RE"),
    Case(
        54, "kill-all", "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\n" + RIGHT, "AC RE"
    ),
    Case(
        55,
        "stop-parent",
        "import os, signal\ntry: os.kill(os.getppid(), signal.SIGSTOP)\nexcept OSError: pass\n" + RIGHT,
        "AC",
    ),
    Case(
        56,
        "links-and-fifos",
        "import os\nos.rename('main.py', 'other')\nos.symlink('/etc/passwd', 'main.py')\nos.symlink('/', 'root')\nos.link('other', 'hard')\n"
        "os.mkfifo('fifo')\nos.mkfifo('stdout')\ntry: os.mknod('device', 0o20666, os.makedev(1, 3))\nexcept OSError: pass\n"
        + RIGHT,
        "AC",
    ),
    Case(
        57,
        "deep-folders",
        "import os\nfor _ in range(5000):\n    os.mkdir('d')\n    os.chdir('d')\nos.mkdir('x', 0)\n" + RIGHT,
        "AC",
        roomy=True,
    ),
    Case(
        58,
        "chroot-mount-unshare",
        refused(
            "os.chroot('/tmp')",
            "call(unshare, 0x10000000)",
            "call(unshare, 0x00020000)",
            "call(mount, b'none', b'/tmp', b'tmpfs', 0, 0)",
            "call(clone, 0x10000000 | 17, 0, 0, 0, 0)",
            "call(clone3, 0, 0)",
            "call(setns, 0, 0)",
        ),
        "AC",
    ),
    Case(
        59,
        "network",
        refused(
            "socket.socket()",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
            "socket.getaddrinfo('localhost', 1)[99]",
        ),
        "AC",
    ),
    Case(60, "unix-vsock", refused("socket.socket(socket.AF_UNIX)", "socket.socket(40, socket.SOCK_STREAM)"), "AC"),
    Case(
        61,
        "kernel-doors",
        refused(
            "call(io_uring_setup, 1, 0)",
            "call(userfaultfd, 0)",
            "call(bpf, 0, 0, 0)",
            "call(perf_event_open, 0, 0, 0, 0, 0)",
        ),
        "AC",
    ),
    Case(
        62,
        "ipc",
        refused(
            "call(keyctl, 0, 0)",
            "call(shmget, 0, 4096, 0o1600)",
            "call(mq_open, b'/x', 66, 0o600, 0)",
            "call(msgget, 0, 0o1600)",
            "__import__('fcntl').flock(open(os.__file__), 2)",
        ),
        "AC",
    ),
    Case(
        63,
        "devices",
        refused("open('/dev/kvm')", "open('/dev/kmsg')", "open('/dev/fuse')", "open('/dev/vda')", "open('/dev/mem')"),
        "AC",
    ),
    Case(64, "cgroup", refused("os.listdir('/sys/fs/cgroup')", "os.listdir('/sys')"), "AC"),
    Case(
        65,
        "priority",
        "import os\nfor act in (lambda: os.nice(-5), lambda: os.sched_setaffinity(0, {0}), lambda: open('/proc/self/oom_score_adj', 'w').write('-1000')):\n"
        "    try: act()\n    except OSError: pass\n" + RIGHT,
        "AC",
    ),
    Case(66, "abort", "import os\nos.abort()", "RE"),
    Case(67, "segfault", "import ctypes\nctypes.string_at(0)", "RE"),
    Case(
        68,
        "deep-repr",
        "x = []\nfor _ in range(10**6): x = [x]\nimport sys\nsys.setrecursionlimit(10**9)\nrepr(x)",
        "RE MLE",
        roomy=True,
    ),
    Case(
        69,
        "deep-recursion",
        "import sys\nsys.setrecursionlimit(10**7)\ndef f(n): return n and f(n - 1)\nf(10**6)\n" + RIGHT,
        "AC MLE RE",
        roomy=True,
    ),
    Case(
        70,
        "poisoned-json",
        "import os, sys\nopen('json.py', 'w').write('boom')\ntry: open(os.path.join(os.path.dirname(os.__file__), 'json.py'), 'w')\n"
        "except OSError: print(42)",
        "AC",
    ),
    # Awkward but honest
    Case(71, "right-then-exit-1", "import sys\nprint(42)\nsys.exit(1)", "RE"),
    Case(
        72, "crlf", "import sys\nsys.stdout.buffer.write(b'42 \\r\\n 1\\t\\r\\n\\r\\n')", "AC", problem("", "42\n1\n")
    ),
    Case(72, "no-final-newline", "print(42, end='')", "AC"),
    Case(73, "interior-blank", "print('1\\n\\n2')", "WA", problem("", "1\n2\n")),
    Case(74, "double-space", "print('1  2')", "AC", problem("", "1 2\n")),
    Case(75, "case", "print('yes')", "WA", problem("", "Yes\n")),
    Case(76, "float", "print(0.1 + 0.2)", "WA", problem("", "0.3\n")),
    Case(76, "float-tolerance", "print(0.1 + 0.2)", "AC", problem("", "0.3\n", tolerance=1e-9)),
    *[
        Case(77, f"number-{text}", f"print({text!r})", "WA", problem("", wanted + "\n"))
        for text, wanted in (("1e0", "1"), ("+5", "5"), ("005", "5"), ("1_000", "1000"), ("12.340", "12.34"))
    ],
    Case(78, "nan", "print('nan')", "WA", problem("", "1.0\n", tolerance=0.1)),
    Case(78, "minus-zero", "print('-0.0')", "AC", problem("", "0.0\n", tolerance=0.1)),
    Case(78, "infinity", "print('inf')", "WA", problem("", "-inf\n", tolerance=0.1)),
    Case(79, "nul", "print('42\\0')", "WA"),
    Case(80, "invalid-utf8", "import sys\nsys.stdout.buffer.write(b'42\\xff')", "WA"),
    Case(80, "bom", "print('\\ufeff42')", "WA"),
    Case(81, "surrogate", "print('\\ud800')", "RE"),
    Case(82, "4301-digits", "print(int('9' * 5000))", "RE"),
    Case(83, "buffer-readline", "import sys\nprint(int(sys.stdin.buffer.readline()) * 2)", "AC"),
    Case(84, "for-line", "import sys\nfor line in sys.stdin: print(int(line) * 2)", "AC"),
    Case(85, "open-0", "print(int(open(0).read()) * 2)", "AC"),
    Case(85, "os-read-0", "import os\nprint(int(os.read(0, 100)) * 2)", "AC"),
    Case(85, "dev-stdin", "print(int(open('/dev/stdin').read()) * 2)", "AC"),
    Case(86, "buffer-write", "import sys\nsys.stdout.buffer.write(b'42\\n')", "AC"),
    Case(
        87, "mixed-write", "import os\nprint('second')\nos.write(1, b'first\\n')", "AC", problem("", "first\nsecond\n")
    ),
    Case(87, "dev-stdout", "open('/dev/stdout', 'w').write('42')", "AC"),
    Case(88, "prompt", "n = int(input('N='))\nprint(n * 2)", "WA"),
    Case(89, "past-eof", "input()\ninput()", "RE"),
    Case(90, "second-answer", "print(42)\nprint(43)", "WA"),
    Case(91, "stdout-closed", "import sys\nsys.stdout.close()\nprint(42)", "RE"),
    Case(91, "descriptor-closed", "import os\nos.close(1)\nprint(42)", "RE"),
    Case(92, "stderr-noise", "import sys\nprint('noise', file=sys.stderr)\nprint(42)", "AC"),
    Case(93, "empty", "", "WA"),
    Case(94, "syntax-error", "print(42", "CE"),
    Case(94, "nul-in-source", "print(42)\0", "CE"),
    Case(95, "parser-bomb", "x = " + "(" * 100000, "CE"),
    Case(95, "parser-bomb-minus", "x = " + "-" * 1000000 + "1", "CE"),
    Case(96, "top-level-return", "print(42)\nreturn", "CE"),
    Case(97, "future", "from __future__ import annotations\nprint(42)", "AC"),
    Case(98, "global", "x = 1\ndef f():\n    global x\n    x = 42\nf()\nprint(x)", "AC"),
    Case(99, "main-guard", "def main(): print(42)\nif '__main__' == __name__: main()", "AC"),
    Case(
        99,
        "pickle-dataclass",
        "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(pickle.loads(pickle.dumps(A(42))).x)",
        "AC",
    ),
    Case(99, "exit", "print(42)\nexit()", "AC"),
    Case(100, "missing-module", "import numpy_of_nobody", "RE", flag="missing module: numpy_of_nobody"),
    Case(
        101,
        "checker",
        "print('b a')",
        "AC",
        problem(
            "",
            "a b\n",
            checker="def check(given, expected, output):\n    return sorted(output.split()) == expected.split()",
        ),
    ),
    Case(
        101,
        "checker-refuses",
        "print('b b')",
        "WA",
        problem(
            "",
            "a b\n",
            checker="def check(given, expected, output):\n    return sorted(output.split()) == expected.split()",
        ),
    ),
    # What the judge reads of a program must not break the judge.
    Case(
        104,
        "stderr-with-a-huge-line-number",
        "import sys\nsys.stderr.write('Traceback (most recent call last):\\n  File \"main.py\", line ' + '1' * 5000 + '\\nValueError: x\\n')\n"
        + RIGHT,
        "AC",
    ),
    Case(
        104,
        "stderr-of-empty-lines",
        "import sys\nsys.stderr.write('Traceback (most recent call last):\\n' + '\\n' * 60000 + 'ValueError: x\\n')\n"
        + RIGHT,
        "AC",
    ),
    Case(104, "empty-lines-at-the-end", "import sys\nsys.stdout.write('42' + '\\n' * 16_000_000)", "AC"),
    Case(
        104,
        "report-of-many-objects",
        "def add(a, b): return [{'': 0}] * 3_000_000",
        "WA OLE RE MLE TLE",
        function(),
        roomy=True,
    ),
    # Memory that is not a process's pages, or not where one looks first.
    Case(
        105,
        "page-tables",
        "import mmap, os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        m = mmap.mmap(-1, 100 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)\n"
        "        for i in range(0, 100 << 30, 2 << 20): m[i]\n        time.sleep(.3)\n        os._exit(0)\nfor _ in range(3): os.wait()\n"
        + RIGHT,
        "MLE TLE",
    ),
    Case(
        105,
        "undumpable-children",
        "import ctypes, os, time\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nfor _ in range(5):\n    if os.fork() == 0:\n        x = bytearray(b'x') * (90 << 20)\n        time.sleep(1.2)\n        os._exit(0)\n"
        "for _ in range(5): os.wait()\n" + RIGHT,
        "MLE",
    ),
    Case(
        105,
        "first-thread-gone",
        f"import ctypes, os, time, _thread\nlibc = ctypes.CDLL(None)\ndef child():\n    time.sleep(0.1)\n    x = bytearray(b'x') * (90 << 20)\n    time.sleep(1.2)\n    os._exit(0)\n"
        f"for _ in range(5):\n    if os.fork() == 0:\n        _thread.start_new_thread(child, ())\n        libc.syscall({number('exit') or 60}, 0)\nfor _ in range(5): os.wait()\n"
        + RIGHT,
        "MLE",
    ),
    Case(
        105,
        "socket-buffers",
        "import socket, time\nkept = []\ntry:\n    while True:\n        pair = socket.socketpair()\n        kept += pair\n        for end in pair:\n            end.setblocking(False)\n"
        "            try: end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)\n            except OSError: pass\n            try:\n                while True: end.send(b'x' * 65536)\n            except BlockingIOError: pass\n"
        "except OSError: pass\nimport os\nwhile os.fork(): time.sleep(0.01)\ntime.sleep(9)",
        "MLE RE TLE",
    ),
    Case(
        106,
        "others-limits",
        refused(
            "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
            "os.sched_setaffinity(os.getppid(), {0})",
            "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        ),
        "AC",
    ),
    Case(
        106,
        "folder-closed",
        "import os\ntry: os.chmod('.', 0)\nexcept OSError: pass\ntry: os.chmod('..', 0)\nexcept OSError: pass\n"
        + RIGHT,
        "AC",
    ),
    Case(106, "many-folders", "import os\nfor i in range(4000): os.mkdir(str(i))\n" + RIGHT, "AC", roomy=True),
    Case(106, "kernel-queues", refused("call(io_setup, 1024, 0)", "call(inotify_init1, 0)"), "AC"),
    # Assert style: the tests run in the program's own process, but their end cannot be forged.
    *[
        Case(103, f"asserts-{name}", source, "WA RE", ASSERTS)
        for name, source in {
            "token-in-frames": WALK
            + "def add(a, b):\n    frame = sys._getframe()\n    while frame:\n        walk(frame.f_locals)\n        walk(frame.f_globals)\n"
            "        walk(frame.f_code.co_consts)\n        frame = frame.f_back\n    send()\n",
            "token-in-heap": WALK
            + "import gc\ndef add(a, b):\n    for thing in gc.get_objects():\n        walk(gc.get_referents(thing))\n    send()\n",
            "token-at-load": WALK
            + "frame = sys._getframe()\nwhile frame:\n    walk(frame.f_locals)\n    frame = frame.f_back\nsend()\n",
            "descriptors": "import os\nfound = b''\nfor fd in range(3, 64):\n    for read in (lambda: os.pread(fd, 9999, 0), lambda: os.read(os.open(f'/proc/self/fd/{fd}', os.O_RDONLY), 9999)):\n"
            "        try: found += read()\n        except OSError: pass\nfor fd in range(3, 64):\n    for n in range(len(found)):\n"
            "        try: os.write(fd, found[n:n + 32] + b' %d' % os.getpid())\n        except OSError: break\nos._exit(0)\n",
            "memory-file": "import os\ndef add(a, b):\n    maps = open('/proc/self/maps').read()\n    memory = open('/proc/self/mem', 'rb')\n    os._exit(0)\n",
            "exec-replaced": "import sys, builtins\nframe = sys._getframe()\nwhile frame:\n    for names in (frame.f_globals, frame.f_locals):\n"
            "        for name in list(names):\n            if callable(names[name]) and name not in ('frame',): names[name] = lambda *a, **k: None\n        names['exec'] = lambda *a: None\n"
            "    frame = frame.f_back\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a, **k: None\n",
            "jump-over": "import sys\ndef trace(frame, event, arg):\n    if event == 'line':\n        for line in (99, 4, 3, 2):\n            try:\n                frame.f_lineno = line\n                break\n"
            "            except ValueError: pass\n    return trace\ndef add(a, b):\n    sys.settrace(trace)\n    frame = sys._getframe()\n    while frame:\n        frame.f_trace = trace\n        frame = frame.f_back\n    return 0\n",
            "iterators": "import gc\ndef add(a, b):\n    for thing in gc.get_objects():\n        if 'iterator' in type(thing).__name__ or type(thing).__name__ in ('map', 'chain', 'partial'):\n"
            "            for state in (9, (iter(()),), (print, (), {}, {})):\n                try: thing.__setstate__(state)\n                except Exception: pass\n    return 0\n",
            "fork-until-right": "import os\ndef add(a, b):\n    for guess in range(8):\n        if os.fork() == 0: return guess\n        os.wait()\n    os._exit(0)\n",
            "fork-with-another-id": "import os\nreal = os.getpid()\nos.getpid = lambda: real\ndef add(a, b):\n    for guess in range(8):\n        if os.fork() == 0: return guess\n        os.wait()\n    os._exit(0)\n",
            "thread-exits": "import os, threading\ndef add(a, b):\n    threading.Thread(target=os._exit, args=(0,)).start()\n    while True: pass\n",
            "own-report": "import os\nos.write(3, b'C\\0\\0\\0\\0' + bytes(32) + b' %d' % os.getpid())\ndef add(a, b): os._exit(0)\n",
            "exit-at-load": "raise SystemExit(0)",
            "object": "def add(a, b): return object()",
        }.items()
    ],
]


def self_check(tier: Tier, python: str | None = None) -> Iterator[tuple[str, str]]:
    """Attack this machine's sandbox: (name of the attack, "" if it held, else what went wrong). Takes about 15 seconds.

    Only attacks of this module are run, no slow ones, and only on what they would be kept from: nothing is harmed where
    the tier holds. Raises SandboxError if it does not hold or breaks.
    """
    choose(tier, python)
    with Sandbox(tier, python) as sandbox, tempfile.NamedTemporaryFile("w", suffix=".kiyas") as secret:
        Path(secret.name).chmod(0o644)
        found = f"open({secret.name!r})"
        cases = [Case(37, "your-files", refused(found, f"open({str(Path.home())!r} + '/.profile')"), "AC"), *CASES]
        for case in cases:
            if (70 < case.number < 103) or case.roomy or case.asleep or case.unenforceable(tier):
                continue
            yield str(case)[4:], _attack(sandbox, case)


def _attack(sandbox: Sandbox, case: Case) -> str:
    verdict = run_case(sandbox, case.source, case.problem, case.limits)
    if verdict.verdict not in case.verdicts.split():
        return f"it got {verdict.verdict}, not {case.verdicts.replace(' ', ' or ')}: {verdict.detail}"
    after = run_case(sandbox, "print(int(input()) * 2)", problem(), Limits(0.5, 128))
    return "" if after.verdict is Outcome.AC else f"the program after it got {after.verdict}: {after.detail}"


def run_case(
    sandbox: Sandbox,
    source: str,
    asked: Problem,
    limits: Limits,
    mode: Mode = Mode.STRICT,
) -> Verdict:
    """One verdict from this sandbox. Raises SandboxError."""
    return judge_program(
        sandbox, Program(asked.id, source), asked, mode, Resolved.of(limits, asked), False, lambda alone: nullcontext()
    )
