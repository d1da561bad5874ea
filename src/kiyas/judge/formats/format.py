"""What a format is: one benchmark's rows, and everything that Kıyas knows about the benchmark."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kiyas.judge.rows import LEAVE_OUT, MOST_OF_A_ROW, BadRowError, Row, take, take_json, take_tests, take_texts
from kiyas.judge.stubs import parted
from kiyas.judge.syntax import foreign_imports, syntax_tree
from kiyas.judge.types import Problem, Test

__all__ = [
    "BadRowError",
    "Format",
    "Problem",
    "Row",
    "Test",
    "asked",
    "foreign_imports",
    "identity",
    "imported",
    "listed_tests",
    "megabytes",
    "paired_tests",
    "parted",
    "python3",
    "seconds",
    "syntax_tree",
    "take",
    "take_json",
    "take_tests",
    "take_texts",
    "unpacked",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the rows of one benchmark are recognised and read. See docs/add-a-benchmark.md."""

    name: str
    """what `--format` and `benchmarks.primary.dataset` call it"""
    columns: tuple[str, ...]
    """keys that every row has; `a|b`: one of the two"""
    differs: Callable[[Row], str] = lambda row: ""
    """why a row with these columns is not of this benchmark all the same; "": it is. For rows that look alike"""
    problem: Callable[[Row], Problem]
    """a row as a problem; raises BadRowError"""
    modules: tuple[str, ...] = ()
    """modules beyond the standard library that its tests import"""
    solutions: Callable[[Row], tuple[str, ...]] | None = None
    """the row's own solutions, at most three programs in Python 3 that can be judged; None: the benchmark has none"""
    public: Callable[[Row], Row] | None = None
    """the row with its sample tests only; None: its sample tests are not marked"""
    title: str = ""
    """what reports call it"""
    citation: str = ""
    """BibTeX entry of its paper"""
    hub_id: str | None = None
    """data set on the Hub; None: it is read from files only"""
    hub_config: str | None = None
    """configuration of that data set; None: the default"""
    release_files: Callable[[str], list[str]] | None = None
    """files of a release such as `release_v5`, for a data set of files; None: it has no releases"""

    def absent(self, row: Row) -> list[str]:
        """The columns that the row lacks."""
        return [keys for keys in self.columns if all(row.get(key) is None for key in keys.split("|"))]

    def claims(self, row: Row) -> bool:
        return not self.absent(row) and not self.differs(row)


_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+([\w.]+)[ \t]+import\b)", re.M)


def imported(code: object) -> set[str]:
    """Top-level names of the modules that some Python imports, also where it does not parse."""
    found = _IMPORT.findall(code) if isinstance(code, str) else []
    names = [name for several, one in found for name in (several or one).split(",")]
    return {name.split()[0].partition(".")[0] for name in names if name.strip()} - {""}


def identity(row: Row, *keys: str) -> str:
    """The id under the first of these keys that the row has; "" where it has none."""
    found = [take(row, key, (str, int), None) for key in keys]
    return str(next((each for each in found if each is not None), ""))


# -- tests, in the shapes that several benchmarks share ----------------------------------------------------------------


def paired_tests(given: Row) -> tuple[tuple[Test, ...], str | None]:
    """Tests of `{"inputs": [], "outputs": [], "fn_name"?}` (APPS), and the function that they call, if any."""
    inputs, outputs = take(given, "inputs", list), take(given, "outputs", list)
    if len(inputs) != len(outputs):
        raise BadRowError(f"it has {len(inputs)} inputs and {len(outputs)} outputs")
    name = take(given, "fn_name", str, None) or None
    if name is None:
        return tuple(
            Test(_text(i, n), _text(o, n)) for n, (i, o) in enumerate(zip(inputs, outputs, strict=True), 1)
        ), None
    return _calls(inputs, outputs), name


def listed_tests(cases: list[Any], name: str | None = None) -> tuple[tuple[Test, ...], str | None]:
    """Tests of `[{"input", "output", "type"?, "fn_name"?}]`, and the function that they call, if any.

    `name`: that function, where the row says it elsewhere.
    """
    if not all(isinstance(case, dict) for case in cases):
        raise BadRowError("its tests are not a list of objects")
    names = {case.get("fn_name") for case in cases} - {None, ""}
    kinds = {case.get("type") or case.get("testtype") or ("function_call" if names else "stdin") for case in cases}
    if not kinds <= _KINDS.keys():
        raise BadRowError(f"its tests are of the unknown kind {sorted(map(str, kinds - _KINDS.keys()))[0]!r}")
    if len({_KINDS[kind] for kind in kinds}) > 1 or len(names) > 1:
        raise BadRowError("its tests do not all call one function, nor all use standard input")
    pairs = [(case.get("input"), case.get("output")) for case in cases]
    if not any(_KINDS[kind] for kind in kinds):
        return tuple(Test(_text(given, n), _text(wanted, n)) for n, (given, wanted) in enumerate(pairs, 1)), None
    name = next(iter(names), name)
    if not isinstance(name, str):
        raise BadRowError("its tests call a function, and the row does not name it ('fn_name')")
    if all(isinstance(given, str) and isinstance(wanted, str) for given, wanted in pairs):
        return tuple(Test(given, wanted) for given, wanted in pairs), name
    return _calls([given for given, _ in pairs], [wanted for _, wanted in pairs]), name


