"""The judge's nouns. Frozen; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from .stubs import completed
from .terminal import printable


class JudgeError(Exception):
    """Base class of the errors that the judge raises on purpose. `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return printable(f"{message}\n  hint: {self.hint}" if self.hint else message)


class SandboxError(JudgeError):
    """The sandbox failed, not the program: no verdict may be drawn from it."""


class LostError(SandboxError):
    """The sandbox worked, and was killed or stopped from outside: this says nothing about the machine's isolation."""


class InputError(JudgeError):
    """A mistake in the user's file: where, and what is wrong. `line` counts from 1; 0: the whole file."""

    def __init__(self, file: str, line: int, reason: str, hint: str = "") -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}", hint)


class Outcome(StrEnum):
    AC = "AC"
    """accepted"""
    WA = "WA"
    """wrong answer"""
    TLE = "TLE"
    """time limit exceeded (CPU time, or asleep past the wall backstop)"""
    MLE = "MLE"
    """memory limit exceeded, or an uncaught MemoryError"""
    RE = "RE"
    """runtime error: an exception, an exit code other than 0, a signal"""
    OLE = "OLE"
    """output limit exceeded"""
    CE = "CE"
    """does not compile"""
    IE = "IE"
    """internal error: the sandbox failed; not a statement about the program"""


# A program's verdict is the first of these among its tests; CE and IE go before all.
PRIORITY = (Outcome.IE, Outcome.CE, Outcome.RE, Outcome.OLE, Outcome.WA, Outcome.TLE, Outcome.MLE, Outcome.AC)


class Tier(StrEnum):
    """How well programs are kept apart from the machine, best first. See docs/judge.md."""

    STRONG = "strong"
    STANDARD = "standard"
    WEAK = "weak"


class Isolation(StrEnum):
    """What can be asked for: at least a tier, or the best that this machine has."""

    STRONG = "strong"
    STANDARD = "standard"
    WEAK = "weak"
    BEST = "best"


class AfterTimeout(StrEnum):
    """What happens to a program's other tests after its first time-out."""

    STOP = "stop"
    """they are not run, and count as not passed"""
    CONTINUE = "continue"


class Mode(StrEnum):
    STRICT = "strict"
    LIVECODEBENCH = "livecodebench"
    BOTH = "both"


class ToleranceRule(StrEnum):
    """Where the tolerance of a problem without a `tolerance` or `checker` of its own comes from."""

    STATEMENT = "statement"
    EXACT = "exact"


class ExtractionRule(StrEnum):
    """How the program is found in an answer."""

    KIYAS = "kiyas"
    LIVECODEBENCH = "livecodebench"


@dataclass(frozen=True)
class Limits:
    """Limits of one test; None: what the problem says, else the default in DEFAULT_LIMITS."""

    time_s: float | None = None
    """CPU seconds, summed over the process tree; the wall backstop is 3 times this + 2 s"""
    memory_mb: int | None = None
    """resident memory, summed over the process tree"""
    output_mb: int | None = None
    """of stdout, and of stderr; raised to twice the expected output where that is larger"""


MOST_PROGRAM = 1_000_000
"""characters of a program, and of an answer in which one is looked for: the parser takes hundreds of bytes for each"""
ALLOWED: dict[str, tuple[float, float]] = {
    "time_limit_s": (0.001, 3600),
    "memory_limit_mb": (1, 1 << 20),
    "output_limit_mb": (1, 1 << 12),
    "tolerance": (1e-300, 1e300),
}
"""what a limit, or a tolerance, may be"""


def unfit(name: str, value: float | None) -> str:
    """What is wrong with a limit of this name in ALLOWED; "": nothing, or there is none."""
    least, most = ALLOWED[name]
    if value is None or least <= value <= most:
        return ""
    try:
        shown = f"{value:.6g}"
    except OverflowError:
        shown = "more than 1e308"
    return f"a {name!r} of {shown} makes no sense: it may be {least:.7g} to {most:.7g}"


DEFAULT_TIME_S = 6.0
DEFAULT_MEMORY_MB = 1024
DEFAULT_OUTPUT_MB = 16


@dataclass(frozen=True)
class Test:
    """One test case. With the problem's `entry_point`: one JSON argument per line, and a JSON result."""

    __test__ = False  # not a pytest class

    input: str
    output: str


@dataclass(frozen=True)
class Problem:
    id: str
    tests: tuple[Test, ...]
    title: str = ""
    statement: str = ""
    question: str = ""
    """what a chat model is asked, if more than the statement"""
    entry_point: str | None = None
    """function-style: the function to call (`name`, `Class.method`; a method of `Solution` is found by its name)"""
    test_code: str | None = None
    """assert-style: Python that fails by AssertionError; takes names from the program's module (see parting.py)"""
    preamble: str = ""
    """assert-style: imports and helpers that the statement gives; run before the program, which need not repeat them"""
    stub: str = ""
    """assert-style: the head of the function that is asked for; a program that is only its rest goes behind it"""
    modules: tuple[str, ...] = ()
    """modules beyond the standard library that the tests import; the interpreter for programs must have them"""
    checker: str | None = None
    """`unordered`, `case-insensitive`, `floats:absolute:1e-6`, `floats:relative:1e-6`; or Python source of
    `check(input, expected, output)`, run in the sandbox as a program of its own: it returns true, false or a
    score, or one of these and a sentence"""
    tolerance: float | None = None
    """numbers may differ by this, absolutely or relatively"""
    time_limit_s: float | None = None
    memory_limit_mb: int | None = None
    platform: str = ""
    difficulty: str = ""
    date: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""
    """its contest or template: problems of one group are alike, and count as one draw"""
    given: str = ""
    """the faulty program of a task of repair, which must fail"""
    solutions: tuple[str, ...] = ()
    """the benchmark's own solutions, at most three programs in Python 3; never shown to a model or another program"""

    def complete(self, source: str) -> str:
        """The program as it is run: after what the statement gives, and whole."""
        return completed(self.preamble, self.stub, (self.entry_point or "").partition(".")[0], source)

    @property
    def total(self) -> int:
        return 1 if self.test_code is not None else len(self.tests)

    def to_row(self) -> dict[str, Any]:
        """The judge's own format, without empty values."""
        row = asdict(self)
        row |= {key: list(value) for key, value in row.items() if isinstance(value, tuple)}
        return {key: value for key, value in row.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Extraction:
    """The program found in a model's answer, and how. `program` is "" where none was found; `reason` says why."""

    program: str
    method: str
    reason: str
    livecodebench: str = ""
    """what LiveCodeBench's own rule finds: between the last two lines that contain three backticks"""


@dataclass(frozen=True)
class Program:
    problem_id: str
    source: str
    row: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """the input's keys, passed through to the verdict's row"""
    extraction: Extraction | None = None
    answer: str | None = field(default=None, repr=False, compare=False)
    """what the program was extracted from; it is extracted again when its problem is known"""
    origin: str = field(default="", compare=False)
    """file:line it was read from, for messages"""


MISSING = "missing module: "
"""the flag of a program that imports what its interpreter does not have, before the module's name"""


@dataclass(frozen=True)
class ExceptionInfo:
    """The uncaught exception as the end of stderr shows it (so the program could have written it there itself)."""

    type: str
    line: int | None
    message: str


@dataclass(frozen=True)
class TestResult:
    __test__ = False

    verdict: Outcome
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    exit_code: int | None = None
    signal: str | None = None
    got: str = ""
    stderr: str = ""
    exception: ExceptionInfo | None = None
    detail: str = ""
    flags: tuple[str, ...] = ()

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "verdict": self.verdict.value,
            "cpu_s": round(self.cpu_s, 4),
            "wall_s": round(self.wall_s, 4),
            "peak_mb": round(self.peak_mb, 1),
            "exit_code": self.exit_code,
            "signal": self.signal,
        }
        if self.verdict is not Outcome.AC:
            row["got"] = self.got
            row["stderr"] = self.stderr
            row["exception"] = None if self.exception is None else asdict(self.exception)
            row["detail"] = self.detail
        if self.flags:
            row["flags"] = list(self.flags)
        return row

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> TestResult:
        """Inverse of `to_row`; a row from elsewhere may hold fewer keys.

        Raises KeyError, TypeError or ValueError where the verdict is missing or unknown, or a text is not one.
        """
        known = {key: row[key] for key in _NUMBERS + _TEXTS if row.get(key) is not None}
        if wrong := [key for key in _TEXTS if not isinstance(known.get(key, ""), str)]:
            raise TypeError(f"{wrong[0]!r} is not a text")
        died = row.get("exception")
        if isinstance(died, Mapping) and isinstance(died.get("type"), str):
            known["exception"] = ExceptionInfo(died["type"], died.get("line"), str(died.get("message", "")))
        return cls(verdict=Outcome(row["verdict"]), flags=tuple(map(str, row.get("flags") or ())), **known)


_NUMBERS = ("cpu_s", "wall_s", "peak_mb", "exit_code")
_TEXTS = ("signal", "got", "stderr", "detail")


@dataclass(frozen=True)
class Verdict:
    """What one program earned. `tests` are in the order of the problem's tests; fewer where it was stopped."""

    program: Program
    verdict: Outcome
    passed: int
    total: int
    tests: tuple[TestResult, ...]
    detail: str
    tier: Tier
    flags: tuple[str, ...] = ()
    livecodebench: Outcome | None = None
    """the verdict of the mode `livecodebench`, where the mode is `both`"""

    @property
    def problem_id(self) -> str:
        return self.program.problem_id

    @property
    def accepted(self) -> bool:
        return self.verdict is Outcome.AC

    @property
    def not_run(self) -> int:
        """Tests that were not run, after `stop_early` or a time-out: they count as not passed."""
        return self.total - len(self.tests) if self.tests else 0

    @property
    def cpu_s(self) -> float:
        return sum(test.cpu_s for test in self.tests)

    @property
    def wall_s(self) -> float:
        return sum(test.wall_s for test in self.tests)

    @property
    def peak_mb(self) -> float:
        return max((test.peak_mb for test in self.tests), default=0.0)

    KEYS: ClassVar = (
        *("verdict", "passed", "total", "cpu_s", "wall_s", "peak_mb", "tests", "detail", "flags", "tier"),
        *("not_run", "verdict_livecodebench"),
    )
    """of `to_row`"""

    def to_row(self) -> dict[str, Any]:
        """The verdict's own keys; the command line puts the program's row before them."""
        row: dict[str, Any] = {
            "verdict": self.verdict.value,
            "passed": self.passed,
            "total": self.total,
            "cpu_s": round(self.cpu_s, 4),
            "wall_s": round(self.wall_s, 4),
            "peak_mb": round(self.peak_mb, 1),
            "tests": [test.to_row() for test in self.tests],
            "detail": self.detail,
            "flags": list(self.flags),
            "tier": self.tier.value,
        }
        if self.not_run:
            row["not_run"] = self.not_run
        if self.livecodebench is not None:
            row["verdict_livecodebench"] = self.livecodebench.value
        return row