_KINDS = {"stdin": False, "stdin_stdout": False, "functional": True, "function_call": True}
"""by stdin and stdout, or by a call"""


def _calls(inputs: list[Any], outputs: list[Any]) -> tuple[Test, ...]:
    """A call for each list of arguments. Where every output is a list of one, it is that one, as in APPS."""
    if wrong := next((n for n, given in enumerate(inputs, 1) if not isinstance(given, list)), 0):
        raise BadRowError(f"test {wrong}: a function is called, and its input is not a list of arguments")
    if all(isinstance(wanted, list) and len(wanted) == 1 for wanted in outputs):
        outputs = [wanted[0] for wanted in outputs]
    lines = ["\n".join(map(json.dumps, given)) for given in inputs]
    return tuple(Test(given, json.dumps(wanted)) for given, wanted in zip(lines, outputs, strict=True))


def _text(value: Any, number: int) -> str:
    """A text, or its lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    if not isinstance(value, str):
        raise BadRowError(f"test {number}: its input or its output is a {type(value).__name__}, not a string")
    return value


def asked(statement: str, name: str | None, starter: str = "") -> str:
    """The question of a problem whose statement does not say how its programs are called: by stdin, or as `name`."""
    if name is None:
        how = "Write a Python program that reads standard input and writes standard output."
    else:
        how = f"Write the Python function `{name}`."
    start = f" Start from:\n\n```python\n{starter.strip()}\n```" if name is not None and starter.strip() else ""
    return f"{statement.strip()}\n\n{how}{start}"


def unpacked(packed: bytes, key: str) -> bytes:
    """What zlib packed. Raises BadRowError for more than a row may hold, ValueError or zlib.error for less than all."""
    stream = zlib.decompressobj()
    content = stream.decompress(packed, MOST_OF_A_ROW)
    if stream.unconsumed_tail:
        raise BadRowError(f"{key!r} unpacks to more than {MOST_OF_A_ROW >> 20} MB", LEAVE_OUT)
    if not stream.eof:
        raise ValueError("it is cut off")
    return content


# -- limits ------------------------------------------------------------------------------------------------------------

_MEASURE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s{0,8}([A-Za-z]{0,20})\.?")
BEYOND = 1e15
_UNITS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "millisecond": 1e-3,
    "milliseconds": 1e-3, "mb": 1.0, "megabyte": 1.0, "megabytes": 1.0, "mib": 1.0, "gb": 1024.0, "gigabyte": 1024.0,
    "gigabytes": 1024.0, "kb": 1 / 1024, "kilobytes": 1 / 1024, "bytes": 2.0**-20,
}  # fmt: skip


def seconds(row: Row, key: str) -> float | None:
    """A time limit as a number, as `2.0 seconds` or as `{"seconds", "nanos"}`; None where it is absent or 0."""
    value = row.get(key)
    if isinstance(value, dict):
        whole, nanos = (_measure({key: take(value, part, (int, float), 0)}, key) or 0 for part in ("seconds", "nanos"))
        value = whole + nanos / 1e9
    return _measure({key: value}, key) or None


def megabytes(row: Row, key: str) -> int | None:
    """A memory limit in MB, as a number or as `256 megabytes`; None where it is absent or 0."""
    value = _measure(row, key)
    return math.ceil(value) if value else None


def _measure(row: Row, key: str) -> float | None:
    value = take(row, key, (int, float, str), None)
    if not isinstance(value, str):
        if value is not None and not -BEYOND < value < BEYOND:
            raise BadRowError(f"{key!r} is {value!s:.40}: a limit is a number")
        return None if value is None else float(value)
    found = _MEASURE.fullmatch(value.strip())
    if value.strip() and (found is None or found[2].lower() not in _UNITS):
        raise BadRowError(f"{key!r} is {value!r:.40}: neither a number nor a number with its unit")
    return float(found[1]) * _UNITS[found[2].lower()] if found else None


# -- solutions ---------------------------------------------------------------------------------------------------------

MOST_SOLUTIONS = 3
MOST_TRIED = 20


def python3(sources: Iterable[object]) -> tuple[str, ...]:
    """The first three of the sources that are programs in Python 3, without a fence around them."""
    found: list[str] = []
    for source, _ in zip(sources, range(MOST_TRIED), strict=False):
        text = _unfenced(source) if isinstance(source, str) else ""
        if text.strip() and syntax_tree(text) is not None:
            found.append(text)
        if len(found) == MOST_SOLUTIONS:
            break
    return tuple(found)


def _unfenced(source: str) -> str:
    first, _, rest = source.strip().partition("\n")
    is_fence = first.startswith("```") and first.strip("` \t") in ("", "python", "python3", "py")
    return rest.removesuffix("```").rstrip("\n") if is_fence and rest.endswith("```") else source
